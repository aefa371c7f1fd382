//! Attacks on the proxy, as whatever runs in a sandbox could make them: by bytes on its socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use homarus_contract::{
    BoxFuture,
    egress::{Egress, EgressBounds, EgressHandle, EgressRules, EgressVerdict},
    outbound::Reach,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Lookup, Vault};

const BOUNDS: EgressBounds =
    EgressBounds { connections_max: 4, bytes_max: 1 << 20, connect_ms: 2_000, idle_ms: 20_000 };

/// Allows hosts that begin with these words; `any.` may be at any address.
struct Words(&'static [&'static str]);

impl EgressRules for Words {
    fn judge(&self, host: &str, _port: u16) -> EgressVerdict {
        match self.0.iter().any(|word| host.starts_with(word)) {
            true if host.starts_with("any.") => EgressVerdict::Allow(Reach::Any),
            true => EgressVerdict::Allow(Reach::Public),
            false => EgressVerdict::Deny("not on the list".to_owned()),
        }
    }
}

/// Answers with each set of addresses in turn, and then with the last: a name whose meaning changes.
struct Changing(Vec<Vec<IpAddr>>, AtomicUsize);

impl Lookup for Changing {
    fn addresses(&self, _host: String) -> BoxFuture<'_, std::io::Result<Vec<IpAddr>>> {
        let at = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
        Box::pin(async move { Ok(self.0[at].clone()) })
    }
}

struct Proxy {
    address: SocketAddr,
    handle: Box<dyn EgressHandle>,
    looked_up: Arc<Changing>,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn proxy_with(words: &'static [&'static str], addresses: Vec<Vec<IpAddr>>, bounds: EgressBounds) -> Proxy {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let looked_up = Arc::new(Changing(addresses, AtomicUsize::new(0)));
    let vault = Vault::from_lookup(Vec::new(), |_| None).unwrap().with_lookup(looked_up.clone());
    let handle = vault.serve(listener, Arc::new(Words(words)), bounds).unwrap();
    Proxy { address, handle, looked_up }
}

fn proxy(words: &'static [&'static str]) -> Proxy {
    proxy_with(words, vec![vec![LOOPBACK]], BOUNDS)
}

impl Proxy {
    /// What comes back for these bytes, until the proxy hangs up or has answered a request that ends the connection.
    async fn says(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    fn refusals(&self) -> Vec<(String, String)> {
        self.handle.take_refusals().into_iter().map(|refusal| (refusal.target, refusal.why)).collect()
    }
}

/// Answers each connection with these bytes once a head has come; keeps what it was sent.
async fn site(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut got = Vec::new();
            let mut buffer = [0u8; 4096];
            while !got.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => got.extend_from_slice(&buffer[..count]),
                }
            }
            kept.lock().unwrap().push(String::from_utf8_lossy(&got).to_lowercase());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, seen)
}

