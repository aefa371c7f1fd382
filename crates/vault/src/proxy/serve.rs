//! One connection of a sandbox after another: `CONNECT` becomes a tunnel, a request for an absolute `http://` address
//! is made anew and answered; anything else is refused.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    client,
    header::{HOST, HeaderName, HeaderValue},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{
    Shared,
    dial::{NoConnection, Target, dial},
};

type Body = BoxBody<Bytes, hyper::Error>;

/// Longest wait for the head of a request on an open connection.
const HEAD_MS: u64 = 30_000;
const HEADERS_MAX: usize = 100;
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// After a failed accept: descriptors may be short for a moment.
const ACCEPT_AGAIN_MS: u64 = 50;

/// What concerns one connection only, and so is not passed on.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Takes connections until it is aborted; they end with it.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = shared.slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(slot);
                });
            }
            Err(_) => sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A tunnel outlives the request that asked for it; it is carried here, so that it ends with us.
    let tunnel = Arc::new(tokio::sync::Mutex::new(None));
    let slot = tunnel.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, slot) = (shared.clone(), slot.clone());
        async move {
            Ok::<_, Infallible>(if request.method() == Method::CONNECT {
                let (response, tunnel) = connect(request, &shared).await;
                *slot.lock().await = tunnel;
                response
            } else {
                forward(request, &shared).await
            })
        }
    });
    let served = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS))
        // Who has said all it wants is answered all the same.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // What goes wrong on this connection is told on it, or it is gone.
    let _ = served.await;
    let waiting = tunnel.lock().await.take();
    if let Some(Tunnel { upgrade, mut far }) = waiting
        && let Ok(near) = upgrade.await
    {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
    }
}

struct Tunnel {
    upgrade: hyper::upgrade::OnUpgrade,
    far: super::meter::Metered<TcpStream>,
}

async fn connect(request: Request<Incoming>, shared: &Shared) -> (Response<Body>, Option<Tunnel>) {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let Some(target) = Target::parse(&authority, None) else {
        return (said(StatusCode::BAD_REQUEST, "this is no HOST:PORT"), None);
    };
    match dial(shared, &target).await {
        Ok(far) => (Response::new(nothing()), Some(Tunnel { upgrade: hyper::upgrade::on(request), far })),
        Err(none) => (no_connection(&none), None),
    }
}

async fn forward(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let uri = request.uri().clone();
    let target = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => Target::parse(authority.as_str(), Some(80)),
        _ => None,
    };
    let Some(target) = target else {
        return said(StatusCode::BAD_REQUEST, "only requests for absolute http:// addresses, and CONNECT, are taken");
    };
    let far = match dial(shared, &target).await {
        Ok(far) => far,
        Err(none) => return no_connection(&none),
    };
    let failed = |error: &dyn std::fmt::Display| said(StatusCode::BAD_GATEWAY, &error.to_string());
    let Some(request) = made_anew(request, &uri, &target) else {
        return said(StatusCode::BAD_REQUEST, "the address cannot be asked for");
    };
    let handshake = client::conn::http1::Builder::new().max_headers(HEADERS_MAX).handshake(TokioIo::new(far)).await;
    let (mut sender, link) = match handshake {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    // Ends with the exchange: its body is part of the response, and silence ends it.
    tokio::spawn(link);
    match sender.send_request(request).await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            strip(&mut parts.headers);
            Response::from_parts(parts, BodyExt::boxed(body))
        }
        Err(error) => failed(&error),
    }
}

/// The request as it goes out: for the path alone, to the host that was judged and no other behind the same address.
fn made_anew(request: Request<Incoming>, uri: &Uri, target: &Target) -> Option<Request<Incoming>> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    let host = if target.port == 80 { target.host.clone() } else { target.name() };
    parts.headers.insert(HOST, HeaderValue::from_str(&host).ok()?);
    parts.headers.insert(HeaderName::from_static("connection"), HeaderValue::from_static("close"));
    parts.uri = uri.path_and_query().map_or("/", |path| path.as_str()).parse().ok()?;
    Some(Request::from_parts(parts, body))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    for name in HOP_BY_HOP.into_iter().map(str::to_owned).chain(named) {
        headers.remove(name.as_str());
    }
}

fn no_connection(none: &NoConnection) -> Response<Body> {
    match none {
        NoConnection::Refused(why) => said(StatusCode::FORBIDDEN, &format!("Homarus lets nothing go there: {why}")),
        NoConnection::Failed(why) => said(StatusCode::BAD_GATEWAY, &format!("no connection: {why}")),
    }
}

fn said(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}
