//! From what went wrong on the wire to a [`ModelError`]: its class, and words that say what to do.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use homarus_contract::{
    model::{ModelError, ModelErrorClass},
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, SecretUse},
};
use serde::Deserialize;

use crate::base_url::ProviderKind;

/// Kept of what a provider sent.
const RAW_BYTES_MAX: usize = 4096;
/// Read of an error's body.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// The provider's own words, in a message.
const WORDS_CHARS_MAX: usize = 500;
/// Longest pause a provider can ask for.
const RETRY_AFTER_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// How providers say, in prose, that a prompt is too long. They share no code for it.
const OVERFLOW_WORDS: [&str; 9] = [
    "context_length_exceeded",
    "context length",
    "context window",
    "context size",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "exceed_context_size",
    "maximum number of tokens",
];

/// How providers say that the account has no money; waiting does not help then.
const QUOTA_WORDS: [&str; 4] = ["insufficient_quota", "credit balance", "billing_hard_limit", "insufficient balance"];

/// Sends a request; anything but a 2xx is an error with the body read.
pub(crate) async fn send(
    outbound: &dyn Outbound,
    kind: ProviderKind,
    model: &str,
    request: OutboundRequest,
) -> Result<OutboundResponse, ModelError> {
    let key = match &request.secret {
        Some(SecretUse::Bearer(name) | SecretUse::Header { secret: name, .. }) => Some(name.0.clone()),
        None => None,
    };
    let response = outbound.send(request).await.map_err(|error| match (&error, kind) {
        (OutboundError::Connect { .. }, ProviderKind::Ollama) => {
            with_advice(from_outbound(error), "start it with `ollama serve`, or set OLLAMA_HOST")
        }
        _ => from_outbound(error),
    })?;
    if (200..300).contains(&response.status) {
        return Ok(response);
    }
    let OutboundResponse { status, headers, body } = response;
    let body = read_bounded(body).await;
    Err(from_status(&Asked { kind, model, key: key.as_deref() }, status, &headers, &body))
}

/// Reads a whole body of at most `bytes_max`.
pub(crate) async fn read_body(response: OutboundResponse, bytes_max: usize) -> Result<Vec<u8>, ModelError> {
    let mut body = response.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend(piece.map_err(from_outbound)?);
        if bytes.len() > bytes_max {
            return Err(protocol("the answer is too long", ""));
        }
    }
    Ok(bytes)
}

/// Whom a request went to, for advice.
pub(crate) struct Asked<'a> {
    pub(crate) kind: ProviderKind,
    pub(crate) model: &'a str,
    /// The name of the key it was sent with.
    pub(crate) key: Option<&'a str>,
}

/// The error a status and body stand for.
pub(crate) fn from_status(asked: &Asked<'_>, status: u16, headers: &[(String, String)], body: &str) -> ModelError {
    let kind = asked.kind;
    let words = words(body);
    let class = match status {
        // Gemini calls a wrong key an invalid argument.
        400 if body.contains("API_KEY_INVALID") => ModelErrorClass::Auth,
        400 | 413 | 422 if says(body, &OVERFLOW_WORDS) => ModelErrorClass::ContextOverflow,
        400 | 402 | 403 | 429 if says(body, &QUOTA_WORDS) => ModelErrorClass::Auth,
        401..=403 => ModelErrorClass::Auth,
        404 => ModelErrorClass::NotFound,
        408 | 500.. => ModelErrorClass::Unavailable,
        429 => ModelErrorClass::RateLimited,
        // Nothing else is an answer to a model call; 3xx comes of a wrong base URL.
        _ => ModelErrorClass::BadRequest,
    };
    let retry_after_ms = retry_after_ms(headers, SystemTime::now()).or_else(|| retry_delay_ms(body));
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let error =
        ModelError { class, message: format!("{kind} answered {status}{said}"), raw: raw(body), retry_after_ms };
    match advice(asked, class, status) {
        Some(advice) => with_advice(error, &advice),
        None => error,
    }
}

/// An error a provider reports inside a stream, by its own name for it.
pub(crate) fn from_stream_error(kind: ProviderKind, error_type: &str, message: &str, raw_text: &str) -> ModelError {
    let status = match error_type {
        "rate_limit_error" | "rate_limit_exceeded" | "too_many_requests" | "429" => 429,
        "overloaded_error" => 529,
        "authentication_error"
        | "permission_error"
        | "invalid_api_key"
        | "insufficient_quota"
        | "billing_error"
        | "401" => 401,
        "not_found_error" | "model_not_found" | "404" => 404,
        "invalid_request_error"
        | "exceed_context_size_error"
        | "context_length_exceeded"
        | "request_too_large"
        | "400" => 400,
        "invalid_prompt" | "content_policy_violation" => 400,
        // Gemini's are numbers; one that is no failure's cannot be meant.
        other => other.parse().ok().filter(|code| (400..600).contains(code)).unwrap_or(500),
    };
    let mut error = from_status(&Asked { kind, model: "", key: None }, status, &[], raw_text);
    error.message = format!("{kind} broke off its answer: {}", short(message));
    error
}

