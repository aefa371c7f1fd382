//! Sends a request: checks the binding, adds the secret, streams and scrubs the answer.

use std::{
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use homarus_contract::{
    BoxStream,
    outbound::{OutboundError, OutboundRequest, OutboundResponse, Reach, SecretRef, SecretUse},
};
use reqwest::{
    Client, Method, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    Held, Vault, address, origin,
    resolve::{Checked, Lookup, Refusal},
    scrub::Scrubber,
};

/// Clients kept, one for each profile in use.
const CLIENTS_MAX: usize = 6;

/// The HTTP clients, built when first needed: building one costs milliseconds that a start-up
/// without a request should not pay.
#[derive(Default)]
pub(crate) struct Clients {
    built: Mutex<Vec<(Profile, Client)>>,
}

/// What is set on a client and not on a request.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Profile {
    connect_ms: u64,
    /// Without TLS the system's certificates need not be read, which takes longer than a request.
    tls: bool,
    reach: Reach,
}

impl Clients {
    fn get(&self, profile: Profile, lookup: &Arc<dyn Lookup>) -> Result<Client, String> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = built.iter().find(|(built, _)| *built == profile) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder();
        if !profile.tls {
            builder = builder.tls_certs_only([]);
        }
        if profile.reach != Reach::Any {
            // A connection that is kept was checked for an earlier request, and perhaps another name.
            let checked = Checked { lookup: lookup.clone(), reach: profile.reach };
            builder = builder.dns_resolver(checked).pool_max_idle_per_host(0);
        }
        let client = builder
            .connect_timeout(Duration::from_millis(profile.connect_ms))
            // A redirect could carry the secret, or the prompt, to a host nobody named.
            .redirect(reqwest::redirect::Policy::none())
            // One call is one attempt: whoever called journals each and decides on the next.
            .retry(reqwest::retry::never())
            // A proxy named in the environment would see plain HTTP, secret included.
            .no_proxy()
            .user_agent(concat!("homarus/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| cause(&error))?;
        if built.len() >= CLIENTS_MAX {
            built.remove(0);
        }
        built.push((profile, client.clone()));
        Ok(client)
    }
}

pub(crate) async fn send(vault: &Vault, request: OutboundRequest) -> Result<OutboundResponse, OutboundError> {
    let held = match &request.secret {
        Some(SecretUse::Bearer(name) | SecretUse::Header { secret: name, .. }) => {
            Some((name.clone(), find(vault, name)?))
        }
        None => None,
    };
    let scrubber = Scrubber::new(held.as_ref().map(|(_, held)| held.secret.clone()));
    let url = parse_url(&request.url).ok_or_else(|| OutboundError::BadUrl(scrubber.text(&request.url)))?;
    let host = origin::describe(&url);
    if let Some((name, held)) = &held
        && !held.bindings.iter().any(|binding| binding.allows(&url))
    {
        return Err(OutboundError::SecretNotForHost(name.clone(), host));
    }
    let refuse = |what: &str| OutboundError::BadUrl(scrubber.text(&format!("{host} ({what})")));
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| refuse("unknown HTTP method"))?;
    let headers = headers(&request, held.as_ref().map(|(_, held)| held.as_ref())).map_err(refuse)?;
    if let Some(why) = refusal(&url, request.reach) {
        return Err(OutboundError::AddressRefused { host, why });
    }
    let profile = Profile { connect_ms: request.connect_ms, tls: url.scheme() == "https", reach: request.reach };
    let client = vault
        .clients
        .get(profile, &vault.lookup)
        .map_err(|cause| OutboundError::Connect { host: host.clone(), cause: scrubber.text(&cause) })?;

    let first_byte_ms = request.connect_ms.saturating_add(request.idle_ms);
    let sending = client.request(method, url).headers(headers).body(request.body).send();
    let response = match tokio::time::timeout(Duration::from_millis(first_byte_ms), sending).await {
        Err(_) => return Err(OutboundError::TimedOut { host, ms: request.idle_ms }),
        Ok(Err(error)) => return Err(classify(&error, &host, request.connect_ms, &scrubber)),
        Ok(Ok(response)) => response,
    };
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), scrubber.text(&String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    Ok(OutboundResponse { status, headers, body: body(response, host, request.idle_ms, scrubber) })
}

