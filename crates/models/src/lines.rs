//! Reads a body line by line, and server-sent events on top, within bounds.

use futures_util::StreamExt;
use homarus_contract::{
    BoxStream,
    model::{ModelError, ModelErrorClass},
    outbound::OutboundError,
};

use crate::http;

/// A line of an answer is shorter.
pub(crate) const LINE_BYTES_MAX: usize = 10_000_000;
/// Longest answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Lines of a body, without their ends (`\n` or `\r\n`).
pub(crate) struct Lines {
    body: BoxStream<Result<Vec<u8>, OutboundError>>,
    buffer: Vec<u8>,
    /// Start of what has not been returned yet.
    start: usize,
    /// How far the buffer has been searched for a line end.
    searched: usize,
    total: usize,
    /// The beginning of the body, for messages about what it was.
    head: Vec<u8>,
    ended: bool,
}

/// Kept of a body's beginning.
const HEAD_BYTES_MAX: usize = 4096;

impl Lines {
    pub(crate) fn new(body: BoxStream<Result<Vec<u8>, OutboundError>>) -> Self {
        Self { body, buffer: Vec::new(), start: 0, searched: 0, total: 0, head: Vec::new(), ended: false }
    }

    /// The next line; `None` at the end. A last line without its end is returned too.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, ModelError> {
        loop {
            if let Some(offset) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let end = self.searched + offset;
                let line = text(&self.buffer[self.start..end])?;
                self.start = end + 1;
                self.searched = self.start;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.ended {
                if self.start == self.buffer.len() {
                    return Ok(None);
                }
                let line = text(&self.buffer[self.start..])?;
                self.start = self.buffer.len();
                return Ok(Some(line));
            }
            self.fill().await?;
        }
    }

    /// The first 4 KiB of what came.
    pub(crate) fn head(&self) -> &str {
        match std::str::from_utf8(&self.head) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.head[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// Reads a body's end if it is already there, so that the connection can be used again.
    pub(crate) async fn finish(&mut self) {
        const GRACE: std::time::Duration = std::time::Duration::from_millis(5);
        let _ =
            tokio::time::timeout(GRACE, async { while self.body.next().await.is_some_and(|piece| piece.is_ok()) {} })
                .await;
    }

    async fn fill(&mut self) -> Result<(), ModelError> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        match self.body.next().await {
            None => self.ended = true,
            Some(Err(error)) => return Err(http::from_outbound(error)),
            Some(Ok(piece)) => {
                self.total += piece.len();
                if self.total > ANSWER_BYTES_MAX || self.buffer.len() + piece.len() >= LINE_BYTES_MAX {
                    return Err(too_long());
                }
                let head = piece.len().min(HEAD_BYTES_MAX - self.head.len());
                self.head.extend_from_slice(&piece[..head]);
                self.buffer.extend_from_slice(&piece);
            }
        }
        Ok(())
    }
}

/// One server-sent event. Comments, ids and retry hints are of no use here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SseEvent {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// The next event that has data; `None` at the end. Data without the empty line that ends an event
/// (some servers forget it after the last) still counts.
pub(crate) async fn next_sse(lines: &mut Lines) -> Result<Option<SseEvent>, ModelError> {
    let mut event = String::new();
    let mut data: Option<String> = None;
    loop {
        let Some(line) = lines.next().await? else {
            return Ok(data.map(|data| SseEvent { event, data }));
        };
        if line.is_empty() {
            match data {
                Some(data) => return Ok(Some(SseEvent { event, data })),
                None => event.clear(),
            }
            continue;
        }
        // Not an event at all: a server that answers 200 with a JSON error means it to be read.
        if line.starts_with('{') && data.is_none() {
            return Ok(Some(SseEvent { event, data: line }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event = value.to_owned(),
            "data" => match &mut data {
                Some(data) if data.len() + value.len() >= LINE_BYTES_MAX => return Err(too_long()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
}

fn text(line: &[u8]) -> Result<String, ModelError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(http::protocol("the answer holds bytes that are not UTF-8", &String::from_utf8_lossy(line))),
    }
}

fn too_long() -> ModelError {
    ModelError {
        class: ModelErrorClass::Protocol,
        message: "the answer is longer than 64 MiB, or holds a line longer than 10 MiB".to_owned(),
        raw: String::new(),
        retry_after_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};

    use super::*;

    fn lines(bytes: &[u8], size: usize) -> Lines {
        let pieces: Vec<Result<Vec<u8>, OutboundError>> = bytes.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
        Lines::new(Box::pin(stream::iter(pieces)))
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            ": hello\r\nevent: a\r\ndata: {\"x\":\"é\"}\r\n\r\n\nevent: lost\n\ndata:1\ndata: 2\nid: 7\n\ndata: last";
        let expected = [("a", "{\"x\":\"é\"}"), ("", "1\n2"), ("", "last")];
        for size in 1..text.len() {
            let mut lines = lines(text.as_bytes(), size);
            for (event, data) in expected {
                let got = next_sse(&mut lines).now_or_never().unwrap().unwrap().unwrap();
                assert_eq!((got.event.as_str(), got.data.as_str()), (event, data), "pieces of {size}");
            }
            assert_eq!(next_sse(&mut lines).now_or_never().unwrap().unwrap(), None);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let error = lines(b"data: \xff\xfe\n", 100).next().now_or_never().unwrap().unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Protocol);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let piece = vec![b'a'; 1 << 20];
        let endless = stream::repeat_with(move || Ok(piece.clone()));
        let error = Lines::new(Box::pin(endless)).next().now_or_never().unwrap().unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Protocol);
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        let mut piece = vec![b'a'; 1 << 20];
        piece.push(b'\n');
        let mut lines = Lines::new(Box::pin(stream::repeat_with(move || Ok(piece.clone()))));
        let mut count = 0;
        let error = loop {
            match lines.next().now_or_never().unwrap() {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.class, ModelErrorClass::Protocol);
        assert!(count < 65, "{count} MiB were taken");
    }
}
