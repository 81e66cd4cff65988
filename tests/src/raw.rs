//! Bytes on a socket, for requests that no library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than every limit that a test configures.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct RawClient(TcpStream);

/// An answer read from the bytes of a connection.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above 0 is allowed");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above 0 is allowed");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        Self(stream)
    }

    /// Sends bytes; an error where the node has hung up.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref())
    }

    /// Sends bytes that have to be taken.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("the node takes what is sent");
        self
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) -> &mut Self {
        // The node may have hung up first.
        let _ = self.0.shutdown(Shutdown::Write);
        self
    }

    /// The next answer; `None` where the connection ends, or was broken, before there is one.
    #[track_caller]
    pub fn answer(&mut self) -> Option<RawAnswer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte()?);
        }
        let head = String::from_utf8(head).expect("heads are ASCII here");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("an answer begins with a status");
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).ok()?;
        Some(RawAnswer { status, head, body })
    }

    /// Whether the node ends the connection, whatever it says before.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.0.read(&mut [0; 4_096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return is_broken(&error),
            }
        }
    }

    #[track_caller]
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if is_broken(&error) => None,
            Err(error) => panic!("neither an answer nor an end of the connection: {error}"),
        }
    }
}

fn is_broken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
