//! Where a secret may be sent: exact origins, HTTPS unless said otherwise.

use reqwest::Url;

/// One place a secret is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    /// `None`: HTTPS, or plain HTTP where the host is this machine's loopback.
    scheme: Option<String>,
    host: String,
    /// `None`: the scheme's own port.
    port: Option<u16>,
}

impl Binding {
    /// `None` if the text names no host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let has_scheme = text.contains("://");
        let url = if has_scheme { Url::parse(text) } else { Url::parse(&format!("https://{text}")) }.ok()?;
        let allowed = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|host| !host.is_empty() && allowed)?.to_owned();
        let scheme = has_scheme.then(|| url.scheme().to_owned());
        Some(Self { scheme, host, port: url.port() })
    }

    pub(crate) fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        if host != self.host {
            return false;
        }
        match &self.scheme {
            Some(scheme) => scheme == url.scheme() && self.port == url.port(),
            None if url.scheme() == "https" => self.port == url.port(),
            // A bare loopback host covers any port of this machine unless one was named.
            None => url.scheme() == "http" && is_loopback(url) && (self.port.is_none() || self.port == url.port()),
        }
    }
}

/// `scheme://host:port` for messages; holds neither path nor query.
pub(crate) fn describe(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(binding: &str, url: &str, expected: bool) {
        let allowed = Binding::parse(binding).unwrap().allows(&Url::parse(url).unwrap());
        assert_eq!(allowed, expected, "{binding} for {url}");
    }

    #[test]
    fn only_the_bound_origin() {
        for (binding, url, expected) in [
            ("api.openai.com", "https://api.openai.com/v1/models", true),
            ("api.openai.com", "https://API.OPENAI.COM:443/v1", true),
            ("api.openai.com", "http://api.openai.com/v1", false),
            ("api.openai.com", "https://api.openai.com:8443/v1", false),
            ("api.openai.com", "https://api.openai.com.evil.test/", false),
            ("api.openai.com", "https://evil.test/api.openai.com", false),
            ("api.openai.com", "https://xapi.openai.com/", false),
            ("api.openai.com", "https://api.openai.com./", false),
            ("api.openai.com:8443", "https://api.openai.com:8443/", true),
            ("api.openai.com:8443", "https://api.openai.com/", false),
            ("localhost", "http://localhost:8000/", true),
            ("127.0.0.1:9", "http://127.0.0.1:9/", true),
            ("127.0.0.1:9", "http://127.0.0.1:10/", false),
            ("http://[::1]:9/v1", "http://[::1]:9/x", true),
            ("10.0.0.5", "http://10.0.0.5/", false),
            ("http://10.0.0.5", "http://10.0.0.5/v1", true),
            ("http://10.0.0.5", "https://10.0.0.5/v1", false),
            ("http://127.0.0.1:9", "http://127.1:9/", true),
            ("http://127.0.0.1:9", "http://2130706433:9/", true),
            ("localhost.evil.test", "http://localhost.evil.test/", false),
        ] {
            check(binding, url, expected);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", "ftp://host", "https://", "https://user:pass@host", "a b"] {
            assert_eq!(Binding::parse(bad), None, "{bad:?}");
        }
    }
}
