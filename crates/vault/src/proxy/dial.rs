//! From a name to a connection: judged, looked up, every address checked, and one of those dialled.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use homarus_contract::{egress::EgressVerdict, outbound::Reach};
use reqwest::Url;
use tokio::{net::TcpStream, time::timeout};

use super::{Shared, meter::Metered};
use crate::address;

/// Addresses of one name that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Where somebody wants to go, as rules name it.
pub struct Target {
    pub host: String,
    pub port: u16,
}

/// Why there is no connection.
pub enum NoConnection {
    /// It may not be made.
    Refused(String),
    /// It could not be made.
    Failed(String),
}

impl Target {
    /// From `HOST:PORT` of a request, whatever way it is written; `None`: it is no such thing.
    pub fn parse(authority: &str, port_default: Option<u16>) -> Option<Self> {
        if authority.is_empty() || authority.contains(['@', '/', '\\', '?', '#']) {
            return None;
        }
        // A scheme without rules of its own for hosts would leave numbers as they are written.
        let url = Url::parse(&format!("http://{authority}/")).ok()?;
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        let end = authority.rsplit_once(':').map(|(_, port)| port);
        let port = match end {
            Some("") => return None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => url.port_or_known_default(),
            _ => port_default,
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { host, port: port.filter(|port| *port != 0)? })
    }

    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

pub async fn dial(shared: &Shared, target: &Target) -> Result<Metered<TcpStream>, NoConnection> {
    let refused = |why: String| {
        shared.refuse(&target.name(), &why);
        NoConnection::Refused(why)
    };
    let failed = |why: String| {
        shared.refuse(&target.name(), &why);
        NoConnection::Failed(why)
    };
    if shared.meter.is_spent() {
        return Err(refused(format!("more than {} MiB went through already", shared.bounds.bytes_max >> 20)));
    }
    let reach = match shared.rules.judge(&target.host, target.port) {
        EgressVerdict::Allow(reach) => reach,
        EgressVerdict::Deny(why) => return Err(refused(why)),
    };
    if let Some(why) = address::name_refusal(&target.host, reach) {
        return Err(refused(why));
    }
    let connect = Duration::from_millis(shared.bounds.connect_ms);
    let found = match address::literal(&target.host) {
        Some(literal) => vec![literal],
        None => match timeout(connect, shared.lookup.addresses(target.host.clone())).await {
            Err(_) => return Err(failed("looking up its name took too long".to_owned())),
            Ok(Err(error)) => return Err(failed(format!("its name cannot be looked up: {error}"))),
            Ok(Ok(found)) if found.is_empty() => return Err(failed("its name has no address".to_owned())),
            Ok(Ok(found)) => found,
        },
    };
    check(&found, reach).map_err(refused)?;
    let mut last = String::new();
    for address in found.into_iter().take(ADDRESSES_TRIED_MAX) {
        match timeout(connect, TcpStream::connect(SocketAddr::new(address, target.port))).await {
            Ok(Ok(stream)) => {
                // Small pieces of a conversation are not to wait for each other.
                let _ = stream.set_nodelay(true);
                let idle = Duration::from_millis(shared.bounds.idle_ms);
                return Ok(Metered::new(stream, shared.meter.clone(), idle));
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no connection after {} ms", shared.bounds.connect_ms),
        }
    }
    Err(failed(last))
}

/// One address that may not be reached spoils the answer, as in `resolve`.
fn check(found: &[IpAddr], reach: Reach) -> Result<(), String> {
    found.iter().find_map(|found| address::refusal(*found, reach)).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_one_form() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Target::parse(text, None).map(|target| target.name()).as_deref(), expected, "{text}");
        };
        check("example.org:443", Some("example.org:443"));
        check("EXAMPLE.org.:80", Some("example.org:80"));
        check("2130706433:80", Some("127.0.0.1:80"));
        check("0x7f.1:8", Some("127.0.0.1:8"));
        check("[::1]:8", Some("[::1]:8"));
        check("[::ffff:127.0.0.1]:8", Some("[::ffff:7f00:1]:8"));
        for bad in [
            "",
            "example.org",
            "example.org:",
            "example.org:0",
            "example.org:99999",
            "a@b:1",
            "a b:1",
            "::1:8",
            "a/b:1",
            ":80",
            "a#:1",
        ] {
            check(bad, None);
        }
        assert_eq!(Target::parse("example.org", Some(80)).unwrap().name(), "example.org:80");
    }
}
