//! `rondo load`: the `{"key":…,"value":…}` lines of a file into a bucket.
//!
//! The file is read twice: once to check every line, so that a bad one is found before anything is written, and once
//! to send. Memory is bounded by what is in flight.

pub(super) mod lines;
mod progress;
pub(super) mod send;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use self::lines::Lines;
use self::send::{Plan, Summary};
use super::arguments::LoadArgs;
use super::client::{Request, call};
use super::failure::Failure;
use super::output::{Output, bytes, print, print_json};

/// How long the first node may take to say that it is alive.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &LoadArgs) -> Result<(), Failure> {
    let open = || Lines::open(&args.file, &args.bucket, args.value_bytes_max);
    let totals = open()?.check()?;
    // Before a progress bar stands still: is anybody there?
    call(&args.target.endpoint, Request::get("/livez"), PATIENCE).await?;
    let plan = Plan {
        endpoints: args.target.endpoint.clone(),
        bucket: args.bucket.clone(),
        w: args.w.clone(),
        concurrency: args.concurrency,
        retry_for: args.retry_for,
    };
    show(args, &send::send(open()?, totals, plan).await?)
}

fn show(args: &LoadArgs, summary: &Summary) -> Result<(), Failure> {
    match args.target.output {
        Output::Table => print(&in_words(summary, &args.file, &args.bucket)),
        Output::Json => print_json(&json!({
            "file": args.file.display().to_string(),
            "bucket": args.bucket,
            "records": summary.totals.records,
            "bytes": summary.totals.bytes,
            "seconds": summary.duration.as_secs_f64(),
            "retries": summary.retries,
        })),
    }
}

fn in_words(summary: &Summary, file: &Path, bucket: &str) -> String {
    let Summary { totals, duration, retries } = summary;
    let seconds = duration.as_secs_f64().max(1e-6);
    format!(
        "{}: {} records ({}) in bucket {bucket} after {seconds:.1} s, {:.0} records/s, {retries} retries",
        file.display(),
        totals.records,
        bytes(totals.bytes),
        totals.records as f64 / seconds,
    )
}

#[cfg(test)]
mod tests {
    use super::lines::Totals;
    use super::*;

    #[test]
    fn the_summary_counts_records_bytes_time_and_retries() {
        let totals = Totals { records: 20_000, bytes: 3 << 20 };
        let summary = Summary { totals, duration: Duration::from_secs(4), retries: 2 };
        let expected = "f.jsonl: 20000 records (3.00 MiB) in bucket b after 4.0 s, 5000 records/s, 2 retries";
        assert_eq!(in_words(&summary, Path::new("f.jsonl"), "b"), expected);
    }
}
