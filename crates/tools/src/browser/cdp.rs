//! The browser's debugging protocol over its two pipes: JSON messages with a zero byte after each. One task owns the
//! pipes; it answers by itself what must not wait (dialogs, new windows) and notes what happened for whoever asks.
//!
//! What comes from the browser is not trusted: messages are bounded, and nothing in them is taken for more than text.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// Longest message either way; a screenshot is the largest.
const MESSAGE_BYTES_MAX: usize = 48 << 20;
const WAITING_MAX: usize = 32;
const WRITE_MS: u64 = 10_000;
/// Of each kind that are told; more are only counted.
const NOTES_MAX: usize = 5;

/// What happened in the browser since it was last asked about.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages of dialogs, and what was answered.
    pub dialogs: Notes,
    /// Addresses of windows that were opened, and closed at once.
    pub windows: Notes,
    pub downloads: Notes,
    /// A page wanted a file of this machine.
    pub files: u32,
    pub has_crashed: bool,
    pub is_loading: bool,
    /// How confirmations are answered.
    pub accepts: bool,
    /// The one page there is.
    pub target: String,
}

#[derive(Debug, Default)]
pub struct Notes {
    pub first: Vec<String>,
    pub count: usize,
}

impl Notes {
    fn add(&mut self, note: &str) {
        self.count += 1;
        if self.first.len() < NOTES_MAX {
            self.first.push(note.chars().take(300).collect());
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The browser said no.
    Error(String),
    /// It is gone, or talks nonsense.
    Gone,
    TooLate,
}

pub struct Cdp {
    asks: mpsc::Sender<Ask>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

struct Ask {
    method: &'static str,
    params: Value,
    session: Option<String>,
    answer: oneshot::Sender<Result<Value, NoAnswer>>,
}

impl Cdp {
    pub fn new(stdin: OwnedFd, stdout: OwnedFd) -> io::Result<Self> {
        let (asks, waiting) = mpsc::channel(WAITING_MAX);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let link = Link {
            to: pipe::Sender::from_owned_fd(stdin)?,
            from: BufReader::with_capacity(64 << 10, pipe::Receiver::from_owned_fd(stdout)?),
            message: Vec::new(),
            last_id: 0,
            pending: HashMap::new(),
            seen: seen.clone(),
        };
        Ok(Self { asks, seen, task: tokio::spawn(link.carry(waiting)) })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn ask(
        &self,
        session: Option<&str>,
        method: &'static str,
        params: Value,
        wait: Duration,
    ) -> Result<Value, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { method, params, session: session.map(str::to_owned), answer };
        let asked = async {
            self.asks.send(ask).await.map_err(|_| NoAnswer::Gone)?;
            answered.await.map_err(|_| NoAnswer::Gone)?
        };
        timeout(wait, asked).await.map_err(|_| NoAnswer::TooLate)?
    }

    /// Waits until the browser has closed its end.
    pub async fn closed(&self, wait: Duration) {
        // Whether it did in time makes no difference: it is ended then.
        let _ = timeout(wait, self.asks.closed()).await;
    }
}

impl Drop for Cdp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    params: Value,
    result: Option<Value>,
    error: Option<Wrong>,
    #[serde(rename = "sessionId")]
    session: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Wrong {
    #[serde(default)]
    message: String,
}

struct Link {
    to: pipe::Sender,
    from: BufReader<pipe::Receiver>,
    /// What has come of the message being read.
    message: Vec<u8>,
    last_id: u64,
    pending: HashMap<u64, oneshot::Sender<Result<Value, NoAnswer>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Link {
    /// Until the browser or its owner is gone.
    async fn carry(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            let went_on = tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.pass_on(ask).await,
                    None => return,
                },
                came = next(&mut self.from, &mut self.message) => match came {
                    Ok(()) => {
                        let bytes = std::mem::take(&mut self.message);
                        self.take_in(&bytes).await
                    }
                    Err(error) => Err(error),
                },
            };
            if went_on.is_err() {
                // Dropping the senders tells those who wait.
                return;
            }
        }
    }

    async fn pass_on(&mut self, ask: Ask) -> io::Result<()> {
        self.pending.retain(|_, waits| !waits.is_closed());
        let id = self.send(ask.method, ask.params, ask.session.as_deref()).await?;
        self.pending.insert(id, ask.answer);
        Ok(())
    }

    async fn send(&mut self, method: &str, params: Value, session: Option<&str>) -> io::Result<u64> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        timeout(Duration::from_millis(WRITE_MS), self.to.write_all(&bytes))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(self.last_id)
    }

    async fn take_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        let message: Message = serde_json::from_slice(bytes)?;
        let Some(id) = message.id else { return self.happened(message).await };
        if let Some(waits) = self.pending.remove(&id) {
            let answer = match (message.error, message.result) {
                (Some(wrong), _) => Err(NoAnswer::Error(wrong.message)),
                (None, result) => Ok(result.unwrap_or_default()),
            };
            // Who does not wait any more has been told that it was too late.
            let _ = waits.send(answer);
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn happened(&mut self, message: Message) -> io::Result<()> {
        let text = |path: &str| message.params.pointer(path).and_then(Value::as_str).unwrap_or_default();
        match message.method.as_str() {
            "Page.javascriptDialogOpening" => {
                let kind = text("/type");
                let accept = {
                    let mut seen = self.seen();
                    let accept = matches!(kind, "alert" | "beforeunload") || seen.accepts;
                    let answer = if accept { "accepted" } else { "dismissed" };
                    seen.dialogs.add(&format!("{kind}, {answer}: {}", text("/message")));
                    accept
                };
                self.send("Page.handleJavaScriptDialog", json!({"accept": accept}), message.session.as_deref()).await?;
            }
            // The browser has pages of its own, which no page can open.
            "Target.targetCreated"
                if text("/targetInfo/type") == "page" && !text("/targetInfo/url").starts_with("chrome://") =>
            {
                let target = text("/targetInfo/targetId").to_owned();
                let is_ours = {
                    let mut seen = self.seen();
                    let is_ours = seen.target == target;
                    if !is_ours {
                        seen.windows.add(text("/targetInfo/url"));
                    }
                    is_ours
                };
                if !is_ours {
                    self.send("Target.closeTarget", json!({"targetId": target}), None).await?;
                }
            }
            "Page.frameStartedLoading" | "Page.frameStartedNavigating" if text("/frameId") == self.seen().target => {
                self.seen().is_loading = true;
            }
            "Page.frameStoppedLoading" if text("/frameId") == self.seen().target => self.seen().is_loading = false,
            "Page.fileChooserOpened" => self.seen().files += 1,
            "Browser.downloadWillBegin" => self.seen().downloads.add(text("/url")),
            "Inspector.targetCrashed" => self.seen().has_crashed = true,
            "Target.targetCrashed" if text("/targetId") == self.seen().target => self.seen().has_crashed = true,
            _ => {}
        }
        Ok(())
    }
}

/// Reads to the next zero byte. Dropping the future loses nothing: the next one reads on.
async fn next(from: &mut BufReader<pipe::Receiver>, message: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let buffer = from.fill_buf().await?;
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = buffer.iter().position(|byte| *byte == 0);
        message.extend_from_slice(&buffer[..end.unwrap_or(buffer.len())]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        from.consume(used);
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("a message is too long"));
        }
        if end.is_some() {
            return Ok(());
        }
    }
}
