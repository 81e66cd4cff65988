//! Containers for real: the image that the `Dockerfile` makes, as pods of the StatefulSet of `config/k8s` and as the
//! services of `compose.yaml`, on a network of their own with names of their own. `make containers` runs them one after
//! the other; they need Linux and a container engine that answers to `docker`.
//!
//! - **K1** No quorum request through a live node fails while another node is killed, paused, cut off, moved or stopped.
//! - **K2** What was acknowledged is there after that, whatever addresses the nodes have now.
//! - **K3** A pod that lost its volume founds nothing, and gets its place back.
//! - **K4** Nothing of a test is left over in the engine.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test helpers")]

mod cluster;
mod compose;
mod engine;
mod faults;
mod image;
mod moves;
mod process;
