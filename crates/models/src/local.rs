//! The embedded model: a worker process of ours, spoken to in JSON lines.
//!
//! It is started for the first request, serves one at a time while others wait in line, and is
//! ended when nothing was asked of it for a while. Whatever happens to it is a model error here and
//! nothing more: the next request starts another.

use std::{sync::Arc, time::Duration};

use homarus_contract::{
    message::Usage,
    model::{ModelError, ModelErrorClass, ModelInfo, ModelRequest, Price},
    sandbox::{WorkerLauncher, WorkerSpec},
    worker::{WorkerReply, WorkerRequest},
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, Semaphore},
    task::AbortHandle,
};

use crate::{
    answer::Answer,
    attempt::{Ending, Sink},
    http,
    names::Offered,
    registry::LocalOptions,
};

mod pipe;

use pipe::Worker;

/// Requests that may wait for the one that is served.
const WAITING_MAX: usize = 16;
/// How long a cancelled generation may take to end before the worker is replaced.
const CANCEL_MS: u64 = 10_000;

pub(crate) struct Local {
    options: LocalOptions,
    launcher: Arc<dyn WorkerLauncher>,
    slot: Arc<Mutex<Slot>>,
    waiting: Semaphore,
}

/// The worker, if it runs. Whoever holds the lock talks to it.
#[derive(Default)]
struct Slot {
    worker: Option<Worker>,
    /// Numbers the requests.
    last_id: u64,
    /// A cancelled request whose end has not been read yet.
    unfinished: Option<u64>,
    /// Ends the worker when it has been idle; one for all requests.
    timer: Option<AbortHandle>,
}

impl Local {
    pub(crate) const PROVIDER: &'static str = "local";

    pub(crate) fn new(options: LocalOptions, launcher: Arc<dyn WorkerLauncher>) -> Self {
        Self { options, launcher, slot: Arc::default(), waiting: Semaphore::new(WAITING_MAX + 1) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            context_tokens: self.options.context_tokens,
            // The worker counts exactly.
            prompt_tokens_max: None,
            output_tokens_max: (self.options.context_tokens / 4).max(256),
            price: Some(Price { input: 0, output: 0, cache_read: 0, cache_write: 0 }),
            is_local: true,
        }
    }

