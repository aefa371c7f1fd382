//! Attacks on the vault: each test tries to get the secret where it must not be.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use futures_util::StreamExt;
use homarus_contract::{
    BoxFuture,
    outbound::{Outbound, OutboundError, OutboundRequest, Reach, SecretRef, SecretUse},
};
use homarus_vault::{Lookup, SecretEntry, Vault, VaultError};

const SECRET: &str = "sk-live-0123456789";

fn name() -> SecretRef {
    SecretRef("TEST_KEY".to_owned())
}

fn vault(origins: &[&str]) -> Vault {
    vault_with(SECRET, origins)
}

fn vault_with(secret: &str, origins: &[&str]) -> Vault {
    let entry = SecretEntry {
        name: name(),
        env: vec!["UNSET".to_owned(), "TEST_KEY".to_owned()],
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
    };
    Vault::from_lookup(vec![entry], |variable| (variable == "TEST_KEY").then(|| secret.to_owned())).unwrap()
}

fn request(url: &str) -> OutboundRequest {
    OutboundRequest {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: vec![("x-plain".to_owned(), "1".to_owned())],
        body: b"{}".to_vec(),
        secret: Some(SecretUse::Bearer(name())),
        reach: Reach::Any,
        connect_ms: 2_000,
        idle_ms: 2_000,
    }
}

/// Answers one request with these bytes and returns what it was sent.
fn serve_once(answer: impl Into<Vec<u8>>) -> (String, JoinHandle<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let got = read_request(&mut stream);
        stream.write_all(&answer).unwrap();
        got
    });
    (url, server)
}

