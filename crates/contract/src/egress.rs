//! The one way out of a sandbox: a socket inside its network namespace, served by the host, where each connection is
//! judged by name before it is dialled.

use std::{io, net::TcpListener, sync::Arc};

use crate::outbound::Reach;

/// What may be reached through one way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressVerdict {
    /// It may be, at addresses of this kind only.
    Allow(Reach),
    /// The reason, for whoever wanted it.
    Deny(String),
}

/// Judges one connection; asked for each anew, from any thread. Must not block for long.
pub trait EgressRules: Send + Sync {
    /// The host as URLs have it (numbers in the usual form, no dot at the end).
    fn judge(&self, host: &str, port: u16) -> EgressVerdict;
}

/// A connection that was not made, or was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `HOST:PORT`
    pub target: String,
    pub why: String,
    /// How often it was tried.
    pub count: u64,
}

/// Bounds of one way out, over its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressBounds {
    /// At once; more wait to be taken.
    pub connections_max: usize,
    /// In both directions together.
    pub bytes_max: u64,
    pub connect_ms: u64,
    /// Longest silence of a connection.
    pub idle_ms: u64,
}

/// A way out that is served. Dropping it ends its connections.
pub trait EgressHandle: Send + Sync {
    /// What was refused since this was last asked.
    fn take_refusals(&self) -> Vec<Refusal>;

    /// Bytes that went through, in both directions.
    fn bytes(&self) -> u64;
}

/// Serves ways out. To be called within the runtime that is to carry it.
pub trait Egress: Send + Sync {
    fn serve(
        &self,
        listener: TcpListener,
        rules: Arc<dyn EgressRules>,
        bounds: EgressBounds,
    ) -> io::Result<Box<dyn EgressHandle>>;
}
