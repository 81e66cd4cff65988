//! The target of a request line, followed byte by byte: what hyper would answer with a bare status is refused before it
//! gets there, and so is a `#`, which hyper takes for the beginning of something that is not sent: the rest of the key
//! would be cut off without a word.

use http::uri::Authority;
use smallvec::SmallVec;

use crate::http::head::Refused;

/// Longest host and port of an absolute target: a DNS name has 255 bytes at most.
const AUTHORITY_BYTES_MAX: usize = 300;

/// How far a request line has come.
#[derive(Debug, Default)]
pub(crate) struct Target {
    place: Place,
    /// There is something of a method.
    begun: bool,
    /// The first bytes of a character that has not come to its end.
    unfinished: SmallVec<[u8; 4]>,
}

#[derive(Debug, Default)]
enum Place {
    /// In the method.
    #[default]
    Before,
    /// Behind the space after it.
    Start,
    /// `*`, which stands alone.
    Star,
    Path,
    Query,
    /// Of an absolute target (RFC 9112, section 3.2.2): what has come of `http://`.
    Scheme(Vec<u8>),
    /// Its host and port.
    Authority(Vec<u8>),
    /// Behind the space after the target.
    Behind,
}

impl Target {
    /// Takes more of the line.
    pub(crate) fn follow(&mut self, mut part: &[u8]) -> Result<(), Refused> {
        while let Some((&first, rest)) = part.split_first() {
            part = match &mut self.place {
                Place::Behind => return Ok(()),
                Place::Before => match part.iter().position(|&byte| byte == b' ') {
                    None => {
                        self.begun = true;
                        return Ok(());
                    }
                    Some(0) if !self.begun => return Err(Refused::BadRequestLine),
                    Some(end) => {
                        self.place = Place::Start;
                        &part[end + 1..]
                    }
                },
                Place::Path | Place::Query => self.text(part)?,
                _ => {
                    self.place = std::mem::take(&mut self.place).then(first)?;
                    rest
                }
            };
        }
        Ok(())
    }

    /// Takes as much of a path or a query as there is; what follows it.
    fn text<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], Refused> {
        let in_path = matches!(self.place, Place::Path);
        let ends = |byte: &u8| match byte {
            b' ' | b'<' | b'>' | b'#' => true,
            b'?' | b'`' => in_path,
            b'"' => !in_path,
            _ => false,
        };
        let end = part.iter().position(ends);
        self.characters(&part[..end.unwrap_or(part.len())])?;
        let Some(end) = end else { return Ok(&[]) };
        // A character that is broken off can only be seen here.
        self.place = match part[end] {
            _ if !self.unfinished.is_empty() => return Err(Refused::BadTarget),
            b' ' => Place::Behind,
            b'?' => Place::Query,
            _ => return Err(Refused::BadTarget),
        };
        Ok(&part[end + 1..])
    }

    /// Whether the text is UTF-8, as far as it has come.
    fn characters(&mut self, text: &[u8]) -> Result<(), Refused> {
        if self.unfinished.is_empty() && text.is_ascii() {
            return Ok(());
        }
        self.unfinished.extend_from_slice(text);
        match std::str::from_utf8(&self.unfinished).map_err(|error| (error.error_len(), error.valid_up_to())) {
            Ok(_) => self.unfinished.clear(),
            Err((None, whole)) => drop(self.unfinished.drain(..whole)),
            Err((Some(_), _)) => return Err(Refused::BadTarget),
        }
        Ok(())
    }
}

impl Place {
    /// Where the next byte leads, outside of path and query.
    fn then(self, byte: u8) -> Result<Self, Refused> {
        match (self, byte) {
            (Self::Start, b'/') => Ok(Self::Path),
            (Self::Start, b'*') => Ok(Self::Star),
            (Self::Star, b' ') => Ok(Self::Behind),
            (Self::Start, b' ') => Err(Refused::BadRequestLine),
            (Self::Start, _) => Self::scheme(vec![byte]),
            (Self::Scheme(mut scheme), _) => {
                scheme.push(byte);
                Self::scheme(scheme)
            }
            (Self::Authority(host), b'/') => checked(&host, Self::Path),
            (Self::Authority(host), b'?') => checked(&host, Self::Query),
            (Self::Authority(host), b' ') => checked(&host, Self::Behind),
            (Self::Authority(mut host), _) if host.len() < AUTHORITY_BYTES_MAX => {
                host.push(byte);
                Ok(Self::Authority(host))
            }
            _ => Err(Refused::BadTarget),
        }
    }

    fn scheme(so_far: Vec<u8>) -> Result<Self, Refused> {
        let begins =
            |scheme: &&[u8]| scheme.get(..so_far.len()).is_some_and(|start| start.eq_ignore_ascii_case(&so_far));
        match [&b"http://"[..], b"https://"].into_iter().find(begins) {
            Some(scheme) if scheme.len() == so_far.len() => Ok(Self::Authority(Vec::new())),
            Some(_) => Ok(Self::Scheme(so_far)),
            None => Err(Refused::BadTarget),
        }
    }
}

fn checked(host: &[u8], next: Place) -> Result<Place, Refused> {
    Authority::try_from(host).map(|_| next).map_err(|_| Refused::BadTarget)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict must not depend on how the bytes are cut.
    fn verdict(target: &[u8]) -> Result<bool, Refused> {
        let line = [b"GET ", target, b" HTTP/1.1\r"].concat();
        let mut whole = Target::default();
        let verdict = whole.follow(&line).map(|()| matches!(whole.place, Place::Behind));
        let mut single = Target::default();
        let bytes = line.iter().try_for_each(|byte| single.follow(std::slice::from_ref(byte)));
        assert_eq!(bytes.map(|()| matches!(single.place, Place::Behind)), verdict);
        verdict
    }

    #[test]
    fn what_hyper_reads_is_passed_on() {
        let long = format!("/v1/kv/b/{}", "k".repeat(5_000));
        for target in [
            "/",
            "*",
            "/v1/kv/b/..?r=1&x=?/",
            "/v1/kv/b/\u{e9}\u{1f600}?prefix=\u{e9}",
            "/{\"a\":1}",
            "/x?`{}|\\^",
            "http://h",
            "HTTP://h:7700/v1/kv/b/k",
            "https://[::1]:1?x",
            "http://u@h/",
            &long,
        ] {
            assert_eq!(verdict(target.as_bytes()), Ok(true), "{target}");
            assert!(target.parse::<http::Uri>().is_ok(), "{target}");
        }
    }

    #[test]
    fn what_hyper_would_refuse_is_refused_and_a_fragment_too() {
        for target in [
            &b"/k#rest"[..],
            b"/k?x=1#rest",
            b"/<",
            b"/k?a>b",
            b"/`",
            b"/k?\"",
            b"/\xff",
            b"/\xc3",
            b"/k?\xc3",
            b"/\xc3?x",
            b"/\xed\xa0\x80",
            b"k",
            b"?x",
            b"host:1",
            b"http:/x",
            b"http:// ",
            b"ftp://h/",
            b"http://[::1/",
            b"**",
            b"*/",
            b"http://\xff/",
        ] {
            assert_eq!(verdict(target), Err(Refused::BadTarget), "{}", String::from_utf8_lossy(target));
        }
        assert_eq!(verdict(b""), Err(Refused::BadRequestLine));
        let long = format!("http://{}/", "h".repeat(AUTHORITY_BYTES_MAX + 1));
        assert_eq!(verdict(long.as_bytes()), Err(Refused::BadTarget));
    }
}
