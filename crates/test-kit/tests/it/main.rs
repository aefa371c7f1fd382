//! The scripted server, spoken to without any client of ours.

mod official_clients;

use homarus_test_kit::{ModelServer, Script, Turn};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends one request and reads until the server closes or says it is done.
async fn post(server: &ModelServer, path: &str, body: &Value) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn whole_answers_in_every_format() {
    for (path, mark) in [
        ("/v1/chat/completions", r#""finish_reason":"tool_calls""#),
        ("/v1/messages", r#""stop_reason":"tool_use""#),
        ("/api/chat", r#""done_reason":"stop""#),
        ("/v1/responses", r#""status":"completed""#),
        ("/v1beta/models/x:generateContent", r#""finishReason":"STOP""#),
    ] {
        let turn = Turn::text("I look.").and_call("file.list", json!({"path": "."}));
        let server = ModelServer::with_turns(vec![turn]).await;
        let tools = json!([{"name": "file_list_tool"}, {"function": {"name": "file--list"}}]);
        let answer = post(&server, path, &json!({"model": "m", "stream": false, "tools": tools})).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(mark), "{path}: {answer}");
        assert!(answer.contains("I look.") && answer.contains("file--list"), "{path}: {answer}");
        assert_eq!(server.requests()[0].path, path);
        assert_eq!(server.requests()[0].body["model"], "m");
    }
}

#[tokio::test]
async fn a_held_answer_waits_for_its_release() {
    let server = ModelServer::with_turns(vec![Turn::text("now").hold()]).await;
    let request = json!({"stream": false});
    let answer = post(&server, "/v1/messages", &request);
    let released = async {
        server.wait_for_model_calls(1).await;
        server.release();
    };
    assert!(tokio::join!(answer, released).0.contains("now"));
}

#[tokio::test]
async fn a_script_that_is_over_says_so() {
    let server = ModelServer::with_turns(vec![]).await;
    assert!(post(&server, "/api/chat", &json!({})).await.starts_with("HTTP/1.1 500"));
    server.push(Turn::text("more"));
    assert!(post(&server, "/api/chat", &json!({})).await.contains("more"));
    let script = Script { repeat_last: true, ..Script::new(vec![Turn::text("again")]) };
    let server = ModelServer::start(script).await.unwrap();
    for _ in 0..3 {
        assert!(post(&server, "/api/chat", &json!({"stream": false})).await.contains("again"));
    }
}

#[tokio::test]
async fn what_is_no_model_call_uses_up_no_turn() {
    let server = ModelServer::with_turns(vec![Turn::text("first")]).await;
    assert!(post(&server, "/elsewhere", &json!({})).await.starts_with("HTTP/1.1 404"));
    assert!(post(&server, "/v1/messages", &json!({"stream": false})).await.contains("first"));
}
