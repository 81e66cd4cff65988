//! What a request on an object asks for: `Rondo-…` headers and the parameters of the same meaning.

use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use rondo_coordinator::{Bucket, QuorumChoice, QuorumKind, Use};
use rondo_storage::store::{Ttl, TtlError};

use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use rondo_config::HttpLimits;

/// `Rondo-…` headers as they were sent, without `Rondo-Meta-…`. Empty ones count as absent.
#[derive(Debug, Default)]
pub(crate) struct RondoHeaders<'a> {
    r: Option<&'a str>,
    w: Option<&'a str>,
    quorum: Option<&'a str>,
    timeout: Option<&'a str>,
    ttl: Option<&'a str>,
    /// The token of an earlier answer.
    pub(crate) context: Option<&'a str>,
}

/// What the request decided, or its bucket for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choices {
    pub(crate) r: QuorumChoice,
    pub(crate) w: QuorumChoice,
    pub(crate) quorum: QuorumKind,
    pub(crate) timeout: Duration,
    /// Of the value that a request stores.
    pub(crate) ttl: Option<Ttl>,
}

impl<'a> RondoHeaders<'a> {
    /// Refuses a `Rondo-…` header that does not exist, or is there twice: a misspelt wish must not be ignored.
    pub(crate) fn read(headers: &'a HeaderMap) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in headers {
            let Some(short) = name.as_str().strip_prefix("rondo-") else { continue };
            let place = match short {
                "r" => &mut read.r,
                "w" => &mut read.w,
                "quorum" => &mut read.quorum,
                "timeout" => &mut read.timeout,
                "context" => &mut read.context,
                "ttl" => &mut read.ttl,
                _ if short.starts_with("meta-") => continue,
                _ => return Err(unknown(name, value)),
            };
            let shown = || String::from_utf8_lossy(value.as_bytes()).into_owned();
            let text = value.to_str().map_err(|_| Problem::parameter(&title(name), &shown(), "visible ASCII"))?;
            if text.is_empty() {
                continue;
            }
            if place.replace(text).is_some() {
                return Err(Problem::parameter(&title(name), text, "one header of this name"));
            }
        }
        Ok(read)
    }

    /// Refuses what a listing has no use for.
    pub(crate) fn of_listing(self) -> Result<Self, Problem> {
        match [("Rondo-W", self.w), ("Rondo-Context", self.context), ("Rondo-Ttl", self.ttl)]
            .into_iter()
            .find(|(_, value)| value.is_some())
        {
            Some((name, value)) => {
                let allowed = "Rondo-R, Rondo-Quorum and Rondo-Timeout on a listing";
                Err(Problem::parameter(name, value.unwrap_or_default(), allowed))
            }
            None => Ok(self),
        }
    }

    /// Joins headers, parameters and the bucket's defaults.
    pub(crate) fn choices(&self, query: &Query<'_>, bucket: &Bucket, limits: &HttpLimits) -> Result<Choices, Problem> {
        let quorum = |usage| move |text: &str| QuorumChoice::read(text, bucket.n, usage).map_err(|e| e.allowed);
        let same = |one: &QuorumChoice, other: &QuorumChoice| one.means(*other, bucket.n);
        let r = either(("Rondo-R", self.r), ("r", query.get("r")), quorum(Use::Read), same)?;
        let w = either(("Rondo-W", self.w), ("w", query.get("w")), quorum(Use::Write), same)?;
        let kind = either(("Rondo-Quorum", self.quorum), ("quorum", query.get("quorum")), strictness, PartialEq::eq)?;
        let max = limits.timeout_max_ms;
        let duration = |text: &str| duration_ms(text).filter(|ms| *ms <= max).ok_or_else(|| timeout_allowed(max));
        let timeout =
            either(("Rondo-Timeout", self.timeout), ("timeout", query.get("timeout")), duration, PartialEq::eq)?;
        let lifetime = |text: &str| text.parse().map_err(|error: TtlError| error.to_string());
        let ttl = either(("Rondo-Ttl", self.ttl), ("ttl", query.get("ttl")), lifetime, PartialEq::eq)?;
        Ok(Choices {
            r: r.map_or(bucket.r, |(_, r)| r),
            w: w.map_or(bucket.w, |(_, w)| w),
            quorum: kind.map_or(bucket.quorum, |(_, kind)| kind),
            timeout: Duration::from_millis(timeout.map_or(limits.timeout_default_ms, |(_, ms)| ms)),
            ttl: ttl.map_or(bucket.ttl, |(_, ttl)| Some(ttl)),
        })
    }

    /// Where nothing is stored there is nothing to expire. The parameter is unknown to such routes anyway.
    pub(crate) fn refuse_ttl(&self) -> Result<(), Problem> {
        match self.ttl {
            Some(ttl) => Err(Problem::parameter("Rondo-Ttl", ttl, "Rondo-Ttl on PUT and POST only")),
            None => Ok(()),
        }
    }
}

