//! DELETE.

use http::HeaderValue;
use http::request::Parts;
use rondo_storage::Key;
use rondo_storage::versions::Metadata;

use crate::http::call::Call;
use crate::http::conditions;
use crate::http::objects::{Answer, Asked, SIBLINGS};
use crate::http::objects_put::{Writing, acknowledge, carry_out, empty};
use crate::http::params::refuse_metadata;
use crate::http::query::{Known, Query};
use crate::http::surface::Surface;

const KNOWN: Known = Known { values: &["r", "w", "quorum", "timeout"], flags: &[] };

/// `DELETE /v1/kv/{bucket}/{key...}`: 204, also where there was nothing. `Rondo-Siblings` says how many versions the
/// delete has left.
pub(crate) async fn delete(surface: &Surface, key: Key, parts: &Parts, call: &mut Call) -> Answer {
    let _admitted = surface.admission().admit()?;
    let query = Query::parse(parts.uri.query(), &KNOWN)?;
    let condition = conditions::of_delete(&parts.headers)?;
    refuse_metadata(&parts.headers)?;
    let asked = Asked::new(surface, key, parts, &query)?;
    let writing = Writing { value: None, metadata: Metadata::default(), condition };
    let written = carry_out(surface, &asked, writing, call).await?;
    let mut response = empty();
    acknowledge(&mut response, &asked, &written);
    if written.siblings > 0 {
        response.headers_mut().insert(SIBLINGS, HeaderValue::from(written.siblings));
    }
    Ok(response)
}
