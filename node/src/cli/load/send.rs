//! Sends records, several at a time, over all endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use super::lines::{Lines, Record, Totals};
use super::progress::Progress;
use crate::cli::client::{Answer, CallError, Connection, Endpoint, Request};
use crate::cli::failure::Failure;
use crate::cli::problem::describe;

/// Values in memory, in KiB, whatever the concurrency.
const MEMORY_KIB_MAX: usize = 64 << 10;
/// Records that wait for one worker.
const WAITING_MAX: usize = 4;
/// A node that takes longer than this hangs: its own deadline (5 s) is long past.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before another attempt; doubled each time, up to the maximum.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What goes where.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Plan {
    pub(in crate::cli) endpoints: Vec<Endpoint>,
    pub(in crate::cli) bucket: String,
    pub(in crate::cli) w: Option<String>,
    pub(in crate::cli) concurrency: u16,
    /// How long one record is tried for.
    pub(in crate::cli) retry_for: Duration,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Summary {
    pub(in crate::cli) totals: Totals,
    pub(in crate::cli) duration: Duration,
    pub(in crate::cli) retries: u64,
}

/// What the workers share.
struct Run {
    plan: Plan,
    progress: Progress,
    /// Names this run, so that a record that is sent again is known to be the same write (`Idempotency-Key`).
    id: u64,
    retries: AtomicU64,
}

/// A record on its way, with its share of the memory.
struct Job {
    record: Record,
    _memory: OwnedSemaphorePermit,
}

/// Sends every record. A record that is refused, or not taken in time, ends the run; what was acknowledged stays.
///
/// Lines with the same key go to the same worker, in their order: two at a time would be concurrent writes.
pub(in crate::cli) async fn send(lines: Lines, expected: Totals, plan: Plan) -> Result<Summary, Failure> {
    let started = Instant::now();
    let id = getrandom::u64().map_err(|e| Failure::Failed(format!("no random numbers: {e}")))?;
    let run = Arc::new(Run { plan, progress: Progress::new(expected), id, retries: AtomicU64::new(0) });
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for index in 0..run.plan.concurrency.into() {
        let (queue, jobs) = mpsc::channel(WAITING_MAX);
        queues.push(queue);
        workers.spawn(Arc::clone(&run).work(index, jobs));
    }
    let done = tokio::try_join!(deal(lines, queues), all(&mut workers));
    run.progress.finish();
    let totals = run.progress.totals();
    let stopped = |why| Failure::Failed(format!("{why}\nstopped after {} records were acknowledged", totals.records));
    done.map_err(stopped)?;
    Ok(Summary { totals, duration: started.elapsed(), retries: run.retries.load(Ordering::Relaxed) })
}

