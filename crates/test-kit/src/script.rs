//! What a scripted model says, turn by turn. Built in code, or read from TOML or JSON:
//!
//! ```toml
//! models = ["scripted"]
//!
//! [[turns]]
//! text = "I look first."
//! calls = [{ name = "file.list", arguments = { path = "." } }]
//!
//! [[turns]]
//! status = 429
//! headers = { retry-after = "1" }
//! body = '{"error":{"message":"slow down"}}'
//!
//! [[turns]]
//! text = "Done."
//! usage = { input = 120, output = 3 }
//! hold = true
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// All a server will say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// What the model listings name.
    #[serde(default = "default_models")]
    pub models: Vec<String>,
    /// Say the last turn again for every request after it; otherwise those get status 500.
    #[serde(default)]
    pub repeat_last: bool,
}

/// The answer to one request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Said first.
    pub text: Option<String>,
    /// Made after the text.
    #[serde(default)]
    pub calls: Vec<ScriptedCall>,
    /// More text and calls, after those above, in any order.
    #[serde(default)]
    pub more: Vec<ScriptedBlock>,
    /// `end_turn`, `tool_use`, `max_tokens` or `refusal`; otherwise what fits the blocks.
    pub stop: Option<String>,
    pub usage: Option<ScriptedUsage>,
    /// Send no usage at all.
    #[serde(default)]
    pub no_usage: bool,
    /// Another status than 200; then `body` is sent instead of an answer.
    pub status: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// A whole body, as it is, instead of an answer, with status 200 and the usual content type.
    pub raw: Option<String>,
    /// The same, where it is no text.
    pub raw_bytes: Option<Vec<u8>>,
    /// Sealed reasoning (a signature, encrypted content), said first where the format has a place for it.
    pub thought: Option<String>,
    /// Reset the connection instead of answering.
    #[serde(default)]
    pub reset: bool,
    /// Reset it after so many bytes of the body.
    pub reset_after: Option<usize>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Say nothing more after so many bytes of the body, but keep the connection open.
    pub stall_after: Option<usize>,
    /// Wait to be released before answering.
    #[serde(default)]
    pub hold: bool,
    /// Characters in a piece; small pieces by default.
    pub piece_chars: Option<usize>,
    /// A pause before each piece of the body.
    #[serde(default)]
    pub piece_delay_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedCall {
    /// Our name for the tool (`file.write`); the wire name is found among the tools offered.
    pub name: String,
    /// Sent as JSON; a string is sent as it is, so that it may be broken JSON.
    #[serde(default)]
    pub arguments: Value,
    /// The provider's id; made up if absent.
    pub id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedBlock {
    Text(String),
    Call(ScriptedCall),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedUsage {
    #[serde(default)]
    pub input: u64,
    #[serde(default)]
    pub output: u64,
    #[serde(default)]
    pub cache_read: u64,
    #[serde(default)]
    pub cache_write: u64,
}

impl Default for ScriptedUsage {
    fn default() -> Self {
        Self { input: 10, output: 5, cache_read: 0, cache_write: 0 }
    }
}

impl Script {
    pub fn new(turns: Vec<Turn>) -> Self {
        Self { turns, models: default_models(), repeat_last: false }
    }

    /// Reads TOML, or JSON if the text begins with `{`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| error.to_string()),
            false => toml::from_str(text).map_err(|error| error.to_string()),
        }
    }
}

impl Turn {
    pub fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    pub fn call(name: &str, arguments: Value) -> Self {
        Self::default().and_call(name, arguments)
    }

    /// A turn with nothing in it.
    pub fn empty() -> Self {
        Self::default()
    }

