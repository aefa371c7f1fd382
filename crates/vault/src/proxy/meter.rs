//! Counts what goes through a way out, and ends a connection when the sum or its silence is too much.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Bytes of all connections of one way out.
#[derive(Clone)]
pub struct Meter {
    used: Arc<AtomicU64>,
    max: u64,
}

impl Meter {
    pub fn new(max: u64) -> Self {
        Self { used: Arc::default(), max }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn is_spent(&self) -> bool {
        self.used() > self.max
    }

    fn add(&self, bytes: usize) -> io::Result<()> {
        let before = self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        if before.saturating_add(bytes as u64) > self.max {
            return Err(io::Error::other("the bytes of this way out are used up"));
        }
        Ok(())
    }
}

/// A connection to the outside whose bytes are counted, and which ends after a silence.
pub struct Metered<S> {
    inner: S,
    meter: Meter,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<S> Metered<S> {
    pub fn new(inner: S, meter: Meter, idle: Duration) -> Self {
        Self { inner, meter, idle, silence: Box::pin(sleep(idle)) }
    }

    fn heard(&mut self, bytes: usize) -> io::Result<()> {
        let until = Instant::now() + self.idle;
        self.silence.as_mut().reset(until);
        self.meter.add(bytes)
    }

    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        self.silence.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let got = buffer.filled().len() - before;
                Poll::Ready(self.heard(got))
            }
            Poll::Pending if self.is_silent(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => Poll::Ready(self.heard(written).map(|()| written)),
            Poll::Pending if self.is_silent(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
