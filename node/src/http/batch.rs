//! `POST /v1/batch`: many operations in one request. Not a transaction: every line is a request of its own, and goes
//! the way of one.

mod line;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use rondo_coordinator::Trace;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::http::admission::{Admitted, BytesHeld};
use crate::http::body::{self, BodyLimits};
use crate::http::call::Call;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::stream::{self, NDJSON, Pieces};
use crate::http::surface::{Body, Surface};
use crate::http::{objects, params, request_id};
use line::{Line, Name};

/// Where batches go.
pub(crate) const PATH: &str = "/v1/batch";
const LINES_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;
/// Lines in work at one time.
const AT_ONCE: usize = 32;
/// Answers are sent when they are this long, or when the next one is not there yet.
const PIECE_BYTES: usize = 64 << 10;

/// A batch that was taken in, with what it holds of the node's limits.
struct Batch {
    lines: Vec<Bytes>,
    /// Names its lines, where the client gave the batch a name.
    idempotency: Option<String>,
    request_id: String,
    /// Goes with every line's operations to the peers.
    trace: Option<Arc<Trace>>,
    _admitted: Admitted,
    _held: BytesHeld,
}

/// A line in work.
struct Running {
    /// Of what; `None` where the line says nothing sensible.
    name: Option<Name>,
    answer: JoinHandle<Vec<u8>>,
}

/// Nothing is begun before the whole batch is there: 413 means that nothing was done.
pub(crate) async fn answer(
    surface: &Arc<Surface>,
    request: Request<Incoming>,
    id: &str,
    call: &mut Call,
) -> Result<Response<Body>, Problem> {
    let (parts, mut incoming) = request.into_parts();
    match Batch::read(surface, &parts, &mut incoming, id, call).await {
        Ok(batch) => {
            let (pieces, response) = stream::lines();
            tokio::spawn(batch.run(surface.clone(), pieces));
            Ok(response)
        }
        Err(problem) => {
            if !matches!(problem.kind(), Kind::TimedOut | Kind::BodyStalled) {
                body::drain(incoming, parts.headers.contains_key(EXPECT));
            }
            Err(problem)
        }
    }
}

impl Batch {
    async fn read(
        surface: &Surface,
        parts: &Parts,
        incoming: &mut Incoming,
        id: &str,
        call: &mut Call,
    ) -> Result<Self, Problem> {
        if parts.method != Method::POST {
            return Err(objects::not_allowed("POST"));
        }
        let admitted = surface.admission().admit()?;
        Query::parse(parts.uri.query(), &Known::NONE)?;
        refuse_choices(&parts.headers)?;
        check_type(&parts.headers)?;
        let idempotency = request_id::idempotency(&parts.headers)?.map(|name| format!("{name:016x}"));
        surface.view()?;
        let limits = BodyLimits {
            bytes_max: BYTES_MAX,
            deadline: Instant::now() + Duration::from_millis(surface.limits().timeout_max_ms),
            stall: surface.limits().body_stall(),
        };
        let mut held = surface.admission().hold();
        let began = Instant::now();
        let body = body::collect(incoming, limits, &mut held).await;
        call.body = Some(began.elapsed());
        let lines = lines(&body?)?;
        let trace = call.trace.clone();
        Ok(Self { lines, idempotency, request_id: id.to_owned(), trace, _admitted: admitted, _held: held })
    }

