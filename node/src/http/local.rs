//! `/v1/local`: what this node's disk holds, without a quorum and without repairing anything.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use rondo_storage::store::{Store, Stored};
use rondo_storage::versions::{Conflict, ETag, Object, Sibling};

use crate::http::path::{self, Named};
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Known, Query};
use crate::http::siblings::{etag, push, push_rest, rfc3339};
use crate::http::surface::{Surface, with_type};

/// `GET /v1/local/{bucket}/{key}`
pub(crate) async fn read(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &Known::NONE)?;
    let rest = request.uri().path().strip_prefix("/v1/local/").unwrap_or_default();
    let Named::Object(key) = path::parse(rest)? else {
        return Err(Problem::new(Kind::BadRequest, "a bucket and a key are needed").naming("key", ""));
    };
    let service = surface.service();
    let bucket = service.bucket(key.bucket());
    let owner = service.view().is_some_and(|view| view.owners(key.token(), bucket.n).contains(&service.node_id()));
    let slow = || Problem::new(Kind::Busy, "this node's disk is slow to say what it holds");
    let stored = service.held(key.clone()).await.ok_or_else(slow)?;
    let hinted = service.hinted(key.clone()).await.ok_or_else(slow)?;
    let hint_for = hinted.targets.first().map(|&id| {
        let known = service.members().into_iter().find(|member| member.id == id);
        known.map_or_else(|| id.to_string(), |member| member.name)
    });
    // What is kept for another is shown where this node has nothing of its own.
    let object = Store::decode(&stored).or_else(|| Store::decode(&hinted.stored));
    let context = object.as_ref().and_then(|object| Some(service.tokens()?.seal(&key, &object.context)));
    let conflict = bucket.conflict;
    let damaged = [&stored, &hinted.stored].into_iter().any(|stored| matches!(stored, Stored::Unknown(_)));
    let held = Held { owner, hint_for, damaged, conflict, object, context };
    Ok(with_type("application/json", held.json(service.wall_us())))
}

struct Held {
    owner: bool,
    /// For whom it is kept, by name; the first of them.
    hint_for: Option<String>,
    /// What is here cannot be read, or may be less than was acknowledged: it counts as no vote.
    damaged: bool,
    /// What the bucket shows of it.
    conflict: Conflict,
    object: Option<Object>,
    context: Option<String>,
}

impl Held {
    fn json(&self, now_us: u64) -> Bytes {
        let mut out = vec![b'{'];
        push(&mut out, "found", &self.object.is_some());
        let etag = self.object.as_ref().and_then(|object| object.etag(now_us, self.conflict));
        let etag = etag.as_ref().map(ETag::as_str);
        out.push(b',');
        push(&mut out, "owner", &self.owner);
        out.push(b',');
        push(&mut out, "hint_for", &self.hint_for);
        out.push(b',');
        push(&mut out, "damaged", &self.damaged);
        out.push(b',');
        push(&mut out, "etag", &etag);
        out.push(b',');
        push(&mut out, "context", &self.context);
        out.extend_from_slice(b",\"versions\":[");
        let siblings = self.object.iter().flat_map(|object| &object.siblings);
        for (index, sibling) in siblings.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_version(&mut out, sibling);
        }
        out.extend_from_slice(b"]}\n");
        out.into()
    }
}

fn push_version(out: &mut Vec<u8>, sibling: &Sibling) {
    out.extend_from_slice(b"{\"dot\":{");
    push(out, "actor", &sibling.dot.actor.to_string());
    out.push(b',');
    push(out, "counter", &sibling.dot.counter);
    out.extend_from_slice(b"},");
    push(out, "etag", &etag(sibling));
    out.push(b',');
    push(out, "deleted", &sibling.value.is_none());
    out.push(b',');
    let expires_us = sibling.metadata.expires_us;
    push(out, "expires", &(expires_us != 0).then(|| rfc3339(expires_us)));
    push_rest(out, sibling);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_storage::versions::{ActorId, CausalContext, Dot, Metadata};
    use serde_json::{Value, json};

    fn shown(held: &Held) -> Value {
        serde_json::from_slice(&held.json(10)).unwrap()
    }

    fn written(object: &mut Object, counter: u64, value: Option<&'static [u8]>) {
        let metadata = Metadata { modified_us: 1_000_000, expires_us: 2_000_000, ..Metadata::default() };
        let dot = Dot { actor: ActorId(0xab), counter };
        object.update(&CausalContext::default(), Sibling { dot, value: value.map(Bytes::from_static), metadata });
    }

    #[test]
    fn nothing_found_has_the_public_shape() {
        let conflict = Conflict::Siblings;
        let held = Held { owner: true, hint_for: None, damaged: false, conflict, object: None, context: None };
        let expected = json!({"found":false,"owner":true,"hint_for":null,"damaged":false,"etag":null,"context":null,
            "versions":[]});
        assert_eq!(shown(&held), expected);
    }

    #[test]
    fn versions_and_tombstones_are_told_apart() {
        let mut object = Object::default();
        written(&mut object, 7, Some(b"v"));
        written(&mut object, 8, None);
        let conflict = Conflict::Siblings;
        let (hint_for, context) = (Some("n2".into()), Some("t".into()));
        let held = Held { owner: false, hint_for, damaged: true, conflict, object: Some(object), context };
        let shown = shown(&held);
        assert_eq!(shown["hint_for"], "n2");
        assert_eq!((&shown["found"], &shown["damaged"], &shown["etag"]), (&json!(true), &json!(true), &json!("ab-7")));
        let expected = json!({"dot":{"actor":"00000000000000ab","counter":7},"etag":"ab-7","deleted":false,
            "expires":"1970-01-01T00:00:02Z","modified":"1970-01-01T00:00:01Z","bytes":1,
            "content_type":"application/octet-stream","text":"v"});
        assert_eq!(shown["versions"][0], expected);
        assert_eq!(shown["versions"][1]["deleted"], true);
        assert!(shown["versions"][1]["bytes"].is_null());
    }
}
