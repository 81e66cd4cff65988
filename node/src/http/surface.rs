//! From a request to its answer: its name, its route, its count.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use rondo_config::HttpLimits;
use rondo_ring::View;
use rondo_storage::versions::ContextTokens;
use serde::Serialize;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::http::admission::Admission;
use crate::http::call::Call;
use crate::http::metrics::{Metrics, Operation, Shard};
use crate::http::problem::{Kind, Problem};
use crate::http::request_id::Ids;
use crate::http::trace::TraceParent;
use crate::http::{
    batch, buckets, cluster, health, hints, listing, local, objects, openapi, path, repair, ring, staleness, welcome,
};
use crate::service::{Readiness, Service};

/// Where the objects are; everything after it is bucket and key.
pub(crate) const OBJECTS: &str = "/v1/kv/";

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A body of an answer: of the fast path, or of the router.
pub(crate) type Body = Either<Full<Bytes>, axum::body::Body>;

/// What all workers share.
pub struct Shared {
    limits: Arc<HttpLimits>,
    metrics: Arc<Metrics>,
    admission: Admission,
}

impl Shared {
    /// Also registers what it counts. The limits are taken as they are: validate them first.
    pub fn new(limits: HttpLimits, metrics: Arc<Metrics>) -> Arc<Self> {
        let admission = Admission::new(&limits);
        let (requests, bytes) = (admission.clone(), admission.clone());
        metrics.register_gauge("http_requests_in_flight", "Object requests in work", None, move || {
            requests.in_flight().0 as f64
        });
        let unit = Some(prometheus_client::registry::Unit::Bytes);
        metrics.register_gauge("http_uploads_in_flight", "Bytes of uploads in work", unit, move || {
            bytes.in_flight().1 as f64
        });
        Arc::new(Self { limits: Arc::new(limits), metrics, admission })
    }
}

/// What a handler works with. One per worker.
pub(crate) struct Surface {
    service: Arc<Service>,
    shared: Arc<Shared>,
    ids: Ids,
}

impl Surface {
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) fn limits(&self) -> &Arc<HttpLimits> {
        &self.shared.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The membership, or 503 until the cluster is formed.
    pub(crate) fn view(&self) -> Result<Arc<View>, Problem> {
        self.service.view().ok_or_else(|| self.not_ready())
    }

    /// The contexts' maker, or 503 until the cluster is formed.
    pub(crate) fn tokens(&self) -> Result<Arc<ContextTokens>, Problem> {
        self.service.tokens().ok_or_else(|| self.not_ready())
    }

    pub(crate) fn not_ready(&self) -> Problem {
        let waits_for = match self.service.readiness() {
            Readiness::Waiting(what) => what,
            Readiness::Draining => "the node is shutting down".into(),
            Readiness::Ready => "the cluster is being formed".into(),
        };
        Problem::new(Kind::NotReady, waits_for)
    }
}

/// The client HTTP of one worker.
pub struct Http {
    surface: Arc<Surface>,
    shard: Arc<Shard>,
    router: Router,
}

impl Http {
    /// The surface over a worker's service.
    pub fn new(service: Arc<Service>, shared: Arc<Shared>) -> Arc<Self> {
        let shard = shared.metrics.shard();
        let salt = service.wall_us() ^ service.node_id().0 as u64;
        let surface = Arc::new(Surface { service, shared, ids: Ids::new(salt) });
        let router = router().with_state(surface.clone());
        Arc::new(Self { surface, shard, router })
    }

    pub(crate) fn surface(&self) -> &Surface {
        &self.surface
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let parent = TraceParent::read(request.headers());
        let id = self.surface.ids.name_of(request.headers(), parent);
        let mut call = Call::new(parent, &id);
        let operation = operation(request.method(), request.uri().path());
        let mut response = self.routed(request, &id, &mut call).await;
        let took = began.elapsed();
        if operation.is_of_objects() {
            let status = response.status().as_u16();
            tracing::debug!(request_id = id, trace = call.trace_text(), operation = operation.name(), status, ?took);
            response.headers_mut().insert(SERVER_TIMING, call.server_timing(took));
        }
        response.headers_mut().insert(X_REQUEST_ID, objects::header_text(id));
        self.shard.record(operation, response.status().as_u16(), took);
        response
    }

