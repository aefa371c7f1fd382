//! The model itself: weights, context and the loop that makes tokens.

use std::{num::NonZeroU32, path::Path};

use homarus_contract::{
    message::{Message, StopReason, ToolDefinition},
    model::ModelErrorClass,
};
use llama_cpp_2::{
    context::{LlamaContext, params::LlamaContextParams},
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::{LlamaModel, params::LlamaModelParams},
    sampling::LlamaSampler,
    token::LlamaToken,
};
use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};

use crate::{
    grammar,
    output::{AnswerReader, Found},
    render::{self, CALL_OPEN, Piece, TEMPLATE_MARK},
    repeat::{self, Earlier},
};

/// Prompt tokens computed between two looks at whether the request was cancelled.
const PROMPT_CHUNK_TOKENS: usize = 256;
/// Room an answer needs at least; a prompt that leaves less does not fit.
const ANSWER_TOKENS_MIN: usize = 64;

/// How many of the likeliest tokens a choice is made from.
const CANDIDATES: usize = 8;
/// Taken from a token that would go on with a loop: enough to never choose it while there is another.
const LOOP_PENALTY: f32 = 1_000.0;

/// Tokens a model may think before its first call.
const THOUGHT_TOKENS_MAX: usize = 320;
/// What a thought must not go into: a call or a file belongs into a call.
const THOUGHT_ENDS: [&[u8]; 2] = [b"```", b"<tool_call>"];

/// A loaded GGUF file.
pub struct Weights {
    backend: LlamaBackend,
    model: LlamaModel,
}

/// One request, already parsed.
pub struct Request<'a> {
    pub system: &'a str,
    pub tools: &'a [ToolDefinition],
    pub messages: &'a [Message],
    pub output_tokens_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub stop: StopReason,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug)]
pub struct Failure {
    pub class: ModelErrorClass,
    pub message: String,
}

/// The model with its context. The key-value cache holds `cached`, and the next prompt reuses as
/// much of it as it begins with.
pub struct Engine<'w> {
    weights: &'w Weights,
    context: LlamaContext<'w>,
    context_tokens: u32,
    cached: Vec<LlamaToken>,
    grammars: ParserFactory,
}

impl Weights {
    pub fn load(path: &Path, verbose: bool) -> Result<Self, String> {
        let shown = path.display();
        std::fs::File::open(path).map_err(|error| format!("cannot open the weights {shown}: {error}"))?;
        let mut backend = LlamaBackend::init().map_err(|error| format!("llama.cpp does not start: {error}"))?;
        if !verbose {
            backend.void_logs();
        }
        let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default()).map_err(|_| {
            format!("{shown} is not a GGUF file this program can load (damaged, cut off, or of an unknown kind)")
        })?;
        let weights = Self { backend, model };
        weights.check_template().map_err(|error| format!("{shown}: {error}"))?;
        Ok(weights)
    }

    /// The model's own name for itself.
    pub fn model_name(&self) -> String {
        self.model.meta_val_str("general.name").unwrap_or_else(|_| "unnamed".to_owned())
    }

    fn check_template(&self) -> Result<(), String> {
        let template = self.model.meta_val_str("tokenizer.chat_template").unwrap_or_default();
        if !template.contains(TEMPLATE_MARK) {
            return Err(
                "its chat template is not ChatML, the only one supported (Qwen and SmolLM models speak it)".to_owned()
            );
        }
        match (self.control("<|im_start|>"), self.control("<|im_end|>")) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err("its vocabulary lacks ChatML's control tokens <|im_start|> and <|im_end|>".to_owned()),
        }
    }

    fn control(&self, mark: &str) -> Option<LlamaToken> {
        match self.model.vocab().tokenize(mark.as_bytes(), false, true)[..] {
            [token] => Some(token),
            _ => None,
        }
    }

    fn tokens(&self, pieces: &[Piece]) -> Vec<LlamaToken> {
        let vocab = self.model.vocab();
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                Piece::TurnStart => tokens.extend(self.control("<|im_start|>")),
                Piece::TurnEnd => tokens.extend(self.control("<|im_end|>")),
                Piece::Text(text) => tokens.extend(vocab.tokenize(text.as_bytes(), false, false)),
            }
        }
        tokens
    }
}

