//! The two pipes of a worker process, line by line, within bounds.

use std::io;

use homarus_contract::{
    model::ModelError,
    sandbox::WorkerProcess,
    worker::{WorkerReply, WorkerRequest},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
};

use super::worker_error;
use crate::lines::LINE_BYTES_MAX;

/// A running worker. Dropping it kills the process.
pub(super) struct Worker {
    stdin: pipe::Sender,
    stdout: BufReader<pipe::Receiver>,
    /// What has come of the line being read.
    line: Vec<u8>,
    _guard: Box<dyn Send + Sync>,
}

impl Worker {
    pub(super) fn new(process: WorkerProcess) -> io::Result<Self> {
        Ok(Self {
            stdin: pipe::Sender::from_owned_fd(process.stdin)?,
            stdout: BufReader::new(pipe::Receiver::from_owned_fd(process.stdout)?),
            line: Vec::new(),
            _guard: process.guard,
        })
    }

    pub(super) async fn write(&mut self, request: &WorkerRequest) -> Result<(), ModelError> {
        let line = line(request)?;
        self.stdin.write_all(&line).await.map_err(|error| worker_error(format!("the embedded model ended: {error}")))
    }

    /// Writes without waiting; false if that was not possible in one piece.
    pub(super) fn try_write(&self, request: &WorkerRequest) -> bool {
        line(request).is_ok_and(|line| self.stdin.try_write(&line).is_ok_and(|written| written == line.len()))
    }

    /// The next reply. Dropping the future loses nothing: the next one reads on.
    pub(super) async fn read(&mut self) -> Result<WorkerReply, ModelError> {
        read_line(&mut self.stdout, &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line).map_err(|error| {
            let said = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            worker_error(format!("the embedded model sent a line that cannot be read ({error}): {said}"))
        })
    }
}

fn line(request: &WorkerRequest) -> Result<Vec<u8>, ModelError> {
    let mut line = serde_json::to_vec(request).map_err(|error| worker_error(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

async fn read_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<(), ModelError> {
    loop {
        let buffer =
            from.fill_buf().await.map_err(|error| worker_error(format!("the embedded model ended: {error}")))?;
        if buffer.is_empty() {
            return Err(worker_error("the embedded model ended while it was needed".to_owned()));
        }
        let (piece, complete) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        line.extend_from_slice(&buffer[..piece]);
        from.consume(piece);
        if line.len() > LINE_BYTES_MAX {
            return Err(worker_error("the embedded model sent a line longer than 10 MiB".to_owned()));
        }
        if complete {
            return Ok(());
        }
    }
}
