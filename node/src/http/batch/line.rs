//! One line of a batch: a request in other clothes. It is put into those of a request on its object, goes the way of
//! one, and its answer is put into a line again, so that nothing is decided here that is decided there.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rondo_storage::Key;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::call::Call;
use crate::http::objects::{Answer, CONTEXT};
use crate::http::problem::{Kind, Problem};
use crate::http::siblings::{DEFAULT_TYPE, push, push_value};
use crate::http::surface::Surface;
use crate::http::{objects_delete, objects_get, objects_put, path};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Headers of a request and the fields of a line that stand for them.
const FIELDS: [(&str, &str); 4] = [
    ("Rondo-Context", "context"),
    ("If-Match", "if_match"),
    ("If-None-Match", "if_none_match"),
    ("Content-Type", "content_type"),
];

/// Bucket and key, as they were sent.
pub(super) type Name = (String, String);

/// As it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    op: String,
    bucket: String,
    key: String,
    /// Byte for byte; `null` is a value.
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
    content_type: Option<String>,
    context: Option<String>,
    ttl: Option<Value>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    r: Option<Value>,
    w: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl Line {
    pub(super) fn parse(text: &[u8]) -> Result<Self, Problem> {
        let refused = |why: &dyn Display| Problem::new(Kind::BadRequest, format!("the line is no operation: {why}"));
        // An array with as many elements would be taken for one.
        match text.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(text).map_err(|error| refused(&error)),
            _ => Err(refused(&"a JSON object is needed")),
        }
    }

    pub(super) fn name(&self) -> Name {
        (self.bucket.clone(), self.key.clone())
    }

    /// The request that this line stands for, and its body.
    fn into_request(self, idempotency: Option<String>) -> Result<(Key, Parts, Bytes), Problem> {
        let key = Key::new(&self.bucket, &self.key).map_err(path::refused)?;
        let method = match self.op.as_str() {
            "put" => Method::PUT,
            "get" => Method::GET,
            "delete" => Method::DELETE,
            other => return Err(Problem::parameter("op", other, "put, get, delete")),
        };
        let (body, default_type) = match method {
            Method::PUT => self.stored()?,
            _ => (self.nothing_stored()?, ""),
        };
        let mut headers = http::HeaderMap::new();
        if method == Method::PUT {
            let content_type = self.content_type.as_deref().filter(|sent| !sent.is_empty()).unwrap_or(default_type);
            headers.insert(CONTENT_TYPE, header("content_type", content_type)?);
        }
        for (name, field, value) in [
            (CONTEXT, "context", self.context),
            (IF_MATCH, "if_match", self.if_match.map(quoted)),
            (IF_NONE_MATCH, "if_none_match", self.if_none_match.map(quoted)),
            (IDEMPOTENCY_KEY, "idempotency", idempotency.filter(|_| method != Method::GET)),
        ] {
            if let Some(value) = value {
                headers.insert(name, header(field, &value)?);
            }
        }
        let choices = [("r", self.r), ("w", self.w), ("ttl", self.ttl)];
        let shown = choices.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_null())?)));
        let query: Vec<String> = shown.map(|(name, value)| parameter(name, &value)).collect();
        let request = Request::builder().method(method).uri(format!("/?{}", query.join("&"))).body(());
        let too_long = |_| Problem::new(Kind::BadRequest, "r, w or ttl are too long");
        let (mut parts, ()) = request.map_err(too_long)?.into_parts();
        parts.headers = headers;
        Ok((key, parts, body))
    }

    /// The value with the media type it most likely has.
    fn stored(&self) -> Result<(Bytes, &'static str), Problem> {
        match (&self.value, &self.text, &self.base64) {
            (Some(json), None, None) => Ok((Bytes::copy_from_slice(json.get().as_bytes()), "application/json")),
            (None, Some(text), None) => Ok((Bytes::copy_from_slice(text.as_bytes()), "text/plain")),
            (None, None, Some(encoded)) => {
                let refused = |_| Problem::parameter("base64", encoded, "base64 with padding (RFC 4648, section 4)");
                Ok((STANDARD.decode(encoded).map_err(refused)?.into(), DEFAULT_TYPE))
            }
            _ => Err(Problem::new(Kind::BadRequest, "a put has one of value, text and base64").naming("value", "")),
        }
    }

    fn nothing_stored(&self) -> Result<Bytes, Problem> {
        let fields = [
            ("value", self.value.is_some()),
            ("text", self.text.is_some()),
            ("base64", self.base64.is_some()),
            ("content_type", self.content_type.is_some()),
        ];
        match fields.into_iter().find(|(_, there)| *there) {
            Some((name, _)) => Err(Problem::parameter(name, "", format!("{name} on a put only"))),
            None => Ok(Bytes::new()),
        }
    }
}

