//! `rondo bench`: how many requests a second, how long they take, and what they cost every node.

mod arguments;
mod connection;
mod generator;
mod keys;
mod mix;
mod nodes;
mod pace;
mod progress;
mod report;
mod requests;
mod tally;
mod values;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub(super) use self::arguments::BenchArgs;
use self::generator::{Expected, Run, Running, Target, Until};
use self::keys::Keys;
use self::mix::{Mix, Operation};
use self::report::{Cpu, Report, Setup};
use self::requests::Recipe;
use self::tally::Tally;
use self::values::Values;
use super::failure::Failure;
use super::output::{Output, print, print_json};
use crate::http::process::cpu_time;

/// A node that is away for a moment must not spoil millions of keys.
const PRELOAD_REPEATS: i64 = 1_000;

pub(super) async fn run(args: &BenchArgs) -> Result<(), Failure> {
    let keys = Keys::new(args.keys, args.key_size.into(), args.distribution).map_err(Failure::Usage)?;
    let targets = nodes::resolve(&args.target.endpoint).await?;
    let bench = Bench { args, targets, keys, expected: expected(args) };
    if args.preload {
        bench.preload().await?;
    }
    if !args.warmup.is_zero() {
        let warmup = bench.generator(bench.recipe(args.mix), Until::Elapsed(args.warmup), 1);
        to_its_end("warm-up", generator::start(warmup).await?).await?;
    }
    let report = bench.measure().await?;
    match args.target.output {
        Output::Table => print(&report.in_words())?,
        Output::Json => print_json(&serde_json::to_value(&report).map_err(|e| Failure::Failed(e.to_string()))?)?,
    }
    complain(&report)
}

/// Whether a request had another answer than it should have had.
fn complain(report: &Report) -> Result<(), Failure> {
    if report.unexpected == 0 {
        return Ok(());
    }
    let first = report.first_unexpected.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default();
    Err(Failure::Failed(format!("{} requests had no answer or not the expected one{first}", report.unexpected)))
}

fn expected(args: &BenchArgs) -> Expected {
    Expected { missing: !args.preload, siblings: args.mix.has(Operation::Put) }
}

/// What all runs of one command have in common.
struct Bench<'a> {
    args: &'a BenchArgs,
    targets: Vec<Target>,
    keys: Keys,
    expected: Expected,
}

impl Bench<'_> {
    fn recipe(&self, mix: Mix) -> Recipe {
        let args = self.args;
        Recipe {
            bucket: args.bucket.clone(),
            mix,
            keys: self.keys.clone(),
            values: Values::new(args.value_size, args.seed),
            r: args.r.clone(),
            w: args.w.clone(),
        }
    }

    /// `part` keeps the parts of a command from sending the same requests.
    fn generator(&self, recipe: Recipe, until: Until, part: u64) -> Run {
        Run {
            recipe: Arc::new(recipe),
            targets: self.targets.clone(),
            connections: self.args.connections.into(),
            threads: self.args.threads.min(self.args.connections).into(),
            timeout: self.args.timeout,
            until,
            rate: self.args.rate,
            seed: self.args.seed.wrapping_mul(1 << 20).wrapping_add(part << 16),
            expected: self.expected,
            repeats: 0,
        }
    }

    async fn preload(&self) -> Result<(), Failure> {
        let recipe = Recipe { keys: self.keys.in_sequence(), ..self.recipe(Mix::only(Operation::Put)) };
        let run = self.generator(recipe, Until::Requests(self.keys.count()), 0);
        let run = Run { rate: None, repeats: PRELOAD_REPEATS, ..run };
        let (tally, _) = to_its_end("preload", generator::start(run).await?).await?;
        let stored = tally.answers - self.unexpected(&tally);
        if stored == self.keys.count() {
            return Ok(());
        }
        let first = tally.complaint.map(|complaint| format!("; the first refused: {complaint}")).unwrap_or_default();
        Err(Failure::Failed(format!("--preload stored {stored} of {} keys{first}", self.keys.count())))
    }

    async fn measure(&self) -> Result<Report, Failure> {
        let mut nodes = nodes::find(&self.targets).await;
        let until = self.args.requests.map_or(Until::Elapsed(self.args.duration), Until::Requests);
        let run = self.generator(self.recipe(self.args.mix), until, 2);
        let setup = self.setup(&run.recipe);
        let before = nodes::cpu_seconds(&mut nodes).await;
        let own_before = cpu_time();
        let running = generator::start(run).await?;
        let finishing = to_its_end("measure", running);
        tokio::pin!(finishing);
        // The last answers may be slow; what the nodes do then is no part of the measured time.
        let early = match until {
            Until::Elapsed(time) => timeout(time, &mut finishing).await.ok(),
            Until::Requests(_) => Some(finishing.as_mut().await),
        };
        let own = cpu_time() - own_before;
        let after = nodes::cpu_seconds(&mut nodes).await;
        let (tally, elapsed) = match early {
            Some(ended) => ended?,
            None => finishing.await?,
        };
        let seconds = match until {
            Until::Elapsed(time) => time,
            Until::Requests(_) => elapsed,
        };
        let names = nodes.into_iter().map(|node| node.name);
        let spans = names.zip(before).zip(after).map(|((name, before), after)| (name, before, after));
        let cpu = Cpu::new(spans.collect(), own, tally.answers_in_time);
        let unexpected = self.unexpected(&tally);
        Ok(Report::new(setup, &tally, seconds.as_secs_f64(), cpu, unexpected))
    }

    /// Answers that should have been others.
    fn unexpected(&self, tally: &Tally) -> u64 {
        let of = |operation| {
            let statuses = tally.of(operation).statuses.iter();
            statuses.filter(|(status, _)| !self.expected.has(operation, **status)).map(|(_, count)| count).sum::<u64>()
        };
        Operation::ALL.into_iter().map(of).sum()
    }

    fn setup(&self, recipe: &Recipe) -> Setup {
        let args = self.args;
        Setup {
            endpoints: self.targets.iter().map(|target| target.endpoint.to_string()).collect(),
            bucket: recipe.bucket.clone(),
            mix: recipe.mix.to_string(),
            r: recipe.r.clone(),
            w: recipe.w.clone(),
            connections: args.connections.into(),
            threads: args.threads.min(args.connections).into(),
            rate_per_second: args.rate,
            keys: recipe.keys.count(),
            key_bytes: recipe.keys.bytes(),
            value_bytes: recipe.values.sizes().to_string(),
            distribution: recipe.keys.popularity().to_string(),
            preload: args.preload,
            warmup_seconds: args.warmup.as_secs_f64(),
            seed: args.seed,
        }
    }
}

/// Shows how far it is until it is over.
async fn to_its_end(name: &'static str, running: Running) -> Result<(Tally, Duration), Failure> {
    let view = running.view();
    tokio::select! {
        biased;
        ended = running.finish() => ended,
        never = progress::draw(name, &view) => match never {},
    }
}
