//! No connection, or one that breaks or falls silent.

use std::net::SocketAddr;

use homarus_contract::model::ModelErrorClass::*;
use homarus_test_kit::{ModelServer, TlsFront, Turn};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::{
    Taken::{self, Failure},
    answering, rows, taken,
};
use crate::support::{KINDS, Said, ask, model_of, registry, registry_with, request};

rows! {
    connection_refused: "nothing listens at the address", Failure(Network), refused;
    dns_failure: "the name of the host is not known", Failure(Network), unknown_name;
    tls_untrusted: "TLS: the server's certificate is not trusted", Failure(Network), untrusted;
    tls_not_spoken: "TLS: the server does not speak it", Failure(Network), not_spoken;
    reset_before_first_byte: "the connection is reset before the first byte", Failure(Network), |taken_as|
        answering(taken_as, |_| Turn::reset());
    closed_before_first_byte: "the connection is closed before the first byte", Failure(Network), closed;
    reset_mid_stream: "the connection is reset in the middle of the answer", Failure(Network), |taken_as|
        answering(taken_as, |_| Turn::text("a text of which not all comes").reset_after(150));
    slow_first_byte: "the first byte does not come within the silence allowed", Failure(Timeout), |taken_as|
        silent(taken_as, Turn::stall());
    stall_mid_stream: "silence in the middle of the answer", Failure(Timeout), |taken_as|
        silent(taken_as, Turn::text("begins and then nothing").stall_after(60));
    late_but_in_time: "the first byte comes late, but within the silence allowed", Taken::Answer, late;
}

/// One request of each format to this address.
async fn each(taken_as: Taken, base_url: &str, look: impl Fn(&Said)) {
    for kind in KINDS {
        let said = ask(&registry(kind, base_url), request(&model_of(kind))).await;
        taken(&said, taken_as, kind);
        look(&said);
    }
}

async fn refused(taken_as: Taken) {
    each(taken_as, "http://127.0.0.1:1", |said| {
        let message = &said.error().message;
        let is_ollama = message.contains("ollama serve");
        assert!(is_ollama || message.contains("check the address"), "{message}");
    })
    .await;
}

/// `.invalid` is reserved: no resolver may know it.
async fn unknown_name(taken_as: Taken) {
    each(taken_as, "http://no-such-host.invalid", |said| {
        assert!(said.error().message.contains("no-such-host.invalid"), "{:?}", said.error());
    })
    .await;
}

async fn untrusted(taken_as: Taken) {
    let server = ModelServer::with_turns(vec![Turn::text("never asked for")]).await;
    let front = TlsFront::start(server.address()).await.unwrap();
    each(taken_as, &front.base_url(), |said| {
        let message = said.error().message.to_lowercase();
        assert!(message.contains("certificate") && message.contains("ssl_cert_file"), "{message}");
    })
    .await;
    assert!(server.requests().is_empty(), "nothing, and no key, is sent to whom we do not know");
}

async fn not_spoken(taken_as: Taken) {
    let server = ModelServer::with_turns(vec![Turn::text("never asked for")]).await;
    each(taken_as, &server.base_url().replace("http://", "https://"), |_| {}).await;
    assert!(server.requests().is_empty());
}

/// A server that reads nothing, says nothing, and closes.
async fn closed(taken_as: Taken) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let closing = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.shutdown().await;
        }
    });
    each(taken_as, &base_url, |_| {}).await;
    closing.abort();
}

async fn silent(taken_as: Taken, turn: Turn) {
    for kind in KINDS {
        let server = ModelServer::with_turns(vec![turn.clone()]).await;
        let registry = registry_with(kind, &server.base_url(), |provider| provider.idle_ms = 100);
        taken(&ask(&registry, request(&model_of(kind))).await, taken_as, kind);
    }
}

/// The answer is let go only once the request is there: however long that takes, it is a good one.
async fn late(taken_as: Taken) {
    for kind in KINDS {
        let server = ModelServer::with_turns(vec![Turn::text("late").hold()]).await;
        let registry = registry(kind, &server.base_url());
        let release = async {
            server.wait_for_model_calls(1).await;
            server.release();
        };
        let (said, ()) = tokio::join!(ask(&registry, request(&model_of(kind))), release);
        taken(&said, taken_as, kind);
    }
}
