//! Requests as bytes. Everything that does not change from one to the next is made once.

use std::io::Write;

use http::Method;
use rand::rngs::SmallRng;

use super::keys::Keys;
use super::mix::{Mix, Operation};
use super::values::Values;
use crate::cli::client::{Endpoint, Request};

/// What all requests of a run have in common.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) bucket: String,
    pub(crate) mix: Mix,
    pub(crate) keys: Keys,
    pub(crate) values: Values,
    pub(crate) r: Option<String>,
    pub(crate) w: Option<String>,
}

/// Makes the requests of one connection.
#[derive(Debug)]
pub(crate) struct Requests {
    put: Head,
    get: Head,
}

/// What stands before and behind the key.
#[derive(Debug)]
struct Head {
    before_key: Vec<u8>,
    after_key: Vec<u8>,
}

impl Requests {
    pub(crate) fn new(recipe: &Recipe, endpoint: &Endpoint) -> Self {
        let common = format!(" HTTP/1.1\r\nHost: {}\r\n", endpoint.authority());
        let quorum = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
        };
        let head = |method: Method, after: String| Head {
            before_key: format!("{method} {}", Request::object(method.clone(), &recipe.bucket, "").path).into(),
            after_key: (common.clone() + &after).into(),
        };
        Self {
            put: head(Method::PUT, quorum("Rondo-W", &recipe.w) + "Content-Length: "),
            get: head(Method::GET, quorum("Rondo-R", &recipe.r) + "\r\n"),
        }
    }

    /// Writes the request with this number into `out`, instead of what was there.
    pub(crate) fn write(&self, recipe: &Recipe, number: u64, random: &mut SmallRng, out: &mut Vec<u8>) -> Operation {
        out.clear();
        let operation = recipe.mix.pick(random);
        let head = match operation {
            Operation::Get => &self.get,
            Operation::Put => &self.put,
        };
        out.extend_from_slice(&head.before_key);
        recipe.keys.write(recipe.keys.pick(number, random), out);
        out.extend_from_slice(&head.after_key);
        if operation == Operation::Put {
            let value = recipe.values.pick(random);
            // A vector takes everything.
            let _ = write!(out, "{}\r\n\r\n", value.len());
            out.extend_from_slice(value);
        }
        operation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn requests_are_what_the_contract_says() {
        let recipe = |mix: &str| Recipe {
            bucket: "b".into(),
            mix: mix.parse().unwrap(),
            keys: Keys::new(10, 3, "sequential".parse().unwrap()).unwrap(),
            values: Values::new("5".parse().unwrap(), 1),
            r: Some("1".into()),
            w: None,
        };
        let (endpoint, mut random) = ("h:7700".parse().unwrap(), SmallRng::seed_from_u64(1));
        let mut text = |mix: &str| {
            let (recipe, mut out) = (recipe(mix), b"old".to_vec());
            Requests::new(&recipe, &endpoint).write(&recipe, 12, &mut random, &mut out);
            out
        };
        assert_eq!(text("get"), b"GET /v1/kv/b/002 HTTP/1.1\r\nHost: h:7700\r\nRondo-R: 1\r\n\r\n");
        let put = text("put");
        let head = b"PUT /v1/kv/b/002 HTTP/1.1\r\nHost: h:7700\r\nContent-Length: 5\r\n\r\n";
        assert!(put.starts_with(head) && put.len() == head.len() + 5);
    }
}
