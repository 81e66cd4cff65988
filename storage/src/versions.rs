//! Versions of an object: dotted version vectors with server-side dots (Preguiça, Baquero, Almeida, Fonte, Gonçalves:
//! "Dotted Version Vectors", 2010; Almeida et al.: "Scalable and Accurate Causality Tracking", DAIS 2014).
//!
//! Everything here is pure. Laws, each a test:
//! - **V1** `merge` is commutative, associative and idempotent.
//! - **V2** `update` adds exactly one dot, and removes exactly the siblings its context covers, with their twins (the
//!   same request, coordinated twice) and tombstones.
//! - **V3** A value disappears only when a context covering its dot, or that of a twin, was written: no false
//!   replacement.
//! - **V4** Two siblings are concurrent: no write that saw another version leaves it beside itself: no false sibling.
//! - **V5** The same state has the same bytes on every replica: digests may be compared.
//! - **V6** The context of a write's answer never covers a sibling its client has not seen.
//! - **V7** What a bucket of the last writer shows is decided by the set of siblings alone, tombstones and expired
//!   versions included: the same state shows the same version, whatever the order of the merges that led to it.

pub mod conflict;
pub mod context;
pub mod dot;
pub mod envelope;
pub mod etag;
pub mod object;
pub mod token;
mod wire;

pub use conflict::Conflict;
pub use context::CausalContext;
pub use dot::{ActorId, Dot};
pub use envelope::EnvelopeError;
pub use etag::{ETag, ETagError};
pub use object::{Metadata, Object, Sibling};
pub use token::{ContextTokens, TokenError};
