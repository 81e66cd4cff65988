//! The `rondo` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rondo_node::cli::main()
}
