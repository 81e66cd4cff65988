//! Query parameters. Every route names those it has; any other is refused, so that no wish is ever ignored.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::http::path;
use crate::http::problem::{Kind, Problem};

/// The parameters of a route.
pub(crate) struct Known {
    /// `name=value`.
    pub(crate) values: &'static [&'static str],
    /// A name alone, or `name=true`.
    pub(crate) flags: &'static [&'static str],
}

impl Known {
    /// A route without parameters.
    pub(crate) const NONE: Self = Self { values: &[], flags: &[] };
}

/// A query, checked and decoded.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(SmallVec<[(Cow<'a, str>, Cow<'a, str>); 4]>);

impl<'a> Query<'a> {
    /// Refuses what is unknown to the route, empty, or there twice.
    pub(crate) fn parse(query: Option<&'a str>, known: &Known) -> Result<Self, Problem> {
        let mut pairs = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decode(raw_name)?;
            let value = form_decode(raw_value).map_err(|problem| badly_encoded(problem, &name, raw_value))?;
            let is_flag = known.flags.contains(&&*name);
            if !is_flag && !known.values.contains(&&*name) {
                return Err(unknown(&name, &value, known));
            }
            if is_flag && !["", "true"].contains(&&*value) {
                return Err(Problem::parameter(&name, &value, "the name alone, or true"));
            }
            if !is_flag && value.is_empty() {
                let detail = format!("{name}: it is empty");
                return Err(Problem::new(Kind::BadParameter, detail).naming(&name, "").allowing("a value"));
            }
            if pairs.get(&name).is_some() {
                let detail = format!("{name}: it is there twice");
                return Err(Problem::new(Kind::BadParameter, detail).naming(&name, &value).allowing("one value"));
            }
            pairs.0.push((name, value));
        }
        Ok(pairs)
    }

    /// The value of a parameter; a flag is there or not.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// A parameter that the route cannot do without.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Problem> {
        let missing = || Problem::new(Kind::BadParameter, format!("{name}: it is missing")).naming(name, "");
        self.get(name).ok_or_else(missing)
    }
}

/// Forms spell a space as `+`.
fn form_decode(raw: &str) -> Result<Cow<'_, str>, Problem> {
    if !raw.contains('+') {
        return path::decode(raw);
    }
    let spaced = raw.replace('+', " ");
    path::decode(&spaced).map(|text| Cow::Owned(text.into_owned()))
}

fn badly_encoded(problem: Problem, name: &str, raw: &str) -> Problem {
    let cut = |text: &str| text.chars().take(100).collect::<String>();
    problem.naming(&cut(name), &cut(raw)).allowing("UTF-8, percent-encoded")
}

fn unknown(name: &str, value: &str, known: &Known) -> Problem {
    let names: Vec<&str> = known.values.iter().chain(known.flags).copied().collect();
    let allowed = if names.is_empty() { "no parameter".to_owned() } else { names.join(", ") };
    let shown: String = name.chars().take(100).collect();
    let value: String = value.chars().take(100).collect();
    let detail = format!("{shown:?} is no parameter of this request; it has: {allowed}");
    Problem::new(Kind::BadParameter, detail).naming(&shown, &value).allowing(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KNOWN: Known = Known { values: &["r", "key"], flags: &["verbose"] };

    fn refused(query: &str) -> serde_json::Value {
        let problem = Query::parse(Some(query), &KNOWN).unwrap_err();
        assert_eq!(problem.kind().parts().0, 400);
        serde_json::from_slice(&problem.json("-")).unwrap()
    }

    #[test]
    fn values_are_decoded_and_flags_stand_alone() {
        let query = Query::parse(Some("key=a%2Fb+c%2B&verbose&&r=2"), &KNOWN).unwrap();
        assert_eq!((query.get("key"), query.get("r"), query.get("verbose")), (Some("a/b c+"), Some("2"), Some("")));
        assert!(Query::parse(None, &Known::NONE).unwrap().get("r").is_none());
        assert!(query.required("key").is_ok());
        assert!(Query::default().required("key").is_err());
    }

    #[test]
    fn what_is_unknown_empty_or_there_twice_is_refused_by_name() {
        assert_eq!(refused("ttl=1h")["parameter"], "ttl");
        assert_eq!(refused("ttl=1h")["allowed"], "r, key, verbose");
        assert_eq!(refused("r=")["parameter"], "r");
        assert_eq!(refused("r")["parameter"], "r");
        assert_eq!(refused("r=1&r=1")["parameter"], "r");
        assert_eq!(refused("R=1")["parameter"], "R");
        assert_eq!(refused("verbose=false")["parameter"], "verbose", "it would not be done");
        assert!(Query::parse(Some("verbose=true"), &KNOWN).unwrap().get("verbose").is_some());
    }

    #[test]
    fn bad_encodings_are_refused() {
        for query in ["key=%", "key=%ff", "%zz=1"] {
            assert_eq!(Query::parse(Some(query), &KNOWN).unwrap_err().kind(), Kind::BadRequest, "{query}");
        }
        assert_eq!((&refused("key=%ff")["parameter"], &refused("key=%ff")["value"]), (&json!("key"), &json!("%ff")));
    }
}
