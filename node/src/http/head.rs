//! Reads along while a request's head comes in, to refuse what hyper would let pass or answer with a bare status.
//!
//! hyper drops `Content-Length` where there is a `Transfer-Encoding` too, and answers what it cannot read without a body.
//! The scanner follows the framing of HTTP/1.1 (RFC 9112, sections 2, 6 and 7) just far enough to know where
//! each head begins and ends; it decides nothing that hyper decides again, it only refuses more.

use smallvec::SmallVec;

use crate::http::problem::{Kind, Problem};
use crate::http::target::Target;
use rondo_config::HttpLimits;

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a request line or a header field, or before one.
    Head,
    /// In a body with that many bytes to come.
    Body(u64),
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk with that many bytes to come, its line end included.
    Chunk(u64),
    /// After the last chunk.
    Trailer,
    /// Not HTTP as this scanner knows it: hyper will end the connection.
    Lost,
}

/// What one head has said so far.
#[derive(Debug, Default)]
struct Head {
    bytes: u64,
    lines: u64,
    content_length: Option<u64>,
    chunked: bool,
    /// Spaces in the request line.
    spaces: u64,
    target: Target,
}

/// Why a head is refused. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    PathTooLong,
    HeadTooLarge,
    TooManyFields,
    BothLengths,
    BadContentLength,
    BadTransferEncoding,
    BadRequestLine,
    BadTarget,
    BadField,
    FoldedField,
    ControlByte,
}

/// What of the bytes shown may be passed on, and why no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Bytes before the one that was too much.
    pub(crate) passed: usize,
    pub(crate) why: Refused,
}

/// Follows the bytes of one connection.
pub(crate) struct HeadScanner {
    place: Place,
    head: Head,
    /// The beginning of the current line, as much as the fields that matter can need.
    line: SmallVec<[u8; LINE_BYTES_KEPT]>,
    line_is_cut: bool,
    /// The end of the current line, as far as it has come.
    tail: [u8; TAIL_BYTES],
    head_bytes_max: u64,
    fields_max: u64,
}

const LINE_BYTES_KEPT: usize = 64;
/// A space, the version, and perhaps a carriage return.
const TAIL_BYTES: usize = 10;