fn strictness(text: &str) -> Result<QuorumKind, String> {
    match text {
        "strict" => Ok(QuorumKind::Strict),
        "sloppy" => Ok(QuorumKind::Sloppy),
        _ => Err("strict, sloppy".into()),
    }
}

/// A header or the parameter of the same meaning, each with its name. Both may be there if they mean the same.
fn either<T>(
    header: (&'static str, Option<&str>),
    parameter: (&'static str, Option<&str>),
    parse: impl Fn(&str) -> Result<T, String>,
    same: impl Fn(&T, &T) -> bool,
) -> Result<Option<(&'static str, T)>, Problem> {
    let read = |(name, text): (&'static str, Option<&str>)| {
        let parsed = text.map(|text| parse(text).map_err(|allowed| Problem::parameter(name, text, allowed)));
        parsed.transpose()
    };
    match (read(header)?, read(parameter)?) {
        (Some(one), Some(other)) if !same(&one, &other) => {
            let value = parameter.1.unwrap_or_default();
            let detail = format!("{}: {value:?} is not what the header {} says", parameter.0, header.0);
            let allowed = header.1.unwrap_or_default();
            Err(Problem::new(Kind::BadParameter, detail).naming(parameter.0, value).allowing(allowed))
        }
        (_, Some(value)) => Ok(Some((parameter.0, value))),
        (value, None) => Ok(value.map(|value| (header.0, value))),
    }
}

/// `250ms`, `2s`, `1m`, `1h` in milliseconds; not 0. Digits and a unit, no sign and no white space.
fn duration_ms(text: &str) -> Option<u64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit_ms).filter(|ms| *ms > 0)
}

fn timeout_allowed(max_ms: u64) -> String {
    format!("1ms to {max_ms}ms, as in 250ms or 2s (units: ms, s, m, h)")
}

