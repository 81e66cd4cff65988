//! The client HTTP: the contract of `docs/api.md` on sockets.
//!
//! A request's way: [`accept`] takes the connection and deals it to a worker; [`serve_connection`] drives it with hyper
//! over a `Guard`, which keeps the deadlines and refuses bad heads; `surface` names the request, routes and counts it;
//! `objects*` and the other handlers check what was asked and ask the [`Service`](crate::service::Service).
//!
//! - **H1** Every answer that hyper lets us make is a success of the contract or `application/problem+json`.
//! - **H2** What a request asks for is done or refused by name: no parameter and no `Rondo-…` header is ignored.
//! - **H3** Everything a client can make the node hold or wait for has a bound in [`HttpLimits`].
//! - **H4** No path is resolved and no name is normalised: a key is exactly the bytes that were encoded.
//!
//! Deliberately absent: `axum::serve` (it has no deadline for heads), queues in front of the handlers (what cannot be
//! begun at once is a 429), JSON on the way of a value.

mod accept;
mod admission;
mod batch;
mod body;
mod buckets;
mod call;
mod cluster;
mod conditions;
mod connection;
mod cursor;
mod described;
mod guard;
mod head;
mod health;
mod hints;
mod listing;
mod local;
pub mod metrics;
mod multipart;
mod objects;
mod objects_delete;
mod objects_get;
mod objects_put;
mod openapi;
mod params;
mod path;
mod problem;
pub(crate) mod process;
mod query;
mod repair;
mod request_id;
mod ring;
mod seats;
mod shape;
mod siblings;
mod staleness;
mod stream;
mod surface;
mod target;
mod trace;
mod welcome;

pub use accept::accept;
pub use connection::serve_connection;
pub use metrics::Metrics;
pub use rondo_config::HttpLimits;
pub use seats::Seat;
pub use surface::{Http, Shared};
