//! Hosts as rules see them: `HOST:PORT`, in lower case, addresses in their one usual form.

use std::net::IpAddr;

/// A host and port that an action wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

/// `api.example.org:443`, `*.example.org:443`, `*:443`, `10.0.0.5:8080`, `[::1]:*`.
#[derive(Debug, Clone)]
pub struct HostPattern {
    host: HostGlob,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(Vec<String>),
    Address(IpAddr),
}

#[derive(Debug, Clone)]
enum HostGlob {
    Any,
    Exact(Host),
    /// A `*` in front stands for one or more labels, elsewhere for one.
    Labels(Vec<String>),
}

impl Endpoint {
    /// `None` if it is not `HOST:PORT`: such a target matches nothing that allows.
    pub fn parse(target: &str) -> Option<Self> {
        let (host, port) = target.rsplit_once(':')?;
        Some(Self { host: host_of(host)?, port: port.parse().ok()? })
    }
}

impl HostPattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{text}` is not a host: {what}; write for example `*.example.org:443`");
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing (`*`: any)"))?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| wrong("the port is a number or `*`"))?),
        };
        if host == "*" {
            return Ok(Self { host: HostGlob::Any, port });
        }
        if !host.contains('*') {
            let host = host_of(host).ok_or_else(|| wrong("that is neither a name nor an address"))?;
            return Ok(Self { host: HostGlob::Exact(host), port });
        }
        let labels: Vec<String> = host.to_ascii_lowercase().split('.').map(str::to_owned).collect();
        if labels.iter().any(|label| label != "*" && (label.contains('*') || !is_label(label))) {
            return Err(wrong("`*` stands for whole parts of a name"));
        }
        if labels.iter().all(|label| label == "*") {
            return Err(wrong("a name of stars alone is written `*`"));
        }
        Ok(Self { host: HostGlob::Labels(labels), port })
    }

    pub fn matches(&self, endpoint: &Endpoint) -> bool {
        self.port.is_none_or(|port| port == endpoint.port)
            && match (&self.host, &endpoint.host) {
                (HostGlob::Any, _) => true,
                (HostGlob::Exact(wanted), host) => wanted == host,
                (HostGlob::Labels(wanted), Host::Name(labels)) => labels_match(wanted, labels),
                (HostGlob::Labels(_), Host::Address(_)) => false,
            }
    }

    /// Names one host and one port, without a `*`.
    pub fn is_exact(&self) -> bool {
        matches!(self.host, HostGlob::Exact(_)) && self.port.is_some()
    }
}

fn labels_match(wanted: &[String], labels: &[String]) -> bool {
    let one = |(wanted, label): (&String, &String)| wanted == "*" || wanted == label;
    match wanted {
        [first, rest @ ..] if first == "*" => {
            labels.len() > rest.len() && rest.iter().zip(&labels[labels.len() - rest.len()..]).all(one)
        }
        _ => wanted.len() == labels.len() && wanted.iter().zip(labels).all(one),
    }
}

/// A name or an address; IPv6 in brackets. An IPv4 address inside an IPv6 one is the IPv4 address.
fn host_of(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some(Host::Address(IpAddr::V6(address).to_canonical()));
    }
    if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    // A name that ends in a number is another way to write an address: programs that connect have resolved it.
    let numeric = labels.last().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()) && is_number(last));
    (labels.iter().all(|label| is_label(label)) && !numeric).then_some(Host::Name(labels))
}

fn is_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x")
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, target: &str, expected: bool) {
        let pattern_parsed = HostPattern::parse(pattern).unwrap();
        let matched = Endpoint::parse(target).is_some_and(|endpoint| pattern_parsed.matches(&endpoint));
        assert_eq!(matched, expected, "{pattern:?} on {target:?}");
    }

    #[test]
    fn names_stars_and_ports() {
        check("example.org:443", "example.org:443", true);
        check("example.org:443", "EXAMPLE.org.:443", true);
        check("example.org:443", "example.org:80", false);
        check("example.org:*", "example.org:80", true);
        check("example.org:443", "www.example.org:443", false);
        check("*.example.org:443", "www.example.org:443", true);
        check("*.example.org:443", "a.b.example.org:443", true);
        check("*.example.org:443", "example.org:443", false);
        check("*.example.org:443", "evilexample.org:443", false);
        check("*.example.org:443", "www.example.org.evil.test:443", false);
        check("api.*.example.org:443", "api.eu.example.org:443", true);
        check("api.*.example.org:443", "api.a.b.example.org:443", false);
        check("*:443", "10.0.0.1:443", true);
        check("*.1:443", "10.0.0.1:443", false);
    }

    #[test]
    fn addresses_have_one_form() {
        check("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true);
        check("[::ffff:7f00:1]:80", "127.0.0.1:80", true);
        check("[::1]:*", "[0:0:0:0:0:0:0:1]:9", true);
        check("[::1]:*", "127.0.0.1:9", false);
        for other in ["127.1:80", "0x7f.1:80", "2130706433:80", "no port", "::1", "[::1", ""] {
            assert_eq!(Endpoint::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_host_says_why() {
        for (text, words) in [
            ("example.org", "port is missing"),
            ("example.org:https", "a number or"),
            ("ex*mple.org:443", "whole parts"),
            ("*.*:443", "written `*`"),
            ("127.1:80", "neither"),
            ("https://example.org:443", "neither"),
            ("exämple.org:443", "neither"),
            (":443", "neither"),
        ] {
            let error = HostPattern::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert!(HostPattern::parse("a.b:1").unwrap().is_exact());
        for wide in ["a.b:*", "*.b:1", "*:1"] {
            assert!(!HostPattern::parse(wide).unwrap().is_exact(), "{wide}");
        }
    }
}