/// ETags in JSON are without their quotes.
fn quoted(etag: String) -> String {
    if etag.is_empty() || etag == "*" || etag.starts_with('"') { etag } else { format!("\"{etag}\"") }
}

fn header(field: &str, value: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(value).map_err(|_| Problem::parameter(field, value, "visible ASCII"))
}

/// A number and the same as a text mean the same, and 2.0 is the number 2.
fn parameter(name: &str, value: &Value) -> String {
    let text = match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) if number.fract() == 0.0 => format!("{number}"),
        (None, _) => value.to_string(),
    };
    format!("{name}={}", utf8_percent_encode(&text, NON_ALPHANUMERIC))
}

/// Carries a line out; its answer, without the end of the line.
pub(super) async fn answer(
    surface: &Surface,
    line: Result<Line, Problem>,
    idempotency: Option<String>,
    id: &str,
    call: &mut Call,
) -> Vec<u8> {
    let name = line.as_ref().ok().map(Line::name);
    let answer = match line.and_then(|line| line.into_request(idempotency)) {
        Ok((key, parts, body)) => request(surface, key, &parts, body, call).await,
        Err(problem) => Err(problem),
    };
    match answer {
        Ok(response) => succeeded(name.as_ref(), response).await,
        Err(problem) => failed(name.as_ref(), problem, id),
    }
}

async fn request(surface: &Surface, key: Key, parts: &Parts, body: Bytes, call: &mut Call) -> Answer {
    match parts.method {
        Method::PUT => objects_put::put(surface, key, parts, &mut Full::new(body), call).await,
        Method::DELETE => objects_delete::delete(surface, key, parts, call).await,
        _ => objects_get::get(surface, key, parts, call).await,
    }
}

fn begun(status: u16, name: Option<&Name>) -> Vec<u8> {
    let mut out = vec![b'{'];
    push(&mut out, "status", &status);
    if let Some((bucket, key)) = name {
        out.push(b',');
        push(&mut out, "bucket", bucket);
        out.push(b',');
        push(&mut out, "key", key);
    }
    out
}

