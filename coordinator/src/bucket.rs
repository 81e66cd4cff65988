//! Bucket properties: what a bucket decides for the requests that do not decide it themselves.
//!
//! An enum here has only the values that this release carries out; a value of a later release is refused by name, so
//! that no bucket says something that does not happen.

use rondo_ring::ReplicationFactor;
use rondo_storage::engine::Durability;
use rondo_storage::store::{BlindPut, Ttl, TtlError};
use rondo_storage::versions::Conflict;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::choice::{QuorumChoice, Use};

/// Which nodes may count towards R and W.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuorumKind {
    /// Only the key's N owners.
    #[default]
    Strict,
    /// Other nodes stand in for owners that cannot be reached.
    Sloppy,
}

/// How much order there is between requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Quorums and causality.
    #[default]
    Eventual,
}

/// The properties of one bucket, in the JSON shape of the public interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bucket {
    /// Owners of each key, 1 to 7. More than the cluster has nodes: met as far as nodes exist.
    pub n: ReplicationFactor,
    /// Votes of a read that names no R.
    pub r: QuorumChoice,
    /// Durable acknowledgements of a write that names no W.
    pub w: QuorumChoice,
    /// Which nodes count.
    pub quorum: QuorumKind,
    /// How much order there is.
    pub mode: Mode,
    /// What becomes of concurrent writes.
    pub conflict: Conflict,
    /// What a write without a context replaces.
    pub blind_put: BlindPut,
    /// What an acknowledgement means.
    #[serde(with = "durability_word")]
    pub durability: Durability,
    /// Lifetime of a value whose PUT names none; in JSON its seconds, or null.
    pub ttl: Option<Ttl>,
    /// A write that would leave more live versions is refused, 1 to 1,000.
    pub max_siblings: u16,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            n: ReplicationFactor::new(3).expect("3 is from 1 to 7"),
            r: QuorumChoice::Quorum,
            w: QuorumChoice::Quorum,
            quorum: QuorumKind::Strict,
            mode: Mode::Eventual,
            conflict: Conflict::Siblings,
            blind_put: BlindPut::Overwrite,
            durability: Durability::Fsync,
            ttl: None,
            max_siblings: 100,
        }
    }
}

/// One thing that is wrong with a bucket's properties. Nothing was set.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq, Serialize)]
#[error("{field}: {value} is not allowed; allowed: {allowed}")]
pub struct FieldError {
    /// The field as it was sent.
    pub field: String,
    /// Its value as JSON, cut to 100 characters.
    pub value: String,
    /// What is allowed, for a person; for an unknown field the name that may have been meant.
    pub allowed: String,
}

impl Bucket {
    /// All fields, in the order they are shown.
    pub const FIELDS: [&str; 10] =
        ["n", "r", "w", "quorum", "mode", "conflict", "blind_put", "durability", "ttl", "max_siblings"];
    /// Most live versions a bucket may allow.
    pub const SIBLINGS_MAX: u16 = 1_000;

    /// The default properties with the given fields changed.
    pub fn parse(fields: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        Self::default().changed(fields)
    }

    /// These properties with the given fields changed. Errors name every field that is unknown or invalid, and then
    /// none is changed.
    pub fn changed(&self, fields: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut bucket = self.clone();
        let mut errors: Vec<FieldError> = Vec::new();
        for (field, value) in fields {
            if let Err(allowed) = bucket.set(field, value) {
                errors.push(FieldError { field: field.clone(), value: shown(value), allowed });
            }
        }
        for (field, choice, usage) in [("r", bucket.r, Use::Read), ("w", bucket.w, Use::Write)] {
            let named = errors.iter().any(|e| e.field == field || e.field == "n");
            if let (false, Err(e)) = (named, choice.check(bucket.n, usage)) {
                errors.push(FieldError { field: field.into(), value: choice.to_string(), allowed: e.allowed });
            }
        }
        if errors.is_empty() { Ok(bucket) } else { Err(errors) }
    }

