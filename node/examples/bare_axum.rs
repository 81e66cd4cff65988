//! What Rondo is compared with: the same requests on axum as its users have it (`axum::serve` on tokio's default
//! multi-threaded runtime) over a map in memory. No replicas, no disk, no versions: what is left is the price of HTTP.
//!
//! `cargo run --release -p rondo-node --example bare_axum -- 127.0.0.1:17790`

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use bytes::Bytes;
use dashmap::DashMap;
use http::StatusCode;
use rondo_node::http::Metrics;

type Objects = Arc<DashMap<String, Bytes>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:17790".into());
    // `rondo bench` reads the processor time from here, as it does from a node.
    let metrics = Arc::new(Metrics::new());
    let app = Router::new()
        .route("/v1/kv/{bucket}/{*key}", get(read).put(write))
        .route("/metrics", get(move || async move { metrics.render() }))
        .with_state(Objects::default());
    axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?;
    Ok(())
}

async fn read(
    State(objects): State<Objects>,
    Path((bucket, key)): Path<(String, String)>,
) -> Result<Bytes, StatusCode> {
    objects.get(&name(&bucket, &key)).map(|value| value.clone()).ok_or(StatusCode::NOT_FOUND)
}

async fn write(
    State(objects): State<Objects>,
    Path((bucket, key)): Path<(String, String)>,
    value: Bytes,
) -> StatusCode {
    objects.insert(name(&bucket, &key), value);
    StatusCode::NO_CONTENT
}

fn name(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}