/// Gives each record to the worker of its key. When a worker has ended, it has said why.
async fn deal(lines: Lines, queues: Vec<mpsc::Sender<Job>>) -> Result<(), String> {
    let memory = Arc::new(Semaphore::new(MEMORY_KIB_MAX));
    for record in lines {
        let record = record.map_err(|error| error.to_string())?;
        let kib = (record.value.len() / 1_024 + 1).min(MEMORY_KIB_MAX) as u32;
        let permit = Arc::clone(&memory).acquire_many_owned(kib).await.expect("the semaphore is never closed");
        let worker = xxh3_64(record.key.as_bytes()) as usize % queues.len();
        if queues[worker].send(Job { record, _memory: permit }).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn all(workers: &mut JoinSet<Result<(), String>>) -> Result<(), String> {
    while let Some(ended) = workers.join_next().await {
        ended.expect("a worker neither panics nor is cancelled")?;
    }
    Ok(())
}

impl Run {
    async fn work(self: Arc<Self>, index: usize, mut jobs: mpsc::Receiver<Job>) -> Result<(), String> {
        let mut nodes = Nodes::new(&self.plan.endpoints, index);
        while let Some(job) = jobs.recv().await {
            let record = &job.record;
            let told = |why| format!("line {}: key {:?}: {why}", record.line, record.key);
            self.put(&mut nodes, record).await.map_err(told)?;
            self.progress.add(record.value.len() as u64);
        }
        Ok(())
    }

    /// Tries until the record is acknowledged. Repeating is safe: the same value, in the place of what is there.
    async fn put(&self, nodes: &mut Nodes, record: &Record) -> Result<(), String> {
        let request = self.request(record);
        let started = Instant::now();
        let mut pause = PAUSE;
        loop {
            let result = nodes.current().send(&request, PATIENCE).await;
            let why = match judge(result) {
                Verdict::Acknowledged => return Ok(()),
                Verdict::Refused(why) => return Err(why),
                Verdict::Again(why) => why,
            };
            let why = format!("{}: {why}", nodes.current().endpoint());
            if started.elapsed() + pause > self.plan.retry_for {
                return Err(format!("given up after {:.0} s; last: {why}", started.elapsed().as_secs_f32()));
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            // While another node is left to be asked there is nothing to wait for.
            if nodes.next() {
                tokio::time::sleep(pause).await;
                pause = PAUSE_MAX.min(2 * pause);
            }
        }
    }

    fn request(&self, record: &Record) -> Request {
        Request::object(Method::PUT, &self.plan.bucket, &record.key)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", format!("{:016x}-{}", self.id, record.line))
            .optional("Rondo-W", self.plan.w.as_deref())
            .body(record.value.clone())
    }
}

enum Verdict {
    Acknowledged,
    /// It would be refused again.
    Refused(String),
    /// It may be taken later, or elsewhere.
    Again(String),
}

fn judge(result: Result<Answer, CallError>) -> Verdict {
    match result {
        Err(CallError::Unsendable(why)) => Verdict::Refused(why),
        Err(error) => Verdict::Again(error.to_string()),
        Ok(answer) if answer.status.is_success() => Verdict::Acknowledged,
        Ok(answer) => match answer.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::INSUFFICIENT_STORAGE => Verdict::Again(describe(&answer)),
            _ => Verdict::Refused(describe(&answer)),
        },
    }
}

/// One worker's connections, one of them in use.
struct Nodes {
    connections: Vec<Connection>,
    current: usize,
    /// Attempts since the last time all were tried.
    tried: usize,
}

impl Nodes {
    /// Workers begin at different endpoints.
    fn new(endpoints: &[Endpoint], worker: usize) -> Self {
        let connections: Vec<_> = endpoints.iter().cloned().map(Connection::new).collect();
        Self { current: worker % connections.len(), connections, tried: 0 }
    }

    fn current(&mut self) -> &mut Connection {
        &mut self.connections[self.current]
    }

    /// Goes on to the next; true when all have been tried.
    fn next(&mut self) -> bool {
        self.current = (self.current + 1) % self.connections.len();
        self.tried = (self.tried + 1) % self.connections.len();
        self.tried == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A node that gives one answer after the other, one a connection; then it is gone.
    async fn node(answers: Vec<&'static str>) -> (Endpoint, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let serving = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                requests.push(head_of(&mut stream).await);
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(text.as_bytes()).await.unwrap();
            }
            requests
        });
        (endpoint, serving)
    }

    async fn head_of(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"1\n") && !text.ends_with(b"\r\n\r\n1") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    async fn load(endpoints: Vec<Endpoint>, retry_for: Duration) -> Result<Summary, Failure> {
        let text = b"{\"key\":\"a\",\"value\":1}\n".to_vec();
        let lines = Lines::over("f", Box::new(Cursor::new(text)), "b", 1_000).unwrap();
        let plan = Plan { endpoints, bucket: "b".into(), w: Some("2".into()), concurrency: 1, retry_for };
        send(lines, Totals { records: 1, bytes: 1 }, plan).await
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_under_the_same_name() {
        let answers = vec!["503 Service Unavailable", "429 Too Many Requests", "504 Gateway Timeout", "204 No Content"];
        let (endpoint, serving) = node(answers).await;
        let summary = load(vec![endpoint], Duration::from_secs(30)).await.unwrap();
        assert_eq!((summary.totals.records, summary.retries), (1, 3));
        let requests = serving.await.unwrap();
        assert_eq!(requests.len(), 4);
        assert!(requests[0].starts_with("PUT /v1/kv/b/a HTTP/1.1\r\n") && requests[0].contains("rondo-w: 2"));
        let name =
            |request: &String| request.lines().find(|line| line.starts_with("idempotency-key")).map(String::from);
        assert!(name(&requests[0]).is_some() && requests.iter().all(|r| name(r) == name(&requests[0])));
    }

    #[tokio::test]
    async fn a_node_that_is_gone_is_left_for_another() {
        let (gone, serving) = node(vec![]).await;
        serving.await.unwrap();
        let (alive, _serving) = node(vec!["204 No Content"]).await;
        let summary = load(vec![gone, alive], Duration::from_secs(30)).await.unwrap();
        assert_eq!((summary.totals.records, summary.retries), (1, 1));
    }

    #[tokio::test]
    async fn a_refused_record_ends_the_run_with_its_line() {
        let (endpoint, _serving) = node(vec!["413 Payload Too Large"]).await;
        let Failure::Failed(why) = load(vec![endpoint], Duration::from_secs(30)).await.unwrap_err() else {
            panic!("exit code 1")
        };
        assert!(why.starts_with("line 1: key \"a\": 413 Payload Too Large"), "{why}");
        assert!(why.ends_with("stopped after 0 records were acknowledged"));
    }

    #[tokio::test]
    async fn a_record_is_given_up_in_time() {
        let (gone, serving) = node(vec![]).await;
        serving.await.unwrap();
        let Failure::Failed(why) = load(vec![gone], Duration::from_millis(100)).await.unwrap_err() else {
            panic!("exit code 1")
        };
        assert!(why.contains("given up after 0 s; last: http://127.0.0.1:") && why.contains("cannot connect"), "{why}");
    }
}
