//! `rondo bucket ls | get | set | reset`.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::arguments::{BucketCommand, Target};
use super::client::{Request, call, encoded};
use super::failure::Failure;
use super::output::{Output, print, print_json, table};
use super::problem::successful;

/// A bucket is set on one node and told to the others; there is no quorum to wait for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Listing {
    buckets: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    properties: Map<String, Value>,
}

pub(super) async fn run(command: &BucketCommand) -> Result<(), Failure> {
    match command {
        BucketCommand::Ls(target) => ls(target).await,
        BucketCommand::Get { bucket, target } => one(target, bucket, Method::GET, None).await,
        BucketCommand::Set { bucket, properties, target } => {
            one(target, bucket, Method::PUT, Some(parse(properties)?)).await
        }
        BucketCommand::Reset { bucket, target } => one(target, bucket, Method::DELETE, None).await,
    }
}

async fn ls(target: &Target) -> Result<(), Failure> {
    let answer = successful(call(&target.endpoint, Request::get("/v1/buckets"), PATIENCE).await?)?;
    if target.output == Output::Json {
        return print_json(&answer.json()?);
    }
    print(&listed(&answer.json::<Listing>()?.buckets))
}

async fn one(target: &Target, bucket: &str, method: Method, body: Option<Value>) -> Result<(), Failure> {
    let mut request = Request::new(method, format!("/v1/buckets/{}", encoded(bucket)));
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json").body(body.to_string());
    }
    let answer = successful(call(&target.endpoint, request, PATIENCE).await?)?;
    match target.output {
        Output::Json => print_json(&answer.json()?),
        Output::Table => print(&properties(&answer.json()?)),
    }
}

/// `n=3 ttl=null w=all` as a JSON object. What each property takes is the server's to say.
fn parse(properties: &[String]) -> Result<Value, Failure> {
    let mut object = Map::new();
    for property in properties {
        let usage = || Failure::Usage(format!("{property:?} is not PROPERTY=VALUE, such as n=3"));
        let (name, text) = property.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(usage)?;
        let scalar = serde_json::from_str::<Value>(text).ok().filter(|v| !v.is_array() && !v.is_object());
        object.insert(name.into(), scalar.unwrap_or_else(|| text.into()));
    }
    Ok(Value::Object(object))
}

fn properties(properties: &Map<String, Value>) -> String {
    let rows: Vec<_> = properties.iter().map(|(name, value)| vec![name.clone(), shown(value)]).collect();
    table(&["property", "value"], &rows)
}

fn listed(buckets: &[Named]) -> String {
    let names: Vec<&str> =
        buckets.first().map(|b| b.properties.keys().map(String::as_str).collect()).unwrap_or_default();
    let row = |bucket: &Named| {
        let values = names.iter().map(|name| bucket.properties.get(*name).map(shown).unwrap_or_default());
        std::iter::once(bucket.name.clone()).chain(values).collect()
    };
    let header: Vec<&str> = std::iter::once("bucket").chain(names.iter().copied()).collect();
    table(&header, &buckets.iter().map(row).collect::<Vec<_>>())
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn properties_are_numbers_words_or_null() {
        let given = ["n=3", "w=all", "ttl=null", "blind_put=sibling", "x=a=b", "y=[1]"].map(String::from);
        let expected = json!({"n": 3, "w": "all", "ttl": null, "blind_put": "sibling", "x": "a=b", "y": "[1]"});
        assert_eq!(parse(&given).unwrap(), expected);
        for bad in ["n", "=3", ""] {
            assert!(matches!(parse(&[bad.to_string()]), Err(Failure::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn buckets_are_rows() {
        let listing = json!({"buckets": [{"name": "fruit", "properties": {"n": 3, "w": "all"}}]});
        let listing: Listing = serde_json::from_value(listing).unwrap();
        assert_eq!(listed(&listing.buckets), "BUCKET  N  W\nfruit   3  all");
        assert_eq!(listed(&[]), "BUCKET");
    }
}