/// `rondo-meta-x` as people write it.
pub(crate) fn title(name: &HeaderName) -> String {
    let words: Vec<String> = name.as_str().split('-').map(capitalized).collect();
    words.join("-")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn unknown(name: &HeaderName, value: &HeaderValue) -> Problem {
    const ALLOWED: &str = "Rondo-R, Rondo-W, Rondo-Quorum, Rondo-Context, Rondo-Timeout, Rondo-Ttl, Rondo-Meta-…";
    let name = title(name);
    let detail = format!("{name} is no header of a request; there are: {ALLOWED}");
    let value: String = String::from_utf8_lossy(value.as_bytes()).chars().take(100).collect();
    Problem::new(Kind::BadParameter, detail).naming(&name, &value).allowing(ALLOWED)
}

/// Refuses `Rondo-Meta-…` where there is no value to keep it with.
pub(crate) fn refuse_metadata(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.iter().find(|(name, _)| name.as_str().starts_with("rondo-meta-")) {
        Some((name, value)) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            Err(Problem::parameter(&title(name), &value, "Rondo-Meta-… on PUT and POST only"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Known;
    use serde_json::Value;

    const KNOWN: Known = Known { values: &["r", "w", "quorum", "timeout", "ttl", "siblings", "sibling"], flags: &[] };

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn choose(pairs: &[(&'static str, &'static str)], query: &str) -> Result<Choices, Problem> {
        let query = Query::parse(Some(query), &KNOWN)?;
        RondoHeaders::read(&headers(pairs))?.choices(&query, &Bucket::default(), &HttpLimits::default())
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Problem>) -> Value {
        let problem = result.unwrap_err();
        assert_eq!(problem.kind().parts().0, 400, "{problem:?}");
        serde_json::from_slice(&problem.json("-")).unwrap()
    }

    #[test]
    fn the_bucket_decides_what_the_request_does_not() {
        let choices = choose(&[("rondo-r", "")], "").unwrap();
        let (r, w, timeout) = (QuorumChoice::Quorum, QuorumChoice::Quorum, Duration::from_secs(5));
        assert_eq!(choices, Choices { r, w, quorum: QuorumKind::Strict, timeout, ttl: None });
        let bucket = Bucket { ttl: Ttl::new(60).ok(), ..Bucket::default() };
        let with = |text| {
            let query = Query::parse(Some(text), &KNOWN).unwrap();
            RondoHeaders::default().choices(&query, &bucket, &HttpLimits::default()).unwrap().ttl.map(Ttl::seconds)
        };
        assert_eq!((with(""), with("ttl=1h"), with("ttl=1")), (Some(60), Some(3_600), Some(1)));
    }

    #[test]
    fn headers_and_parameters_mean_the_same() {
        let by_header = choose(&[("rondo-w", "3"), ("rondo-r", "one"), ("rondo-timeout", "250ms")], "").unwrap();
        assert_eq!(by_header, choose(&[], "w=3&r=one&timeout=250ms&quorum=strict").unwrap());
        assert_eq!(by_header, choose(&[("rondo-w", "3")], "w=3&r=one&timeout=250ms").unwrap());
        assert_eq!((by_header.w, by_header.timeout), (QuorumChoice::Count(3), Duration::from_millis(250)));
    }

    #[test]
    fn disagreement_names_the_parameter() {
        let shown = refused(choose(&[("rondo-w", "2")], "w=3"));
        assert_eq!((shown["parameter"].as_str(), shown["value"].as_str()), (Some("w"), Some("3")));
        assert!(choose(&[("rondo-timeout", "1s")], "timeout=1000ms").is_ok());
        assert!(choose(&[("rondo-ttl", "3600")], "ttl=1h").is_ok());
        for (header, parameter) in [("one", "w=1"), ("2", "w=quorum"), ("all", "w=3")] {
            assert!(choose(&[("rondo-w", header)], parameter).is_ok(), "{header} {parameter}");
        }
        assert_eq!(refused(choose(&[("rondo-w", "local-quorum")], "w=quorum"))["parameter"], "w");
        assert_eq!(refused(choose(&[("rondo-ttl", "60")], "ttl=1h"))["parameter"], "ttl");
    }

    #[test]
    fn bad_values_name_the_header_or_parameter_as_sent() {
        for (header, value, name) in [
            ("rondo-r", "4", "Rondo-R"),
            ("rondo-r", "each-quorum", "Rondo-R"),
            ("rondo-w", "0", "Rondo-W"),
            ("rondo-w", "two", "Rondo-W"),
            ("rondo-quorum", "loose", "Rondo-Quorum"),
            ("rondo-timeout", "0s", "Rondo-Timeout"),
            ("rondo-timeout", "61s", "Rondo-Timeout"),
            ("rondo-timeout", "5", "Rondo-Timeout"),
            ("rondo-ttl", "0", "Rondo-Ttl"),
            ("rondo-ttl", "250ms", "Rondo-Ttl"),
            ("rondo-ttl", "3651d", "Rondo-Ttl"),
        ] {
            let shown = refused(choose(&[(header, value)], ""));
            assert_eq!((shown["parameter"].as_str(), shown["value"].as_str()), (Some(name), Some(value)));
            assert!(shown["allowed"].is_string());
            let parameter = header.trim_start_matches("rondo-");
            assert_eq!(refused(choose(&[], &format!("{parameter}={value}")))["parameter"], parameter);
        }
    }

    #[test]
    fn misspelt_and_repeated_headers_are_refused() {
        let shown = refused(choose(&[("rondo-qourum", "strict")], ""));
        assert_eq!((shown["parameter"].as_str(), shown["value"].as_str()), (Some("Rondo-Qourum"), Some("strict")));
        let mut twice = headers(&[("rondo-w", "1")]);
        twice.append("rondo-w", HeaderValue::from_static("1"));
        assert_eq!(refused(RondoHeaders::read(&twice))["parameter"], "Rondo-W");
        assert!(RondoHeaders::read(&headers(&[("rondo-meta-x", "y")])).is_ok());
    }

    #[test]
    fn durations_are_digits_and_a_unit() {
        for (text, ms) in [("1ms", 1), ("2s", 2_000), ("1m", 60_000), ("1h", 3_600_000)] {
            assert_eq!(duration_ms(text), Some(ms));
        }
        for text in ["", "0ms", "ms", "1", "+1s", "1 s", "1.5s", "1S", "99999999999999999999s", "9999999999999999999h"]
        {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn what_counts_is_strict_or_sloppy_and_what_has_no_place_is_refused() {
        assert_eq!(choose(&[("rondo-quorum", "sloppy")], "").unwrap().quorum, QuorumKind::Sloppy);
        assert_eq!(choose(&[], "quorum=sloppy").unwrap().quorum, QuorumKind::Sloppy);
        assert_eq!(refused(choose(&[], "quorum=loose"))["parameter"], "quorum");
        assert_eq!(
            refused(RondoHeaders { ttl: Some("60"), ..RondoHeaders::default() }.refuse_ttl())["parameter"],
            "Rondo-Ttl"
        );
        let shown = refused(refuse_metadata(&headers(&[("rondo-meta-x", "1")])));
        assert_eq!((shown["parameter"].as_str(), shown["value"].as_str()), (Some("Rondo-Meta-X"), Some("1")));
    }
}
