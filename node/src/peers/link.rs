//! One connection to a peer, from this side.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rondo_ring::NodeId;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::Network;
use super::error::PeerError;
use super::handshake::{self, Challenge, End, Hello, MESSAGE_BYTES_MAX, Purpose};
use super::refusal::{Cause, Refused};
use super::{ROUTE_HELLO, ROUTE_PROOF, body};

/// Read buffer: large batches in few reads.
const READ_BUFFER_BYTES_MAX: usize = 256 << 10;

/// A connection whose handshake is done: one request at a time.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    host: HeaderValue,
    /// Who is at the other end.
    pub(super) node: NodeId,
}

impl Link {
    /// Looks the name up, tries each of its addresses, proves the secret and has it proved. Bounded by
    /// `connect_timeout`.
    pub(super) async fn open(
        network: &Network,
        address: &str,
        purpose: Purpose,
        expects: Option<NodeId>,
    ) -> Result<Self, PeerError> {
        let limit = network.options().connect_timeout;
        let opened = timeout(limit, async {
            let stream = connect(address, Instant::now() + limit).await?;
            Self::greet(network, address, stream, purpose, expects).await
        });
        let opened = opened.await.unwrap_or(Err(PeerError::HandshakeTimedOut));
        match &opened {
            Ok(link) => network.note_success(address, link.node, expects),
            Err(PeerError::Refused(refused)) => {
                network.refusals().note(address, *refused);
            }
            Err(_) => {}
        }
        opened
    }

    async fn greet(
        network: &Network,
        address: &str,
        stream: TcpStream,
        purpose: Purpose,
        expects: Option<NodeId>,
    ) -> Result<Self, PeerError> {
        let connected = |source| PeerError::Connect { address: address.into(), source };
        stream.set_nodelay(true).map_err(connected)?;
        let mut builder = http1::Builder::new();
        builder.writev(true).max_buf_size(READ_BUFFER_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // Its errors reach whoever has a request in flight.
            let _ = connection.await;
        });
        let host = HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("peer"));
        let mut link = Self { sender, driver: driver.abort_handle(), host, node: NodeId(0) };
        link.node = link.prove(network, purpose, expects).await?;
        Ok(link)
    }

    async fn prove(
        &mut self,
        network: &Network,
        purpose: Purpose,
        expects: Option<NodeId>,
    ) -> Result<NodeId, PeerError> {
        let identity = network.identity();
        let hello = Hello::new(identity, purpose, expects, network.nonce());
        let sent = hello.encode();
        let received = self.post(ROUTE_HELLO, sent.clone(), MESSAGE_BYTES_MAX).await?;
        let refused = |cause| Refused { cause, node: None };
        let challenge = Challenge::decode(&mut received.clone()).map_err(refused)?;
        hello.check(&challenge)?;

        let proof = |end| handshake::proof(identity.secret(), end, &sent, &received);
        let mine = Bytes::copy_from_slice(&proof(End::Connecting));
        let theirs = self.post(ROUTE_PROOF, mine, MESSAGE_BYTES_MAX).await?;
        if !handshake::proves(&theirs, &proof(End::Accepting)) {
            return Err(Refused { cause: Cause::Secret, node: Some(challenge.node) }.into());
        }
        Ok(challenge.node)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request. `NotSent` only where nothing of it left (P2); after any other error the link is to be dropped.
    pub(super) async fn post(&mut self, route: &'static str, body: Bytes, max: usize) -> Result<Bytes, PeerError> {
        self.sender.ready().await.map_err(|_| PeerError::NotSent)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(route);
        request.headers_mut().insert(HOST, self.host.clone());
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(error) if error.message().is_some() => return Err(PeerError::NotSent),
            Err(error) => return Err(error.into_error().into()),
        };
        let status = response.status();
        if status == StatusCode::OK {
            return body::read(response.into_body(), max).await;
        }
        let refusal = body::read(response.into_body(), MESSAGE_BYTES_MAX).await.ok();
        match refusal.and_then(handshake::decode_refusal) {
            Some(refused) => Err(refused.into()),
            None => Err(PeerError::Status(status.as_u16())),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // With a request in flight the connection would otherwise live until the peer answers, if ever.
        self.driver.abort();
    }
}

/// The first address that takes a connection. Each gets its share of the time that is left, so that one that
/// swallows packets does not use up the time of the next.
async fn connect(address: &str, deadline: Instant) -> Result<TcpStream, PeerError> {
    let unresolved = |source| PeerError::Resolve { address: address.into(), source };
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(unresolved)?.collect();
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for (index, candidate) in found.iter().enumerate() {
        let share = (deadline - Instant::now()) / (found.len() - index) as u32;
        match timeout_at(Instant::now() + share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(PeerError::Connect { address: address.into(), source: last })
}