impl<'w> Engine<'w> {
    pub fn new(weights: &'w Weights, context_tokens: u32, threads: usize) -> Result<Self, String> {
        let threads = i32::try_from(threads).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(context_tokens))
            .with_n_batch(PROMPT_CHUNK_TOKENS as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let context = weights.model.new_context(&weights.backend, params).map_err(|error| {
            format!("no context of {context_tokens} tokens: {error} (try a smaller --context-tokens)")
        })?;
        let vocabulary = LlamaSampler::llguidance_tok_env(&weights.model);
        let mut grammars = ParserFactory::new_simple(&vocabulary)
            .map_err(|error| format!("no grammar over this vocabulary: {error}"))?;
        grammars.quiet();
        Ok(Self { weights, context, context_tokens, cached: Vec::new(), grammars })
    }

    pub fn context_tokens(&self) -> u32 {
        self.context_tokens
    }

    /// Answers one request. `found` is called with each part; `cancelled` is asked between tokens.
    pub fn answer(
        &mut self,
        request: &Request<'_>,
        cancelled: &dyn Fn() -> bool,
        found: &mut dyn FnMut(Found),
    ) -> Result<Answer, Failure> {
        let prompt = self.weights.tokens(&render::prompt(request.system, request.tools, request.messages));
        let thinks = !request.tools.is_empty() && render::thinks(request.messages);
        // What the model is told between its thought and its call needs room too.
        let told = if thinks { self.weights.tokens(&render::after_thought(request.tools)) } else { Vec::new() };
        let room = (self.context_tokens as usize).saturating_sub(prompt.len() + told.len());
        if room < ANSWER_TOKENS_MIN {
            return Err(overflow(prompt.len() + told.len(), self.context_tokens));
        }
        let matcher = self.matcher(request.tools)?;
        let kept = self.keep_prefix(&prompt)?;
        let mut answer = Answer {
            stop: StopReason::Interrupted,
            input_tokens: (prompt.len() - kept + told.len()) as u64,
            cached_tokens: kept as u64,
            output_tokens: 0,
        };
        for chunk in prompt[kept..].chunks(PROMPT_CHUNK_TOKENS) {
            if cancelled() {
                return Ok(answer);
            }
            self.decode(chunk)?;
        }
        let limit = room.min(request.output_tokens_max as usize);
        let mut writing =
            Writing { engine: self, reader: AnswerReader::default(), made: Vec::new(), limit, cancelled, found };
        answer.stop = match matcher {
            None => writing.text(limit)?,
            Some(matcher) => {
                if thinks {
                    writing.think(&told)?;
                }
                writing.call(matcher, &Earlier::of(request.messages))?
            }
        };
        answer.output_tokens = writing.made.len() as u64;
        Ok(answer)
    }

    /// The likeliest token the grammar allows, after `penalty` was taken from the logits of the first few.
    fn best_token(
        &self,
        matcher: Option<&mut Matcher>,
        penalty: &dyn Fn(LlamaToken) -> f32,
    ) -> Result<LlamaToken, Failure> {
        let mask = matcher.map(Matcher::compute_mask_or_eos).transpose().map_err(grammar_failure)?;
        let allowed = |token: LlamaToken| mask.as_ref().is_none_or(|mask| mask.is_allowed(token.0.cast_unsigned()));
        let mut best: Vec<(LlamaToken, f32)> = Vec::with_capacity(CANDIDATES + 1);
        for (token, logit) in (0i32..).map(LlamaToken::new).zip(self.context.get_logits_ith(-1).iter().copied()) {
            let is_among_them = best.len() < CANDIDATES || best.last().is_some_and(|(_, least)| logit > *least);
            if is_among_them && allowed(token) {
                let at = best.partition_point(|(_, better)| *better >= logit);
                best.insert(at, (token, logit));
                best.truncate(CANDIDATES);
            }
        }
        let after = |(token, logit): &(LlamaToken, f32)| logit - penalty(*token);
        best.iter().max_by(|one, other| after(one).total_cmp(&after(other))).map(|(token, _)| *token).ok_or_else(|| {
            Failure { class: ModelErrorClass::Protocol, message: "the grammar leaves no token to choose".to_owned() }
        })
    }

