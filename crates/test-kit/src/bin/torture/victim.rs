//! One process of Homarus: started, listened to line by line, and killed at an instant.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::outside::Outside;

/// A process that neither ends nor says anything for so long has hung.
const PATIENCE: Duration = Duration::from_secs(120);
const STDERR_BYTES_MAX: u64 = 64 << 10;

/// The instant of a kill.
#[derive(Debug, Clone)]
pub enum When {
    Never,
    After(Duration),
    /// So long after so many lines of events were printed.
    Lines(usize, Duration),
    /// While the server outside works on a POST, or so long after one came in.
    Post(Duration),
    /// When the first path of a merge is there.
    Merge(Vec<PathBuf>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The process and all below it at once, as when the machine dies.
    Everything,
    /// Only the process: its sandboxes live on until they notice.
    DriverOnly,
}

/// What a process left behind.
#[derive(Debug, Clone, Default)]
pub struct Remains {
    pub what: String,
    /// Each complete line it printed: what it acknowledged.
    pub lines: Vec<Value>,
    pub stderr: String,
    /// `None`: it was killed, or hung.
    pub code: Option<i32>,
    pub killed: bool,
    pub hung: bool,
}

pub struct Victim {
    child: Child,
    what: String,
    lines: Arc<Mutex<Vec<Value>>>,
    count: watch::Receiver<usize>,
    reader: JoinHandle<()>,
    stderr: JoinHandle<String>,
}

impl Victim {
    pub fn start(mut command: Command, what: &str) -> std::io::Result<Self> {
        let mut child = command.kill_on_drop(true).spawn()?;
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (counted, count) = watch::channel(0);
        let (stdout, kept) = (child.stdout.take(), lines.clone());
        let reader = tokio::spawn(async move {
            let Some(stdout) = stdout else { return };
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
                // A kill may cut a line off; what is not whole was not acknowledged.
                if line.ends_with(b"\n")
                    && let Ok(value) = serde_json::from_slice(&line)
                {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(value);
                    counted.send_modify(|count| *count += 1);
                }
                line.clear();
            }
        });
        let pipe = child.stderr.take();
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = (&mut pipe).take(STDERR_BYTES_MAX).read_to_end(&mut text).await;
                let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, what: what.to_owned(), lines, count, reader, stderr })
    }

    /// The number of the process while it lives.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn lines(&self) -> Arc<Mutex<Vec<Value>>> {
        self.lines.clone()
    }

    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.clone()
    }

    /// Waits for the instant or for the end of the process, whichever comes first.
    pub async fn see_out(self, when: When, how: How, outside: &Outside) -> Remains {
        self.see_out_within(PATIENCE, when, how, outside).await
    }

    pub async fn see_out_within(mut self, patience: Duration, when: When, how: How, outside: &Outside) -> Remains {
        let instant = instant(when, self.count.clone(), outside);
        let (mut killed, mut hung) = (false, false);
        let status = tokio::select! {
            status = self.child.wait() => status.ok(),
            () = instant => {
                killed = true;
                self.kill(how).await
            }
            () = tokio::time::sleep(patience) => {
                hung = true;
                self.kill(How::Everything).await;
                None
            }
        };
        // It may have ended by itself in the same moment.
        killed &= status.is_some_and(|status| status.code().is_none());
        let _ = tokio::time::timeout(PATIENCE, &mut self.reader).await;
        let stderr = tokio::time::timeout(PATIENCE, self.stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let code = status.and_then(|status| status.code());
        Remains { what: self.what, lines, stderr, code, killed, hung }
    }

    async fn kill(&mut self, how: How) -> Option<ExitStatus> {
        let below = match (how, self.child.id()) {
            (How::Everything, Some(id)) => descendants(id),
            _ => Vec::new(),
        };
        let _ = self.child.start_kill();
        for id in below {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        self.child.wait().await.ok()
    }
}

async fn instant(when: When, mut count: watch::Receiver<usize>, outside: &Outside) {
    match when {
        When::Never => std::future::pending().await,
        When::After(pause) => tokio::time::sleep(pause).await,
        When::Lines(lines, pause) => {
            if count.wait_for(|count| *count >= lines).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(pause).await;
        }
        When::Post(pause) => {
            outside.next_post().await;
            tokio::time::sleep(pause).await;
        }
        When::Merge(traces) => {
            let there: Vec<bool> = traces.iter().map(|trace| trace.exists()).collect();
            let changed = |trace: &Path, was: bool| !was && trace.exists();
            while !traces.iter().zip(&there).any(|(trace, was)| changed(trace, *was)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// All processes below this one, the nearest first.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        for child in children.get(&id).into_iter().flatten() {
            found.push(*child);
            next.push(*child);
        }
    }
    found
}
