//! An answer of problem+json (RFC 9457) as one line for a person.

use serde::Deserialize;

use super::client::Answer;
use super::failure::Failure;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    parameter: Option<String>,
    required: Option<u32>,
    acked: Option<u32>,
    n: Option<u32>,
    outcome: Option<String>,
}

/// What a node said when it refused.
pub(super) fn describe(answer: &Answer) -> String {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut text = answer.status.as_u16().to_string();
    let reason = answer.status.canonical_reason().unwrap_or("unknown status").to_string();
    text.push_str(&format!(" {}", if problem.title.is_empty() { reason } else { problem.title }));
    if !problem.detail.is_empty() {
        text.push_str(&format!(": {}", problem.detail));
    }
    let mut facts = Vec::new();
    facts.extend(problem.parameter.map(|name| format!("parameter {name}")));
    if let (Some(required), Some(acked)) = (problem.required, problem.acked) {
        let n = problem.n.map(|n| format!(", n {n}")).unwrap_or_default();
        facts.push(format!("required {required}, acknowledged {acked}{n}"));
    }
    facts.extend(problem.outcome.map(|outcome| format!("outcome: {outcome}")));
    if !facts.is_empty() {
        text.push_str(&format!(" ({})", facts.join("; ")));
    }
    text
}

/// The answer if it is a success, otherwise what to tell the user.
pub(super) fn successful(answer: Answer) -> Result<Answer, Failure> {
    if answer.status.is_success() { Ok(answer) } else { Err(Failure::Failed(describe(&answer))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: Default::default(), body: body.into() }
    }

    #[test]
    fn a_problem_says_what_a_script_would_want_to_know() {
        let body = r#"{"title":"Quorum not reached","detail":"2 of 3 owners answered","status":503,
            "required":3,"acked":2,"n":3,"outcome":"unknown","later":{}}"#;
        let expected =
            "503 Quorum not reached: 2 of 3 owners answered (required 3, acknowledged 2, n 3; outcome: unknown)";
        assert_eq!(describe(&answer(503, body)), expected);
        let body = r#"{"title":"Bad Request","detail":"9 is not allowed","parameter":"Rondo-W"}"#;
        assert_eq!(describe(&answer(400, body)), "400 Bad Request: 9 is not allowed (parameter Rondo-W)");
    }

    #[test]
    fn what_is_no_problem_document_is_named_by_its_status() {
        assert_eq!(describe(&answer(502, "<html>")), "502 Bad Gateway");
        assert!(successful(answer(204, "")).is_ok());
    }
}
