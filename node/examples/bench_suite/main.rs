//! The measurements of docs/benchmarks.md: starts what they need, runs `rondo bench`, prints a table in markdown.
//!
//! `make bench`, `make bench-growth`, `make bench-memory`, `make bench-listing`, `make bench-six`; sizes by the variables of
//! `sizes.rs`.
#![allow(clippy::print_stdout, reason = "prints tables")]

mod bench;
mod compare;
mod growth;
mod listing;
mod memory;
mod process;
mod six;
mod sizes;

use std::process::ExitCode;

use sizes::Sizes;

/// What goes wrong is told to the person who waits for the figures.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let result = Sizes::from_environment().and_then(|sizes| match name.as_str() {
        "compare" => compare::run(&sizes),
        "growth" => growth::run(&sizes),
        "listing" => listing::run(&sizes),
        "memory" => memory::run(&sizes),
        "six" => six::run(&sizes),
        _ => Err("compare, growth, listing, memory or six?".into()),
    });
    match result {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_suite: {error}");
            ExitCode::FAILURE
        }
    }
}