    /// What ends the string a call is in: a text that goes round in circles gets no better by
    /// going on, and what a model writes after a way out of the circle was closed to it is seldom meant.
    fn end_of_string(&self, matcher: &mut Matcher) -> Option<LlamaToken> {
        let [quote] = self.weights.model.vocab().tokenize(b"\"", false, false)[..] else { return None };
        let mask = matcher.compute_mask_or_eos().ok()?;
        mask.is_allowed(quote.0.cast_unsigned()).then_some(quote)
    }

    fn bytes(&self, token: LlamaToken) -> Vec<u8> {
        self.weights.model.vocab().token_to_piece(token, false, None)
    }

    /// Whether a token ends the answer: an end token, or a control token that has no business in one.
    fn ends_turn(&self, token: LlamaToken) -> bool {
        let vocab = self.weights.model.vocab();
        vocab.is_eog(token) || vocab.is_control(token)
    }

    fn matcher(&self, tools: &[ToolDefinition]) -> Result<Option<Matcher>, Failure> {
        if tools.is_empty() {
            return Ok(None);
        }
        let bad = |message: String| Failure { class: ModelErrorClass::BadRequest, message };
        let grammar = TopLevelGrammar::from_lark(grammar::call(tools).map_err(bad)?);
        let parser = self
            .grammars
            .create_parser(grammar)
            .map_err(|error| bad(format!("a tool's schema is not supported: {error:#}")))?;
        Ok(Some(Matcher::new(Ok(parser))))
    }

    /// Cuts the cache back to what it shares with `prompt` and says how many tokens that is. The last
    /// token of the prompt is always computed again: its output is what the answer starts from.
    fn keep_prefix(&mut self, prompt: &[LlamaToken]) -> Result<usize, Failure> {
        let mut kept = shared_prefix(&self.cached, prompt);
        let cut = u32::try_from(kept).ok().and_then(|at| self.context.clear_kv_cache_seq(Some(0), Some(at), None).ok());
        if cut != Some(true) {
            self.context.clear_kv_cache();
            kept = 0;
        }
        self.cached.truncate(kept);
        Ok(kept)
    }

    fn decode(&mut self, tokens: &[LlamaToken]) -> Result<(), Failure> {
        let failed = |error: String| Failure {
            class: ModelErrorClass::Worker,
            message: format!("llama.cpp cannot compute: {error}"),
        };
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        for (offset, token) in tokens.iter().enumerate() {
            let position = i32::try_from(self.cached.len() + offset).unwrap_or(i32::MAX);
            batch.add(*token, position, &[0], offset + 1 == tokens.len()).map_err(|error| failed(error.to_string()))?;
        }
        if let Err(error) = self.context.decode(&mut batch) {
            // What the cache holds now is unknown: start afresh next time.
            self.context.clear_kv_cache();
            self.cached.clear();
            return Err(failed(error.to_string()));
        }
        self.cached.extend_from_slice(tokens);
        Ok(())
    }
}

/// An answer being made.
struct Writing<'e, 'w> {
    engine: &'e mut Engine<'w>,
    reader: AnswerReader,
    made: Vec<LlamaToken>,
    limit: usize,
    cancelled: &'e dyn Fn() -> bool,
    found: &'e mut dyn FnMut(Found),
}

impl Writing<'_, '_> {
    /// Free text, until the model ends it.
    fn text(&mut self, tokens_max: usize) -> Result<StopReason, Failure> {
        let stop = loop {
            if let Some(stop) = self.bound(tokens_max) {
                break stop;
            }
            let token = self.engine.best_token(None, &loop_penalty(&self.made))?;
            if self.engine.ends_turn(token) {
                break StopReason::EndTurn;
            }
            self.take(token);
            self.engine.decode(&[token])?;
        };
        if let Some(rest) = self.reader.finish() {
            (self.found)(rest);
        }
        Ok(stop)
    }