    async fn routed(&self, request: Request<Incoming>, id: &str, call: &mut Call) -> Response<Body> {
        if let Err(problem) = check_host(request.headers()).and_then(|()| check_expectation(request.headers())) {
            return problem.respond(id).map(Either::Left);
        }
        if let Some(rest) = request.uri().path().strip_prefix(OBJECTS) {
            if listing::is_asked(request.method(), rest) {
                let listed = self.listed(request, id, call).await;
                return listed.unwrap_or_else(|problem| problem.respond(id).map(Either::Left));
            }
            let (parts, incoming) = request.into_parts();
            let head = parts.method == Method::HEAD;
            let answer = objects::answer(&self.surface, parts, incoming, call).await;
            let mut response = answer.unwrap_or_else(|problem| problem.respond(id));
            if head {
                say_length(&mut response);
            }
            return response.map(Either::Left);
        }
        if request.uri().path() == batch::PATH {
            let answer = batch::answer(&self.surface, request, id, call).await;
            return answer.unwrap_or_else(|problem| problem.respond(id).map(Either::Left));
        }
        let mut response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        };
        match response.extensions_mut().remove::<Problem>() {
            Some(problem) => problem.respond(id).map(Either::Left),
            None => response.map(Either::Right),
        }
    }

    async fn listed(&self, request: Request<Incoming>, id: &str, call: &mut Call) -> Result<Response<Body>, Problem> {
        let bucket = path::bucket(request.uri().path().strip_prefix(OBJECTS).unwrap_or_default())?;
        listing::answer(&self.surface, bucket, &request.into_parts().0, id, call).await
    }
}

/// A path of the router: its template, its methods as `Allow` says them, what answers them.
struct Route(&'static str, &'static str, MethodRouter<Arc<Surface>>);

const READ: &str = "GET, HEAD";

/// Everything but the objects. `openapi.json` describes each of them.
fn routes() -> [Route; 16] {
    let bucket = get(buckets::read).put(buckets::set).delete(buckets::reset);
    [
        Route("/", READ, get(welcome::page)),
        Route("/livez", READ, get(health::live)),
        Route("/readyz", READ, get(health::ready)),
        Route("/metrics", READ, get(health::metrics)),
        Route("/openapi.json", READ, get(openapi::document)),
        Route("/v1/buckets", READ, get(buckets::list)),
        Route("/v1/buckets/{bucket}", "GET, HEAD, PUT, DELETE", bucket),
        Route("/v1/cluster", READ, get(cluster::read)),
        Route("/v1/ring", READ, get(ring::read)),
        Route("/v1/hints", READ, get(hints::read)),
        Route("/v1/staleness", READ, get(staleness::read)),
        Route("/v1/repair", READ, get(repair::read)),
        Route("/v1/admin/repair", "POST", post(repair::begin)),
        // An empty key is refused as one.
        Route("/v1/local/{bucket}", READ, get(local::read)),
        Route("/v1/local/{bucket}/", READ, get(local::read)),
        Route("/v1/local/{bucket}/{*key}", READ, get(local::read)),
    ]
}

/// hyper says no length of an empty body in answer to HEAD, where GET says 0.
fn say_length(response: &mut Response<Full<Bytes>>) {
    if response.status() != StatusCode::NOT_MODIFIED && response.body().is_end_stream() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

fn router() -> Router<Arc<Surface>> {
    let add = |router: Router<Arc<Surface>>, Route(path, methods, handlers)| {
        router.route(path, handlers.fallback(async move || objects::not_allowed(methods)))
    };
    routes().into_iter().fold(Router::new(), add).fallback(nowhere)
}

/// Paths of later releases. A script gets to know that the path is right and the release is not.
const LATER: [&str; 10] = [
    "/v1/watch/",
    "/v1/transfers",
    "/v1/admin/leave",
    "/v1/admin/drain",
    "/v1/admin/remove",
    "/v1/admin/replace",
    "/v1/admin/weight",
    "/v1/admin/zone",
    "/v1/admin/backup",
    "/ui/",
];

async fn nowhere(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(100).collect();
    if LATER.iter().any(|later| path == *later || (later.ends_with('/') && path.starts_with(later))) {
        return Problem::new(Kind::LaterRoute, format!("this release does not have {path}"));
    }
    Problem::new(Kind::NoSuchRoute, format!("there is no {path}; objects are at {OBJECTS}{{bucket}}/{{key}}"))
}

fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get_all(HOST).iter().count() {
        1 => Ok(()),
        0 => Err(Problem::new(Kind::BadRequest, "Host: it is missing, one is needed").naming("Host", "").closing()),
        _ => Err(Problem::new(Kind::BadRequest, "Host: it is there twice, one is needed").naming("Host", "").closing()),
    }
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let unknown = |value: &&HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let Some(value) = headers.get_all(EXPECT).iter().find(unknown) else { return Ok(()) };
    let shown = String::from_utf8_lossy(value.as_bytes());
    let problem = Problem::new(Kind::ExpectationFailed, "Expect: it asks for something unknown");
    Err(problem.naming("Expect", &shown).allowing("100-continue").closing())
}

