//! A model server on 127.0.0.1 that says what its script says, in the format it is asked in.
//!
//! HTTP is written by hand because tests want what libraries prevent: bodies cut at a byte,
//! connections that stay open in silence, answers held back until the test is ready.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::script::{Script, Turn};

mod formats;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 << 20;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// `Null` if there was none or it was not JSON.
    pub body: Value,
    /// When all of it had come.
    pub at: Instant,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it asked for an answer (and not for a list of models).
    pub fn is_model_call(&self) -> bool {
        self.method == "POST"
    }
}

/// A running server; it ends when dropped.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// Says what is answered to a request.
type Answers = dyn Fn(&Recorded) -> Turn + Send + Sync;

struct Shared {
    script: Mutex<Script>,
    /// Instead of the script.
    answers: Option<Box<Answers>>,
    /// Model calls answered so far: the next turn.
    next_turn: Mutex<usize>,
    recorded: watch::Sender<Vec<Recorded>>,
    gate: Semaphore,
    connections: AtomicUsize,
    /// Stalled answers whose client has gone.
    hang_ups: watch::Sender<usize>,
}

impl ModelServer {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_at(script, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(script: Script, address: SocketAddr) -> io::Result<Self> {
        Self::start_with(script, None, address).await
    }

    /// A server whose answer follows from the request alone: the same question gets the same answer, however often
    /// and in whatever order it is asked. It keeps no record of what it was asked.
    pub async fn answering(answers: impl Fn(&Recorded) -> Turn + Send + Sync + 'static) -> io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(Script::new(Vec::new()), Some(Box::new(answers)), address).await
    }

    async fn start_with(script: Script, answers: Option<Box<Answers>>, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            answers,
            next_turn: Mutex::new(0),
            recorded: watch::channel(Vec::new()).0,
            gate: Semaphore::new(0),
            connections: AtomicUsize::new(0),
            hang_ups: watch::channel(0).0,
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Like [`ModelServer::start`] with these turns.
    pub async fn with_turns(turns: Vec<Turn>) -> Self {
        match Self::start(Script::new(turns)).await {
            Ok(server) => server,
            Err(error) => panic!("the scripted server did not start: {error}"),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.recorded.borrow().clone()
    }

    /// The requests that asked for an answer.
    pub fn model_calls(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(Recorded::is_model_call).collect()
    }

    /// Waits until so many model calls have come.
    pub async fn wait_for_model_calls(&self, count: usize) {
        let mut changes = self.shared.recorded.subscribe();
        let enough =
            |requests: &Vec<Recorded>| requests.iter().filter(|request| request.is_model_call()).count() >= count;
        // The sender lives in `self`: waiting cannot fail.
        let _ = changes.wait_for(enough).await;
    }

    /// Waits until so many requests of any kind have come.
    pub async fn wait_for_requests(&self, count: usize) {
        let _ = self.shared.recorded.subscribe().wait_for(|requests| requests.len() >= count).await;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many clients have gone away from a stalled answer.
    pub async fn wait_for_hang_ups(&self, count: usize) {
        let _ = self.shared.hang_ups.subscribe().wait_for(|hang_ups| *hang_ups >= count).await;
    }

    /// Lets one held answer go.
    pub fn release(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Adds a turn while running.
    pub fn push(&self, turn: Turn) {
        lock(&self.shared.script).turns.push(turn);
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            shared.connections.fetch_add(1, Ordering::SeqCst);
            connections.spawn(async move {
                let mut connection = Connection { stream, buffer: Vec::new() };
                // A client that goes away is what some tests are about.
                let _ = connection.serve(&shared).await;
            });
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Read, but not used yet.
    buffer: Vec<u8>,
}

impl Connection {
    async fn serve(&mut self, shared: &Shared) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        while let Some(request) = self.read_request().await? {
            if shared.answers.is_none() {
                shared.recorded.send_modify(|recorded| recorded.push(request.clone()));
            }
            if !self.answer(shared, &request).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next request; `None` when the client has closed the connection.
    async fn read_request(&mut self) -> io::Result<Option<Recorded>> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the request's head is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        self.buffer.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let method = first.next().unwrap_or_default().to_owned();
        let path = first.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        if length > BODY_BYTES_MAX {
            return Err(io::Error::other("the request's body is too long"));
        }
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        let body: Vec<u8> = self.buffer.drain(..length).collect();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Some(Recorded { method, path, headers, body, at: Instant::now() }))
    }

    /// False if the connection must be closed.
    async fn answer(&mut self, shared: &Shared, request: &Recorded) -> io::Result<bool> {
        if !request.is_model_call() {
            let body = formats::listing(request, &lock(&shared.script).models);
            let (status, body) = body.map_or((404, "{}".to_owned()), |body| (200, body));
            return self.send_whole(status, &[], "application/json", &body).await;
        }
        if !formats::is_model_path(&request.path) {
            return self.send_whole(404, &[], "application/json", "{}").await;
        }
        let answered = shared.answers.as_ref().map(|answers| answers(request));
        let Some(turn) = answered.or_else(|| next_turn(shared)) else {
            return self
                .send_whole(500, &[], "application/json", r#"{"error":{"message":"the script is over"}}"#)
                .await;
        };
        if turn.hold {
            match shared.gate.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Ok(false),
            }
        }
        if turn.reset {
            return self.reset().await;
        }
        let headers: Vec<(String, String)> = turn.headers.clone().into_iter().collect();
        if let Some(status) = turn.status {
            return self
                .send_whole(status, &headers, "application/json", turn.body.as_deref().unwrap_or_default())
                .await;
        }
        let Some(answer) = formats::answer(&turn, request) else {
            return self.send_whole(404, &[], "application/json", "{}").await;
        };
        self.send_stream(shared, &turn, &headers, answer).await
    }

    /// Ends the connection so that the other side sees an error and no end.
    async fn reset(&mut self) -> io::Result<bool> {
        self.stream.set_zero_linger()?;
        Ok(false)
    }

    async fn send_whole(
        &mut self,
        status: u16,
        headers: &[(String, String)],
        content_type: &str,
        body: &str,
    ) -> io::Result<bool> {
        let head = head(status, headers, content_type, &format!("content-length: {}\r\n", body.len()));
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body.as_bytes()).await?;
        Ok(true)
    }

    /// Sends a body in chunks, one for each piece, as far as the turn allows.
    async fn send_stream(
        &mut self,
        shared: &Shared,
        turn: &Turn,
        headers: &[(String, String)],
        answer: formats::Answer,
    ) -> io::Result<bool> {
        let head = head(200, headers, answer.content_type, "transfer-encoding: chunked\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        let mut left = turn.cut_after.or(turn.stall_after).or(turn.reset_after).unwrap_or(usize::MAX);
        for piece in &answer.pieces {
            let piece = &piece[..piece.len().min(left)];
            if !piece.is_empty() {
                if turn.piece_delay_ms > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(turn.piece_delay_ms)).await;
                }
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                self.stream.write_all(&chunk).await?;
                left -= piece.len();
            }
            if left == 0 {
                break;
            }
        }
        if turn.cut_after.is_some() {
            return Ok(false);
        }
        if turn.reset_after.is_some() {
            return self.reset().await;
        }
        if turn.stall_after.is_some() {
            // Until the client gives up.
            while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0) {}
            shared.hang_ups.send_modify(|hang_ups| *hang_ups += 1);
            return Ok(false);
        }
        self.stream.write_all(b"0\r\n\r\n").await?;
        Ok(true)
    }
}

fn next_turn(shared: &Shared) -> Option<Turn> {
    let script = lock(&shared.script);
    let mut next = lock(&shared.next_turn);
    let turn = script.turns.get(*next).or_else(|| script.turns.last().filter(|_| script.repeat_last)).cloned();
    if turn.is_some() {
        *next += 1;
    }
    turn
}

fn head(status: u16, headers: &[(String, String)], content_type: &str, framing: &str) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\n{framing}");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
