//! Asking a model: one attempt, its stream, and the tool calls that start while it still streams.

use std::{collections::VecDeque, ops::ControlFlow, time::Duration};

use futures_util::{FutureExt, StreamExt, future::OptionFuture};
use homarus_contract::{
    BoxStream,
    budget::{Amount, BudgetChange},
    event::Event,
    gate::{GateError, Judge, Ledger, Permit},
    ids::CallId,
    journal::JournalError,
    machine::{Command, Machine, PromptMessage},
    message::{Block, StopReason, Thought, ToolCall, Usage},
    model::{
        Admission, ModelError, ModelErrorClass, ModelEvent, ModelInfo, ModelRef, ModelRequest, Price, ProviderBlock,
    },
};

use crate::{DriverError, batch::Batch, journal_error, ports::Live, session::Session, settle::Merging};

/// Tool calls of one answer beyond this are refused with it.
const CALLS_PER_ANSWER_MAX: u32 = 32;
/// Text has at least so many bytes to a token nearly always, and hardly ever more than the second.
const BYTES_PER_TOKEN: u64 = 3;
const BYTES_PER_TOKEN_MAX: u64 = 4;

pub(crate) struct Ask {
    pub(crate) step: u32,
    pub(crate) attempt: u32,
    pub(crate) model: ModelRef,
    pub(crate) backoff_ms: u64,
    pub(crate) patience_ms: u64,
    pub(crate) messages: Vec<PromptMessage>,
}

/// An answer on its way.
struct Answer {
    step: u32,
    model: ModelRef,
    reserved: Amount,
    started_ms: u64,
    /// When the pause before it began.
    wanted_ms: u64,
    /// Longest wait for its beginning.
    patience_ms: u64,
    /// Something of it came.
    has_begun: bool,
    /// A rough count of the prompt's tokens.
    prompt_tokens: u64,
    /// What the provider has counted so far, and bytes of what came.
    counted: Option<Usage>,
    made_bytes: u64,
    /// What was thought before a block that is not there yet: journalled with it, or not at all.
    thoughts: Vec<String>,
    /// Text of the block that is not complete yet, as far as it was shown.
    shown: String,
    has_blocks: bool,
    calls: u32,
    is_over: bool,
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Asks the model; merges `free` settles meanwhile.
    pub(crate) async fn ask_model(&mut self, ask: Ask, free: Vec<Command>) -> Result<(), DriverError> {
        let wanted_ms = self.steady_ms();
        if ask.backoff_ms > 0 && self.pause(&ask).await.is_break() {
            return Ok(()); // The loop finds why and acts on it.
        }
        let built = self.build_prompt(ask.messages)?;
        let info = self.driver.options.models.info(&ask.model);
        let output_tokens_max = info.output_tokens_max.min(self.driver.options.output_tokens_max);
        if let Some(message) = too_long(&ask.model, built.bytes, &info) {
            let class = ModelErrorClass::ContextOverflow;
            self.not_asked(ask.step, ask.model, class, message);
            return Ok(());
        }
        let reserved = reservation(built.tokens_estimate, output_tokens_max, &info);
        let mut append = self.append();
        append.blobs.extend(built.blobs);
        append.budget.push(BudgetChange::Reserve(reserved));
        append.push(Event::ModelIntent {
            step: ask.step,
            attempt: ask.attempt,
            prompt: built.parts,
            model: ask.model.clone(),
            reserved,
        });
        let (permit, fence) = match self.driver.options.gate.admit_model(append, ask.model.clone()).await {
            Ok(admitted) => admitted,
            Err(GateError::Journal(JournalError::OverBudget { bound, limit })) => {
                self.note(Event::BoundHit { bound, limit });
                return Ok(());
            }
            Err(GateError::ModelDenied(message)) => {
                // The machine asks the next model of the order, if there is one.
                self.not_asked(ask.step, ask.model, ModelErrorClass::Denied, message);
                return Ok(());
            }
            Err(error) => return Err(journal_error(error)),
        };
        self.committed(fence)?;
        self.prompt.journalled(built.hashes);
        let request = ModelRequest {
            model: ask.model.clone(),
            system: self.prompt.system.clone(),
            tools: self.prompt.tools.clone(),
            messages: built.messages,
            output_tokens_max,
        };
        let answer = Answer {
            step: ask.step,
            model: ask.model,
            reserved,
            started_ms: self.steady_ms(),
            wanted_ms,
            patience_ms: ask.patience_ms,
            has_begun: false,
            prompt_tokens: built.tokens_estimate,
            counted: None,
            made_bytes: 0,
            thoughts: Vec::new(),
            shown: String::new(),
            has_blocks: false,
            calls: 0,
            is_over: false,
        };
        self.driver.options.sandbox.prepare_next();
        self.stream(answer, permit, request, free).await
    }