/// An answer up to the end of its head, and not a byte more.
async fn head(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: x\r\nx-own: 1\r\n\r\nhello";

#[tokio::test]
async fn a_request_is_made_anew_for_the_host_that_was_judged() {
    let (port, seen) = site(ANSWER).await;
    let proxy = proxy(&["any.good"]);
    let said = proxy
        .says(&format!(
            "GET http://any.good:{port}/a?b HTTP/1.1\r\nHost: inner.evil\r\nProxy-Authorization: x\r\nConnection: close, X-Hop\r\n\
             X-Hop: 1\r\nUpgrade: h2c\r\nX-Mine: 2\r\n\r\n"
        ))
        .await;
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.ends_with("hello") && said.contains("x-own: 1"), "{said}");
    assert!(!said.contains("keep-alive"), "{said}");
    let sent = seen.lock().unwrap()[0].clone();
    assert!(sent.starts_with("get /a?b http/1.1\r\n") && sent.contains("x-mine: 2"), "{sent}");
    assert!(sent.contains(&format!("host: any.good:{port}\r\n")), "{sent}");
    for gone in ["inner.evil", "proxy-authorization", "x-hop", "upgrade", "h2c"] {
        assert!(!sent.contains(gone), "{gone}: {sent}");
    }
    assert_eq!(proxy.refusals(), []);
    assert!(proxy.handle.bytes() > 50);
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_anew() {
    let (port, seen) = site(ANSWER).await;
    let proxy = proxy(&["any.good"]);
    let one = |host: &str| format!("GET http://{host}:{port}/{host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let said = proxy.says(&format!("{}{}", one("any.good"), one("any.evil"))).await;
    assert!(said.contains("hello") && said.contains("403 Forbidden"), "{said}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(proxy.refusals(), [(format!("any.evil:{port}"), "not on the list".to_owned())]);
    // Two lengths that disagree, to hide a second request in the body of the first.
    let smuggled = one("any.evil");
    let request = format!(
        "POST http://any.good:{port}/ HTTP/1.1\r\nHost: any.good\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        smuggled.len() + 5
    );
    proxy.says(&request).await;
    assert!(seen.lock().unwrap().iter().all(|sent| !sent.contains("any.evil")), "{:?}", seen.lock().unwrap());
}

#[tokio::test]
async fn a_tunnel_goes_where_it_was_judged_to_and_nowhere_else() {
    let (port, seen) = site("raw answer").await;
    let proxy = proxy(&["any.good"]);
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(format!("CONNECT any.good:{port} HTTP/1.1\r\nHost: any.evil:1\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    stream.write_all(b"raw \r\n\r\n").await.unwrap();
    let mut answer = [0u8; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((&answer, seen.lock().unwrap()[0].as_str()), (b"raw answer", "raw \r\n\r\n"));
    assert_eq!(proxy.looked_up.1.load(Ordering::SeqCst), 1, "looked up once, and that was dialled");
}

#[tokio::test]
async fn what_is_no_request_for_a_host_is_refused() {
    let proxy = proxy(&["any.", "good", "1", "["]);
    for (request, words) in [
        ("GET /etc/passwd HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("GET https://any.good/ HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("GET ftp://any.good/ HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("GET file:///etc/passwd HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("GET http://any.good@evil/ HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("CONNECT any.good HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("CONNECT any.good:0 HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("CONNECT any.good:70000 HTTP/1.1\r\nHost: any.good\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1} nonsense\r\n\r\n", "400"),
        ("CONNECT evil:443 HTTP/1.1\r\nHost: good:443\r\n\r\n", "403"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
        ("CONNECT [::ffff:169.254.169.254]:80 HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
        ("CONNECT [::1]:22 HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
        ("CONNECT 10.1:22 HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
    ] {
        let said = proxy.says(request).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {words}")), "{request:?}: {said}");
    }
    let long = format!("GET http://any.good/{} HTTP/1.1\r\nHost: any.good\r\n\r\n", "a".repeat(200_000));
    assert!(!proxy.says(&long).await.contains("200 OK"));
    assert_eq!(proxy.looked_up.1.load(Ordering::SeqCst), 0, "nothing was looked up");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_however_it_got_there() {
    let (port, seen) = site(ANSWER).await;
    let public: IpAddr = "93.184.215.14".parse().unwrap();
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    // Public at first and inside at the next look; public and inside at once; inside in other forms.
    for addresses in [vec![vec![LOOPBACK]], vec![vec![public, LOOPBACK]], vec![vec![metadata]], vec![vec![mapped]]] {
        let proxy = proxy_with(&["good"], addresses, BOUNDS);
        let said = proxy.says(&format!("CONNECT good.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
        assert_eq!(proxy.looked_up.1.load(Ordering::SeqCst), 1);
        assert_eq!(proxy.refusals().len(), 1);
    }
    assert_eq!(
        proxy_with(&["any."], vec![vec![]], BOUNDS)
            .says("CONNECT any.x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .split(' ')
            .nth(1),
        Some("502")
    );
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bytes_and_refusals_are_bounded_and_the_handle_ends_all() {
    let (port, _) = site(ANSWER).await;
    let small = proxy_with(&["any."], vec![vec![LOOPBACK]], EgressBounds { bytes_max: 200, ..BOUNDS });
    let request = format!("GET http://any.good:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(small.says(&request).await);
    }
    assert!(answers[0].ends_with("hello") && !answers[3].contains("hello"), "{answers:?}");
    assert!(small.refusals().iter().any(|(_, why)| why.contains("went through already")), "{:?}", small.refusals());
    let proxy = proxy(&[]);
    for at in 0..60 {
        proxy.says(&format!("CONNECT evil{at}:443 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    }
    let refusals = proxy.handle.take_refusals();
    assert_eq!((refusals.len(), refusals.iter().map(|refusal| refusal.count).sum::<u64>()), (32, 60));
    assert_eq!(proxy.handle.take_refusals().len(), 0, "told once");
    // A tunnel that is open when the handle goes is open no more.
    let (port, _) = site("").await;
    let proxy = proxy_with(&["any."], vec![vec![LOOPBACK]], BOUNDS);
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(format!("CONNECT any.good:{port} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    drop(proxy);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}
