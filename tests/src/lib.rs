//! The harness of the black-box tests: real `rondo` processes, real sockets, real disks.
//!
//! - **H1** Nothing is fixed: every port is chosen by the system, every cluster has a loopback address of its own, every
//!   directory is temporary.
//! - **H2** Nothing sleeps for luck: a test waits for a condition, until a deadline ([`eventually`]).
//! - **H3** Nothing is left over: dropping a [`Cluster`] kills its processes, and shows the ends of their logs if the
//!   test fails.
//! - **H4** A child sees no `RONDO_…` variable of the environment the tests run in.

mod binary;
mod children;
mod cluster;
mod command;
mod files;
mod http;
mod load;
pub mod manifest;
mod node;
mod raw;
mod records;
mod shared;
mod wait;

pub use binary::{binary, workspace};
pub use children::{Child, Ended};
pub use cluster::{Builder, Cluster};
pub use command::{Output, Run, rondo};
pub use files::copy_directory;
pub use http::{Answer, Request, encode, request};
pub use load::{Load, Seen};
pub use node::Node;
pub use raw::{RawAnswer, RawClient};
pub use records::{Record, records};
pub use shared::Shared;
pub use wait::{eventually, holds, pace};
