//! Connections that send one request after the other: closed loop, or open loop at a rate that was fixed in advance.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use super::connection::{Connection, NoAnswer, Taken};
use super::mix::Operation;
use super::pace::Pace;
use super::requests::{Recipe, Requests};
use super::tally::{Done, Tally};
use crate::cli::client::Endpoint;
use crate::cli::failure::Failure;

/// Between two attempts of a connection that cannot be opened, so that a dead node does not cost the others their CPU.
const RECONNECT: Duration = Duration::from_millis(10);

/// Before a request is repeated: a node that is away for a moment is back, or known to be away.
const REPEAT: Duration = Duration::from_millis(200);

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    Requests(u64),
}

/// What to send, where to, and for how long.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) targets: Vec<Target>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) timeout: Duration,
    pub(crate) until: Until,
    /// Requests a second: an open loop. Without it each connection waits for its answers.
    pub(crate) rate: Option<u32>,
    pub(crate) seed: u64,
    pub(crate) expected: Expected,
    /// How often, in the whole run, a request is repeated that had no answer, or 429 or 503.
    pub(crate) repeats: i64,
}

impl Run {
    fn pace(&self) -> Option<Arc<Pace>> {
        let rate = self.rate?;
        let count = match self.until {
            Until::Elapsed(time) => (time.as_secs_f64() * f64::from(rate)) as u64,
            Until::Requests(count) => count,
        };
        Some(Pace::new(rate, count.max(1)))
    }
}

/// A node that requests are sent to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
}

/// Which statuses are no complaint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Keys may never have been written.
    pub(crate) missing: bool,
    /// Keys may have been written by two connections at one time.
    pub(crate) siblings: bool,
}

impl Expected {
    pub(crate) fn has(self, operation: Operation, status: u16) -> bool {
        match (operation, status) {
            (Operation::Put, 200 | 201 | 204) | (Operation::Get, 200) => true,
            (Operation::Get, 404) => self.missing,
            (Operation::Get, 409) => self.siblings,
            _ => false,
        }
    }
}

/// A run that has begun: all connections are open.
#[derive(Debug)]
pub(crate) struct Running {
    view: View,
    ends: Vec<oneshot::Receiver<Tally>>,
    /// Requests that were due and never begun.
    not_begun: Option<oneshot::Receiver<u64>>,
}

/// How far a run is.
#[derive(Clone, Debug)]
pub(crate) struct View {
    shared: Arc<Shared>,
    begin: Instant,
}

/// What the threads of a run share.
#[derive(Debug)]
struct Shared {
    run: Run,
    pace: Option<Arc<Pace>>,
    issued: AtomicU64,
    done: AtomicU64,
    /// Requests that may still be repeated.
    repeats: AtomicI64,
}

impl View {
    /// Requests that have come to their end.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        match self.shared.run.until {
            Until::Elapsed(time) => (self.begin.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3)).min(1.0),
            Until::Requests(count) => self.done() as f64 / count as f64,
        }
    }
}

impl Running {
    /// To look at it while it is waited for.
    pub(crate) fn view(&self) -> View {
        self.view.clone()
    }

    /// Waits until every request that was begun has come to its end.
    pub(crate) async fn finish(self) -> Result<(Tally, Duration), Failure> {
        let mut all = Tally::new();
        for end in self.ends {
            all.add(end.await.map_err(|_| gone())?);
        }
        if let Some(not_begun) = self.not_begun {
            all.not_begun = not_begun.await.map_err(|_| gone())?;
        }
        Ok((all, self.view.begin.elapsed()))
    }
}

fn gone() -> Failure {
    Failure::Failed("a thread of the load generator has failed".into())
}

fn not_started(error: std::io::Error) -> Failure {
    Failure::Failed(format!("a thread of the load generator cannot be started: {error}"))
}

/// Opens all connections and begins.
pub(crate) async fn start(run: Run) -> Result<Running, Failure> {
    let pace = run.pace();
    let (issued, done, repeats) = (AtomicU64::new(0), AtomicU64::new(0), AtomicI64::new(run.repeats));
    let shared = Arc::new(Shared { run, pace, issued, done, repeats });
    let (begin_sender, begin) = watch::channel(None);
    let (mut opened, mut ends) = (Vec::new(), Vec::new());
    for thread in 0..shared.run.threads {
        let (opened_sender, opened_receiver) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(not_started)?;
        let (shared, begin) = (shared.clone(), begin.clone());
        let work = move || {
            let tasks = LocalSet::new();
            let tally = tasks.block_on(&runtime, work(shared, thread, opened_sender, begin));
            // Whoever waits for the result has the error of a receiver that is gone.
            let _ = end_sender.send(tally);
        };
        std::thread::Builder::new().name(format!("load-{thread}")).spawn(work).map_err(not_started)?;
        opened.push(opened_receiver);
        ends.push(end);
    }
    for opened in opened {
        let _ = opened.await;
    }
    let begin = Instant::now();
    begin_sender.send_replace(Some(begin));
    let not_begun = shared.pace.clone().map(|pace| keep_pace(pace, begin, shared.run.timeout)).transpose()?;
    Ok(Running { view: View { shared, begin }, ends, not_begun })
}

