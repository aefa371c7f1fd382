//! The engines that are compared: how each is told to do a job with the model at its seat. All run by themselves, in
//! the job's own folder, each with the settings its makers document for use without a person and for local models.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    bench::clients::{Client, Kind},
    env::HOMARUS_MODELS_DIR,
    places::Places,
};

/// The name under which all engines ask for the model.
pub const MODEL: &str = "qwen2.5-coder-1.5b";
/// The agent that Homarus runs.
const AGENT: &str = "small";
/// Of prompt and answer together: the longest prompt of any engine fits.
pub const CONTEXT_TOKENS: u32 = 32_768;
/// Most tokens of one answer, told to engines that can be told.
const OUTPUT_TOKENS_MAX: u32 = 4_096;
/// Reading a long prompt takes minutes on two cores; no engine shall give up before its time is over.
const PATIENCE_S: u32 = 1_800;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Homarus with the model at the same seat as the others.
    Homarus,
    /// Homarus with its own embedded model, as a user would run it without any server.
    Embedded,
    OpenCode,
    Goose,
}

pub const ALL: [Engine; 4] = [Engine::Homarus, Engine::OpenCode, Engine::Goose, Engine::Embedded];
/// Those that are measured unless others are named.
pub const DEFAULT: [Engine; 3] = [Engine::Homarus, Engine::OpenCode, Engine::Goose];

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Homarus => "homarus",
            Self::Embedded => "embedded",
            Self::OpenCode => "opencode",
            Self::Goose => "goose",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Whether it is another's, not Homarus in one way or the other.
    pub fn is_theirs(self) -> bool {
        matches!(self, Self::OpenCode | Self::Goose)
    }

    /// Whether it asks the model server, or has the model to itself.
    pub fn asks_the_front(self) -> bool {
        self != Self::Embedded
    }
}

/// An engine that is there, with a home of its own.
pub struct Installed {
    pub engine: Engine,
    client: Client,
    models: PathBuf,
}

impl Installed {
    pub fn ours(engine: Engine, places: &Places, homarus: &Path, homes: &Path) -> Result<Self, String> {
        let client = Client { kind: Kind::Homarus, program: homarus.to_path_buf(), home: homes.join(engine.name()) };
        client.make_home()?;
        if engine == Engine::Homarus {
            // As goose is given one of its extensions: a small model gains nothing from a browser.
            crate::sh::run(client.command(&["agents", "create", AGENT, "--template", "small"]).stdout(Stdio::null()))?;
        }
        Ok(Self { engine, client, models: places.models.clone() })
    }

    pub fn theirs(engine: Engine, client: Client, places: &Places) -> Self {
        Self { engine, client, models: places.models.clone() }
    }

    /// What it says of its version, on one line.
    pub fn version(&self) -> String {
        let said = crate::sh::output(&mut self.client.command(&["--version"])).unwrap_or_else(|error| error);
        said.lines().next().unwrap_or_default().trim().to_owned()
    }

    /// The command that does a job in `workspace`; `base_url` is that of its seat.
    pub fn job(&self, prompt: &str, workspace: &Path, base_url: &str) -> Result<Command, String> {
        let base = format!("{base_url}/v1");
        let mut command = match self.engine {
            Engine::Homarus => {
                self.tell_homarus(&base)?;
                let model = format!("evals/{MODEL}");
                self.client.command(&["run", "--approvals", "auto", "--agent", AGENT, "--model", &model, prompt])
            }
            Engine::Embedded => {
                let model = format!("local/{MODEL}");
                let mut command = self.client.command(&["run", "--approvals", "auto", "--model", &model, prompt]);
                command.env(HOMARUS_MODELS_DIR, &self.models);
                command
            }
            Engine::OpenCode => {
                let model = format!("evals/{MODEL}");
                let mut command = self.client.command(&["run", "--auto", "--pure", "-m", &model, prompt]);
                command.env("OPENCODE_CONFIG_CONTENT", opencode(&base));
                command
            }
            Engine::Goose => {
                let mut command = self.client.command(&[
                    "run",
                    "--no-session",
                    "--no-profile",
                    "--with-builtin",
                    "developer",
                    "-t",
                    prompt,
                ]);
                let (host, path) = base.split_once("/s/").unwrap_or((&base, ""));
                let context = CONTEXT_TOKENS.to_string();
                let patience = PATIENCE_S.to_string();
                let path = format!("s/{path}/chat/completions");
                for (name, value) in [
                    ("GOOSE_PROVIDER", "openai"),
                    ("GOOSE_MODEL", MODEL),
                    ("GOOSE_MODE", "auto"),
                    ("GOOSE_DISABLE_SESSION_NAMING", "true"),
                    ("GOOSE_CONTEXT_LIMIT", &context),
                    ("OPENAI_HOST", host),
                    ("OPENAI_BASE_PATH", &path),
                    ("OPENAI_TIMEOUT", &patience),
                    ("GOOSE_STREAM_TIMEOUT", &patience),
                ] {
                    command.env(name, value);
                }
                command
            }
        };
        command.env("OPENAI_API_KEY", "none").current_dir(workspace);
        Ok(command)
    }

    /// What one run of the embedded path used: Homarus's own figures, since no server sees it.
    pub fn own_figures(&self) -> Result<String, String> {
        crate::sh::output(&mut self.client.command(&["runs", "show", "last", "--json"]))
    }

    fn tell_homarus(&self, base: &str) -> Result<(), String> {
        let folder = self.client.home.join("homarus/config");
        let config = format!(
            "[[models.provider]]\nid = \"evals\"\nkind = \"openai\"\nurl = \"{base}\"\nsilence_s = {PATIENCE_S}\n\
             context_tokens = {CONTEXT_TOKENS}\noutput_tokens_max = {OUTPUT_TOKENS_MAX}\n\n[models]\nanswer_s = {PATIENCE_S}\n"
        );
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("homarus.toml"), config));
        written.map_err(|error| format!("{}: {error}", folder.display()))
    }
}

/// Its configuration: the model with its limits, no titles, no questions, nothing fetched or shared.
fn opencode(base: &str) -> String {
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": base, "apiKey": "none", "timeout": u64::from(PATIENCE_S) * 1000},
        "models": {MODEL: {
            "name": MODEL, "tool_call": true, "limit": {"context": CONTEXT_TOKENS, "output": OUTPUT_TOKENS_MAX},
        }},
    });
    let model = format!("evals/{MODEL}");
    json!({
        "provider": {"evals": provider}, "model": model, "small_model": model, "autoupdate": false,
        "share": "disabled", "permission": "allow", "agent": {"title": {"disable": true}, "summary": {"disable": true}},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_found_by_its_name() {
        for engine in ALL {
            assert_eq!(Engine::named(engine.name()), Some(engine));
        }
        assert_eq!(Engine::named("codex"), None);
        assert!(DEFAULT.iter().all(|engine| engine.asks_the_front()));
    }
}
