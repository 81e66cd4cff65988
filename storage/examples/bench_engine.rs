//! The disk engine beside fjall, which is built on the same tables: what the own log and scheduling gain, and that
//! reads lose nothing.
//!
//! `make bench-engine`, or `cargo run --release -p rondo-storage --example bench_engine -- seconds=5 rounds=3
//! rows=300000 open_mib=1024 dir=/somewhere/on/a/disk`. Contenders take turns (A B A B) on fresh directories; the table
//! shows medians. Every write counts when it is on disk: both gather what waits into one group with one `fdatasync`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use rondo_storage::engine::{Batch, DiskEngine, Durability, Engine, EngineError, EngineOptions, Keyspace, Write};

const VALUE_BYTES: usize = 1_024;
const CACHE_BYTES: u64 = 512 << 20;
const MEMTABLE_BYTES: u64 = 64 << 20;
const GROUP_MAX: usize = 1_024;
const WRITING_THREADS: u64 = 2;

/// What a writing thread has been answered so far. It sleeps until more is: a channel's waiting spins.
struct Answers {
    count: AtomicU64,
    waiting: Thread,
}

impl Answers {
    fn of_this_thread() -> Arc<Self> {
        Arc::new(Self { count: AtomicU64::new(0), waiting: thread::current() })
    }

    fn one(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.waiting.unpark();
    }

    fn wait_for(&self, count: u64) {
        while self.count.load(Ordering::Acquire) < count {
            thread::park();
        }
    }
}

/// One of the two.
trait Contender: Send + Sync + Sized {
    const NAME: &'static str;
    fn open(dir: &Path) -> Self;
    /// Answers once the row is on disk, or with `lazy` in the log.
    fn put(&self, key: Bytes, value: Bytes, lazy: bool, done: &Arc<Answers>);
    fn has(&self, key: &[u8]) -> bool;
}

struct Rondo(DiskEngine);

impl Contender for Rondo {
    const NAME: &'static str = "rondo";

    fn open(dir: &Path) -> Self {
        let options = EngineOptions { cache_bytes: CACHE_BYTES, memtable_bytes: MEMTABLE_BYTES, ..Default::default() };
        Self(DiskEngine::open(dir, &options).unwrap())
    }