async fn succeeded(name: Option<&Name>, response: Response<Full<Bytes>>) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let mut out = begun(parts.status.as_u16(), name);
    let text = |header: &HeaderName| parts.headers.get(header).and_then(|value| value.to_str().ok());
    push_header(&mut out, "etag", text(&ETAG));
    push_header(&mut out, "context", text(&CONTEXT));
    if parts.status == http::StatusCode::OK {
        let content_type = parts
            .headers
            .get(CONTENT_TYPE)
            .map_or(DEFAULT_TYPE.into(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        push_header(&mut out, "content_type", Some(&content_type));
        push_header(&mut out, "content_encoding", text(&CONTENT_ENCODING));
        out.push(b',');
        push_value(&mut out, &body, &content_type);
    }
    out.push(b'}');
    out
}

/// What the problem has beyond every problem's members is what the line's request was answered with: it stands beside
/// the problem and not in it.
fn failed(name: Option<&Name>, problem: Problem, id: &str) -> Vec<u8> {
    let problem = FIELDS.into_iter().fold(problem, |problem, (header, field)| problem.renaming(header, field));
    let mut out = begun(problem.kind().parts().0, name);
    let tail = problem.tail();
    if tail.is_empty() || problem.kind() == Kind::Siblings {
        push_header(&mut out, "etag", problem.header_text(&ETAG));
    }
    if tail.is_empty() {
        push_header(&mut out, "context", problem.header_text(&CONTEXT));
    }
    out.extend_from_slice(tail);
    out.extend_from_slice(b",\"error\":");
    out.extend_from_slice(&problem.common_json(id));
    out.push(b'}');
    out
}

fn push_header(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push(b',');
        push(out, name, &value.trim_matches('"'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(line: &str) -> Result<(Key, Parts, Bytes), Value> {
        let parsed = Line::parse(line.as_bytes()).and_then(|line| line.into_request(Some("7-0".into())));
        parsed.map_err(|problem| serde_json::from_slice(&problem.json("-")).unwrap())
    }

    #[test]
    fn a_line_is_a_request_in_other_clothes() {
        let line = r#"{"op":"put","bucket":"b","key":"a/é","value":{"x": 1.10},"r":1.0,"w":"all","ttl":"1h",
            "context":"C","if_match":"a-1","if_none_match":"*"}"#;
        let (key, parts, body) = request(line).unwrap();
        assert_eq!((key.bucket(), key.key(), &body[..]), ("b", "a/é", &br#"{"x": 1.10}"#[..]));
        assert_eq!((parts.method, parts.uri.query()), (Method::PUT, Some("r=1&w=all&ttl=1h")));
        let header = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
        assert_eq!((header("content-type"), header("rondo-context")), ("application/json".into(), "C".into()));
        assert_eq!((header("if-match"), header("if-none-match")), ("\"a-1\"".into(), "*".into()));
        assert_eq!(header("idempotency-key"), "7-0");
        let body_of = |value: &str| {
            let (_, parts, body) = request(&format!(r#"{{"op":"put","bucket":"b","key":"k",{value}}}"#)).unwrap();
            (body, parts.headers["content-type"].to_str().unwrap().to_owned())
        };
        assert_eq!(body_of(r#""value":null"#), (Bytes::from("null"), "application/json".into()));
        assert_eq!(body_of(r#""text":"hi","content_type":"""#), (Bytes::from("hi"), "text/plain".into()));
        assert_eq!(body_of(r#""base64":"/wA=","content_type":"a/b""#), (Bytes::from(vec![255, 0]), "a/b".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |rest: &str| request(&format!(r#"{{"bucket":"b","key":"k",{rest}}}"#)).unwrap_err();
        assert_eq!(refused(r#""op":"copy""#)["parameter"], "op");
        assert_eq!(refused(r#""op":"get","text":"x""#)["parameter"], "text");
        assert_eq!(refused(r#""op":"delete","value":null"#)["parameter"], "value");
        assert_eq!(refused(r#""op":"put""#)["parameter"], "value");
        assert_eq!(refused(r#""op":"put","value":1,"text":"x""#)["parameter"], "value");
        assert_eq!(refused(r#""op":"put","base64":"/w""#)["parameter"], "base64");
        assert_eq!(refused(r#""op":"get","context":"\n""#)["parameter"], "context");
        assert!(refused(r#""op":"get","kee":1"#)["detail"].as_str().unwrap().contains("unknown field `kee`"));
        let array = format!(r#"["put","b","k",1{}]"#, ",null".repeat(9));
        for line in ["[]", "1", " null", &array] {
            assert!(request(line).unwrap_err()["detail"].as_str().unwrap().contains("a JSON object"), "{line}");
        }
    }

    #[test]
    fn what_failed_stands_beside_its_problem() {
        let shown = |problem| -> Value {
            serde_json::from_slice(&failed(Some(&("b".into(), "k".into())), problem, "id-1")).unwrap()
        };
        let siblings = Problem::new(Kind::Siblings, "two").raw_members(br#""context":"C","siblings":[1,2]"#);
        let line = shown(siblings.header(ETAG, HeaderValue::from_static("\"e\"")));
        assert_eq!((&line["status"], &line["etag"], &line["siblings"]), (&json!(409), &json!("e"), &json!([1, 2])));
        assert_eq!((&line["context"], &line["error"]["request_id"]), (&json!("C"), &json!("id-1")));
        assert!(line["error"]["siblings"].is_null() && line["error"]["title"].is_string());
        let line = shown(Problem::parameter("Rondo-Context", "x", "another"));
        assert_eq!(line["error"]["parameter"], "context");
    }
}
