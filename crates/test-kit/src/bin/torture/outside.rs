//! The world outside: a server that counts what reaches it, with the time an effect takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::browsing;

const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Before and after an effect counts, at most.
const EFFECT_MS_MAX: u64 = 25;

pub struct Outside {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    effects: Mutex<BTreeMap<String, u32>>,
    /// Connections that are being served, by number.
    open: Mutex<BTreeSet<u64>>,
    changed: watch::Sender<u64>,
    posting: watch::Sender<u64>,
}

impl Outside {
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often each token was posted, and each page (`TOKEN/NUMBER`) opened.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        lock(&self.shared.effects).clone()
    }

    /// Waits until everything has been counted that was sent before this call. Those who sent it may be dead.
    pub async fn settle(&self) -> io::Result<()> {
        // Connections are accepted in order: when this one is answered, all earlier ones are known.
        let mut own = TcpStream::connect(self.address).await?;
        own.write_all(b"GET /barrier HTTP/1.1\r\n\r\n").await?;
        let mut answer = Vec::new();
        own.read_to_end(&mut answer).await?;
        let before: BTreeSet<u64> = lock(&self.shared.open).clone();
        let mut changed = self.shared.changed.subscribe();
        let done = |_: &u64| lock(&self.shared.open).is_disjoint(&before);
        let _ = changed.wait_for(done).await;
        Ok(())
    }

    /// Resolves when the next POST has come in.
    pub async fn next_post(&self) {
        let _ = self.shared.posting.subscribe().changed().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut number = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        number += 1;
        lock(&shared.open).insert(number);
        let shared = shared.clone();
        tokio::spawn(async move {
            let _ = serve(stream, &shared).await;
            lock(&shared.open).remove(&number);
            shared.changed.send_modify(|count| *count += 1);
        });
    }
}

/// One request a connection. Once it has come whole, it counts, whether its sender lives or not.
async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut got = Vec::new();
    let path = loop {
        if stream.read_buf(&mut got).await? == 0 || got.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            break head.split(' ').nth(1).unwrap_or_default().to_owned();
        }
    };
    let post = path.strip_prefix("/post/");
    if post.is_some() {
        shared.posting.send_modify(|count| *count += 1);
    }
    if let Some(effect) = post.or_else(|| path.strip_prefix("/page/")) {
        let pause = effect.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        tokio::time::sleep(Duration::from_millis(pause % EFFECT_MS_MAX)).await;
        *lock(&shared.effects).entry(effect.to_owned()).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(pause / EFFECT_MS_MAX % EFFECT_MS_MAX)).await;
    }
    let (media, body) = answer(&path);
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await
}

fn answer(path: &str) -> (&'static str, String) {
    if let Some(page) = path.strip_prefix("/page/") {
        return ("text/html", browsing::html(page.split('/').next().unwrap_or_default()));
    }
    if path.starts_with("/search?") {
        // As a SearXNG instance does.
        let hit = json!({"url": "https://a.example/", "title": "A", "content": "about a"});
        return ("application/json", json!({"results": [hit]}).to_string());
    }
    ("text/plain", "ok".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
