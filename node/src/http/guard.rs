//! A socket that keeps its peer to the rules: deadlines for heads, idle connections and stalled answers, and the
//! refusals of [`HeadScanner`] answered with a problem instead of a bare status.
//!
//! hyper drives the connection above it. Its one timer for heads would cut an idle connection as soon as a slow head,
//! so the timers are here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::http::head::{HeadScanner, Refused, Stop};
use crate::http::seats::Seat;
use rondo_config::HttpLimits;

/// Bytes read and thrown away after a refusal, so that the answer reaches a client that is still sending.
const LINGER_BYTES_MAX: usize = 256 << 10;

/// Whether a request of the connection is in work. Set by its service, read by its [`Guard`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<AtomicBool>);

/// A request in work; over when dropped.
pub(crate) struct Working(Busy);

impl Busy {
    /// A request has begun.
    pub(crate) fn begin(&self) -> Working {
        self.0.store(true, Ordering::Relaxed);
        Working(self.clone())
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct Guard<S> {
    stream: S,
    limits: Arc<HttpLimits>,
    busy: Busy,
    /// Told when the connection is idle, and when it is not.
    seat: Seat,
    scanner: HeadScanner,
    state: State,
    /// When the connection opened, or the head that is coming in began.
    head_began: Option<Instant>,
    /// When a byte last moved.
    active: Instant,
    reading: Timer,
    writing: Timer,
    /// Since when the peer takes nothing of an answer.
    write_stalled: Option<Instant>,
    /// Makes the refusal's answer and counts it.
    refuse: Box<dyn Fn(Refused) -> Bytes + Send>,
}

enum State {
    Open,
    /// A head was refused; its answer waits for the one in work.
    Refused(Refused),
    /// The answer is on its way.
    Answering(Bytes),
    /// What still comes in is thrown away, until then at most.
    Lingering {
        bytes_left: usize,
        until: Instant,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    pub(crate) fn new(
        stream: S,
        limits: Arc<HttpLimits>,
        busy: Busy,
        seat: Seat,
        refuse: impl Fn(Refused) -> Bytes + Send + 'static,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            scanner: HeadScanner::new(&limits),
            limits,
            busy,
            seat,
            state: State::Open,
            head_began: Some(now),
            active: now,
            reading: Timer::default(),
            writing: Timer::default(),
            write_stalled: None,
            refuse: Box::new(refuse),
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
            return self.poll_deadline(cx);
        }
        self.active = Instant::now();
        self.seat.busy();
        if let Err(Stop { passed, why }) = self.scanner.scan(&buf.filled()[before..]) {
            buf.set_filled(before + passed);
            self.state = State::Refused(why);
            return if passed > 0 { Poll::Ready(Ok(())) } else { self.poll_refused(cx, buf) };
        }
        self.head_began = match self.head_began {
            Some(began) if self.scanner.is_in_head() => Some(began),
            _ => self.scanner.is_in_head().then_some(self.active),
        };
        Poll::Ready(Ok(()))
    }

    /// Nothing came. Inside a body and while an answer is being made, others keep the time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = match self.head_began {
            _ if self.busy.get() => return Poll::Pending,
            Some(began) => began + self.limits.head_timeout(),
            None if self.scanner.is_lost() => self.active + self.limits.head_timeout(),
            None if self.scanner.is_between() => {
                if self.write_stalled.is_none() {
                    self.seat.idle();
                }
                self.active + self.limits.idle()
            }
            None => return Poll::Pending,
        };
        ready!(self.reading.poll_until(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_refused(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Open => return Poll::Ready(Ok(())),
                // hyper asks again once the answer in work is out.
                State::Refused(_) if self.busy.get() => return Poll::Pending,
                State::Refused(_) if self.write_stalled.is_some() => return broken(),
                State::Refused(why) => self.state = State::Answering((self.refuse)(*why)),
                State::Answering(unsent) if unsent.is_empty() => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    let until = Instant::now() + self.limits.head_timeout();
                    self.state = State::Lingering { bytes_left: LINGER_BYTES_MAX, until };
                }
                State::Answering(unsent) => {
                    let Poll::Ready(sent) = Pin::new(&mut self.stream).poll_write(cx, unsent)? else {
                        ready!(self.writing.poll_until(cx, self.active + self.limits.body_stall()));
                        return broken();
                    };
                    unsent.advance(sent);
                }
                State::Lingering { bytes_left, until } => {
                    let (before, until) = (buf.filled().len(), *until);
                    if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
                        ready!(self.reading.poll_until(cx, until));
                        return broken();
                    }
                    let came = buf.filled().len() - before;
                    buf.set_filled(before);
                    *bytes_left = bytes_left.saturating_sub(came);
                    if came == 0 || *bytes_left == 0 {
                        return broken();
                    }
                }
            }
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.active = Instant::now();
            self.seat.busy();
            // The last bytes of an answer: hyper may not look for the next request before it comes.
            if !self.busy.get() && self.scanner.is_between() {
                self.seat.idle();
            }
            self.write_stalled = None;
            return wrote;
        }
        let since = *self.write_stalled.get_or_insert_with(Instant::now);
        ready!(self.writing.poll_until(cx, since + self.limits.body_stall()));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

fn broken() -> Poll<io::Result<()>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.state {
            State::Open => self.poll_open(cx, buf),
            _ => self.poll_refused(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A timer for a deadline that is mostly put off before it comes: it is set again only when it has run out, or when
/// the deadline has come nearer.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::seats::Seats;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const SHORT_MS: u64 = 30;
    const LONG: Duration = Duration::from_secs(20);

    fn guarded(limits: HttpLimits, busy: Busy) -> (DuplexStream, Guard<DuplexStream>) {
        let (client, server) = duplex(4 << 10);
        let (seat, _) = Seats::new(1).take().unwrap();
        (client, Guard::new(server, Arc::new(limits), busy, seat, |why| Bytes::from(format!("refused: {why:?}"))))
    }

    async fn read_error(guard: &mut Guard<DuplexStream>) -> io::ErrorKind {
        let mut buffer = [0; 1_024];
        let read = async {
            loop {
                if let Err(error) = guard.read(&mut buffer).await {
                    return error.kind();
                }
            }
        };
        tokio::time::timeout(LONG, read).await.expect("the guard's own limits are shorter")
    }

    #[tokio::test]
    async fn a_half_sent_head_is_cut_by_its_own_deadline() {
        let limits = HttpLimits { head_timeout_ms: SHORT_MS, ..HttpLimits::default() };
        let (mut client, mut guard) = guarded(limits.clone(), Busy::default());
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(read_error(&mut guard).await, io::ErrorKind::TimedOut);
        let (_silent, mut guard) = guarded(limits, Busy::default());
        assert_eq!(read_error(&mut guard).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_idle_connection_is_cut_by_the_idle_deadline() {
        let limits = HttpLimits { idle_ms: SHORT_MS, ..HttpLimits::default() };
        let (mut client, mut guard) = guarded(limits, Busy::default());
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(read_error(&mut guard).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn while_a_request_is_in_work_nothing_is_cut() {
        let limits = HttpLimits { idle_ms: SHORT_MS, head_timeout_ms: SHORT_MS, ..HttpLimits::default() };
        let busy = Busy::default();
        let _working = busy.begin();
        let (mut client, mut guard) = guarded(limits, busy);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(guard.read(&mut buffer).await.unwrap(), 18);
        let more = tokio::time::timeout(Duration::from_millis(4 * SHORT_MS), guard.read(&mut buffer)).await;
        assert!(more.is_err(), "it only waits");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut() {
        let limits = HttpLimits { body_stall_ms: SHORT_MS, ..HttpLimits::default() };
        let (_client, mut guard) = guarded(limits, Busy::default());
        let written = tokio::time::timeout(LONG, guard.write_all(&[0; 64 << 10])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_refused_head_is_answered_although_more_comes() {
        let limits = HttpLimits { head_bytes: 1 << 10, ..HttpLimits::default() };
        let (client, mut guard) = guarded(limits, Busy::default());
        let (mut answers, mut requests) = tokio::io::split(client);
        let sending = tokio::spawn(async move {
            // Fails once the guard is gone, which is its right.
            let _ = requests.write_all(&[b'x'; 600 << 10]).await;
        });
        let kind = read_error(&mut guard).await;
        drop(guard);
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        let mut answer = String::new();
        answers.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "refused: PathTooLong");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_waits_for_the_answer_in_work() {
        let busy = Busy::default();
        let working = busy.begin();
        let (mut client, mut guard) = guarded(HttpLimits::default(), busy);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nContent-Length: x\r\n").await.unwrap();
        let mut buffer = [0; 1_024];
        let passed = guard.read(&mut buffer).await.unwrap();
        assert!(buffer[..passed].ends_with(b"GET / HTTP/1.1\r\n"));
        let waits = tokio::time::timeout(Duration::from_millis(SHORT_MS), guard.read(&mut buffer)).await;
        assert!(waits.is_err());
        drop(working);
        drop(client.shutdown().await);
        assert_eq!(read_error(&mut guard).await, io::ErrorKind::ConnectionAborted);
    }
}
