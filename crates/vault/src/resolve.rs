//! Names to addresses, checked in between: what passes here is what is dialled, with no second look-up.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use homarus_contract::{BoxFuture, outbound::Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address;

/// More addresses of one name are not looked at.
const ADDRESSES_MAX: usize = 64;

/// Asks for the addresses of a name.
pub trait Lookup: Send + Sync {
    fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
        })
    }
}

/// A name leads where it may not.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}

/// The resolver of one client. One address that may not be reached spoils the answer: a name that is
/// public and private at once is a trick.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) reach: Reach,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.lookup.addresses(name.as_str().to_owned()).await?;
            if found.is_empty() {
                return Err("the name has no address".into());
            }
            if let Some(why) = found.iter().find_map(|found| address::refusal(*found, this.reach)) {
                return Err(Refusal(why).into());
            }
            let checked: Vec<SocketAddr> = found.into_iter().map(|found| SocketAddr::new(found, 0)).collect();
            Ok(Box::new(checked.into_iter()) as Addrs)
        })
    }
}
