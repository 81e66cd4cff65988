//! One run of `rondo bench`, and the median of several.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::program;
use crate::{Result, Sizes};

/// The figures of a run that the tables show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    /// Of all nodes together, µs a request.
    pub(crate) cpu_us: f64,
    pub(crate) p99_ms: f64,
}

/// Runs `rondo bench` with what is common to all measurements.
pub(crate) fn run(sizes: &Sizes, endpoints: &str, line: &str) -> Result<Figures> {
    let mut command = Command::new(program("rondo")?);
    command.args(["bench", "--output", "json", "--endpoint", endpoints]);
    command.args(["--duration", &sizes.duration, "--warmup", &sizes.warmup]);
    command.args(["--connections", &sizes.connections.to_string()]);
    let output = command.args(line.split_whitespace()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("rondo bench {line}: {}", output.status).into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let number = |value: &Value| value.as_f64().ok_or_else(|| format!("a figure is missing in {report}"));
    Ok(Figures {
        requests_per_second: number(&report["requests_per_second"])?,
        cpu_us: number(&report["cpu"]["nodes_us_per_request"])?,
        p99_ms: number(&report["latency_us"]["all"]["p99"])? / 1e3,
    })
}

/// The same several times; the medians.
pub(crate) fn rounds(sizes: &Sizes, endpoints: &str, line: &str) -> Result<Figures> {
    let runs: Result<Vec<_>> = (0..sizes.rounds).map(|_| run(sizes, endpoints, line)).collect();
    runs.map(|runs| median(&runs))
}

/// Stores all keys, once and on every owner, so that no read misses at R=1 either.
pub(crate) fn preload(sizes: &Sizes, endpoints: &str, line: &str) -> Result<()> {
    let short = Sizes { duration: "1ms".into(), warmup: "0s".into(), directory: sizes.directory.clone(), ..*sizes };
    run(&short, endpoints, &format!("{line} --preload --w all --mix get")).map(drop)
}

/// Each figure's median.
pub(crate) fn median(runs: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Figures { requests_per_second: of(|f| f.requests_per_second), cpu_us: of(|f| f.cpu_us), p99_ms: of(|f| f.p99_ms) }
}