    /// Some lines at a time, answered in their order. Lines on the same key wait for each other: at the same time they
    /// would be concurrent writes. Ends when the client has gone; what was begun is carried out.
    async fn run(self, surface: Arc<Surface>, pieces: Pieces) {
        let mut running: VecDeque<Running> = VecDeque::new();
        let mut out = Vec::new();
        for (index, text) in self.lines.iter().enumerate() {
            let line = Line::parse(text);
            let name = line.as_ref().ok().map(Line::name);
            while running.len() >= AT_ONCE || name.is_some() && running.iter().any(|other| other.name == name) {
                if !tell(&mut running, &mut out, &pieces).await {
                    return;
                }
            }
            let idempotency = self.idempotency.as_ref().map(|batch| format!("{batch}-{index}"));
            let (surface, id, mut call) = (surface.clone(), self.request_id.clone(), Call::of(self.trace.clone()));
            let answer = tokio::spawn(async move { line::answer(&surface, line, idempotency, &id, &mut call).await });
            running.push_back(Running { name, answer });
        }
        while !running.is_empty() {
            if !tell(&mut running, &mut out, &pieces).await {
                return;
            }
        }
        if !out.is_empty() {
            // The client may have gone; there is nobody else to tell.
            drop(pieces.send(out.into()).await);
        }
    }
}

/// Waits for the oldest line's answer and tells it; whether anybody listens.
async fn tell(running: &mut VecDeque<Running>, out: &mut Vec<u8>, pieces: &Pieces) -> bool {
    let Some(oldest) = running.pop_front() else { return true };
    if !out.is_empty() && (out.len() >= PIECE_BYTES || !oldest.answer.is_finished()) {
        let piece = std::mem::take(out);
        if pieces.send(piece.into()).await.is_err() {
            return false;
        }
    }
    let line = oldest.answer.await.expect("a line neither panics nor is cancelled");
    out.extend_from_slice(&line);
    out.push(b'\n');
    true
}

/// Every line that is not blank.
fn lines(body: &Bytes) -> Result<Vec<Bytes>, Problem> {
    let lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let lines: Vec<Bytes> = lines.take(LINES_MAX + 1).map(|line| body.slice_ref(line)).collect();
    if lines.len() > LINES_MAX {
        let detail = format!("the batch has more than {LINES_MAX} lines, which is the most allowed; nothing was done");
        return Err(Problem::new(Kind::ValueTooLarge, detail));
    }
    Ok(lines)
}

/// What is decided for each line is said in the line.
fn refuse_choices(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.iter().find(|(name, value)| name.as_str().starts_with("rondo-") && !value.is_empty()) {
        Some((name, value)) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            Err(Problem::parameter(&params::title(name), &value, "no Rondo-… header on a batch: its lines have fields"))
        }
        None => Ok(()),
    }
}

/// Lines of JSON by any of their names; also what curl says of any `--data-binary`, which nobody means.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(sent) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = String::from_utf8_lossy(sent.as_bytes()).to_ascii_lowercase();
    match text.split(';').next().unwrap_or_default().trim() {
        NDJSON | "application/ndjson" | "application/jsonl" | "application/x-www-form-urlencoded" => Ok(()),
        other => {
            let detail = format!("Content-Type: {other:?} is not allowed; allowed: {NDJSON}");
            Err(Problem::new(Kind::MediaType, detail).naming("Content-Type", other).allowing(NDJSON))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_none_and_there_is_a_limit() {
        let split = |text: &str| lines(&Bytes::copy_from_slice(text.as_bytes())).map_err(|problem| problem.kind());
        assert_eq!(split("").unwrap(), Vec::<Bytes>::new());
        assert_eq!(split("a\r\n\n  \nb").unwrap(), ["a", "b"]);
        assert_eq!(split(&"x\n".repeat(LINES_MAX)).unwrap().len(), LINES_MAX);
        assert_eq!(split(&"x\n".repeat(LINES_MAX + 1)), Err(Kind::ValueTooLarge));
    }

    #[test]
    fn only_lines_of_json_are_taken() {
        let kind = |value: &'static str| {
            check_type(&[(CONTENT_TYPE, http::HeaderValue::from_static(value))].into_iter().collect::<HeaderMap>())
                .map_err(|problem| problem.kind())
        };
        assert_eq!(kind("Application/X-NDJSON; charset=utf-8"), Ok(()));
        assert_eq!(kind("text/csv"), Err(Kind::MediaType));
    }
}