pub(crate) fn from_outbound(error: OutboundError) -> ModelError {
    let class = match &error {
        OutboundError::SecretMissing(_) | OutboundError::SecretNotForHost(..) => ModelErrorClass::Auth,
        OutboundError::BadUrl(_) | OutboundError::AddressRefused { .. } => ModelErrorClass::BadRequest,
        OutboundError::Connect { .. } | OutboundError::Broken { .. } => ModelErrorClass::Network,
        OutboundError::TimedOut { .. } => ModelErrorClass::Timeout,
    };
    let advice = match &error {
        OutboundError::SecretMissing(secret) => Some(format!("set {secret} in the environment")),
        OutboundError::Connect { cause, .. } if cause.to_lowercase().contains("certificate") => {
            Some("if you trust that server, name its certificate (PEM) in SSL_CERT_FILE".to_owned())
        }
        OutboundError::Connect { .. } => Some("check the address and the network".to_owned()),
        _ => None,
    };
    let error = ModelError { class, message: error.to_string(), raw: String::new(), retry_after_ms: None };
    match advice {
        Some(advice) => with_advice(error, &advice),
        None => error,
    }
}

/// The answer does not follow the protocol.
pub(crate) fn protocol(what: &str, raw_text: &str) -> ModelError {
    ModelError { class: ModelErrorClass::Protocol, message: what.to_owned(), raw: raw(raw_text), retry_after_ms: None }
}

pub(crate) fn bad_request(what: String) -> ModelError {
    ModelError { class: ModelErrorClass::BadRequest, message: what, raw: String::new(), retry_after_ms: None }
}

fn with_advice(mut error: ModelError, advice: &str) -> ModelError {
    error.message = format!("{}; {advice}", error.message.trim_end_matches('.'));
    error
}

fn advice(asked: &Asked<'_>, class: ModelErrorClass, status: u16) -> Option<String> {
    let (kind, model) = (asked.kind, asked.model);
    let key = asked.key.unwrap_or(match kind {
        ProviderKind::Anthropic => "ANTHROPIC_API_KEY",
        ProviderKind::OpenAi | ProviderKind::OpenAiResponses => "OPENAI_API_KEY",
        ProviderKind::Gemini => "GEMINI_API_KEY",
        ProviderKind::Ollama => "the server's access rules",
    });
    match (class, kind) {
        (ModelErrorClass::Auth, _) => Some(format!("check {key}, and that the account has credit")),
        (ModelErrorClass::NotFound, ProviderKind::Ollama) => Some(format!("get it with `ollama pull {model}`")),
        (ModelErrorClass::NotFound, _) => Some(format!("check the model's name ({model}) and the base URL")),
        (ModelErrorClass::ContextOverflow, _) => {
            Some("start a new run, or take a model with a larger window".to_owned())
        }
        _ if (300..400).contains(&status) => Some("redirects are not followed: give the final base URL".to_owned()),
        _ => None,
    }
}

/// The provider's own sentence, from the JSON shapes in use, else the body itself.
fn words(body: &str) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        error: Option<ErrorField>,
        message: Option<String>,
        detail: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ErrorField {
        Text(String),
        Object { message: Option<String> },
    }
    let parsed = serde_json::from_str::<Envelope>(body).ok().and_then(|envelope| match envelope.error {
        Some(ErrorField::Text(text)) => Some(text),
        Some(ErrorField::Object { message }) => message.or(envelope.message),
        None => envelope.message.or(envelope.detail),
    });
    short(parsed.as_deref().unwrap_or(body))
}

fn short(text: &str) -> String {
    homarus_contract::text::one_line(text.trim(), WORDS_CHARS_MAX)
}

fn says(body: &str, patterns: &[&str]) -> bool {
    let body = body.to_lowercase();
    patterns.iter().any(|pattern| body.contains(pattern))
}