    /// It is not worth a request.
    fn not_asked(&mut self, step: u32, model: ModelRef, class: ModelErrorClass, message: String) {
        self.note(Event::ModelFailed { step, model, class, message, retry_after_ms: None, wall_ms: 0 });
    }

    /// Whether the model's circuit is open; the machine then names the next one, knowing why from the event.
    pub(crate) fn skip(&mut self, step: u32, model: &ModelRef) -> bool {
        match self.driver.options.models.admission(model) {
            Admission::Ask => false,
            Admission::Skip { why, retry_in_ms } => {
                self.note(Event::ModelSkipped { step, model: model.clone(), why, retry_in_ms });
                true
            }
        }
    }

    /// Waits out a back-off; breaks if something else is to be done instead.
    async fn pause(&mut self, ask: &Ask) -> ControlFlow<()> {
        self.live(&Live::Pause { model: ask.model.clone(), ms: ask.backoff_ms });
        tokio::select! {
            _ = self.stop_wanted() => ControlFlow::Break(()),
            () = self.called() => ControlFlow::Break(()),
            () = tokio::time::sleep(Duration::from_millis(ask.backoff_ms)) => ControlFlow::Continue(()),
        }
    }

    async fn stream(
        &mut self,
        mut answer: Answer,
        permit: Permit,
        request: ModelRequest,
        free: Vec<Command>,
    ) -> Result<(), DriverError> {
        let mut stream: BoxStream<ModelEvent> = self.driver.options.models.stream(permit, request);
        let mut free = VecDeque::from(free);
        let mut merge = self.next_merge(&mut free)?;
        let mut batch = Batch::default();
        let mut stop = self.stop_wanted().boxed();
        let mut out_of_patience = Box::pin(tokio::time::sleep(Duration::from_millis(answer.patience_ms)));
        loop {
            if answer.is_over && batch.is_empty() && merge.is_none() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = &mut stop => {
                    // The stream and the calls end with this scope; the loop acts on the stop.
                    if !answer.is_over {
                        self.cut_off(&mut answer, None);
                    }
                    drop(batch);
                    while let Some(under_way) = merge {
                        self.merged(under_way.await)?;
                        merge = self.next_merge(&mut free)?;
                    }
                    return Ok(());
                }
                Some(done) = OptionFuture::from(merge.as_mut()), if merge.is_some() => {
                    self.merged(done)?;
                    merge = self.next_merge(&mut free)?;
                    if merge.is_none() {
                        self.start_ready(&mut batch).await?;
                    }
                }
                Some(done) = batch.next(), if !batch.is_empty() => {
                    self.act_done(done);
                    if !answer.is_over {
                        self.start_ready(&mut batch).await?;
                    }
                }
                event = stream.next(), if !answer.is_over => {
                    let event = event.unwrap_or_else(|| ModelEvent::Failed(ended_early()));
                    answer.has_begun |= !matches!(event, ModelEvent::Counted(_));
                    let call_complete = self.model_event(&mut answer, event)?;
                    if call_complete && merge.is_none() {
                        self.start_ready(&mut batch).await?;
                    }
                }
                () = &mut out_of_patience, if !answer.has_begun && !answer.is_over => {
                    let error = too_slow(answer.patience_ms);
                    self.failed(&mut answer, error);
                }
            }
        }
    }

    /// Starts the next of these merges: one after the other, in the order of their calls.
    fn next_merge(&mut self, free: &mut VecDeque<Command>) -> Result<Option<Merging>, DriverError> {
        while let Some(command) = free.pop_front() {
            if let Command::Settle { action, plan, result, approval, .. } = command
                && let Some(merge) = self.merge_later(action, *plan, *result, approval)?
            {
                return Ok(Some(merge));
            }
        }
        Ok(None)
    }

    /// Takes in one event of the stream; `true` if a tool call is complete.
    fn model_event(&mut self, answer: &mut Answer, event: ModelEvent) -> Result<bool, DriverError> {
        match event {
            ModelEvent::TextDelta(text) => {
                answer.made_bytes += text.len() as u64;
                answer.shown.push_str(&text);
                self.live(&Live::Text { text });
            }
            ModelEvent::CallStarted { name, .. } => self.live(&Live::CallStarted { name }),
            ModelEvent::CallDelta { json, .. } => {
                answer.made_bytes += json.len() as u64;
                self.live(&Live::CallDelta { json });
            }
            ModelEvent::Counted(usage) => answer.counted = Some(usage),
            ModelEvent::BlockDone(ProviderBlock::Text(text)) => {
                answer.shown.clear();
                if !text.trim().is_empty() {
                    self.note_thoughts(answer);
                    answer.has_blocks = true;
                    let block = Block::Text { text };
                    self.note(Event::BlockDone { step: answer.step, block, partial: false });
                }
            }
            ModelEvent::BlockDone(ProviderBlock::ToolCall { provider_id, name, arguments }) => {
                if answer.calls >= CALLS_PER_ANSWER_MAX {
                    let limit = u64::from(CALLS_PER_ANSWER_MAX);
                    self.cut_off(answer, Some(("calls_per_answer", limit)));
                    return Ok(false);
                }
                let call = CallId::new(answer.step, answer.calls);
                answer.calls += 1;
                self.note_thoughts(answer);
                answer.has_blocks = true;
                let block = Block::ToolCall(ToolCall { call, provider_id, name, arguments });
                self.note(Event::BlockDone { step: answer.step, block, partial: false });
                return Ok(true);
            }
            ModelEvent::BlockDone(ProviderBlock::Thought { json }) => answer.thoughts.push(json),
            ModelEvent::Done { stop, usage } => self.answered(answer, stop, usage),
            ModelEvent::Failed(error) => self.failed(answer, error),
        }
        Ok(false)
    }

    fn note_thoughts(&mut self, answer: &mut Answer) {
        for json in std::mem::take(&mut answer.thoughts) {
            let block = Block::Thought(Thought { model: answer.model.clone(), json });
            self.note(Event::BlockDone { step: answer.step, block, partial: false });
        }
    }

    fn answered(&mut self, answer: &mut Answer, stop: StopReason, usage: Usage) {
        if answer.has_blocks {
            // Some formats send the last of them after what they led to.
            self.note_thoughts(answer);
        }
        let info = self.driver.options.models.info(&answer.model);
        let is_counted = usage.input_tokens.is_some() && usage.output_tokens.is_some();
        // Beyond the length up to which the price is right nobody knows it.
        let is_priced = info.prompt_tokens_max.is_none_or(|max| prompt_tokens(&usage) <= u64::from(max));
        let cost = info.price.filter(|_| is_counted && is_priced).map(|price| price.cost(&usage));
        // What the provider does not count is booked as reserved.
        let counted = usage.input_tokens.is_some() || usage.output_tokens.is_some();
        let used = Amount {
            cost: cost.unwrap_or(answer.reserved.cost),
            tokens: if counted { usage.total_tokens() } else { answer.reserved.tokens },
            steps: 1,
        };
        self.close(answer, stop, usage, cost, used);
    }

    fn failed(&mut self, answer: &mut Answer, error: ModelError) {
        if answer.has_blocks || !answer.shown.trim().is_empty() {
            // Nothing that was shown or acted on is replaced by another attempt.
            let (step, model) = (answer.step, answer.model.clone());
            self.note(Event::ModelBroke { step, model, class: error.class, message: error.message });
            self.cut_off(answer, None);
            return;
        }
        answer.is_over = true;
        let price = self.driver.options.models.info(&answer.model).price;
        self.note_budget(BudgetChange::Settle { reserved: answer.reserved, used: spent(answer, error.class, price) });
        self.note(Event::ModelFailed {
            step: answer.step,
            model: answer.model.clone(),
            class: error.class,
            message: error.message,
            retry_after_ms: error.retry_after_ms,
            wall_ms: self.steady_ms().saturating_sub(answer.wanted_ms),
        });
    }

    /// Ends an answer where it stands: what was shown is kept, the reservation counts as spent.
    fn cut_off(&mut self, answer: &mut Answer, bound: Option<(&str, u64)>) {
        let shown = std::mem::take(&mut answer.shown);
        if !shown.trim().is_empty() {
            answer.has_blocks = true;
            self.note(Event::BlockDone { step: answer.step, block: Block::Text { text: shown }, partial: true });
        }
        if let Some((bound, limit)) = bound {
            self.note(Event::BoundHit { bound: bound.to_owned(), limit });
        }
        self.close(answer, StopReason::Interrupted, Usage::default(), None, answer.reserved);
    }

    fn close(&mut self, answer: &mut Answer, stop: StopReason, usage: Usage, cost: Option<u64>, used: Amount) {
        answer.is_over = true;
        self.note_budget(BudgetChange::Settle { reserved: answer.reserved, used });
        self.note(Event::ModelResult {
            step: answer.step,
            stop,
            usage,
            served_by: answer.model.clone(),
            cost,
            wall_ms: self.steady_ms().saturating_sub(answer.started_ms),
        });
    }
}

