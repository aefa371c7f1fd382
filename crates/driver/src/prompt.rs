//! The prompt of a model call, and its parts as the journal names them.

use std::sync::Arc;

use homarus_contract::{
    event::{Accepted, Event, PromptParts, Record},
    ids::{Hash, RunId},
    journal::Journal,
    machine::PromptMessage,
    message::{Message, ToolDefinition},
};

use crate::DriverError;

/// Messages that were built once, with the hashes of the parts of the latest intent.
pub(crate) struct Prompt {
    pub(crate) system: Arc<str>,
    pub(crate) tools: Arc<[ToolDefinition]>,
    orientation: String,
    built: Vec<(PromptMessage, Arc<Message>, Hash)>,
    /// System and tools come first.
    fixed: [Hash; 2],
    /// The whole list of the latest journalled intent.
    journalled: Vec<Hash>,
}

/// A prompt ready to be sent and journalled.
pub(crate) struct Built {
    pub(crate) messages: Vec<Arc<Message>>,
    pub(crate) parts: PromptParts,
    /// Parts that are not in the journal yet.
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) hashes: Vec<Hash>,
    pub(crate) bytes: u64,
    /// A rough upper bound: bytes / 3.
    pub(crate) tokens_estimate: u64,
}

impl Prompt {
    pub(crate) fn load(run: &RunId, journal: &dyn Journal, accepted: &Accepted) -> Result<Self, DriverError> {
        let unfit = |reason: String| DriverError::Unfit { run: run.clone(), reason };
        let text = |hash: &Hash| -> Result<String, DriverError> {
            String::from_utf8(journal.blob(hash)?).map_err(|_| unfit("a prompt part is not text".to_owned()))
        };
        let tools: Vec<ToolDefinition> =
            serde_json::from_str(&text(&accepted.tools)?).map_err(|error| unfit(format!("its tools: {error}")))?;
        Ok(Self {
            system: text(&accepted.system)?.into(),
            tools: tools.into(),
            orientation: text(&accepted.orientation)?,
            built: Vec::new(),
            fixed: [accepted.system, accepted.tools],
            journalled: Vec::new(),
        })
    }

    /// Finds the parts of the latest intent.
    pub(crate) fn restore(&mut self, records: &[Record]) {
        for record in records {
            if let Event::ModelIntent { prompt, .. } = &record.event {
                self.intent(prompt);
            }
        }
    }

    /// Takes in the parts of an intent that is durable now.
    pub(crate) fn intent(&mut self, parts: &PromptParts) {
        self.journalled.truncate(parts.kept as usize);
        self.journalled.extend(&parts.added);
    }

    /// The parts of the prompt that has just been journalled.
    pub(crate) fn journalled(&mut self, hashes: Vec<Hash>) {
        self.journalled = hashes;
    }

    pub(crate) fn build(
        &mut self,
        journal: &dyn Journal,
        wanted: Vec<PromptMessage>,
        fresh: &[Vec<u8>],
    ) -> Result<Built, DriverError> {
        let same = self.built.iter().zip(&wanted).take_while(|((have, ..), want)| have == *want).count();
        self.built.truncate(same);
        let mut blobs = Vec::new();
        for message in wanted.into_iter().skip(same) {
            let built = self.message(journal, &message, fresh)?;
            let hash = match &message {
                // Its text is a blob already; the rest follows from the event.
                PromptMessage::Result { text, .. } => *text,
                _ => {
                    let blob = serde_json::to_vec(built.as_ref()).unwrap_or_default();
                    let hash = Hash::of(&blob);
                    blobs.push(blob);
                    hash
                }
            };
            self.built.push((message, built, hash));
        }
        let hashes: Vec<Hash> = self.fixed.iter().copied().chain(self.built.iter().map(|(_, _, hash)| *hash)).collect();
        let kept = self.journalled.iter().zip(&hashes).take_while(|(have, want)| have == want).count();
        let bytes: usize = self.built.iter().map(|(_, message, _)| message_bytes(message)).sum::<usize>()
            + self.system.len()
            + self.tools.iter().map(|tool| tool.description.len() + tool.schema.len()).sum::<usize>();
        Ok(Built {
            messages: self.built.iter().map(|(_, message, _)| message.clone()).collect(),
            parts: PromptParts { kept: kept as u32, added: hashes[kept..].to_vec() },
            blobs,
            hashes,
            bytes: bytes as u64,
            tokens_estimate: (bytes as u64).div_ceil(3),
        })
    }

    fn message(
        &self,
        journal: &dyn Journal,
        message: &PromptMessage,
        fresh: &[Vec<u8>],
    ) -> Result<Arc<Message>, DriverError> {
        Ok(match message {
            PromptMessage::Ready(message) => message.clone(),
            PromptMessage::Request { text, .. } => {
                let text = if self.orientation.is_empty() {
                    text.clone()
                } else {
                    format!("{}\nThe task:\n{text}", self.orientation)
                };
                Arc::new(Message::User { text })
            }
            PromptMessage::Result { call, text, suffix, is_error } => {
                // A result that is committed together with this prompt is not in the journal yet.
                let bytes = match fresh.iter().find(|blob| Hash::of(blob) == *text) {
                    Some(blob) => blob.clone(),
                    None => journal.blob(text)?,
                };
                let text = String::from_utf8_lossy(&bytes).into_owned() + suffix;
                Arc::new(Message::ToolResult { call: call.clone(), text, is_error: *is_error })
            }
        })
    }
}

fn message_bytes(message: &Message) -> usize {
    use homarus_contract::message::Block;
    match message {
        Message::User { text } => text.len(),
        Message::ToolResult { text, .. } => text.len(),
        Message::Assistant { blocks } => blocks
            .iter()
            .map(|block| match block {
                Block::Text { text } => text.len(),
                Block::ToolCall(call) => call.name.len() + call.arguments.len() + 32,
                Block::Thought(thought) => thought.json.len(),
            })
            .sum(),
    }
}
