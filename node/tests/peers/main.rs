//! The peer transport over real sockets: several identities in one process, a scripted handler, no fixed ports.

// A helper of a test fails it by panicking, as the test itself does.
#![allow(clippy::unwrap_used)]

mod batching;
mod failures;
mod handshake;
mod hostile;
mod support;