fn operation(method: &Method, path: &str) -> Operation {
    match (path.starts_with(OBJECTS), method) {
        (true, method) if listing::is_asked(method, &path[OBJECTS.len()..]) => Operation::List,
        (true, &Method::GET | &Method::HEAD) => Operation::Get,
        (true, &Method::PUT) => Operation::Put,
        (true, &Method::DELETE) => Operation::Delete,
        (true, &Method::POST) => Operation::Post,
        _ if path == batch::PATH => Operation::Batch,
        _ if path.starts_with("/v1/buckets") => Operation::Bucket,
        _ if ["/v1/cluster", "/v1/ring", "/v1/staleness", "/v1/repair"].contains(&path) => Operation::Cluster,
        _ if path.starts_with("/v1/local/") => Operation::Local,
        _ if ["/livez", "/readyz", "/metrics"].contains(&path) => Operation::Probe,
        _ => Operation::Other,
    }
}

/// 200 with a JSON body and a line end, as people at a terminal like it.
pub(crate) fn json(body: &impl Serialize) -> axum::response::Response {
    let mut bytes = serde_json::to_vec(body).expect("the public shapes have string keys and plain values");
    bytes.push(b'\n');
    with_type("application/json", bytes)
}

/// 200 with a body of that type.
pub(crate) fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> axum::response::Response {
    let mut response = Response::new(axum::body::Body::from(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every path as a document names it, in order.
    pub(crate) fn paths() -> Vec<String> {
        let of_router = routes().into_iter().map(|Route(path, ..)| path.replace("{*", "{"));
        let unfinished = |path: &String| path.starts_with("/v1/local/") && !path.ends_with("{key}");
        let of_objects = ["{bucket}", "{bucket}/{key}"].map(|rest| format!("{OBJECTS}{rest}"));
        let mut paths: Vec<String> =
            of_router.filter(|path| !unfinished(path)).chain(of_objects).chain([batch::PATH.to_owned()]).collect();
        paths.sort_unstable();
        paths
    }

    pub(crate) fn later() -> &'static [&'static str] {
        &LATER
    }

    #[test]
    fn exactly_one_host_is_needed() {
        let mut headers = HeaderMap::new();
        assert_eq!(check_host(&headers).unwrap_err().kind(), Kind::BadRequest);
        headers.append(HOST, HeaderValue::from_static("a"));
        assert!(check_host(&headers).is_ok());
        headers.append(HOST, HeaderValue::from_static("a"));
        assert_eq!(check_host(&headers).unwrap_err().kind(), Kind::BadRequest);
    }

    #[test]
    fn one_expectation_is_known() {
        let mut headers = HeaderMap::new();
        headers.append(EXPECT, HeaderValue::from_static("100-Continue"));
        assert!(check_expectation(&headers).is_ok());
        headers.append(EXPECT, HeaderValue::from_static("tea"));
        assert_eq!(check_expectation(&headers).unwrap_err().kind(), Kind::ExpectationFailed);
    }

    #[test]
    fn every_route_of_the_contract_is_counted_as_what_it_is() {
        assert_eq!(operation(&Method::HEAD, "/v1/kv/b/k"), Operation::Get);
        assert_eq!(operation(&Method::POST, "/v1/kv/b"), Operation::Post);
        assert_eq!(operation(&Method::GET, "/v1/kv/b"), Operation::List);
        assert_eq!(operation(&Method::PUT, "/v1/buckets/b"), Operation::Bucket);
        assert_eq!(operation(&Method::GET, "/readyz"), Operation::Probe);
        assert_eq!(operation(&Method::GET, "/nowhere"), Operation::Other);
    }

    #[tokio::test]
    async fn a_path_of_a_later_release_is_told_from_a_wrong_one() {
        let kind = |path: &'static str| async move {
            nowhere(Request::builder().uri(path).body(axum::body::Body::empty()).unwrap()).await.kind()
        };
        assert_eq!(kind("/v1/watch/b").await, Kind::LaterRoute);
        assert_eq!(kind("/v1/transfers").await, Kind::LaterRoute);
        assert_eq!(kind("/v1/batches").await, Kind::NoSuchRoute);
    }
}
