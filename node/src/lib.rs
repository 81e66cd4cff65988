//! The node: sockets, HTTP, tasks, clocks, metrics and the command line around the machines of the other crates.

pub mod cli;
pub mod http;
pub mod peers;
pub mod server;
pub mod service;
