//! Which wire format a provider speaks, and where it is.

use std::{fmt, str::FromStr};

use homarus_contract::error::InvalidId;
use thiserror::Error;

/// The wire formats that have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    Anthropic,
    /// Chat Completions, which most compatible servers speak.
    OpenAi,
    OpenAiResponses,
    Gemini,
    Ollama,
}

impl ProviderKind {
    pub const ALL: [Self; 5] = [Self::Anthropic, Self::OpenAi, Self::OpenAiResponses, Self::Gemini, Self::Ollama];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// The name under which the maker's prices are known.
    pub fn maker(self) -> &'static str {
        match self {
            Self::OpenAiResponses => Self::OpenAi.as_str(),
            other => other.as_str(),
        }
    }

    /// Where it is when nothing else was said. No path: requests add `/v1/...` or `/api/...`.
    pub fn default_base_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::OpenAi | Self::OpenAiResponses => "https://api.openai.com",
            Self::Gemini => "https://generativelanguage.googleapis.com",
            Self::Ollama => "http://127.0.0.1:11434",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderKind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| InvalidId {
            what: "provider kind (anthropic, openai, openai-responses, gemini, ollama)",
            text: text.chars().take(80).collect(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an address: {reason}")]
pub struct BadBaseUrl {
    pub text: String,
    pub reason: &'static str,
}

/// Makes one address of what people write in `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`,
/// `GOOGLE_GEMINI_BASE_URL` and `OLLAMA_HOST`: with or without scheme, trailing slash, `/v1`, or (Ollama) port.
///
/// The result is `scheme://host[:port][/path]` without the version part, which requests add.
pub fn base_url_from_env_value(kind: ProviderKind, text: &str) -> Result<String, BadBaseUrl> {
    let bad = |reason| BadBaseUrl { text: showable(text), reason };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(bad("it is empty"));
    }
    if !trimmed.chars().all(|c| c.is_ascii_graphic()) {
        return Err(bad("it holds a space or a character that is not ASCII"));
    }
    let (scheme, rest) = match trimmed.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // Ollama's own convention; for the others a forgotten scheme would send a key in clear.
        None if kind == ProviderKind::Ollama => ("http".to_owned(), trimmed),
        None => return Err(bad("it must begin with https:// or http://")),
    };
    if scheme != "http" && scheme != "https" {
        return Err(bad("it must begin with https:// or http://"));
    }
    if rest.contains(['?', '#', '@']) {
        return Err(bad("it may hold no query, fragment or user name"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority_with_port(kind, &scheme, authority, trimmed.contains("://"))
        .ok_or_else(|| bad("the host or port is wrong"))?;
    let path = path.trim_end_matches('/');
    let path = match path.strip_suffix("v1").or_else(|| path.strip_suffix("v1beta")) {
        Some(before) if before.is_empty() || before.ends_with('/') => before.trim_end_matches('/'),
        _ => path,
    };
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(format!("{scheme}://{authority}{slash}{path}"))
}

/// The text without what may be a password or a key.
fn showable(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = text.rsplit_once('@').map_or(text.to_owned(), |(_, host)| format!("...@{host}"));
    text.chars().take(200).collect()
}

/// Checks `host[:port]`; gives Ollama its port, and an address to dial for one it listens on.
fn authority_with_port(kind: ProviderKind, scheme: &str, authority: &str, has_scheme: bool) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if let Some(port) = port
        && port.parse::<u16>().ok().filter(|port| *port > 0).is_none()
    {
        return None;
    }
    let is_ipv6 = host.starts_with('[') && host.ends_with(']');
    let host_ok = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (is_ipv6 && matches!(c, ':' | '[' | ']'))
    };
    if !host.chars().all(host_ok) {
        return None;
    }
    if kind != ProviderKind::Ollama {
        return (!host.is_empty()).then(|| authority.to_owned());
    }
    // `OLLAMA_HOST=0.0.0.0` or `:11434` is what the server listens on, not what one can dial.
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    match port {
        Some(port) => Some(format!("{host}:{port}")),
        None if has_scheme && scheme == "https" => Some(host.to_owned()),
        None => Some(format!("{host}:11434")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProviderKind::*;

    #[test]
    fn what_people_write() {
        for (kind, text, expected) in [
            (OpenAi, "http://localhost:8080/v1", "http://localhost:8080"),
            (OpenAi, "http://localhost:8080/v1/", "http://localhost:8080"),
            (OpenAi, " http://localhost:8080 ", "http://localhost:8080"),
            (OpenAi, "https://openrouter.ai/api/v1", "https://openrouter.ai/api"),
            (OpenAi, "https://host/dev1", "https://host/dev1"),
            (OpenAi, "HTTPS://host/", "https://host"),
            (OpenAi, "http://[::1]:8000/v1", "http://[::1]:8000"),
            (Anthropic, "https://proxy.example/anthropic/", "https://proxy.example/anthropic"),
            (OpenAiResponses, "https://api.openai.com/v1", "https://api.openai.com"),
            (Gemini, "https://generativelanguage.googleapis.com/v1beta/", "https://generativelanguage.googleapis.com"),
            (Gemini, "https://generativelanguage.googleapis.com/v1", "https://generativelanguage.googleapis.com"),
            (Gemini, "https://gateway.example/google", "https://gateway.example/google"),
            (Ollama, "127.0.0.1:9999", "http://127.0.0.1:9999"),
            (Ollama, "gpu-box", "http://gpu-box:11434"),
            (Ollama, "0.0.0.0", "http://127.0.0.1:11434"),
            (Ollama, ":5000", "http://127.0.0.1:5000"),
            (Ollama, "http://gpu-box", "http://gpu-box:11434"),
            (Ollama, "https://ollama.example", "https://ollama.example"),
            (Ollama, "[::]:7", "http://[::1]:7"),
        ] {
            assert_eq!(base_url_from_env_value(kind, text).as_deref(), Ok(expected), "{kind} {text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (kind, text) in [
            (OpenAi, ""),
            (OpenAi, "localhost:8080"),
            (OpenAi, "ftp://host"),
            (OpenAi, "http://"),
            (OpenAi, "http://user@host"),
            (OpenAi, "http://host:port"),
            (OpenAi, "http://host:70000"),
            (Anthropic, "https://host/?key=1"),
            (Ollama, "a b"),
        ] {
            assert!(base_url_from_env_value(kind, text).is_err(), "{kind} {text:?}");
        }
    }

    #[test]
    fn what_is_refused_is_not_shown_with_its_password() {
        for text in ["https://user:hunter2@host/v1", "https://host/?key=hunter2", "https://host/#hunter2"] {
            let error = base_url_from_env_value(OpenAi, text).unwrap_err().to_string();
            assert!(error.contains("host") && !error.contains("hunter2"), "{error}");
        }
    }
}
