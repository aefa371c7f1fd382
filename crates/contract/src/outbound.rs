//! The one way bytes leave for the network. Secrets are named here, held only by `vault`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{BoxFuture, BoxStream};

/// The name of a secret, for example `ANTHROPIC_API_KEY`. Holds no secret bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretRef(pub String);

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a secret is put into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUse {
    /// `Authorization: Bearer <secret>`
    Bearer(SecretRef),
    /// `<name>: <secret>`
    Header { name: String, secret: SecretRef },
}

/// Which addresses a request may end up at, whatever its host's name resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any: the operator configured where it goes.
    Any,
    /// Public ones, and those in private use (this machine, this network): a rule names the host.
    Private,
    /// Public ones only.
    Public,
}

#[derive(Debug, Clone)]
pub struct OutboundRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub secret: Option<SecretUse>,
    pub reach: Reach,
    pub connect_ms: u64,
    /// Longest silence before the first byte and between two pieces of the body.
    pub idle_ms: u64,
}

pub struct OutboundResponse {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: BoxStream<Result<Vec<u8>, OutboundError>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutboundError {
    #[error("the secret {0} is not set")]
    SecretMissing(SecretRef),
    #[error("the secret {0} may not be sent to {1}")]
    SecretNotForHost(SecretRef, String),
    #[error("{0} is not a valid address")]
    BadUrl(String),
    #[error("{host} may not be reached: {why}")]
    AddressRefused { host: String, why: String },
    #[error("no connection to {host}: {cause}")]
    Connect { host: String, cause: String },
    #[error("{host} sent nothing for {ms} ms")]
    TimedOut { host: String, ms: u64 },
    #[error("the connection to {host} broke: {cause}")]
    Broken { host: String, cause: String },
}

pub trait Outbound: Send + Sync {
    fn send(&self, request: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>>;

    /// Whether a secret of this name is set, without reading it.
    fn has_secret(&self, secret: &SecretRef) -> bool;
}
