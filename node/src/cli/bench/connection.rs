//! One connection that sends a request and takes its answer, as cheaply as that can be done.
//!
//! The generator shares its machine with the nodes it measures: what it uses they lack. So there is one write and one
//! read a request and no allocation, and of an answer only what tells where it ends is looked at.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than a node answers with (its own heads are about 400 bytes).
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// With room for a common value: an answer that fits is taken with one read.
const INPUT_BYTES: usize = 64 << 10;
/// What is kept of the body of an answer that nobody expected.
const EXCERPT_BYTES: usize = 300;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Connect,
    Broken,
    Timeout,
    Malformed,
}

impl NoAnswer {
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Broken, Self::Timeout, Self::Malformed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}

/// An answer that was taken to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
}

/// A connection that is opened when it is needed and kept.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    /// Where the beginning of the latest body is in `input`.
    body: std::ops::Range<usize>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, stream: None, input: vec![0; INPUT_BYTES], body: 0..0 }
    }

    /// Opens it now, so that the first request need not.
    pub(crate) async fn open(&mut self) -> Result<(), NoAnswer> {
        let connecting = timeout(self.patience, TcpStream::connect(self.address)).await;
        let stream = connecting.map_err(|_| NoAnswer::Connect)?.map_err(|_| NoAnswer::Connect)?;
        stream.set_nodelay(true).map_err(|_| NoAnswer::Connect)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends these bytes and takes the answer. After a failure the connection is closed.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Taken, NoAnswer> {
        if self.stream.is_none() {
            self.open().await?;
        }
        let Some(mut stream) = self.stream.take() else { return Err(NoAnswer::Connect) };
        let exchange = take_answer(&mut stream, request, &mut self.input);
        let (answer, body) = timeout(self.patience, exchange).await.map_err(|_| NoAnswer::Timeout)??;
        self.body = body;
        if answer.keeps_open {
            self.stream = Some(stream);
        }
        Ok(answer.taken)
    }

    /// How the latest answer's body begins.
    pub(crate) fn excerpt(&self) -> String {
        let end = self.body.end.min(self.body.start + EXCERPT_BYTES);
        String::from_utf8_lossy(&self.input[self.body.start..end]).into_owned()
    }
}

struct Answer {
    taken: Taken,
    keeps_open: bool,
}

async fn take_answer(
    stream: &mut TcpStream,
    request: &[u8],
    input: &mut [u8],
) -> Result<(Answer, std::ops::Range<usize>), NoAnswer> {
    stream.write_all(request).await.map_err(|_| NoAnswer::Broken)?;
    let mut filled = 0;
    let head = loop {
        filled += read(stream, &mut input[filled..]).await?;
        match Head::parse(&input[..filled])? {
            Some(head) => break head,
            None if filled >= HEAD_BYTES_MAX => return Err(NoAnswer::Malformed),
            None => {}
        }
    };
    let bytes = head.length + head.body_bytes;
    let body = head.length..filled.min(bytes);
    // Beyond the answer nothing was asked for.
    let mut missing = bytes.checked_sub(filled).ok_or(NoAnswer::Malformed)?;
    while missing > 0 {
        // What follows is dropped, but not what an excerpt may show.
        let room = input.len() - HEAD_BYTES_MAX;
        missing -= read(stream, &mut input[HEAD_BYTES_MAX..][..room.min(missing)]).await?;
    }
    let taken = Taken { status: head.status, bytes };
    Ok((Answer { taken, keeps_open: head.keeps_open }, body))
}

async fn read(stream: &mut TcpStream, into: &mut [u8]) -> Result<usize, NoAnswer> {
    let result: io::Result<usize> = stream.read(into).await;
    match result {
        Ok(0) | Err(_) => Err(NoAnswer::Broken),
        Ok(count) => Ok(count),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    body_bytes: usize,
    keeps_open: bool,
}

impl Head {
    /// `None` while it has not come to its end.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, NoAnswer> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes).map_err(|_| NoAnswer::Malformed)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.ok_or(NoAnswer::Malformed)?;
        let (mut body_bytes, mut keeps_open) = (None, true);
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                body_bytes = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            } else if header.name.eq_ignore_ascii_case("connection") {
                keeps_open = !header.value.eq_ignore_ascii_case(b"close");
            }
        }
        // What has neither a length nor, by its status, no body, is of no kind that a node sends for an object.
        let without_body = status == 204 || status == 304;
        let body_bytes = if without_body { 0 } else { body_bytes.ok_or(NoAnswer::Malformed)? };
        Ok(Some(Self { status, length, body_bytes, keeps_open }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers each request of one connection with these pieces, and closes it.
    async fn node(pieces: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 100]).await;
            for piece in pieces {
                stream.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        address
    }

    async fn answer(pieces: &[&[u8]]) -> (Result<Taken, NoAnswer>, String) {
        let mut connection = Connection::new(node(pieces.iter().map(|piece| piece.to_vec()).collect()).await, PATIENCE);
        let result = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
        (result, connection.excerpt())
    }

    #[tokio::test]
    async fn an_answer_is_taken_to_its_end_however_it_comes() {
        let (head, body) = (b"HTTP/1.1 409 Conflict\r\ncontent-length: 100000\r\n\r\n".as_slice(), vec![b'x'; 100_000]);
        for pieces in [vec![head, &body], vec![&head[..20], &head[20..], &body[..1], &body[1..]]] {
            let (taken, excerpt) = answer(&pieces).await;
            assert_eq!(taken, Ok(Taken { status: 409, bytes: head.len() + 100_000 }));
            assert!(excerpt.bytes().all(|byte| byte == b'x'), "{excerpt}");
        }
        let (taken, excerpt) = answer(&[b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nwhy?"]).await;
        assert_eq!((taken.unwrap().status, excerpt.as_str()), (503, "why?"));
        assert_eq!(answer(&[b"HTTP/1.1 204 No Content\r\n\r\n"]).await.0.unwrap().status, 204);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        for (bytes, why) in [
            (b"".as_slice(), NoAnswer::Broken),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhal", NoAnswer::Broken),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlonger", NoAnswer::Malformed),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", NoAnswer::Malformed),
            (b"SSH-2.0\r\n", NoAnswer::Malformed),
        ] {
            assert_eq!(answer(&[bytes]).await.0, Err(why), "{:?}", String::from_utf8_lossy(bytes));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let mut connection = Connection::new(silent, Duration::from_millis(20));
        assert_eq!(connection.exchange(b"GET").await, Err(NoAnswer::Timeout));
        drop(listener);
        assert_eq!(Connection::new(silent, PATIENCE).exchange(b"GET").await, Err(NoAnswer::Connect));
    }

    #[test]
    fn a_closing_answer_says_so() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert!(!head.keeps_open);
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
    }
}