impl HeadScanner {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self {
            place: Place::Head,
            head: Head::default(),
            line: SmallVec::new(),
            line_is_cut: false,
            tail: [0; TAIL_BYTES],
            head_bytes_max: limits.head_bytes,
            fields_max: limits.header_fields,
        }
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        self.place == Place::Head && self.head.bytes > 0
    }

    /// Whether the next request has not begun.
    pub(crate) fn is_between(&self) -> bool {
        self.place == Place::Head && self.head.bytes == 0
    }

    /// Whether it no longer knows.
    pub(crate) fn is_lost(&self) -> bool {
        self.place == Place::Lost
    }

    /// Follows the next bytes. After a refusal the scanner must not be used again.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &mut self.place {
                Place::Lost => return Ok(()),
                Place::Body(left) | Place::Chunk(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    self.leave_body();
                    taken
                }
                _ => self.take_line(rest).map_err(|why| Stop { passed: at, why })?,
            };
        }
        Ok(())
    }

    fn leave_body(&mut self) {
        match self.place {
            Place::Body(0) => self.next_head(),
            Place::Chunk(0) => self.place = Place::ChunkSize,
            _ => {}
        }
    }

    fn next_head(&mut self) {
        self.place = Place::Head;
        self.head = Head::default();
    }

    /// Takes up to the end of the line; how many bytes that were.
    fn take_line(&mut self, rest: &[u8]) -> Result<usize, Refused> {
        let end = rest.iter().position(|&b| b == b'\n');
        let taken = end.map_or(rest.len(), |end| end + 1);
        let part = &rest[..end.unwrap_or(rest.len())];
        let room = LINE_BYTES_KEPT - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.line_is_cut |= part.len() > room;
        if self.place == Place::Head {
            self.head.bytes += taken as u64;
            if self.head.bytes > self.head_bytes_max {
                return Err(if self.head.lines == 0 { Refused::PathTooLong } else { Refused::HeadTooLarge });
            }
            self.check_bytes(part)?;
        }
        if end.is_some() {
            self.end_line()?;
            self.line.clear();
            self.line_is_cut = false;
            self.tail = [0; TAIL_BYTES];
        }
        Ok(taken)
    }

    /// Control bytes are allowed nowhere in a head but as white space, and a carriage return only before a line end:
    /// somebody else might take it for one.
    fn check_bytes(&mut self, part: &[u8]) -> Result<(), Refused> {
        let Some((last, before)) = part.split_last() else { return Ok(()) };
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if self.tail[TAIL_BYTES - 1] == b'\r' || before.iter().any(is_control) || (is_control(last) && *last != b'\r') {
            return Err(Refused::ControlByte);
        }
        let kept = part.len().min(TAIL_BYTES);
        self.tail.copy_within(kept.., 0);
        self.tail[TAIL_BYTES - kept..].copy_from_slice(&part[part.len() - kept..]);
        if self.head.lines == 0 {
            self.head.spaces += part.iter().filter(|&&byte| byte == b' ').count() as u64;
            self.head.target.follow(part)?;
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Refused> {
        if self.line.last() == Some(&b'\r') && !self.line_is_cut {
            self.line.pop();
        }
        let is_empty = self.line.is_empty();
        match self.place {
            Place::Head if !is_empty => self.field()?,
            // Empty lines before a request line are skipped, as hyper does.
            Place::Head if self.head.lines > 0 => self.end_head()?,
            Place::ChunkSize => self.place = self.chunk(),
            Place::Trailer if is_empty => self.next_head(),
            _ => {}
        }
        Ok(())
    }

    fn field(&mut self) -> Result<(), Refused> {
        self.head.lines += 1;
        if self.head.lines == 1 {
            return self.request_line();
        }
        if self.head.lines - 1 > self.fields_max {
            return Err(Refused::TooManyFields);
        }
        let colon = self.line.iter().position(|&b| b == b':');
        match &self.line[..colon.unwrap_or(self.line.len())] {
            [b' ' | b'\t', ..] => return Err(Refused::FoldedField),
            name if name.is_empty() || !name.iter().all(is_token) => return Err(Refused::BadField),
            _ => {}
        }
        let Some(colon) = colon else {
            // A name that is longer than what is kept of a line.
            return if self.line_is_cut { Ok(()) } else { Err(Refused::BadField) };
        };
        let (name, value) = (&self.line[..colon], self.line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = length(value).filter(|_| !self.line_is_cut && self.head.content_length.is_none());
            self.head.content_length = Some(length.ok_or(Refused::BadContentLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let only_chunked = value.eq_ignore_ascii_case(b"chunked") && !self.line_is_cut && !self.head.chunked;
            self.head.chunked = only_chunked.then_some(true).ok_or(Refused::BadTransferEncoding)?;
        }
        Ok(())
    }

    /// Method, target, version, with one space each between them.
    fn request_line(&self) -> Result<(), Refused> {
        let method = self.line.iter().position(|&b| b == b' ').map(|end| &self.line[..end]);
        let end = self.tail.strip_suffix(b"\r").unwrap_or(&self.tail[1..]);
        let is_known = matches!(end, b" HTTP/1.1" | b" HTTP/1.0");
        let is_whole = method.is_some_and(|method| !method.is_empty() && method.iter().all(is_token));
        if is_known && is_whole && self.head.spaces == 2 { Ok(()) } else { Err(Refused::BadRequestLine) }
    }

    fn end_head(&mut self) -> Result<(), Refused> {
        match (self.head.content_length, self.head.chunked) {
            (Some(_), true) => return Err(Refused::BothLengths),
            (None, true) => self.place = Place::ChunkSize,
            (Some(bytes), false) if bytes > 0 => self.place = Place::Body(bytes),
            _ => self.next_head(),
        }
        Ok(())
    }

    /// What follows the line with a chunk's size: hex digits, then perhaps an extension.
    fn chunk(&self) -> Place {
        let digits = self.line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let text = std::str::from_utf8(&self.line[..digits]).unwrap_or_default();
        match u64::from_str_radix(text, 16) {
            Ok(0) => Place::Trailer,
            Ok(size) => size.checked_add(2).map_or(Place::Lost, Place::Chunk),
            Err(_) => Place::Lost,
        }
    }
}

/// What methods and field names consist of (RFC 9110, section 5.6.2).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Digits only: `+5`, `5, 5` and the empty value are refused.
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Refused {
    /// The answer.
    pub(crate) fn problem(self, limits: &HttpLimits) -> Problem {
        let (kind, detail) = match self {
            Self::PathTooLong => (Kind::UriTooLong, format!("a request line of more than {} bytes", limits.head_bytes)),
            Self::HeadTooLarge => (Kind::HeadTooLarge, format!("a head of more than {} bytes", limits.head_bytes)),
            Self::TooManyFields => (Kind::HeadTooLarge, format!("more than {} header fields", limits.header_fields)),
            Self::BothLengths => {
                (Kind::BadRequest, "both Content-Length and Transfer-Encoding: one of them is allowed".into())
            }
            Self::BadContentLength => (Kind::BadRequest, "Content-Length: one number of digits is allowed".into()),
            Self::BadTransferEncoding => (Kind::BadRequest, "Transfer-Encoding: only chunked is allowed, once".into()),
            Self::BadRequestLine => {
                let allowed = "the first line is no request: METHOD /path HTTP/1.1, with one space each, is allowed";
                (Kind::BadRequest, allowed.into())
            }
            Self::BadTarget => {
                let allowed =
                    "the target of a request is a /path?query of UTF-8; < > # \" ` have to be percent-encoded";
                (Kind::BadRequest, allowed.into())
            }
            Self::BadField => (Kind::BadRequest, "a header field is not Name: value".into()),
            Self::FoldedField => {
                (Kind::BadRequest, "a header field begins with white space: folded fields are not allowed".into())
            }
            Self::ControlByte => (Kind::BadRequest, "a control byte in the head".into()),
        };
        Problem::new(kind, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner() -> HeadScanner {
        HeadScanner::new(&HttpLimits::default())
    }

    /// The verdict must not depend on how the bytes are cut.
    fn verdict(bytes: &[u8]) -> Result<bool, Refused> {
        let whole = {
            let mut scanner = scanner();
            scanner.scan(bytes).map(|()| scanner.is_between()).map_err(|stop| stop.why)
        };
        let mut scanner = scanner();
        let single = bytes.iter().try_for_each(|byte| scanner.scan(std::slice::from_ref(byte)));
        assert_eq!(single.map(|()| scanner.is_between()).map_err(|stop| stop.why), whole);
        whole
    }

    fn head(fields: &str) -> Vec<u8> {
        format!("PUT /v1/kv/b/k HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn requests_are_followed_to_their_ends() {
        assert_eq!(verdict(&head("")), Ok(true));
        assert_eq!(verdict(&[head("Content-Length: 3\r\n"), b"abc".to_vec()].concat()), Ok(true));
        assert_eq!(verdict(&[head("Content-Length: 3\r\n"), b"ab".to_vec()].concat()), Ok(false));
        let chunked = head("Transfer-Encoding: Chunked\r\n");
        assert_eq!(verdict(&[chunked.clone(), b"3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n".to_vec()].concat()), Ok(true));
        assert_eq!(verdict(&[chunked, b"3\r\nabc\r\n0\r\n".to_vec()].concat()), Ok(false));
        assert_eq!(verdict(b"\r\nGET / HTTP/1.1\nHost: x\n\n"), Ok(true));
    }

    #[test]
    fn a_body_that_looks_like_a_head_is_a_body() {
        let inner = [head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), vec![b'\n'; 200]].concat();
        let outer = head(&format!("Content-Length: {}\r\n", inner.len()));
        assert_eq!(verdict(&[outer, inner.clone()].concat()), Ok(true));
        let size = format!("{:x}\r\n", inner.len()).into_bytes();
        let chunks = [head("Transfer-Encoding: chunked\r\n"), size, inner, b"\r\n0\r\n\r\n".to_vec()].concat();
        assert_eq!(verdict(&chunks), Ok(true));
    }

    #[test]
    fn two_lengths_are_refused_in_either_order() {
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        let other = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";
        assert_eq!(verdict(&head(both)), Err(Refused::BothLengths));
        assert_eq!(verdict(&head(other)), Err(Refused::BothLengths));
    }

    #[test]
    fn odd_lengths_and_encodings_are_refused() {
        for value in ["", "+3", "3, 3", "-1", "0x3", "99999999999999999999"] {
            let fields = format!("Content-Length: {value}\r\n");
            assert_eq!(verdict(&head(&fields)), Err(Refused::BadContentLength), "{value}");
        }
        assert_eq!(verdict(&head("Content-Length: 3\r\ncontent-length: 3\r\n")), Err(Refused::BadContentLength));
        let padded = format!("Content-Length: {}3\r\n", " ".repeat(100));
        assert_eq!(verdict(&head(&padded)), Err(Refused::BadContentLength));
        for value in ["gzip, chunked", "identity", "chunked, chunked", ""] {
            let fields = format!("Transfer-Encoding: {value}\r\n");
            assert_eq!(verdict(&head(&fields)), Err(Refused::BadTransferEncoding), "{value}");
        }
    }

    #[test]
    fn the_limits_are_exact() {
        let fields = |count: usize| "A: b\r\n".repeat(count);
        assert_eq!(verdict(&head(&fields(99))), Ok(true));
        assert_eq!(verdict(&head(&fields(100))), Err(Refused::TooManyFields));
        let filled = |bytes: usize| head(&format!("A: {}\r\n", "x".repeat(bytes - head("A: \r\n").len())));
        assert_eq!(verdict(&filled(16 << 10)), Ok(true));
        assert_eq!(verdict(&filled((16 << 10) + 1)), Err(Refused::HeadTooLarge));
        assert_eq!(verdict(&vec![b'x'; (16 << 10) + 1]), Err(Refused::PathTooLong));
        assert_eq!(verdict(&vec![b'\n'; (16 << 10) + 1]), Err(Refused::PathTooLong));
    }

    #[test]
    fn what_came_before_the_refused_head_may_pass() {
        let first = head("");
        let both = [first.clone(), head("Content-Length: +\r\n")].concat();
        let stop = scanner().scan(&both).unwrap_err();
        assert!(stop.passed >= first.len() && stop.why == Refused::BadContentLength);
    }

    #[test]
    fn a_second_request_is_measured_from_its_own_start() {
        let mut scanner = scanner();
        for _ in 0..100 {
            scanner.scan(&head(&"A: b\r\n".repeat(90))).unwrap();
        }
        assert!(scanner.is_between() && !scanner.is_in_head() && !scanner.is_lost());
        scanner.scan(b"GET").unwrap();
        assert!(scanner.is_in_head());
    }

    #[test]
    fn lines_that_are_none_of_http_are_refused() {
        for line in [
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            " GET / HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET /HTTP/1.1",
            "GET",
        ] {
            assert_eq!(
                verdict(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()),
                Err(Refused::BadRequestLine),
                "{line}"
            );
        }
        let long = format!("GET /{} HTTP/1.0\r\nHost: x\r\n\r\n", "x".repeat(1_000));
        assert_eq!(verdict(long.as_bytes()), Ok(true));
        assert_eq!(verdict(long.replace("/1.0", "/3.0").as_bytes()), Err(Refused::BadRequestLine));
    }

    #[test]
    fn fields_that_others_could_read_differently_are_refused() {
        for (field, why) in [
            ("Name : v", Refused::BadField),
            ("Na me: v", Refused::BadField),
            (": v", Refused::BadField),
            ("no colon", Refused::BadField),
            ("colonless", Refused::BadField),
            (" folded: v", Refused::FoldedField),
            ("\tfolded", Refused::FoldedField),
            ("A: b\0c", Refused::ControlByte),
            ("A: b\rContent-Length: 3", Refused::ControlByte),
            ("A: b\x7f", Refused::ControlByte),
            ("A: b\r", Refused::ControlByte),
        ] {
            assert_eq!(verdict(&head(&format!("{field}\r\n"))), Err(why), "{field:?}");
        }
        assert_eq!(verdict(b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"), Err(Refused::ControlByte));
        assert_eq!(verdict(&head(&format!("{}: v\r\nA:\tb\tc\r\n", "long-".repeat(40)))), Ok(true));
    }

    #[test]
    fn a_bad_chunk_size_is_left_to_hyper() {
        let mut scanner = scanner();
        scanner.scan(&[head("Transfer-Encoding: chunked\r\n"), b"zz\r\n".to_vec()].concat()).unwrap();
        assert!(scanner.is_lost());
    }
}
