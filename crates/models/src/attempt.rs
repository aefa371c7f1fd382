//! One attempt as a stream: a future that works, and the events it has sent so far.
//!
//! Nothing is spawned: dropping the stream drops the future, and with it the connection. The future
//! only runs while someone reads, so a slow reader slows the provider down instead of filling
//! memory.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use homarus_contract::{
    BoxFuture, BoxStream,
    message::{StopReason, Usage},
    model::{ModelError, ModelEvent},
};
use tokio::sync::mpsc;

/// Events that may wait for the reader.
const EVENTS_MAX: usize = 64;

/// How an attempt ends well.
pub(crate) type Ending = (StopReason, Usage);

/// Where an attempt puts its events.
#[derive(Clone)]
pub(crate) struct Sink(mpsc::Sender<ModelEvent>);

impl Sink {
    pub(crate) async fn send(&self, event: ModelEvent) {
        // The receiver lives as long as the future that sends: a failure cannot be seen.
        let _ = self.0.send(event).await;
    }
}

/// Makes a stream of an attempt. `Done` or `Failed` comes last, exactly once, whatever it does.
pub(crate) fn stream<F>(work: impl FnOnce(Sink) -> F) -> BoxStream<ModelEvent>
where
    F: Future<Output = Result<Ending, ModelError>> + Send + 'static,
{
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    Box::pin(Attempt { work: Some(Box::pin(work(Sink(sender)))), events, last: None })
}

/// An attempt that failed before it began.
pub(crate) fn failed(error: ModelError) -> BoxStream<ModelEvent> {
    stream(move |_| async move { Err(error) })
}

struct Attempt {
    work: Option<BoxFuture<'static, Result<Ending, ModelError>>>,
    events: mpsc::Receiver<ModelEvent>,
    last: Option<ModelEvent>,
}

impl Stream for Attempt {
    type Item = ModelEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        loop {
            match self.events.poll_recv(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                // After many events at once the runtime wants its thread back, and wakes us for the rest.
                Poll::Pending if !self.events.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(work) = &mut self.work else {
                return Poll::Ready(self.last.take());
            };
            match work.as_mut().poll(context) {
                Poll::Ready(result) => {
                    self.work = None;
                    self.last = Some(match result {
                        Ok((stop, usage)) => ModelEvent::Done { stop, usage },
                        Err(error) => ModelEvent::Failed(error),
                    });
                }
                // It may have sent something before it went to sleep.
                Poll::Pending if self.events.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn events_come_in_order_and_the_ending_once() {
        let stream = stream(|sink| async move {
            for index in 0..1000 {
                sink.send(ModelEvent::TextDelta(index.to_string())).await;
            }
            Ok((StopReason::EndTurn, Usage::default()))
        });
        let events: Vec<ModelEvent> = stream.collect().now_or_never().unwrap();
        assert_eq!(events.len(), 1001);
        assert_eq!(events[999], ModelEvent::TextDelta("999".to_owned()));
        assert!(matches!(events[1000], ModelEvent::Done { .. }));
    }

    /// A runtime allows a task only so many events before others must have their turn. Where in the answer that comes
    /// depends on what the task did before.
    #[tokio::test]
    async fn an_answer_that_comes_all_at_once_ends_and_lets_others_run() {
        for done_before in 0..EVENTS_MAX {
            let mut stream = stream(|sink| async move {
                for index in 0..1_000 {
                    sink.send(ModelEvent::TextDelta(index.to_string())).await;
                }
                Ok((StopReason::EndTurn, Usage::default()))
            });
            // It begins with the whole of what it is allowed.
            tokio::task::yield_now().await;
            for _ in 0..done_before {
                tokio::task::coop::consume_budget().await;
            }
            let others = tokio::spawn(async {});
            let mut count = 0;
            while let Some(event) = stream.next().await {
                count += 1;
                assert!(count <= 500 || others.is_finished(), "{event:?}");
            }
            assert_eq!(count, 1_001);
        }
    }
}