fn keep_pace(pace: Arc<Pace>, begin: Instant, patience: Duration) -> Result<oneshot::Receiver<u64>, Failure> {
    let (sender, not_begun) = oneshot::channel();
    let keep = move || {
        // Nobody waits for the number any more once the run has failed.
        let _ = sender.send(pace.keep(begin, patience));
    };
    std::thread::Builder::new().name("pace".into()).spawn(keep).map_err(not_started)?;
    Ok(not_begun)
}

/// One thread: every `threads`-th connection.
async fn work(
    shared: Arc<Shared>,
    thread: usize,
    opened: oneshot::Sender<()>,
    mut begin: watch::Receiver<Option<Instant>>,
) -> Tally {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let mut clients = Vec::new();
    for number in (thread..shared.run.connections).step_by(shared.run.threads) {
        let mut client = Client::new(shared.clone(), number, tally.clone());
        // One that fails is tried again by its first request, which counts the failure.
        let _ = client.connection.open().await;
        clients.push(client);
    }
    let _ = opened.send(());
    let Some(begin) = begin.wait_for(Option::is_some).await.ok().and_then(|begin| *begin) else { return Tally::new() };
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::task::spawn_local(client.work(begin))).collect();
    for task in tasks {
        let _ = task.await;
    }
    tally.replace(Tally::new())
}

/// One connection and what it needs to make requests.
struct Client {
    shared: Arc<Shared>,
    requests: Requests,
    connection: Connection,
    random: SmallRng,
    tally: Rc<RefCell<Tally>>,
}

impl Client {
    fn new(shared: Arc<Shared>, number: usize, tally: Rc<RefCell<Tally>>) -> Self {
        let run = &shared.run;
        let target = &run.targets[number % run.targets.len()];
        Self {
            requests: Requests::new(&run.recipe, &target.endpoint),
            connection: Connection::new(target.address, run.timeout),
            random: SmallRng::seed_from_u64(run.seed.wrapping_add(number as u64)),
            shared,
            tally,
        }
    }

    async fn work(mut self, begin: Instant) {
        let mut request = Vec::new();
        while let Some((number, due)) = self.shared.next(begin).await {
            let operation = self.requests.write(&self.shared.run.recipe, number, &mut self.random, &mut request);
            let started = Instant::now();
            let due = due.unwrap_or(started);
            let result = self.exchange(&request).await;
            let ended = Instant::now();
            let done = Done {
                operation,
                sent_bytes: request.len(),
                result,
                latency: ended - due,
                lag: started - due,
                in_time: self.shared.in_time(ended - begin),
            };
            self.record(done);
            if result == Err(NoAnswer::Connect) {
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Taken, NoAnswer> {
        loop {
            let result = self.connection.exchange(request).await;
            let stands = result.is_ok_and(|taken| !matches!(taken.status, 429 | 503));
            if stands || self.shared.repeats.fetch_sub(1, Ordering::Relaxed) <= 0 {
                return result;
            }
            tokio::time::sleep(REPEAT).await;
        }
    }

    fn record(&mut self, done: Done) {
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        let mut tally = self.tally.borrow_mut();
        tally.record(done);
        let Ok(taken) = done.result else { return };
        if tally.complaint.is_none() && !self.shared.run.expected.has(done.operation, taken.status) {
            let (operation, body) = (done.operation.name(), self.connection.excerpt());
            tally.complaint = Some(format!("{operation} was answered with {}: {body}", taken.status));
        }
    }
}

impl Shared {
    /// The number of a request to begin now, and when it was due in an open loop.
    async fn next(&self, begin: Instant) -> Option<(u64, Option<Instant>)> {
        if let Some(pace) = &self.pace {
            let number = pace.next().await?;
            return Some((number, Some(begin + pace.offset(number))));
        }
        let over = matches!(self.run.until, Until::Elapsed(time) if begin.elapsed() >= time);
        let number = (!over).then(|| self.issued.fetch_add(1, Ordering::Relaxed))?;
        let left = !matches!(self.run.until, Until::Requests(count) if number >= count);
        left.then_some((number, None))
    }

    fn in_time(&self, elapsed: Duration) -> bool {
        match self.run.until {
            Until::Elapsed(time) => elapsed <= time,
            Until::Requests(_) => true,
        }
    }
}