/// What an answer can cost at most: a prompt that is written to the cache may be dearer than one that is not.
fn reservation(prompt_tokens: u64, output_tokens_max: u32, info: &ModelInfo) -> Amount {
    let output = u64::from(output_tokens_max);
    let price = info.price.map(|price| Price { input: price.input.max(price.cache_write), ..price });
    let usage = Usage { input_tokens: Some(prompt_tokens), output_tokens: Some(output), ..Usage::default() };
    let cost = price.map_or(0, |price| price.cost(&usage));
    Amount { cost, tokens: prompt_tokens.saturating_add(output), steps: 1 }
}

/// What an attempt that came to nothing has cost. A provider charges for what it made, whether it is of use or not; one that
/// refused, or never answered, made nothing.
fn spent(answer: &Answer, class: ModelErrorClass, price: Option<Price>) -> Amount {
    let made = answer.made_bytes.div_ceil(BYTES_PER_TOKEN);
    let has_answered = answer.counted.is_some() || made > 0 || class == ModelErrorClass::Protocol;
    if !has_answered {
        return Amount::default();
    }
    let counted = answer.counted.unwrap_or_default();
    let usage = Usage {
        input_tokens: counted.input_tokens.or(Some(answer.prompt_tokens)),
        output_tokens: Some(counted.output_tokens.unwrap_or(0).max(made)),
        ..counted
    };
    Amount { cost: price.map_or(0, |price| price.cost(&usage)), tokens: usage.total_tokens(), steps: 0 }
}

fn prompt_tokens(usage: &Usage) -> u64 {
    Usage { output_tokens: None, ..*usage }.total_tokens()
}

/// Why this prompt is not sent at all. Counted low, so that none is refused that would fit.
fn too_long(model: &ModelRef, prompt_bytes: u64, info: &ModelInfo) -> Option<String> {
    let max = u64::from(info.prompt_tokens_max?);
    let tokens = prompt_bytes / BYTES_PER_TOKEN_MAX;
    (tokens > max).then(|| {
        format!(
            "the conversation has some {tokens} tokens, and {model} is given no more than {max}: its window, or the length up to \
             which its price is known. Begin a new run, or use a model that takes more"
        )
    })
}

fn too_slow(patience_ms: u64) -> ModelError {
    ModelError {
        class: ModelErrorClass::Timeout,
        message: format!("no answer began within {} s, its share of models.answer_s", patience_ms.div_ceil(1000)),
        raw: String::new(),
        retry_after_ms: None,
    }
}

fn ended_early() -> ModelError {
    ModelError {
        class: ModelErrorClass::Protocol,
        message: "the answer ended without an end".to_owned(),
        raw: String::new(),
        retry_after_ms: None,
    }
}
