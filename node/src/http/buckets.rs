//! `/v1/buckets`: what buckets decide for their requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use rondo_coordinator::{Bucket, FieldError, Outcome};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::http::body::{self, BodyLimits};
use crate::http::path;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::surface::{Surface, json};
use crate::service::BucketError;

/// Far more than all properties take.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize)]
struct Listed<'a> {
    buckets: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    properties: &'a Bucket,
}

/// `GET /v1/buckets`: those that were set, by name.
pub(crate) async fn list(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    let set = surface.service().buckets();
    let buckets = set.iter().map(|(name, properties)| Named { name, properties }).collect();
    Ok(json(&Listed { buckets }))
}

/// `GET /v1/buckets/{bucket}`: one that was never set has the defaults.
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    let name = named(&request)?;
    Ok(json(&*surface.service().bucket(&name)))
}

/// `PUT /v1/buckets/{bucket}`: changes the fields that are there.
pub(crate) async fn set(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    let name = named(&request)?;
    surface.view()?;
    let (parts, mut incoming) = request.into_parts();
    check_type(&parts.headers)?;
    let deadline = Instant::now() + Duration::from_millis(surface.limits().timeout_default_ms);
    let limits = BodyLimits { bytes_max: BODY_BYTES_MAX, deadline, stall: surface.limits().body_stall() };
    let body = body::collect_small(&mut incoming, limits).await?;
    let fields = fields(&body)?;
    let bucket = surface.service().bucket(&name).changed(&fields).map_err(|errors| refused(&errors))?;
    surface.service().set_bucket(&name, Some(bucket.clone())).await.map_err(|error| failed(&error))?;
    Ok(json(&bucket))
}

/// `DELETE /v1/buckets/{bucket}`: back to the defaults; the data stays.
pub(crate) async fn reset(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    let name = named(&request)?;
    surface.view()?;
    surface.service().set_bucket(&name, None).await.map_err(|error| failed(&error))?;
    Ok(json(&*surface.service().bucket(&name)))
}

fn named(request: &Request) -> Result<String, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    path::bucket(request.uri().path().strip_prefix("/v1/buckets/").unwrap_or_default())
}

/// JSON; also what curl says of any `-d`, which nobody means.
pub(crate) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(sent) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = String::from_utf8_lossy(sent.as_bytes()).to_ascii_lowercase();
    match text.split(';').next().unwrap_or_default().trim() {
        "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        other => {
            let detail = format!("Content-Type: {other:?} is not allowed; allowed: application/json");
            Err(Problem::new(Kind::MediaType, detail).naming("Content-Type", other).allowing("application/json"))
        }
    }
}

fn fields(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let allowed = format!("a JSON object with any of the fields {}", Bucket::FIELDS.join(", "));
    let problem = |what: String| {
        let detail = format!("the body is {what}; allowed: {allowed}");
        Problem::new(Kind::BadRequest, detail).allowing(allowed.clone())
    };
    match serde_json::from_slice(body) {
        Ok(Fields(fields)) => Ok(fields),
        Err(error) if error.is_data() => Err(problem(format!("no such object ({error})"))),
        Err(error) => Err(problem(format!("not JSON ({error})"))),
    }
}

/// A JSON object with every field once: which of two would be meant?
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the field {name:?} is there twice")));
            }
            fields.insert(name, value);
        }
        Ok(Fields(fields))
    }
}

/// Names every field; none was set.
fn refused(errors: &[FieldError]) -> Problem {
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    let value = errors.first().map_or("", |error| &error.value);
    Problem::new(Kind::BadParameter, all.join("; ")).naming(&names.join(", "), value).member("errors", &errors)
}

fn failed(error: &BucketError) -> Problem {
    let kind = match error {
        BucketError::TooMany(_) => Kind::TooManyBuckets,
        BucketError::Storage(_) => Kind::NotStored,
    };
    Problem::new(kind, error.to_string()).outcome(Outcome::NotApplied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_bad_field_is_named() {
        let sent = fields(br#"{"n":9,"w":"most","colour":1,"r":1}"#).unwrap();
        let problem = refused(&Bucket::default().changed(&sent).unwrap_err());
        let shown: Value = serde_json::from_slice(&problem.json("-")).unwrap();
        let mut named: Vec<&str> =
            shown["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(named, ["colour", "n", "w"]);
        assert!(["colour", "n", "w"].iter().all(|field| shown["parameter"].as_str().unwrap().contains(field)));
        assert!(shown["errors"][0]["allowed"].is_string());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [&b"{"[..], b"[]", b"", b"7", b"\xff", b"{} {}", br#"{"n":3,"n":3}"#] {
            assert_eq!(fields(body).unwrap_err().kind(), Kind::BadRequest);
        }
    }

    #[test]
    fn only_json_is_taken() {
        let checked = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            check_type(&headers).map_err(|problem| problem.kind())
        };
        assert_eq!(checked("Application/JSON; charset=utf-8"), Ok(()));
        assert_eq!(checked("application/x-www-form-urlencoded"), Ok(()));
        assert_eq!(checked("text/xml"), Err(Kind::MediaType));
    }
}
