//! Against model servers we did not write: `fakellm` and `stubllm` from PyPI, which say what they
//! are told in the formats of OpenAI and Anthropic.
//!
//! They run where `HOMARUS_TEST_FAKELLM` and `HOMARUS_TEST_STUBLLM` name their executables (`cargo
//! xtask test` installs them); elsewhere these tests say that they were skipped.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use homarus_contract::{
    message::{Message, StopReason},
    model::ModelErrorClass,
};
use homarus_models::ProviderKind;

use crate::support::{ask, registry, request_saying};

/// A server process, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `EXECUTABLE serve ...` on a free port; `None` (and a word about it) if it is not there.
#[allow(clippy::disallowed_methods)] // Set by whoever runs the tests, for tests only.
async fn start(variable: &str, rules: &str, args: &[&str]) -> Option<Server> {
    let Ok(executable) = std::env::var(variable) else {
        println!("skipped: {variable} is not set");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = address.port().to_string();
    let mut child = Command::new(executable)
        .args(["serve", "--host", "127.0.0.1", "--port", &port])
        .args(args)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(address).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "{variable}: the server ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Some(Server { child, address, _folder: folder })
}

fn saying(model: &str, text: &str) -> homarus_contract::model::ModelRequest {
    request_saying(model, vec![Message::User { text: text.to_owned() }])
}

const FAKELLM_RULES: &str = r#"
version: 1
defaults:
  fallback: deterministic_echo
rules:
  - name: two_calls
    when:
      messages_contain: "make the calls"
      tools_include: "file-write"
    respond:
      tool_calls:
        - name: file-write
          arguments: {path: "notes.txt", content: "a \"quoted\" word"}
        - name: plain_name
          arguments: {}
  - name: greeting
    when:
      messages_contain: "greet me"
    respond:
      content: "Good morning to you, tester."
"#;

#[tokio::test]
async fn fakellm() {
    let Some(server) = start("HOMARUS_TEST_FAKELLM", FAKELLM_RULES, &["--config", "rules.yaml"]).await else { return };
    for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
        let registry = registry(kind, &format!("http://{}", server.address));
        let model = format!("{kind}/some-model");
        let said = ask(&registry, saying(&model, "please greet me")).await;
        assert_eq!((said.ok().0, said.texts()), (StopReason::EndTurn, vec!["Good morning to you, tester."]), "{kind}");
        assert_eq!(said.streamed_text(), "Good morning to you, tester.");
        let said = ask(&registry, saying(&model, "please make the calls")).await;
        assert_eq!(said.ok().0, StopReason::ToolUse, "{kind}");
        let names: Vec<&str> = said.calls().iter().map(|call| call.0).collect();
        assert_eq!(names, ["file.write", "plain_name"], "{kind}");
        let arguments: serde_json::Value = serde_json::from_str(said.calls()[0].1).unwrap();
        assert_eq!(arguments["content"], "a \"quoted\" word", "{kind}");
        assert_eq!(said.calls()[1].1, "{}", "{kind}");
    }
}

const STUBLLM_RULES: &str = r#"
fixtures:
  - name: greeting
    match:
      messages:
        - role: user
          content:
            contains: "greet me"
    response:
      content: "Good morning to you, tester."
  - name: call
    match:
      provider: openai
      messages:
        - role: user
          content:
            contains: "make the call"
    response:
      tool_calls:
        - id: "call_abc"
          type: function
          function:
            name: "file-write"
            arguments: '{"path": "notes.txt"}'
  - name: limited
    match:
      messages:
        - role: user
          content:
            contains: "too fast"
    response:
      http_status: 429
      error_message: "Rate limit exceeded."
  - name: key
    match:
      messages:
        - role: user
          content:
            contains: "wrong key"
    response:
      http_status: 401
      error_message: "Invalid key."
"#;

#[tokio::test]
async fn stubllm() {
    let Some(server) = start("HOMARUS_TEST_STUBLLM", STUBLLM_RULES, &["--fixture-dir", "."]).await else { return };
    let base_url = format!("http://{}", server.address);
    for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
        let registry = registry(kind, &base_url);
        let model = format!("{kind}/some-model");
        for (text, class) in [("too fast", ModelErrorClass::RateLimited), ("wrong key", ModelErrorClass::Auth)] {
            let said = ask(&registry, saying(&model, text)).await;
            assert_eq!(said.error().class, class, "{kind} {text}");
        }
    }
    let registry = registry(ProviderKind::OpenAi, &base_url);
    let said = ask(&registry, saying("openai/some-model", "please greet me")).await;
    assert_eq!(said.ok().0, StopReason::EndTurn);
    assert!(said.texts()[0].starts_with("Good morning to you"), "{:?}", said.texts());
    let said = ask(&registry, saying("openai/some-model", "please make the call")).await;
    assert_eq!(said.calls(), [("file.write", r#"{"path": "notes.txt"}"#)]);
    assert_eq!(said.call_ids(), ["call_abc"]);
    assert!(registry.list("openai").await.unwrap().iter().any(|name| name == "gpt-4o"));
}
