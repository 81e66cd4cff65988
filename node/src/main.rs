//! The `rondo` binary.

use std::process::ExitCode;

/// A request makes a few dozen small allocations, on one thread, and frees some of them on another: glibc's allocator
/// takes a tenth of a node's time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rondo_node::cli::main()
}