    pub(crate) async fn attempt(self: Arc<Self>, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(ModelError {
                class: ModelErrorClass::Unavailable,
                message: format!("{WAITING_MAX} requests already wait for the embedded model"),
                raw: String::new(),
                retry_after_ms: Some(1_000),
            });
        };
        let slot = self.slot.clone().lock_owned().await;
        let mut turn = Turn { slot, state: State::Idle, idle_ms: self.options.idle_ms, shared: self.slot.clone() };
        if let Some(timer) = turn.slot.timer.take() {
            timer.abort();
        }
        self.settle(&mut turn).await;
        self.start(&mut turn).await?;
        let result = self.generate(&mut turn, request, sink).await;
        // A failure of the process, not of this request: the worker cannot be trusted any more.
        if matches!(&result, Err(error) if error.class == ModelErrorClass::Worker) {
            turn.slot.worker = None;
        }
        result
    }

    /// Reads the end of a request that was cancelled, or replaces a worker that does not stop.
    async fn settle(&self, turn: &mut Turn) {
        let Some(id) = turn.slot.unfinished.take() else { return };
        let Some(worker) = &mut turn.slot.worker else { return };
        let ended = async {
            while let Ok(reply) = worker.read().await {
                if matches!(reply, WorkerReply::Done { id: of, .. } | WorkerReply::Error { id: of, .. } if of == id) {
                    return true;
                }
            }
            false
        };
        if !tokio::time::timeout(Duration::from_millis(CANCEL_MS), ended).await.unwrap_or(false) {
            turn.slot.worker = None;
        }
    }

    async fn start(&self, turn: &mut Turn) -> Result<(), ModelError> {
        if turn.slot.worker.is_some() {
            return Ok(());
        }
        let options = &self.options;
        let spec = WorkerSpec {
            program: options.worker.clone(),
            args: vec![
                "--weights".to_owned(),
                options.weights.display().to_string(),
                "--context-tokens".to_owned(),
                options.context_tokens.to_string(),
            ],
            readable: vec![options.weights.clone()],
            memory_bytes: options.memory_bytes,
        };
        let process = self
            .launcher
            .launch(spec)
            .map_err(|error| worker_error(format!("the embedded model could not be started: {error}")))?;
        let mut worker = Worker::new(process)
            .map_err(|error| worker_error(format!("the embedded model could not be started: {error}")))?;
        match tokio::time::timeout(Duration::from_millis(options.silence_ms), worker.read()).await {
            Ok(Ok(WorkerReply::Ready { .. })) => {
                turn.slot.worker = Some(worker);
                Ok(())
            }
            Ok(Ok(WorkerReply::Error { message, .. })) => {
                Err(worker_error(format!("the embedded model did not start: {message}")))
            }
            Ok(Ok(_)) => Err(worker_error("the embedded model did not say that it is ready".to_owned())),
            Ok(Err(error)) => Err(worker_error(format!(
                "{error}, while it loaded its weights: are they whole, and is there memory enough?"
            ))),
            Err(_) => Err(worker_error(format!("the embedded model did not start within {} ms", options.silence_ms))),
        }
    }

    async fn generate(&self, turn: &mut Turn, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
        turn.slot.last_id += 1;
        let id = turn.slot.last_id;
        let offered = Offered::new(&request.tools);
        let mut answer = Answer::new(sink, offered, request.messages.len());
        let wire = WorkerRequest::Generate {
            id,
            system: request.system.to_string(),
            tools: request.tools.to_vec(),
            messages: request.messages.iter().map(|message| message.as_ref().clone()).collect(),
            output_tokens_max: request.output_tokens_max,
        };
        turn.state = State::Writing;
        turn.worker()?.write(&wire).await?;
        turn.state = State::Reading(id);
        loop {
            let silence = Duration::from_millis(self.options.silence_ms);
            let reply = tokio::time::timeout(silence, turn.worker()?.read()).await.map_err(|_| {
                worker_error(format!("the embedded model was silent for {} ms", self.options.silence_ms))
            })??;
            match reply {
                WorkerReply::Text { id: of, delta } if of == id => answer.text(&delta).await,
                WorkerReply::CallStarted { id: of, index, name } if of == id => {
                    answer.start_call(u64::from(index), "", &name).await?;
                }
                WorkerReply::CallDelta { id: of, index, json } if of == id => {
                    answer.call_delta(u64::from(index), &json).await?;
                }
                WorkerReply::Call { id: of, index, name, arguments } if of == id => {
                    let key = u64::from(index);
                    // A worker may say a call all at once, or repeat whole what it sent in pieces.
                    if answer.begun_calls() <= key {
                        answer.start_call(key, "", &name).await?;
                    }
                    if answer.open_call_id(key).is_some() && !answer.has_arguments(key) {
                        answer.call_delta(key, &arguments).await?;
                    }
                    answer.close_call(key).await?;
                }
                WorkerReply::Done { id: of, stop, input_tokens, cached_tokens, output_tokens } if of == id => {
                    turn.state = State::Idle;
                    let usage = Usage {
                        input_tokens: Some(input_tokens),
                        output_tokens: Some(output_tokens),
                        cache_read_tokens: Some(cached_tokens),
                        cache_write_tokens: None,
                    };
                    return Ok((answer.finish(stop).await?, usage));
                }
                WorkerReply::Error { id: of, class, message } if of == id => {
                    turn.state = State::Idle;
                    return Err(ModelError { class, message, raw: String::new(), retry_after_ms: None });
                }
                // Of a request that is over.
                _ => {}
            }
        }
    }
}

/// The worker lent to one request. Dropped early (the reader went away), it stops the generation.
struct Turn {
    slot: OwnedMutexGuard<Slot>,
    state: State,
    idle_ms: u64,
    shared: Arc<Mutex<Slot>>,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// Half a line may have been written.
    Writing,
    Reading(u64),
}

impl Turn {
    fn worker(&mut self) -> Result<&mut Worker, ModelError> {
        self.slot.worker.as_mut().ok_or_else(|| worker_error("the embedded model is gone".to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match self.state {
            State::Idle => {}
            State::Writing => self.slot.worker = None,
            State::Reading(id) => {
                let sent =
                    self.slot.worker.as_ref().is_some_and(|worker| worker.try_write(&WorkerRequest::Cancel { id }));
                if sent {
                    self.slot.unfinished = Some(id);
                } else {
                    self.slot.worker = None;
                }
            }
        }
        if let Some(timer) = self.slot.timer.take() {
            timer.abort();
        }
        if self.slot.worker.is_some() {
            self.slot.timer = end_when_idle(&self.shared, self.idle_ms);
        }
    }
}

/// Ends the worker when the time is over, unless this timer is stopped or the worker is in use. Holds
/// nothing meanwhile, so the worker also ends with the registry.
fn end_when_idle(slot: &Arc<Mutex<Slot>>, idle_ms: u64) -> Option<AbortHandle> {
    let slot = Arc::downgrade(slot);
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let timer = runtime.spawn(async move {
        tokio::time::sleep(Duration::from_millis(idle_ms)).await;
        if let Some(slot) = slot.upgrade()
            && let Ok(mut slot) = slot.try_lock()
        {
            slot.worker = None;
        }
    });
    Some(timer.abort_handle())
}

fn worker_error(message: String) -> ModelError {
    ModelError { class: ModelErrorClass::Worker, ..http::protocol(&message, "") }
}
