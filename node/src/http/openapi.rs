//! `GET /openapi.json`: the interface for programs.
//!
//! The document is written by hand beside this file: the handlers take requests apart themselves, so there are no types
//! to derive it from. That it is true is held by tests: here that it has the routes and the problems of the code, in
//! `tests/tests/openapi.rs` that real answers are as it says, and by `make schemathesis`.

use std::sync::LazyLock;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;

use crate::http::problem::Problem;
use crate::http::query::{Known, Query};
use crate::http::surface::with_type;

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| include_str!("openapi.json").replacen("{version}", env!("CARGO_PKG_VERSION"), 1).into());

/// `GET /openapi.json`
pub(crate) async fn document(request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    Ok(with_type("application/json", DOCUMENT.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    use crate::http::problem::tests::names;
    use crate::http::surface::tests::{later, paths};

    fn parsed() -> Value {
        serde_json::from_slice(&DOCUMENT).unwrap()
    }

    #[test]
    fn it_is_of_this_release() {
        assert_eq!(parsed()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn it_has_every_path_that_is_served_and_no_other() {
        let document = parsed();
        let mut described: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(described, paths());
        let is_later = |path: &str| {
            later().iter().any(|later| path == *later || (later.ends_with('/') && path.starts_with(later)))
        };
        assert!(!described.iter().any(|path| is_later(path)));
    }

    #[test]
    fn it_has_every_problem_and_no_other() {
        let document = parsed();
        let listed = document["components"]["schemas"]["ProblemType"]["enum"].as_array().unwrap();
        let short = |name: &Value| name.as_str().unwrap().trim_start_matches("urn:rondo:problem:").to_owned();
        let mut listed: Vec<String> = listed.iter().map(short).collect();
        listed.sort_unstable();
        assert_eq!(listed, names());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(document: &Value, part: &Value) {
            if let Some(target) = part["$ref"].as_str() {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            part.as_object().iter().flat_map(|members| members.values()).for_each(|inner| check(document, inner));
            part.as_array().iter().for_each(|items| items.iter().for_each(|inner| check(document, inner)));
        }
        let document = parsed();
        check(&document, &document);
    }
}