    fn call(&mut self, mut matcher: Matcher, earlier: &Earlier) -> Result<StopReason, Failure> {
        let mark = self.engine.weights.tokens(&[Piece::Text(CALL_OPEN.to_owned())]);
        mark.iter().for_each(|token| self.take(*token));
        self.engine.decode(&mark)?;
        let call_begin = self.made.len();
        let mut call: Vec<u8> = Vec::new();
        loop {
            if let Some(stop) = self.bound(self.limit) {
                return Ok(stop);
            }
            let circles = repeat::next_of_loop(&self.made[call_begin..]).is_some() && repeat::ends_in_string(&call);
            let token = match circles.then(|| self.engine.end_of_string(&mut matcher)).flatten() {
                Some(token) => token,
                None => {
                    let in_loop = loop_penalty(&self.made[call_begin..]);
                    let penalty = |token| in_loop(token) + earlier.penalty(&call, &self.engine.bytes(token));
                    self.engine.best_token(Some(&mut matcher), &penalty)?
                }
            };
            matcher.consume_token(token.0.cast_unsigned()).map_err(grammar_failure)?;
            call.extend_from_slice(&self.engine.bytes(token));
            self.take(token);
            if let Some(stop) = self.reader.ended() {
                return Ok(stop);
            }
            if matcher.is_stopped() {
                return Err(grammar_failure("it ended without a call"));
            }
            self.engine.decode(&[token])?;
        }
    }

    /// Text before the first call: until the model ends it, begins the call itself, or goes round in
    /// circles. Then the model is told of its tools.
    fn think(&mut self, told: &[LlamaToken]) -> Result<(), Failure> {
        let mut thought: Vec<u8> = Vec::new();
        while self.bound(THOUGHT_TOKENS_MAX.min(self.limit)).is_none() && repeat::next_of_loop(&self.made).is_none() {
            let token = self.engine.best_token(None, &|_| 0.0)?;
            let bytes = self.engine.bytes(token);
            thought.extend_from_slice(&bytes);
            if self.engine.ends_turn(token) || THOUGHT_ENDS.iter().any(|end| contains(&thought, end)) {
                break;
            }
            self.take(token);
            self.engine.decode(&[token])?;
        }
        for chunk in told.chunks(PROMPT_CHUNK_TOKENS) {
            if (self.cancelled)() {
                break;
            }
            self.engine.decode(chunk)?;
        }
        Ok(())
    }

    fn take(&mut self, token: LlamaToken) {
        self.made.push(token);
        for part in self.reader.push(&self.engine.bytes(token)) {
            (self.found)(part);
        }
    }

    fn bound(&self, tokens_max: usize) -> Option<StopReason> {
        if (self.cancelled)() {
            return Some(StopReason::Interrupted);
        }
        (self.made.len() >= tokens_max).then_some(StopReason::MaxTokens)
    }
}

fn loop_penalty(made: &[LlamaToken]) -> impl Fn(LlamaToken) -> f32 + use<> {
    let next = repeat::next_of_loop(made);
    move |token| if next == Some(token) { LOOP_PENALTY } else { 0.0 }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn shared_prefix<T: PartialEq>(cached: &[T], prompt: &[T]) -> usize {
    let same = cached.iter().zip(prompt).take_while(|(old, new)| old == new).count();
    same.min(prompt.len().saturating_sub(1))
}

fn overflow(prompt_tokens: usize, context_tokens: u32) -> Failure {
    Failure {
        class: ModelErrorClass::ContextOverflow,
        message: format!(
            "the prompt has {prompt_tokens} tokens and must leave {ANSWER_TOKENS_MIN} of {context_tokens} for the answer"
        ),
    }
}

fn grammar_failure(error: impl std::fmt::Display) -> Failure {
    Failure {
        class: ModelErrorClass::Protocol,
        message: format!("the answer cannot follow the tools' grammar: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_prefix_leaves_one_token_to_compute() {
        let check = |cached: &[u8], prompt: &[u8], expected| assert_eq!(shared_prefix(cached, prompt), expected);
        check(b"", b"abc", 0);
        check(b"abc", b"abcd", 3);
        check(b"abcxyz", b"abcd", 3);
        check(b"abc", b"abc", 2);
        check(b"abcd", b"ab", 1);
        check(b"abc", b"", 0);
    }
}
