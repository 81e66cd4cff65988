//! What a write asks to be so before it is carried out, and what it wants to see of it afterwards.

use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use rondo_storage::store::Condition;
use rondo_storage::versions::ETag;

use crate::http::params::title;
use crate::http::problem::Problem;

pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Of `Prefer`, RFC 7240.
pub(crate) const REPRESENTATION: &str = "return=representation";

/// The condition of a PUT: there is one at most.
pub(crate) fn of_put(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    match (if_match(headers)?, if_none_match(headers)?) {
        (Some(_), Some(_)) => Err(refused(&IF_NONE_MATCH, headers, "If-Match or If-None-Match, not both")),
        (one, other) => Ok(one.or(other)),
    }
}

/// The condition of a DELETE: what is not there cannot be what is to be deleted.
pub(crate) fn of_delete(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    refuse(headers, &IF_NONE_MATCH, "If-None-Match on PUT and reads, If-Match here")?;
    if_match(headers)
}

/// Of a POST, whose key is new whatever is asked.
pub(crate) fn refuse_any(headers: &HeaderMap) -> Result<(), Problem> {
    refuse(headers, &IF_MATCH, "If-Match on PUT and DELETE")?;
    refuse(headers, &IF_NONE_MATCH, "If-None-Match on PUT and reads")
}

fn if_none_match(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value == "*" => Ok(Some(Condition::Absent)),
        _ => Err(refused(&IF_NONE_MATCH, headers, "* on a write: create only")),
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) if value == "*" => return Ok(Some(Condition::Present)),
        _ => {}
    }
    let problem = || refused(&IF_MATCH, headers, format!("* or 1 to {} ETags in double quotes", Condition::ETAGS_MAX));
    let mut etags = Vec::new();
    let mut count = 0;
    for value in headers.get_all(IF_MATCH) {
        for one in value.to_str().map_err(|_| problem())?.split(',') {
            let opaque = opaque(one.trim()).ok_or_else(problem)?;
            count += 1;
            // What is no ETag of ours is the ETag of nothing that could be there.
            etags.extend(ETag::parse(opaque).ok());
        }
    }
    if count > Condition::ETAGS_MAX { Err(problem()) } else { Ok(Some(Condition::AnyOf(etags.into()))) }
}

/// What is between the quotes. A weak ETag is refused: conditions compare strongly (RFC 9110, section 13.1.1), and
/// there are none here.
fn opaque(text: &str) -> Option<&str> {
    let opaque = text.strip_prefix('"')?.strip_suffix('"')?;
    let fits = !opaque.is_empty() && opaque.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    (fits && opaque != "*").then_some(opaque)
}

fn refuse(headers: &HeaderMap, name: &HeaderName, allowed: &str) -> Result<(), Problem> {
    if headers.contains_key(name) { Err(refused(name, headers, allowed)) } else { Ok(()) }
}

fn refused(name: &HeaderName, headers: &HeaderMap, allowed: impl Into<String>) -> Problem {
    let shown = headers.get(name).map(HeaderValue::as_bytes).map(String::from_utf8_lossy).unwrap_or_default();
    Problem::parameter(&title(name), &shown, allowed)
}

/// What a successful write is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    /// Headers.
    Nothing,
    /// The value as it was stored, as a GET has it.
    Representation,
}

impl Returns {
    /// `Prefer`. A preference that is not known is not followed, as RFC 7240 says.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let prefers = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        match prefers.flat_map(|value| value.split([',', ';'])).any(is_representation) {
            true => Self::Representation,
            false => Self::Nothing,
        }
    }
}

fn is_representation(preference: &str) -> bool {
    preference.replace([' ', '\t', '"'], "").eq_ignore_ascii_case(REPRESENTATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Kind;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn any_of(etags: &[&str]) -> Condition {
        Condition::AnyOf(etags.iter().map(|etag| etag.parse().unwrap()).collect())
    }

    #[test]
    fn conditions_are_a_star_or_a_list_of_etags() {
        let put = |pairs: &[_]| of_put(&headers(pairs)).unwrap();
        assert_eq!(put(&[]), None);
        assert_eq!(put(&[("if-none-match", "*")]), Some(Condition::Absent));
        assert_eq!(put(&[("if-match", "*")]), Some(Condition::Present));
        assert_eq!(put(&[("if-match", "\"a-1\"")]), Some(any_of(&["a-1"])));
        let several = [("if-match", "\"a-1\" ,\"b-2\""), ("if-match", "\"c-3\"")];
        assert_eq!(put(&several), Some(any_of(&["a-1", "b-2", "c-3"])));
        assert_eq!(put(&[("if-match", "\"of another server\"".replace(' ', "-").as_str())]), Some(any_of(&[])));
        assert_eq!(of_delete(&headers(&several)).unwrap(), Some(any_of(&["a-1", "b-2", "c-3"])));
    }

    #[test]
    fn what_is_malformed_empty_or_inapplicable_is_refused_by_name() {
        let named = |problem: Problem| {
            assert_eq!(problem.kind(), Kind::BadParameter);
            let shown: serde_json::Value = serde_json::from_slice(&problem.json("-")).unwrap();
            assert!(shown["allowed"].as_str().is_some_and(|allowed| !allowed.is_empty()));
            shown["parameter"].as_str().unwrap().to_owned()
        };
        let many = vec!["\"a-1\""; Condition::ETAGS_MAX + 1].join(",");
        for bad in
            ["", "a-1", "\"a-1", "\"\"", "\"*\"", "W/\"a-1\"", "\"a-1\",", "*,\"a-1\"", "\"a 1\"", "\u{e9}", &many]
        {
            assert_eq!(named(of_put(&headers(&[("if-match", bad)])).unwrap_err()), "If-Match", "{bad}");
        }
        for bad in ["", "\"a-1\"", "**", "* "] {
            assert_eq!(named(of_put(&headers(&[("if-none-match", bad)])).unwrap_err()), "If-None-Match", "{bad}");
        }
        let both = headers(&[("if-match", "*"), ("if-none-match", "*")]);
        assert_eq!(named(of_put(&both).unwrap_err()), "If-None-Match");
        assert_eq!(named(of_delete(&headers(&[("if-none-match", "*")])).unwrap_err()), "If-None-Match");
        assert_eq!(named(refuse_any(&headers(&[("if-match", "*")])).unwrap_err()), "If-Match");
        assert_eq!(named(refuse_any(&headers(&[("if-none-match", "*")])).unwrap_err()), "If-None-Match");
    }

    #[test]
    fn a_representation_is_asked_for_in_any_spelling() {
        let of = |value| Returns::read(&headers(&[("prefer", value)]));
        assert_eq!(of("wait=5, return = representation"), Returns::Representation);
        assert_eq!(of("Return=\"representation\"; x=1"), Returns::Representation);
        assert_eq!(of("return=minimal"), Returns::Nothing);
        assert_eq!(Returns::read(&HeaderMap::new()), Returns::Nothing);
    }
}
