//! Versions of a key as `multipart/mixed` (RFC 2046, section 5.1): each value raw, with headers of its own.

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use rondo_storage::versions::{ETag, Sibling};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::http::described::describe;
use crate::http::objects;

/// Without its boundary.
pub(crate) const TYPE: &str = "multipart/mixed";

/// A body and its content type.
pub(crate) struct Multipart {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// One part for each version. The same versions make the same bytes: `etag` names them all.
pub(crate) fn list(etag: &ETag, siblings: &[&Sibling]) -> Multipart {
    let boundary = boundary(etag, siblings);
    let values: usize = siblings.iter().filter_map(|sibling| sibling.value.as_ref()).map(Bytes::len).sum();
    let mut body = Vec::with_capacity(values + (siblings.len() + 1) * 512);
    for sibling in siblings {
        body.extend_from_slice(b"--");
        body.extend_from_slice(boundary.as_bytes());
        body.extend_from_slice(b"\r\n");
        push_headers(&mut body, sibling);
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(sibling.value.as_deref().unwrap_or_default());
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--");
    body.extend_from_slice(boundary.as_bytes());
    body.extend_from_slice(b"--\r\n");
    Multipart { content_type: format!("{TYPE}; boundary={boundary}"), body: body.into() }
}

fn push_headers(out: &mut Vec<u8>, sibling: &Sibling) {
    let mut headers = HeaderMap::with_capacity(8);
    describe(&mut headers, sibling);
    headers.extend(ETag::of([sibling.dot]).map(|etag| objects::quoted(etag.as_str())));
    for (name, value) in &headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// In no value. The values have a last byte, so that this ends.
fn boundary(etag: &ETag, siblings: &[&Sibling]) -> String {
    let mut attempt = 0;
    loop {
        let boundary = format!("rondo-{:016x}", xxh3_64_with_seed(etag.as_str().as_bytes(), attempt));
        let mut values = siblings.iter().filter_map(|sibling| sibling.value.as_ref());
        if !values.any(|value| memmem::find(value, boundary.as_bytes()).is_some()) {
            return boundary;
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_storage::versions::{ActorId, Dot, Metadata};

    fn sibling(counter: u64, value: impl Into<Bytes>) -> Sibling {
        let dot = Dot { actor: ActorId(0xa), counter };
        let metadata = Metadata { content_type: Bytes::from_static(b"text/x"), ..Metadata::default() };
        Sibling { dot, value: Some(value.into()), metadata }
    }

    fn made(siblings: &[Sibling]) -> (String, Vec<u8>) {
        let etag = ETag::of(siblings.iter().map(|sibling| sibling.dot)).unwrap();
        let all: Vec<&Sibling> = siblings.iter().collect();
        let Multipart { content_type, body } = list(&etag, &all);
        (content_type.strip_prefix("multipart/mixed; boundary=").unwrap().to_owned(), body.to_vec())
    }

    #[test]
    fn each_version_has_its_headers_and_its_bytes() {
        let (boundary, body) = made(&[sibling(1, &b"\r\n\xff"[..]), sibling(2, Bytes::new())]);
        let headers = "content-type: text/x\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\netag: \"a-";
        let expected = [
            format!("--{boundary}\r\n{headers}1\"\r\n\r\n").as_bytes(),
            b"\r\n\xff",
            format!("\r\n--{boundary}\r\n{headers}2\"\r\n\r\n\r\n--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(&expected));
        assert!(boundary.len() <= 70, "RFC 2046");
    }

    #[test]
    fn the_boundary_is_in_no_value() {
        let (first, plain) = made(&[sibling(1, "v")]);
        assert_eq!(made(&[sibling(1, "v")]), (first.clone(), plain), "equal versions, equal bytes");
        let (second, _) = made(&[sibling(1, format!("x\r\n--{first}--\r\n"))]);
        assert_ne!(first, second);
        let (third, _) = made(&[sibling(1, format!("{second} {first}"))]);
        assert!(third != first && third != second);
    }
}