fn find(vault: &Vault, name: &SecretRef) -> Result<Arc<Held>, OutboundError> {
    vault.secrets.get(name).cloned().ok_or_else(|| OutboundError::SecretMissing(name.clone()))
}

/// An http(s) address without user and password: `https://bound.host@evil.test` is a classic.
fn parse_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(url)
}

/// What is written as an address never gets to the resolver.
fn refusal(url: &Url, reach: Reach) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    let of_address = address::literal(host).and_then(|literal| address::refusal(literal, reach));
    of_address.or_else(|| address::name_refusal(host, reach))
}

fn headers(request: &OutboundRequest, held: Option<&Held>) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "bad header name")?;
        // With a Host of its own a request could reach another site behind the bound address.
        if name == reqwest::header::HOST {
            return Err("a Host header may not be set");
        }
        headers.append(name, HeaderValue::from_str(value).map_err(|_| "bad header value")?);
    }
    if let (Some(secret_use), Some(held)) = (&request.secret, held) {
        let (name, value) = match secret_use {
            SecretUse::Bearer(_) => (reqwest::header::AUTHORIZATION, bearer(&held.secret)),
            SecretUse::Header { name, .. } => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "bad header name")?;
                (name, Zeroizing::new(held.secret.expose_secret().to_owned()))
            }
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| "bad header value")?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn bearer(secret: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(format!("Bearer {}", secret.expose_secret()))
}

/// The answer's body: each piece scrubbed, each silence bounded.
fn body(
    response: Response,
    host: String,
    idle_ms: u64,
    scrubber: Scrubber,
) -> BoxStream<Result<Vec<u8>, OutboundError>> {
    struct Reading {
        pieces: BoxStream<reqwest::Result<Vec<u8>>>,
        scrubber: Scrubber,
        host: String,
        idle_ms: u64,
        ended: bool,
    }
    let pieces = Box::pin(response.bytes_stream().map(|piece| piece.map(|bytes| bytes.to_vec())));
    let reading = Reading { pieces, scrubber, host, idle_ms, ended: false };
    Box::pin(stream::unfold(reading, |mut reading| async move {
        while !reading.ended {
            let next = tokio::time::timeout(Duration::from_millis(reading.idle_ms), reading.pieces.next()).await;
            let item = match next {
                Ok(Some(Ok(piece))) => Ok(reading.scrubber.push(&piece)),
                Ok(Some(Err(error))) => {
                    reading.ended = true;
                    let cause = reading.scrubber.text(&cause(&error));
                    Err(OutboundError::Broken { host: reading.host.clone(), cause })
                }
                Ok(None) => {
                    reading.ended = true;
                    Ok(reading.scrubber.finish())
                }
                Err(_) => {
                    reading.ended = true;
                    Err(OutboundError::TimedOut { host: reading.host.clone(), ms: reading.idle_ms })
                }
            };
            if !matches!(&item, Ok(bytes) if bytes.is_empty()) {
                return Some((item, reading));
            }
        }
        None
    }))
}

fn classify(error: &reqwest::Error, host: &str, connect_ms: u64, scrubber: &Scrubber) -> OutboundError {
    let host = host.to_owned();
    if let Some(Refusal(why)) = refused(error) {
        return OutboundError::AddressRefused { host, why: why.clone() };
    }
    if error.is_connect() {
        let cause = match error.is_timeout() {
            true => format!("no answer within {connect_ms} ms"),
            false => scrubber.text(&cause(error)),
        };
        return OutboundError::Connect { host, cause };
    }
    OutboundError::Broken { host, cause: scrubber.text(&cause(error)) }
}

/// The refusal of our resolver, however deep it is wrapped.
fn refused(error: &reqwest::Error) -> Option<&Refusal> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Some(refusal);
        }
        source = inner.source();
    }
    None
}

/// The innermost cause, which is the one a person can act on. Holds no address and no header.
fn cause(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut text = None;
    while let Some(inner) = source {
        text = Some(inner.to_string());
        source = inner.source();
    }
    text.unwrap_or_else(|| match error.is_body() || error.is_decode() {
        true => "the answer could not be read".to_owned(),
        false => "the request could not be sent".to_owned(),
    })
}