    pub fn status(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status: Some(status), headers, body: Some(body.to_owned()), ..Self::default() }
    }

    /// A body exactly as given, with status 200.
    pub fn raw(body: &str) -> Self {
        Self { raw: Some(body.to_owned()), ..Self::default() }
    }

    /// The same with bytes that may be no text.
    pub fn raw_bytes(body: &[u8]) -> Self {
        Self { raw_bytes: Some(body.to_vec()), ..Self::default() }
    }

    /// Resets the connection instead of answering.
    pub fn reset() -> Self {
        Self { reset: true, ..Self::default() }
    }

    /// Server-sent events, one `data:` each.
    pub fn raw_sse(data: &[&str]) -> Self {
        Self::raw(&data.iter().map(|data| format!("data: {data}\n\n")).collect::<String>())
    }

    /// Accepts the request and never says anything.
    pub fn stall() -> Self {
        Self::text("never said").stall_after(0)
    }

    pub fn and_text(mut self, text: &str) -> Self {
        self.more.push(ScriptedBlock::Text(text.to_owned()));
        self
    }

    pub fn and_call(mut self, name: &str, arguments: Value) -> Self {
        self.more.push(ScriptedBlock::Call(ScriptedCall { name: name.to_owned(), arguments, id: None }));
        self
    }

    pub fn and_call_with_id(mut self, id: &str, name: &str, arguments: Value) -> Self {
        self.more.push(ScriptedBlock::Call(ScriptedCall { name: name.to_owned(), arguments, id: Some(id.to_owned()) }));
        self
    }

    pub fn stop(mut self, stop: &str) -> Self {
        self.stop = Some(stop.to_owned());
        self
    }

    pub fn usage(mut self, input: u64, output: u64, cache_read: u64, cache_write: u64) -> Self {
        self.usage = Some(ScriptedUsage { input, output, cache_read, cache_write });
        self
    }

    pub fn no_usage(mut self) -> Self {
        self.no_usage = true;
        self
    }

    /// Reasons first; what it thought is sealed as this text.
    pub fn thinking(mut self, sealed: &str) -> Self {
        self.thought = Some(sealed.to_owned());
        self
    }

    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.reset_after = Some(bytes);
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub fn stall_after(mut self, bytes: usize) -> Self {
        self.stall_after = Some(bytes);
        self
    }

    /// Waits for [`crate::ModelServer::release`] before answering.
    pub fn hold(mut self) -> Self {
        self.hold = true;
        self
    }

    /// All blocks in order.
    pub(crate) fn blocks(&self) -> Vec<ScriptedBlock> {
        let text = self.text.iter().cloned().map(ScriptedBlock::Text);
        let calls = self.calls.iter().cloned().map(ScriptedBlock::Call);
        text.chain(calls).chain(self.more.iter().cloned()).collect()
    }

    pub(crate) fn usage_on_wire(&self) -> Option<ScriptedUsage> {
        (!self.no_usage).then(|| self.usage.unwrap_or_default())
    }

    /// The stop reason, worked out where none is given.
    pub(crate) fn stop_on_wire(&self) -> &str {
        let has_call = self.blocks().iter().any(|block| matches!(block, ScriptedBlock::Call(_)));
        self.stop.as_deref().unwrap_or(if has_call { "tool_use" } else { "end_turn" })
    }
}

impl ScriptedCall {
    pub(crate) fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        }
    }
}

fn default_models() -> Vec<String> {
    vec!["scripted".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "[[turns]]\ntext = \"hi\"\ncalls = [{ name = \"file.list\", arguments = { path = \".\" } }]\n";
        let json = r#"{"turns":[{"text":"hi","calls":[{"name":"file.list","arguments":{"path":"."}}]}]}"#;
        for text in [toml, json] {
            let script = Script::parse(text).unwrap();
            assert_eq!(script.turns[0].blocks().len(), 2, "{text}");
            assert_eq!(script.turns[0].stop_on_wire(), "tool_use");
            assert_eq!(script.models, ["scripted"]);
        }
        assert!(Script::parse("[[turns]]\ntxt = \"hi\"\n").is_err());
    }
}