    /// Sets one field, or says what is allowed.
    fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
        match field {
            "n" => self.n = number(value, 1, ReplicationFactor::MAX.into()).and_then(replicas)?,
            "r" => self.r = choice(value, Use::Read)?,
            "w" => self.w = choice(value, Use::Write)?,
            "quorum" => self.quorum = word(value, &[("strict", QuorumKind::Strict), ("sloppy", QuorumKind::Sloppy)])?,
            "mode" => self.mode = word(value, &[("eventual", Mode::Eventual)])?,
            "conflict" => {
                self.conflict = word(value, &[("siblings", Conflict::Siblings), ("lww", Conflict::Lww)])?;
            }
            "blind_put" => {
                self.blind_put = word(value, &[("overwrite", BlindPut::Overwrite), ("sibling", BlindPut::Sibling)])?;
            }
            "durability" => {
                self.durability = word(value, &[("fsync", Durability::Fsync), ("interval", Durability::Interval)])?;
            }
            "ttl" => self.ttl = lifetime(value)?,
            "max_siblings" => self.max_siblings = number(value, 1, Self::SIBLINGS_MAX)?,
            unknown => return Err(no_such_field(unknown)),
        }
        Ok(())
    }
}

fn number(value: &Value, min: u16, max: u16) -> Result<u16, String> {
    let inside = |n: &u64| (u64::from(min)..=u64::from(max)).contains(n);
    whole(value).filter(inside).map(|n| n as u16).ok_or_else(|| format!("{min} to {max}"))
}

/// JSON does not tell 3.0 from 3, and some clients write the one for the other.
fn whole(value: &Value) -> Option<u64> {
    let is_whole = |n: &f64| n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(n);
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|n| n as u64))
}

fn replicas(n: u16) -> Result<ReplicationFactor, String> {
    u8::try_from(n).ok().and_then(|n| ReplicationFactor::new(n).ok()).ok_or_else(|| "1 to 7".into())
}

/// Any choice that some N allows; whether this bucket's N does is checked when all fields are known.
fn choice(value: &Value, usage: Use) -> Result<QuorumChoice, String> {
    let most = ReplicationFactor::new(ReplicationFactor::MAX).expect("the maximum is in range");
    let parsed = match value {
        Value::String(text) => text.parse(),
        number => whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string()).parse(),
    };
    let refused = |_| QuorumChoice::allowed(most, usage);
    let choice: QuorumChoice = parsed.map_err(refused)?;
    choice.check(most, usage).map_err(|e| e.allowed)?;
    Ok(choice)
}

fn lifetime(value: &Value) -> Result<Option<Ttl>, String> {
    let ttl = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse(),
        number => whole(number).ok_or(TtlError).and_then(Ttl::new),
    };
    ttl.map(Some).map_err(|allowed| format!("{allowed}; null for no end"))
}

fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", "))
}

fn no_such_field(field: &str) -> String {
    let nearest = Bucket::FIELDS.iter().min_by_key(|known| strsim::damerau_levenshtein(known, field));
    let near = nearest.filter(|known| strsim::damerau_levenshtein(known, field) <= 2.max(known.len() / 3));
    let meant = near.map(|known| format!("did you mean {known:?}? ")).unwrap_or_default();
    format!("{meant}The fields are {}", Bucket::FIELDS.join(", "))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}

