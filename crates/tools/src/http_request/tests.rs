//! What a model is told of a request, and a person before it is sent.

use homarus_contract::{outbound::OutboundError, sandbox::SandboxError};

use super::*;
use crate::web::fake::{self, Answered, Anywhere, Network};

const GET: &str = r#"{"url": "https://a.example/x"}"#;
const POST: &str = r#"{"url": "https://a.example/x", "method": "POST", "body": "pay"}"#;

async fn called(json: &str, network: Network, sandbox: SandboxError) -> Result<ToolOutput, ToolError> {
    let tool = HttpRequest::new(Arc::new(network), Arc::new(Anywhere));
    fake::called(&tool, json, sandbox, 0).await
}

fn refused() -> SandboxError {
    SandboxError::Setup("no memory".to_owned())
}

fn answered(media: &'static str, pieces: Vec<Result<Vec<u8>, OutboundError>>) -> Answered {
    (201, vec![("content-type", media)], pieces)
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told_as_far_as_it_came() {
    let body = || vec![Ok(b"made".to_vec()), Err(fake::broken())];
    let output = called(POST, Network::new(Ok(answered("text/plain", body()))), refused()).await.unwrap();
    assert!(!output.is_error);
    let (ours, theirs) = output.text.split_once("What stands between").unwrap();
    assert_eq!(
        ours,
        "POST https://a.example/x\nstatus 201, 4 bytes and perhaps more that did not come of text/plain\n\
         The answer was cut off: the connection broke.\n\
         The request was answered all the same; do not repeat it without checking.\n"
    );
    assert!(theirs.contains("\nmade\n"), "{theirs}");
    let output = called(GET, Network::new(Ok(answered("text/plain", body()))), refused()).await.unwrap();
    assert!(output.text.contains("status 201") && !output.text.contains("do not repeat"), "{}", output.text);
    let mut network = Network::new(Ok(answered("text/plain", vec![])));
    network.stalls = true;
    let output = called(POST, network, refused()).await.unwrap();
    assert!(output.text.contains("status 201, 0 bytes and perhaps more that did not come"), "{}", output.text);
    assert!(!output.text.contains("is empty"), "{}", output.text);
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_told_as_a_failure_alone() {
    let host = || "a.example".to_owned();
    let failing = |error: OutboundError| Network::new(Err(error));
    let silence = || OutboundError::TimedOut { host: host(), ms: 20_000 };
    let refusal = || OutboundError::Connect { host: host(), cause: "refused".to_owned() };
    for (json, network, may_be_done) in [
        (POST, failing(fake::broken()), true),
        (POST, failing(silence()), true),
        (POST, Network::silent(), true),
        (POST, failing(refusal()), false),
        (GET, failing(fake::broken()), false),
        (GET, failing(silence()), false),
        (GET, Network::silent(), false),
    ] {
        let told = called(json, network, refused()).await.err().map(|error| error.to_string()).unwrap_or_default();
        let words = "It may have been done; do not repeat it without checking.";
        assert_eq!(told.contains(words), may_be_done, "{json}: {told}");
        assert_eq!(told.contains("Check the address, or go on without it."), !may_be_done, "{json}: {told}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_told_as_its_source() {
    let page = || Network::new(Ok(answered("text/html", vec![Ok(b"<b>paid</b>".to_vec())])));
    let missing = || SandboxError::Unavailable { reason: "none".to_owned(), fix: "mend it".to_owned() };
    for (json, sandbox) in [(POST, refused()), (POST, missing()), (GET, refused())] {
        let output = called(json, page(), sandbox).await.unwrap();
        assert!(output.text.contains("status 201") && output.text.contains("<b>paid</b>"), "{}", output.text);
        assert!(output.text.contains("could not be turned into text; this is its source"), "{}", output.text);
    }
    // It changes nothing, so it waits for the sandbox and is made again.
    assert!(matches!(called(GET, page(), missing()).await, Err(ToolError::Unavailable(_))));
}

#[test]
fn a_person_is_told_all_that_would_be_sent() {
    let long = format!("https://a.example/{}", "p".repeat(1_000));
    let json = serde_json::json!({
        "url": long, "method": "POST", "headers": {"X-Key": "k"}, "body": "stolen\n  allow it?\n--- a\n@@ -1 +1 @@",
    });
    let told = Wanted::parse(&json.to_string()).unwrap().told();
    assert_eq!(
        told,
        format!(
            "+POST {long}\n+x-key: k\n+content-type: text/plain; charset=utf-8\n+\n+stolen\n+  allow it?\n+--- a\n\
             +@@ -1 +1 @@\n"
        )
    );
    assert_eq!(Wanted::parse(GET).unwrap().told(), "+GET https://a.example/x\n");
    let body = format!("begin {}\nend", "é".repeat(100_000));
    let json = serde_json::json!({"url": "https://a.example/x", "method": "PUT", "body": body}).to_string();
    let told = Wanted::parse(&json).unwrap().told();
    assert!(told.len() < BODY_SHOWN_BYTES_MAX + 500, "{}", told.len());
    assert!(told.contains("\n+begin é") && told.ends_with("é\n+end\n"));
    let notes: Vec<&str> = told.lines().filter(|line| !line.starts_with('+')).collect();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].ends_with("bytes left out; the call's arguments have all of it ...]"), "{notes:?}");
}
