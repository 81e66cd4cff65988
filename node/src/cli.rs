//! The command line: `rondo server`, `rondo dev`, and the commands that talk to a cluster over its public HTTP.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 degraded. Results go to stdout, everything else to stderr.

mod arguments;
mod bench;
mod bucket;
mod client;
mod cluster;
mod completions;
mod config;
mod dev;
mod failure;
mod hints;
mod load;
mod ls;
mod object;
mod output;
mod problem;
mod repair;
mod serve;
mod staleness;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::Failure;

/// Parses the arguments and carries the command out.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Server(args) => serve::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Completions { shell } => completions::run(shell),
        Command::Dev(args) => on_one_thread(dev::run(&args)),
        Command::Status(args) if args.ready => on_one_thread(cluster::ready(&args.target)),
        Command::Status(args) if args.staleness => on_one_thread(staleness::staleness(&args.target)),
        Command::Status(args) => on_one_thread(cluster::status(&args.target)),
        Command::Members(target) => on_one_thread(cluster::members(&target)),
        Command::Ring(args) => on_one_thread(cluster::ring(&args)),
        Command::Hints(target) => on_one_thread(hints::run(&target)),
        Command::Repair(args) => on_one_thread(repair::run(&args)),
        Command::Get(args) => on_one_thread(object::get(&args)),
        Command::Put(args) => on_one_thread(object::put(&args)),
        Command::Del(args) => on_one_thread(object::del(&args)),
        Command::Ls(args) => on_one_thread(ls::run(&args)),
        Command::Load(args) => on_one_thread(load::run(&args)),
        Command::Bench(args) => on_one_thread(bench::run(&args)),
        Command::Bucket(command) => on_one_thread(bucket::run(&command)),
    }
}

fn on_one_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("the runtime cannot be started: {e}")))?;
    runtime.block_on(work)
}