    fn put(&self, key: Bytes, value: Bytes, lazy: bool, done: &Arc<Answers>) {
        let durability = if lazy { Durability::Interval } else { Durability::Fsync };
        loop {
            let write = Write { keyspace: Keyspace::Objects, key: key.clone(), value: Some(value.clone()) };
            let mut batch = Batch::new();
            batch.push(write);
            let done = done.clone();
            let answer = Box::new(move |result: Result<(), EngineError>| {
                result.unwrap();
                done.one();
            });
            match self.0.submit(self.0.generation(), batch, durability, answer) {
                Ok(()) => return,
                Err(EngineError::Busy) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn has(&self, key: &[u8]) -> bool {
        self.0.get(Keyspace::Objects, key).unwrap().is_some()
    }
}

type Waiting = (Bytes, Bytes, bool, Arc<Answers>);

/// fjall with a group-commit thread of its own: without one it would sync once per write.
struct Fjall {
    rows: fjall::Keyspace,
    queue: Option<Sender<Waiting>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Contender for Fjall {
    const NAME: &'static str = "fjall";

    fn open(dir: &Path) -> Self {
        let db = fjall::Database::builder(dir).cache_size(CACHE_BYTES).manual_journal_persist(true).open().unwrap();
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = db.keyspace("rows", options).unwrap();
        let (queue, waiting) = bounded(4_096);
        let into = rows.clone();
        let writer = thread::spawn(move || group_commit(&db, &into, &waiting));
        Self { rows, queue: Some(queue), writer: Some(writer) }
    }

    fn put(&self, key: Bytes, value: Bytes, lazy: bool, done: &Arc<Answers>) {
        self.queue.as_ref().unwrap().send((key, value, lazy, done.clone())).unwrap();
    }

    fn has(&self, key: &[u8]) -> bool {
        self.rows.get(key).unwrap().is_some()
    }
}

impl Drop for Fjall {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.writer.take().unwrap().join().unwrap();
    }
}

fn group_commit(db: &fjall::Database, rows: &fjall::Keyspace, waiting: &Receiver<Waiting>) {
    let mut answers = Vec::new();
    while let Ok(first) = waiting.recv() {
        let (mut batch, mut durable) = (db.batch(), false);
        let rest = std::iter::from_fn(|| waiting.try_recv().ok());
        for (key, value, lazy, done) in std::iter::once(first).chain(rest).take(GROUP_MAX) {
            batch.insert(rows, key, value);
            durable |= !lazy;
            answers.push(done);
        }
        batch.commit().unwrap();
        db.persist(if durable { fjall::PersistMode::SyncData } else { fjall::PersistMode::Buffer }).unwrap();
        answers.drain(..).for_each(|done: Arc<Answers>| done.one());
    }
}

/// Rows that do not compress, cut from one block: making them costs nothing that would be measured.
struct Rows(Bytes);

impl Rows {
    fn new() -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        Self((0..(1 << 20)).map(|_| random.next() as u8).collect())
    }

    fn value(&self, row: u64) -> Bytes {
        let at = (row as usize).wrapping_mul(31) % (self.0.len() - VALUE_BYTES);
        self.0.slice(at..at + VALUE_BYTES)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Scattered over the key space, as tokens are.
fn key(row: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&row.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&row.to_be_bytes());
    key
}

fn key_bytes(row: u64) -> Bytes {
    Bytes::copy_from_slice(&key(row))
}

/// Processor time so far, in µs (hundredths of a second are counted), of `self` (the process) or `thread-self`.
fn cpu_us(of: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 1e4
}

/// What `writers` that each wait for their last write reach: thousands of durable writes per second, and µs of
/// processor time per write, theirs included. They share a few threads, as requests do: with a thread for each, two
/// cores mostly switch between them, and that is then what is measured.
fn durable_writes<C: Contender>(dir: &Path, writers: u64, time: Duration) -> [f64; 2] {
    let (contender, rows) = (C::open(dir), Rows::new());
    let cpu_before = cpu_us("self");
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WRITING_THREADS {
            scope.spawn(|| {
                let (answers, mut written) = (Answers::of_this_thread(), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let row = next.fetch_add(1, Ordering::Relaxed);
                    contender.put(key_bytes(row), rows.value(row), false, &answers);
                    written += 1;
                    // The answers come in the order of the writes: this is the next writer's.
                    answers.wait_for((written + 1).saturating_sub(writers / WRITING_THREADS));
                }
                answers.wait_for(written);
            });
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_us("self") - cpu_before);
    let writes = next.into_inner() as f64;
    [writes / elapsed / 1e3, cpu / writes]
}

/// Puts `count` rows, many at a time, without waiting for the disk.
fn load<C: Contender>(contender: &C, count: u64) {
    let (rows, answers) = (Rows::new(), Answers::of_this_thread());
    for row in 0..count {
        answers.wait_for(row.saturating_sub(GROUP_MAX as u64));
        contender.put(key_bytes(row), rows.value(row), true, &answers);
    }
    answers.wait_for(count);
}

/// Point reads: hits with 1 and 16 threads, misses with 1; thousands per second and µs of the readers' processor time.
fn reads<C: Contender>(dir: &Path, count: u64, time: Duration) -> [[f64; 2]; 3] {
    load(&C::open(dir), count);
    let contender = C::open(dir);
    // Whatever the engine does after opening is not what is measured.
    thread::sleep(time);
    (0..count).for_each(|row| assert!(contender.has(&key(row)), "row {row} is missing"));
    let missing = count..2 * count;
    [read(&contender, 1, 0..count, time), read(&contender, 16, 0..count, time), read(&contender, 1, missing, time)]
}

fn read<C: Contender>(contender: &C, threads: u64, range: std::ops::Range<u64>, time: Duration) -> [f64; 2] {
    let (total, cpu, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (total, cpu, stop, range) = (&total, &cpu, &stop, range.clone());
            scope.spawn(move || {
                let (mut random, mut found) = (Random(thread + 1), 0_u64);
                let mut reads = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let row = range.start + random.next() % (range.end - range.start);
                    found += u64::from(contender.has(&key(row)));
                    reads += 1;
                }
                assert!(found == 0 || found == reads, "{found} of {reads} rows found");
                total.fetch_add(reads, Ordering::Relaxed);
                cpu.fetch_add(cpu_us("thread-self") as u64, Ordering::Relaxed);
            });
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let (elapsed, reads) = (started.elapsed().as_secs_f64(), total.into_inner() as f64);
    [reads / elapsed / 1e3, cpu.into_inner() as f64 / reads]
}

/// Seconds to open what a killed process left. The other process is this program.
fn open_after_kill<C: Contender>(dir: &Path, mib: u64) -> f64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([format!("child={}", C::NAME), format!("open_mib={mib}"), format!("dir={}", dir.display())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().next();
    assert!(said.is_some_and(|line| line.unwrap() == "loaded"), "the other process failed");
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    let contender = C::open(dir);
    let seconds = started.elapsed().as_secs_f64();
    assert!(contender.has(&key(0)) && contender.has(&key(mib * 1_024 - 1)));
    seconds
}

fn load_and_wait<C: Contender>(options: &Options) {
    let contender = C::open(&options.dir);
    load(&contender, options.open_mib * 1_024);
    println!("loaded");
    loop {
        thread::park();
    }
}

struct Options {
    dir: PathBuf,
    seconds: Duration,
    rounds: usize,
    rows: u64,
    open_mib: u64,
    child: Option<String>,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self {
            dir: std::env::temp_dir().join(format!("rondo-bench-{}", std::process::id())),
            seconds: Duration::from_secs(5),
            rounds: 3,
            rows: 300_000,
            open_mib: 1_024,
            child: None,
        };
        for arg in std::env::args().skip(1) {
            match arg.split_once('=') {
                Some(("dir", value)) => options.dir = value.into(),
                Some(("seconds", value)) => options.seconds = Duration::from_secs(value.parse().unwrap()),
                Some(("rounds", value)) => options.rounds = value.parse().unwrap(),
                Some(("rows", value)) => options.rows = value.parse().unwrap(),
                Some(("open_mib", value)) => options.open_mib = value.parse().unwrap(),
                Some(("child", value)) => options.child = Some(value.to_owned()),
                _ => panic!("{arg}: expected dir=, seconds=, rounds=, rows= or open_mib="),
            }
        }
        options
    }
}

/// Figures of both contenders for one line of the table.
#[derive(Default)]
struct Line(Vec<f64>, Vec<f64>);

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn print(name: &str, unit: &str, mut line: Line) {
    if line.0.is_empty() {
        return;
    }
    let ratios: Vec<String> =
        line.0.iter().zip(&line.1).map(|(rondo, fjall)| format!("{:.2}", rondo / fjall)).collect();
    let (rondo, fjall) = (median(&mut line.0), median(&mut line.1));
    let ratio = rondo / fjall;
    println!("| {name} | {rondo:.2} {unit} | {fjall:.2} {unit} | {ratio:.2} | {} |", ratios.join(" "));
}

/// A place for one run, empty before and gone after.
fn in_fresh<T>(dir: &Path, run: impl FnOnce(&Path) -> T) -> T {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    let result = run(dir);
    std::fs::remove_dir_all(dir).unwrap();
    result
}

fn main() {
    let options = Options::from_args();
    match options.child.as_deref() {
        Some("rondo") => load_and_wait::<Rondo>(&options),
        Some("fjall") => load_and_wait::<Fjall>(&options),
        _ => {}
    }
    let (dir, time) = (options.dir.as_path(), options.seconds);
    let [mut w64, mut w256, mut cpu64, mut cpu256] = [(); 4].map(|()| Line::default());
    let [mut hit1, mut hit16, mut miss, mut open] = [(); 4].map(|()| Line::default());
    let [mut cpu_hit1, mut cpu_hit16, mut cpu_miss] = [(); 3].map(|()| Line::default());
    for _ in 0..options.rounds {
        for (rates, costs, writers) in [(&mut w64, &mut cpu64, 64), (&mut w256, &mut cpu256, 256)] {
            let [rate, cost] = in_fresh(dir, |dir| durable_writes::<Rondo>(dir, writers, time));
            rates.0.push(rate);
            costs.0.push(cost);
            let [rate, cost] = in_fresh(dir, |dir| durable_writes::<Fjall>(dir, writers, time));
            rates.1.push(rate);
            costs.1.push(cost);
        }
        if options.rows > 0 {
            let rondo = in_fresh(dir, |dir| reads::<Rondo>(dir, options.rows, time));
            let fjall = in_fresh(dir, |dir| reads::<Fjall>(dir, options.rows, time));
            let lines = [(&mut hit1, &mut cpu_hit1), (&mut hit16, &mut cpu_hit16), (&mut miss, &mut cpu_miss)];
            for (at, (rates, costs)) in lines.into_iter().enumerate() {
                rates.0.push(rondo[at][0]);
                costs.0.push(rondo[at][1]);
                rates.1.push(fjall[at][0]);
                costs.1.push(fjall[at][1]);
            }
        }
        if options.open_mib > 0 {
            open.0.push(in_fresh(dir, |dir| open_after_kill::<Rondo>(dir, options.open_mib)));
            open.1.push(in_fresh(dir, |dir| open_after_kill::<Fjall>(dir, options.open_mib)));
        }
    }
    println!(
        "| 1 KiB values, medians of {} | rondo | fjall | ratio | each round |\n|---|---|---|---|---|",
        options.rounds
    );
    print("durable writes, 64 writers", "k/s", w64);
    print("durable writes, 256 writers", "k/s", w256);
    print("processor time per write, 64 writers", "µs", cpu64);
    print("processor time per write, 256 writers", "µs", cpu256);
    print("point reads, warm, 1 thread", "k/s", hit1);
    print("point reads, warm, 16 threads", "k/s", hit16);
    print("missing keys, 1 thread", "k/s", miss);
    print("processor time per read, 1 thread", "µs", cpu_hit1);
    print("processor time per read, 16 threads", "µs", cpu_hit16);
    print("processor time per missing key", "µs", cpu_miss);
    print(&format!("open after kill -9, {} MiB written", options.open_mib), "s", open);
}