/// Everything up to the end of a request's body, which is `{}`.
fn read_request(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut buffer = [0u8; 4096];
    while !got.ends_with(b"{}") {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => got.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(got).unwrap()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn body_text(vault: &Vault, request: OutboundRequest) -> String {
    let response = vault.send(request).await.unwrap();
    let pieces: Vec<Vec<u8>> = response.body.map(|piece| piece.unwrap()).collect().await;
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test]
async fn the_secret_goes_where_it_is_bound() {
    let (url, server) = serve_once(ok("fine"));
    let vault = vault(&[&url]);
    assert_eq!(body_text(&vault, request(&format!("{url}/v1/x"))).await, "fine");
    let got = server.join().unwrap().to_lowercase();
    assert!(got.starts_with("post /v1/x http/1.1"), "{got}");
    assert!(got.contains(&format!("authorization: bearer {SECRET}")), "{got}");
    assert!(got.contains("x-plain: 1"));
}

#[tokio::test]
async fn it_goes_into_the_header_that_was_named_and_replaces_what_stands_there() {
    let (url, server) = serve_once(ok("fine"));
    let vault = vault(&[&url]);
    let mut request = request(&url);
    request.headers.push(("X-Api-Key".to_owned(), "forged".to_owned()));
    request.secret = Some(SecretUse::Header { name: "x-api-key".to_owned(), secret: name() });
    body_text(&vault, request).await;
    let got = server.join().unwrap().to_lowercase();
    assert!(got.contains(&format!("x-api-key: {SECRET}")) && !got.contains("forged"), "{got}");
}

#[tokio::test]
async fn it_goes_nowhere_else() {
    // Nothing listens there: a request that was sent would be `Connect`, not a refusal.
    let vault = vault(&["api.example.com", "127.0.0.1:1"]);
    for url in [
        "https://evil.example/",
        "https://api.example.com.evil.example/",
        "https://sub.api.example.com/",
        "https://api.example.com:444/",
        "http://api.example.com/",
        "http://127.0.0.1:2/",
        "http://127.0.0.2:1/",
        "https://evil.example/?https://api.example.com/",
        "https://evil.example/#@api.example.com/",
    ] {
        match vault.send(request(url)).await {
            Err(OutboundError::SecretNotForHost(of, _)) => assert_eq!(of, name()),
            other => panic!("{url}: {:?}", other.err()),
        }
    }
    for url in
        ["https://api.example.com@evil.example/", "ftp://api.example.com/", "api.example.com", "file:///etc/passwd"]
    {
        assert!(matches!(vault.send(request(url)).await, Err(OutboundError::BadUrl(_))), "{url}");
    }
}

#[tokio::test]
async fn a_bound_origin_is_not_left_by_a_redirect() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let target = other.local_addr().unwrap();
    let (url, server) =
        serve_once(format!("HTTP/1.1 307 Go\r\nlocation: http://{target}/steal\r\ncontent-length: 0\r\n\r\n"));
    let vault = vault(&[&url]);
    let response = vault.send(request(&url)).await.unwrap();
    assert_eq!(response.status, 307);
    server.join().unwrap();
    assert!(other.accept().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_host_header_cannot_lead_it_astray() {
    let vault = vault(&["127.0.0.1:1"]);
    let mut request = request("http://127.0.0.1:1/");
    request.headers.push(("Host".to_owned(), "evil.example".to_owned()));
    assert!(matches!(vault.send(request).await, Err(OutboundError::BadUrl(_))));
}

#[tokio::test]
async fn a_server_that_echoes_it_does_not_make_us_print_it() {
    let echo = format!("your key {SECRET} is wrong, {SECRET}!");
    let answer = format!("HTTP/1.1 401 No\r\nx-echo: {SECRET}\r\ncontent-length: {}\r\n\r\n{echo}", echo.len());
    let (url, server) = serve_once(answer);
    let vault = vault(&[&url]);
    let response = vault.send(request(&url)).await.unwrap();
    let headers = format!("{:?}", response.headers);
    assert!(headers.contains("[secret]") && !headers.contains(SECRET), "{headers}");
    let pieces: Vec<Vec<u8>> = response.body.map(|piece| piece.unwrap()).collect().await;
    assert_eq!(String::from_utf8(pieces.concat()).unwrap(), "your key [secret] is wrong, [secret]!");
    server.join().unwrap();
}

#[tokio::test]
async fn no_error_and_no_debug_text_holds_it() {
    let vault = vault(&["127.0.0.1:1"]);
    let mut texts = vec![format!("{vault:?}")];
    let mut bad = vec![request(&format!("http://127.0.0.1:1/{SECRET}")), request(&format!("nonsense {SECRET}"))];
    let mut header = request("http://127.0.0.1:1/");
    header.headers.push((SECRET.to_owned(), "bad\nvalue".to_owned()));
    bad.push(header);
    let mut method = request("http://127.0.0.1:1/");
    method.method = format!("{SECRET} bad");
    bad.push(method);
    for request in bad {
        match vault.send(request).await {
            Ok(_) => panic!("sent"),
            Err(error) => texts.push(format!("{error} {error:?}")),
        }
    }
    assert!(texts[0].contains("TEST_KEY"));
    for text in texts {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_named() {
    let entry = SecretEntry { name: name(), env: vec!["TEST_KEY".to_owned()], origins: vec!["host".to_owned()] };
    let vault = Vault::from_lookup(vec![entry], |_| Some("  ".to_owned())).unwrap();
    assert!(!vault.has_secret(&name()));
    assert_eq!(vault.send(request("https://host/")).await.err(), Some(OutboundError::SecretMissing(name())));
}

#[test]
fn a_secret_no_header_can_carry_is_refused_without_showing_it() {
    for bad in ["sk-a\nx-evil: 1", "sk-ä-0123456789", "two words"] {
        let entry = SecretEntry { name: name(), env: vec!["TEST_KEY".to_owned()], origins: vec![] };
        let error = Vault::from_lookup(vec![entry], |_| Some(bad.to_owned())).unwrap_err();
        assert!(matches!(error, VaultError::BadSecret { .. }));
        assert!(!format!("{error} {error:?}").contains(bad));
    }
    let entry = SecretEntry { name: name(), env: vec![], origins: vec!["https://me:hunter2@x".to_owned()] };
    let error = Vault::from_lookup(vec![entry], |_| None).unwrap_err();
    assert!(matches!(error, VaultError::BadOrigin { .. }) && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn silence_before_the_first_byte_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let vault = vault(&[&url]);
    let mut request = request(&url);
    request.connect_ms = 50;
    request.idle_ms = 50;
    assert!(matches!(vault.send(request).await.err(), Some(OutboundError::TimedOut { ms: 50, .. })));
}

#[tokio::test]
async fn silence_within_the_body_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (done, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").unwrap();
        // Holds the connection open until the test is over.
        let _ = wait.recv();
    });
    let vault = vault(&[&url]);
    let mut request = request(&url);
    request.idle_ms = 100;
    let mut body = vault.send(request).await.unwrap().body;
    assert_eq!(body.next().await, Some(Ok(b"hello".to_vec())));
    assert!(matches!(body.next().await, Some(Err(OutboundError::TimedOut { ms: 100, .. }))));
    assert_eq!(body.next().await, None);
    drop(done);
    server.join().unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    let (url, server) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello");
    let vault = vault(&[&url]);
    let mut body = vault.send(request(&url)).await.unwrap().body;
    assert_eq!(body.next().await, Some(Ok(b"hello".to_vec())));
    assert!(matches!(body.next().await, Some(Err(OutboundError::Broken { .. }))));
    server.join().unwrap();
}

#[tokio::test]
async fn nothing_listening_is_a_connect_error() {
    let vault = vault(&["127.0.0.1:1"]);
    assert!(matches!(vault.send(request("http://127.0.0.1:1/")).await, Err(OutboundError::Connect { .. })));
}

/// Gives the n-th answer at the n-th question, then the last again.
struct Names {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Lookup for Names {
    fn addresses(&self, _host: String) -> BoxFuture<'_, std::io::Result<Vec<IpAddr>>> {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[nth.min(self.answers.len() - 1)].clone();
        Box::pin(std::future::ready(Ok(answer)))
    }
}

fn naming(answers: &[&[&str]]) -> (Vault, Arc<Names>) {
    let answers = answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
    let names = Arc::new(Names { answers, asked: AtomicUsize::new(0) });
    (Vault::from_lookup(Vec::new(), |_| None).unwrap().with_lookup(names.clone()), names)
}

fn reaching(url: &str, reach: Reach) -> OutboundRequest {
    OutboundRequest { secret: None, reach, ..request(url) }
}

/// A server that may answer, but must not be asked.
fn trap() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn every_way_to_write_an_address_of_this_machine_is_refused() {
    let (listener, port) = trap();
    let (vault, _) = naming(&[&["127.0.0.1"]]);
    // In private use: reached only where a rule names the host.
    let private = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.01",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "10.0.0.1",
        "192.168.257",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST.",
        "innocent.example",
        "127.0.0.1.nip.io",
    ];
    // Never reached but by their exact address in a rule.
    let special = [
        "0",
        "0.0.0.0",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
    ];
    let public = private.iter().chain(&special).map(|host| (host, Reach::Public));
    for (host, reach) in public.chain(special.iter().map(|host| (host, Reach::Private))) {
        match vault.send(reaching(&format!("http://{host}:{port}/"), reach)).await {
            Err(OutboundError::AddressRefused { .. }) => {}
            other => panic!("{host} {reach:?}: {:?}", other.err()),
        }
    }
    for host in ["[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1", "user@127.0.0.1", "256.256.256.256", "0x1ffffffff"] {
        let sent = vault.send(reaching(&format!("http://{host}:{port}/"), Reach::Public)).await;
        assert!(matches!(sent, Err(OutboundError::BadUrl(_))), "{host}: {:?}", sent.err());
    }
    assert!(listener.accept().is_err(), "somebody was connected to");
}

#[tokio::test]
async fn a_name_is_checked_by_what_it_resolves_to() {
    let (listener, port) = trap();
    for answer in [
        &["127.0.0.1"] as &[&str],
        &["10.0.0.5"],
        &["1.1.1.1", "127.0.0.1"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
    ] {
        let (vault, names) = naming(&[answer]);
        let sent = vault.send(reaching(&format!("http://good.example:{port}/"), Reach::Public)).await;
        match sent.map(|response| response.status) {
            Err(OutboundError::AddressRefused { host, why }) => {
                assert!(host.contains("good.example") && why.contains(" is a"), "{host} {why}");
            }
            other => panic!("{answer:?}: {other:?}"),
        }
        assert_eq!(names.asked.load(Ordering::SeqCst), 1, "asked once");
    }
    assert!(listener.accept().is_err(), "somebody was connected to");
}

#[tokio::test]
async fn what_was_checked_is_what_is_dialled() {
    // The first answer is reached; each later request is looked up and checked anew, and dials no second answer.
    let (url, server) = serve_once(ok("fine"));
    let port = url.rsplit(':').next().unwrap().to_owned();
    let (vault, names) = naming(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let named = reaching(&format!("http://rebinding.example:{port}/"), Reach::Private);
    assert_eq!(body_text(&vault, named.clone()).await, "fine");
    server.join().unwrap();
    assert_eq!(names.asked.load(Ordering::SeqCst), 1, "no second look-up between check and dial");
    assert!(matches!(vault.send(named).await, Err(OutboundError::AddressRefused { .. })));

    let (listener, port) = trap();
    let (vault, names) = naming(&[&["192.0.2.1"], &["127.0.0.1"]]);
    let public = reaching(&format!("http://rebinding.example:{port}/"), Reach::Public);
    for _ in 0..2 {
        assert!(matches!(vault.send(public.clone()).await, Err(OutboundError::AddressRefused { .. })));
    }
    assert_eq!(names.asked.load(Ordering::SeqCst), 2);
    assert!(listener.accept().is_err());
}

#[tokio::test]
async fn a_server_the_operator_configured_may_stand_anywhere() {
    let (url, server) = serve_once(ok("fine"));
    let vault = vault(&[]);
    assert_eq!(body_text(&vault, reaching(&url, Reach::Any)).await, "fine");
    server.join().unwrap();
}