/// `Durability` as a bucket's JSON has it.
mod durability_word {
    use rondo_storage::engine::Durability;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Fsync,
        Interval,
    }

    pub(super) fn serialize<S: Serializer>(durability: &Durability, serializer: S) -> Result<S::Ok, S::Error> {
        let word = match durability {
            Durability::Fsync => Word::Fsync,
            Durability::Interval => Word::Interval,
        };
        word.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Durability, D::Error> {
        Ok(match Word::deserialize(deserializer)? {
            Word::Fsync => Durability::Fsync,
            Word::Interval => Durability::Interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_defaults_have_the_public_shape() {
        let shown = serde_json::to_value(Bucket::default()).unwrap();
        let public = json!({"n":3,"r":"quorum","w":"quorum","quorum":"strict","mode":"eventual","conflict":"siblings",
            "blind_put":"overwrite","durability":"fsync","ttl":null,"max_siblings":100});
        assert_eq!(shown, public);
        assert_eq!(serde_json::from_value::<Bucket>(public).unwrap(), Bucket::default());
        let mut names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = Bucket::FIELDS;
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn any_of_the_fields_may_be_set() {
        let set = fields(json!({"n":5,"r":1,"w":"each-quorum","blind_put":"sibling","durability":"interval",
            "ttl":"15m","conflict":"lww","quorum":"sloppy","max_siblings":3}));
        let bucket = Bucket::parse(&set).unwrap();
        let shown = serde_json::to_value(&bucket).unwrap();
        assert_eq!(
            (&shown["ttl"], &shown["conflict"], &shown["quorum"]),
            (&json!(900), &json!("lww"), &json!("sloppy"))
        );
        assert_eq!(bucket.changed(&fields(json!({"ttl":null}))).unwrap().ttl, None);
        assert_eq!(bucket.changed(&fields(json!({"ttl":60}))).unwrap().ttl, Ttl::new(60).ok());
        assert_eq!((bucket.n.get(), bucket.r, bucket.w), (5, QuorumChoice::Count(1), QuorumChoice::EachQuorum));
        assert_eq!((bucket.blind_put, bucket.durability), (BlindPut::Sibling, Durability::Interval));
        assert_eq!(bucket.changed(&fields(json!({"r":"all"}))).unwrap().n.get(), 5);
        assert_eq!(serde_json::from_value::<Bucket>(serde_json::to_value(&bucket).unwrap()).unwrap(), bucket);
    }

    #[test]
    fn every_bad_field_is_named_with_what_is_allowed() {
        let bad = fields(json!({"n":8,"r":"each-quorum","w":0,"quorum":"loose","mode":"linearizable",
            "conflict":"last","blind_put":1,"durability":"none","ttl":"1w","max_siblings":0,"blindput":1,"zzzzzz":1}));
        let errors = Bucket::parse(&bad).unwrap_err();
        assert_eq!(errors.len(), bad.len());
        let allowed = |field: &str| errors.iter().find(|e| e.field == field).unwrap().allowed.clone();
        assert_eq!(allowed("n"), "1 to 7");
        assert_eq!(allowed("quorum"), "\"strict\", \"sloppy\"");
        assert_eq!(allowed("mode"), "\"eventual\"");
        assert!(
            allowed("ttl").contains("315360000") && allowed("ttl").contains("7d") && allowed("ttl").contains("null")
        );
        for ttl in [json!(0), json!(-1), json!(1.5), json!("0s"), json!(315_360_001), json!(true)] {
            assert!(Bucket::parse(&fields(json!({ "ttl": ttl }))).is_err(), "{ttl}");
        }
        assert!(allowed("blindput").contains("did you mean \"blind_put\"?"));
        assert!(!allowed("zzzzzz").contains("did you mean"));
        assert!(!allowed("r").contains("each-quorum"));
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction() {
        let bucket = Bucket::parse(&fields(json!({"n":5.0,"w":4.0,"max_siblings":7.0,"ttl":60.0}))).unwrap();
        assert_eq!((bucket.n.get(), bucket.w, bucket.max_siblings), (5, QuorumChoice::Count(4), 7));
        assert_eq!(bucket.ttl, Ttl::new(60).ok());
        let errors = Bucket::parse(&fields(json!({"n":2.5,"r":-1.0,"max_siblings":1e30}))).unwrap_err();
        assert_eq!(errors.len(), 3);
    }

    #[test]
    fn r_and_w_are_held_to_the_n_that_results() {
        let errors = Bucket::parse(&fields(json!({"n":2,"w":3}))).unwrap_err();
        assert_eq!((errors.len(), errors[0].field.as_str()), (1, "w"));
        let three = Bucket::parse(&fields(json!({"r":3}))).unwrap();
        let errors = three.changed(&fields(json!({"n":2}))).unwrap_err();
        assert_eq!((errors.len(), errors[0].field.as_str()), (1, "r"), "an old value may stop fitting");
    }
}
