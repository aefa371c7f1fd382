//! The one room that holds secret bytes, and the one door bytes leave by.
//!
//! Secrets are read once from the environment, each bound to the origins it may be sent to.
//! Everyone else names a secret by its [`SecretRef`] and sends through [`Outbound`]; the bytes are
//! added here, at the last moment, and only for an origin bound to them. What comes back is
//! scrubbed of the exact secret, so that a server which echoes it cannot make us print it.
//!
//! A request says how far it may reach ([`homarus_contract::outbound::Reach`]). Where that is not everywhere, the
//! addresses of its host are checked after they were looked up, and exactly those are dialled.

mod address;
mod client;
mod origin;
mod proxy;
mod resolve;
mod scrub;

use std::{collections::HashMap, fmt, sync::Arc};

use homarus_contract::{
    BoxFuture,
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, SecretRef},
};
use secrecy::SecretString;
use thiserror::Error;
use zeroize::Zeroize;

pub use crate::resolve::{Lookup, SystemLookup};
use crate::{client::Clients, origin::Binding};

/// Longest secret taken from the environment, in bytes.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// A secret to look for, and where it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    pub name: SecretRef,
    /// Environment variables to read; the first that is set and not empty counts.
    pub env: Vec<String>,
    /// `host` or `host:port` (HTTPS; on this machine's loopback also HTTP), or a whole origin such
    /// as `http://10.0.0.5:8000`, which is then meant exactly as written. A path is ignored.
    pub origins: Vec<String>,
}

/// Why the secrets could not be taken. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VaultError {
    #[error("{variable} cannot be used as the secret {name}: {reason}")]
    BadSecret { name: SecretRef, variable: String, reason: &'static str },
    #[error("the secret {name} is bound to {origin:?}, which is not a host or an http(s) address")]
    BadOrigin { name: SecretRef, origin: String },
}

/// What can be said of a variable that should hold a secret, without saying what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Not set, or empty.
    Missing,
    Fine,
    /// Blanks or line breaks stand around it. They are left out when it is used.
    Padded,
    Unusable(&'static str),
}

/// Looks at a variable of the environment.
#[allow(clippy::disallowed_methods)] // The bytes must not pass through any other room.
pub fn look(variable: &str) -> Looked {
    match std::env::var(variable) {
        Ok(value) => look_at(value),
        Err(std::env::VarError::NotPresent) => Looked::Missing,
        Err(std::env::VarError::NotUnicode(_)) => Looked::Unusable("it is not text"),
    }
}

fn look_at(mut value: String) -> Looked {
    let text = value.trim();
    let looked = match problem_of(text) {
        _ if text.is_empty() => Looked::Missing,
        Some(reason) => Looked::Unusable(reason),
        None if text.len() < value.len() => Looked::Padded,
        None => Looked::Fine,
    };
    value.zeroize();
    looked
}

/// Holds the secrets and the HTTP client. Cheap to make: the client is built at the first request.
pub struct Vault {
    secrets: HashMap<SecretRef, Arc<Held>>,
    clients: Clients,
    lookup: Arc<dyn Lookup>,
}

/// A secret and the origins it may be sent to.
struct Held {
    secret: SecretString,
    bindings: Vec<Binding>,
}

impl Vault {
    /// Reads the environment once. A variable that is not set, or is empty, is no error: the
    /// secret is then missing, which a request that needs it will say.
    #[allow(clippy::disallowed_methods)] // The bytes must not pass through any other room.
    pub fn from_env(entries: Vec<SecretEntry>) -> Result<Self, VaultError> {
        Self::from_lookup(entries, |variable| std::env::var(variable).ok())
    }

    /// Like [`Vault::from_env`] with another source of variables.
    pub fn from_lookup(entries: Vec<SecretEntry>, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, VaultError> {
        let mut secrets = HashMap::new();
        for entry in entries {
            let bindings = entry
                .origins
                .iter()
                .map(|origin| {
                    Binding::parse(origin)
                        .ok_or_else(|| VaultError::BadOrigin { name: entry.name.clone(), origin: showable(origin) })
                })
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(secret) = read(&entry, &lookup)? {
                secrets.insert(entry.name, Arc::new(Held { secret, bindings }));
            }
        }
        Ok(Self { secrets, clients: Clients::default(), lookup: Arc::new(SystemLookup) })
    }

    /// Resolves names another way than the operating system does.
    pub fn with_lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.secrets.keys().map(|name| name.0.as_str()).collect();
        names.sort_unstable();
        f.debug_struct("Vault").field("secrets", &names).finish_non_exhaustive()
    }
}

impl Outbound for Vault {
    fn send(&self, request: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>> {
        Box::pin(client::send(self, request))
    }

    fn has_secret(&self, secret: &SecretRef) -> bool {
        self.secrets.contains_key(secret)
    }
}

fn read(entry: &SecretEntry, lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<SecretString>, VaultError> {
    for variable in &entry.env {
        let Some(mut value) = lookup(variable) else { continue };
        let text = value.trim();
        let problem = problem_of(text);
        let secret = (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
        value.zeroize();
        match (problem, secret) {
            (Some(reason), _) => {
                return Err(VaultError::BadSecret { name: entry.name.clone(), variable: variable.clone(), reason });
            }
            (None, Some(secret)) => return Ok(Some(secret)),
            (None, None) => {}
        }
    }
    Ok(None)
}

fn problem_of(text: &str) -> Option<&'static str> {
    if text.len() > SECRET_BYTES_MAX {
        Some("it is longer than 16 KiB")
    } else if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        Some("it holds a space, a line break or another character that no header may carry")
    } else {
        None
    }
}

/// An address without what may be a password or a key.
fn showable(origin: &str) -> String {
    let origin = origin.split(['?', '#']).next().unwrap_or_default();
    origin.rsplit_once('@').map_or(origin.to_owned(), |(_, host)| format!("...@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_blanks_from_what_cannot_be_used() {
        assert_eq!(look_at("sk-1".to_owned()), Looked::Fine);
        assert_eq!(look_at(" sk-1\n".to_owned()), Looked::Padded);
        assert_eq!(look_at(" \n".to_owned()), Looked::Missing);
        assert!(matches!(look_at("sk 1".to_owned()), Looked::Unusable(_)));
        assert!(matches!(look_at("k".repeat(SECRET_BYTES_MAX + 1)), Looked::Unusable(_)));
        assert_eq!(look("HOMARUS_NO_SUCH_VARIABLE"), Looked::Missing);
    }
}