fn raw(text: &str) -> String {
    let mut end = text.len().min(RAW_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

async fn read_bounded(mut body: homarus_contract::BoxStream<Result<Vec<u8>, OutboundError>>) -> String {
    let mut bytes = Vec::new();
    // An error body that breaks off still says what it said.
    while let Some(Ok(piece)) = body.next().await {
        bytes.extend(piece);
        if bytes.len() >= ERROR_BODY_BYTES_MAX {
            bytes.truncate(ERROR_BODY_BYTES_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `retry-after-ms`, or `retry-after` as seconds or as an HTTP date (counted from the answer's own
/// `date` if it has one, since the two clocks may differ).
fn retry_after_ms(headers: &[(String, String)], now: SystemTime) -> Option<u64> {
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
    let seconds_to_ms = |text: &str, factor: f64| -> Option<u64> {
        let value: f64 = text.parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some((value * factor).ceil() as u64)
    };
    let asked = header("retry-after-ms").and_then(|text| seconds_to_ms(text, 1.0)).or_else(|| {
        let text = header("retry-after")?;
        seconds_to_ms(text, 1000.0).or_else(|| {
            let then = httpdate::parse_http_date(text).ok()?;
            let now = header("date").and_then(|text| httpdate::parse_http_date(text).ok()).unwrap_or(now);
            let pause = then.duration_since(now).unwrap_or(Duration::ZERO);
            u64::try_from(pause.as_millis()).ok()
        })
    })?;
    Some(asked.min(RETRY_AFTER_MS_MAX))
}

/// Gemini asks for a pause in the body: `"retryDelay": "34.5s"`.
fn retry_delay_ms(body: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        error: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(rename = "retryDelay")]
        delay: Option<String>,
    }
    let envelope: Envelope = serde_json::from_str(body).ok()?;
    let delay = envelope.error.details.into_iter().find_map(|detail| detail.delay)?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(((seconds * 1000.0).ceil() as u64).min(RETRY_AFTER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_asked_for_in_the_body() {
        let body =
            |delay: &str| format!(r#"{{"error":{{"code":429,"details":[{{"x":1}},{{"retryDelay":"{delay}"}}]}}}}"#);
        for (body, expected) in [
            (body("34.5s"), Some(34_500)),
            (body("0s"), Some(0)),
            (body("-1s"), None),
            (body("soon"), None),
            (body("1e300s"), Some(RETRY_AFTER_MS_MAX)),
            ("{}".to_owned(), None),
        ] {
            assert_eq!(retry_delay_ms(&body), expected, "{body}");
        }
    }

    fn check(status: u16, body: &str, class: ModelErrorClass) -> ModelError {
        let asked = Asked { kind: ProviderKind::OpenAi, model: "gpt-x", key: None };
        let error = from_status(&asked, status, &[], body);
        assert_eq!(error.class, class, "{status} {body}");
        error
    }

    #[test]
    fn statuses_have_their_class() {
        use ModelErrorClass::*;
        for (status, body, class) in [
            (400, "{}", BadRequest),
            (413, "", BadRequest),
            (422, "", BadRequest),
            (401, "", Auth),
            (402, "", Auth),
            (403, "", Auth),
            (404, "", NotFound),
            (408, "", Unavailable),
            (429, "", RateLimited),
            (429, r#"{"error":{"code":"insufficient_quota","message":"You exceeded your quota"}}"#, Auth),
            (500, "", Unavailable),
            (503, "", Unavailable),
            (529, "", Unavailable),
            (301, "", BadRequest),
            (418, "", BadRequest),
            (400, r#"{"error":{"code":"context_length_exceeded"}}"#, ContextOverflow),
            (400, r#"{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#, ContextOverflow),
            (400, r#"{"error":{"message":"Your credit balance is too low"}}"#, Auth),
            (400, r#"{"error":{"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#, Auth),
        ] {
            check(status, body, class);
        }
    }

    #[test]
    fn messages_say_what_and_what_to_do() {
        let error = check(404, r#"{"error":{"message":"no such model\u001b[2J"}}"#, ModelErrorClass::NotFound);
        assert_eq!(
            error.message,
            "openai answered 404: no such model␛[2J; check the model's name (gpt-x) and the base URL"
        );
        let asked = Asked { kind: ProviderKind::Ollama, model: "qwen3", key: None };
        let error = from_status(&asked, 404, &[], r#"{"error":"model 'qwen3' not found"}"#);
        assert!(error.message.ends_with("get it with `ollama pull qwen3`"), "{}", error.message);
        let error = check(500, &"é".repeat(5000), ModelErrorClass::Unavailable);
        assert_eq!(error.raw.len(), RAW_BYTES_MAX);
        assert!(error.message.chars().count() < 600);
    }

    #[test]
    fn pauses_in_all_their_spellings() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        for (headers, expected) in [
            (vec![], None),
            (vec![header("retry-after", "2")], Some(2000)),
            (vec![header("retry-after", "0.25")], Some(250)),
            (vec![header("retry-after", "2"), header("retry-after-ms", "1500")], Some(1500)),
            (vec![header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(37_000)),
            (vec![header("retry-after", "Sun, 06 Nov 1994 08:48:37 GMT")], Some(0)),
            (
                vec![
                    header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    header("date", "Sun, 06 Nov 1994 08:49:35 GMT"),
                ],
                Some(2_000),
            ),
            (vec![header("retry-after", "-1")], None),
            (vec![header("retry-after", "NaN")], None),
            (vec![header("retry-after", "soon")], None),
            (vec![header("retry-after", "1e300")], Some(RETRY_AFTER_MS_MAX)),
        ] {
            assert_eq!(retry_after_ms(&headers, now), expected, "{headers:?}");
        }
    }
}
