//! In which shape a reader wants to see the versions of a key.

use http::HeaderMap;
use http::header::ACCEPT;
use rondo_storage::versions::ETag;

use crate::http::multipart;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::siblings;

/// What a reader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The value. Several versions are a list where the reader takes one too, and a conflict otherwise.
    Value(Option<Form>),
    /// All versions, any number of them.
    List(Form),
    /// The version of this name, raw.
    Version(ETag),
}

/// How several versions are told in one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Multipart,
}

impl Form {
    fn of(essence: &str) -> Option<Self> {
        let types = [(siblings::LIST_TYPE, Self::Json), (multipart::TYPE, Self::Multipart)];
        types.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, form)| form)
    }
}

impl Shape {
    /// Reads `?sibling=`, `?siblings=json` and, where neither is there, `Accept`.
    pub(crate) fn read(headers: &HeaderMap, query: &Query<'_>) -> Result<Self, Problem> {
        match (query.get("sibling"), query.get("siblings")) {
            (Some(etag), Some(_)) => Err(Problem::parameter("sibling", etag, "sibling or siblings, not both")),
            (Some(etag), None) => Self::version(etag),
            (None, Some("json")) => Ok(Self::List(Form::Json)),
            (None, Some(other)) => Err(Problem::parameter("siblings", other, "json")),
            (None, None) => Ok(Self::accepted(headers)),
        }
    }

    fn version(text: &str) -> Result<Self, Problem> {
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let refused = |_| Problem::parameter("sibling", text, "the ETag of one version, as in 1f-2e");
        ETag::parse(bare).map(Self::Version).map_err(refused)
    }

    /// A list where it is wanted as much as anything else. Every other media type, and no `Accept`, means the value: it
    /// has the type it was stored with and no other (RFC 9110, section 12.5.1).
    fn accepted(headers: &HeaderMap) -> Self {
        let (mut value, mut list) = (0, None);
        for (essence, weight) in ranges(headers) {
            match Form::of(essence) {
                None => value = weight.max(value),
                Some(form) if list.is_none_or(|(best, _)| weight > best) => list = Some((weight, form)),
                Some(_) => {}
            }
        }
        match list {
            None | Some((0, _)) => Self::Value(None),
            Some((weight, form)) if weight < value => Self::Value(Some(form)),
            Some((_, form)) => Self::List(form),
        }
    }
}

const WEIGHT_MAX: u16 = 1_000;

/// The media ranges of `Accept`, each with its weight in thousandths.
pub(crate) fn ranges(headers: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|range| {
        let mut parts = range.split(';').map(str::trim);
        (parts.next().unwrap_or_default(), parts.find_map(weight).unwrap_or(WEIGHT_MAX))
    })
}

/// `q=0.5` in thousandths. What is malformed is not wanted; what is no weight is none.
fn weight(parameter: &str) -> Option<u16> {
    let (name, text) = parameter.split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = places.len() <= 3 && places.bytes().all(|b| b.is_ascii_digit());
    let thousandths = format!("{places:0<3}").parse().ok().filter(|_| digits);
    Some(match (whole, thousandths) {
        ("0", Some(thousandths)) => thousandths,
        ("1", Some(0)) => WEIGHT_MAX,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Known;
    use http::HeaderValue;

    const KNOWN: Known = Known { values: &["siblings", "sibling"], flags: &[] };

    fn shape(accept: &[&str], query: &str) -> Result<Shape, String> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        let shape = Shape::read(&headers, &Query::parse(Some(query), &KNOWN).unwrap());
        shape.map_err(|problem| {
            let shown: serde_json::Value = serde_json::from_slice(&problem.json("-")).unwrap();
            assert_eq!(shown["status"], 400);
            shown["parameter"].as_str().unwrap().to_owned()
        })
    }

    #[test]
    fn a_parameter_decides_before_accept() {
        assert_eq!(shape(&[], "siblings=json"), Ok(Shape::List(Form::Json)));
        assert_eq!(shape(&["multipart/mixed"], "siblings=json"), Ok(Shape::List(Form::Json)));
        let version = Ok(Shape::Version(ETag::parse("1f-2e").unwrap()));
        assert_eq!(shape(&["multipart/mixed"], "sibling=1f-2e"), version);
        assert_eq!(shape(&[], "sibling=%221f-2e%22"), version, "with the quotes of the header too");
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for (query, name) in [
            ("siblings=xml", "siblings"),
            ("sibling=x", "sibling"),
            ("sibling=*", "sibling"),
            ("sibling=1f-2e&siblings=json", "sibling"),
        ] {
            assert_eq!(shape(&[], query), Err(name.into()));
        }
    }

    #[test]
    fn a_list_is_given_to_whom_wants_it_most() {
        let (json, multipart) = (Form::Json, Form::Multipart);
        for (accept, expected) in [
            ("", Shape::Value(None)),
            ("*/*", Shape::Value(None)),
            ("multipart/*, application/*", Shape::Value(None)),
            ("multipart/mixed", Shape::List(multipart)),
            ("Multipart/Mixed; boundary=x ; Q=1.000", Shape::List(multipart)),
            ("text/plain, application/vnd.rondo.siblings+json", Shape::List(json)),
            ("multipart/mixed, */*;q=0.1", Shape::List(multipart)),
            ("multipart/mixed;q=0.5, application/vnd.rondo.siblings+json;q=0.501", Shape::List(json)),
            ("application/vnd.rondo.siblings+json, multipart/mixed", Shape::List(json)),
            ("multipart/mixed;q=0.5, */*", Shape::Value(Some(multipart))),
            ("text/html, application/vnd.rondo.siblings+json;q=0.9, */*;q=0.8", Shape::Value(Some(json))),
            ("multipart/mixed;q=0, */*", Shape::Value(None)),
            ("multipart/mixed;q=0.000", Shape::Value(None)),
        ] {
            assert_eq!(shape(&[accept], ""), Ok(expected), "{accept}");
        }
        assert_eq!(shape(&["text/plain;q=0.5", "multipart/mixed"], ""), Ok(Shape::List(multipart)));
        for bad in ["2", "1.1", "0.1234", "-1", "", "x", "0.x", "0.+1"] {
            assert_eq!(shape(&[&format!("multipart/mixed;q={bad}")], ""), Ok(Shape::Value(None)), "{bad}");
        }
    }
}
