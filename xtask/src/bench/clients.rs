//! The programs that are measured: how each is installed, and how it is told to do a job with the scripted model.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use super::{server::Seat, table::OURS};
use crate::{places::Places, sh};

/// Packages of npm with their versions.
const NPM: [&str; 3] = ["@openai/codex@0.169.0", "opencode-ai@1.18.33", "@aaif/goose-binary-linux-x64@1.52.0"];
const PROMPT: &str = "Run the commands you are asked to run.";
/// What the measured programs would otherwise tell their makers goes nowhere: nothing listens here.
const NOWHERE: &str = "http://127.0.0.1:9";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Homarus,
    /// With its sandbox for commands, or without.
    Codex {
        sandboxed: bool,
    },
    OpenCode,
    Goose,
}

#[derive(Debug, Clone)]
pub struct Client {
    pub kind: Kind,
    pub program: PathBuf,
    /// All that it keeps goes here.
    pub home: PathBuf,
}

impl Client {
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Homarus => OURS,
            Kind::Codex { sandboxed: true } => "codex, sandboxed",
            Kind::Codex { sandboxed: false } => "codex, no sandbox",
            Kind::OpenCode => "opencode, no sandbox",
            Kind::Goose => "goose, no sandbox",
        }
    }

    /// The folders that it keeps things in.
    pub fn make_home(&self) -> Result<(), String> {
        for folder in ["config", "data", "state", "cache", "codex", "homarus"] {
            let folder = self.home.join(folder);
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Ok(())
    }

    /// With nothing of the user's but the search path.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().stdin(Stdio::null());
        if let Some(path) = crate::env::path("PATH") {
            command.env("PATH", path);
        }
        let folder = |name: &str| self.home.join(name);
        command.env("HOME", &self.home).env("LANG", "C.UTF-8").env("TERM", "dumb");
        for (name, value) in [
            ("XDG_CONFIG_HOME", folder("config")),
            ("XDG_DATA_HOME", folder("data")),
            ("XDG_STATE_HOME", folder("state")),
            ("XDG_CACHE_HOME", folder("cache")),
            ("CODEX_HOME", folder("codex")),
            ("HOMARUS_HOME", folder("homarus")),
        ] {
            command.env(name, value);
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, NOWHERE);
        }
        command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        command.env("GOOSE_DISABLE_KEYRING", "1").env("GOOSE_TELEMETRY_ENABLED", "false");
        command.env("OPENCODE_DISABLE_AUTOUPDATE", "1").env("OPENCODE_DISABLE_MODELS_FETCH", "1");
        command
    }

    /// One job in this folder with the model at this seat.
    pub fn job(&self, seat: &Seat, workspace: &Path) -> Command {
        let base = format!("{}/v1", seat.base_url);
        let mut job = match self.kind {
            Kind::Homarus => {
                let mut job = self.command(&[
                    "run",
                    "--approvals",
                    "auto",
                    "--steps-max",
                    "1000",
                    "--model",
                    "openai/scripted",
                    PROMPT,
                ]);
                job.env("OPENAI_BASE_URL", &base);
                job
            }
            Kind::Codex { sandboxed } => {
                let sandbox = if sandboxed { "workspace-write" } else { "danger-full-access" };
                let provider = format!(
                    "model_providers.bench={{name=\"bench\", base_url=\"{base}\", wire_api=\"responses\", env_key=\"OPENAI_API_KEY\"}}"
                );
                self.command(&[
                    "exec",
                    "--skip-git-repo-check",
                    "--sandbox",
                    sandbox,
                    "-c",
                    "model_provider=\"bench\"",
                    "-c",
                    &provider,
                    "-c",
                    "analytics.enabled=false",
                    "-c",
                    "check_for_update_on_startup=false",
                    "-m",
                    "scripted",
                    PROMPT,
                ])
            }
            Kind::OpenCode => {
                let mut job = self.command(&["run", "--auto", "--pure", "-m", "bench/scripted", PROMPT]);
                let provider = json!({
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {"baseURL": base, "apiKey": "none"},
                    "models": {"scripted": {"name": "scripted"}},
                });
                let config = json!({"provider": {"bench": provider}, "autoupdate": false, "share": "disabled"});
                job.env("OPENCODE_CONFIG_CONTENT", config.to_string());
                job
            }
            Kind::Goose => {
                let mut job = self.command(&[
                    "run",
                    "--no-profile",
                    "--with-builtin",
                    "developer",
                    "--max-turns",
                    "1000",
                    "-t",
                    PROMPT,
                ]);
                let (host, path) = base.split_once("/s/").unwrap_or((&base, ""));
                job.env("OPENAI_HOST", host).env("OPENAI_BASE_PATH", format!("s/{path}/chat/completions"));
                job.env("GOOSE_PROVIDER", "openai").env("GOOSE_MODEL", "scripted").env("GOOSE_MODE", "auto");
                job
            }
        };
        job.env("OPENAI_API_KEY", "none").current_dir(workspace);
        job
    }
}

/// Ours, and those of the others that could be installed; why one could not is said in the notes.
pub fn all(places: &Places, homarus: &Path, homes: &Path) -> Result<(Vec<Client>, Vec<String>), String> {
    let mut notes = Vec::new();
    let mut found = vec![(Kind::Homarus, homarus.to_path_buf())];
    match install(&places.peers()) {
        Ok(modules) => {
            let codex = find(&modules.join("@openai"), "codex");
            let opencode = find(&modules.join("opencode-linux-x64"), "opencode");
            let goose = Some(modules.join("@aaif/goose-binary-linux-x64/bin/goose")).filter(|path| path.is_file());
            for (kind, program, name) in [
                (Kind::Codex { sandboxed: true }, codex.clone(), "codex"),
                (Kind::Codex { sandboxed: false }, codex, "codex"),
                (Kind::OpenCode, opencode, "opencode"),
                (Kind::Goose, goose, "goose"),
            ] {
                match program {
                    Some(program) => found.push((kind, program)),
                    None => notes.push(format!("{name}: its package holds no program for this machine")),
                }
            }
        }
        Err(error) => notes.push(format!("codex, opencode, goose: {error}")),
    }
    let mut clients = Vec::new();
    for (kind, program) in found {
        let client = Client { kind, program, home: homes.join(format!("{kind:?}").replace([' ', '{', '}', ':'], "")) };
        client.make_home()?;
        clients.push(client);
    }
    Ok((clients, notes))
}

/// Installs what is missing, and returns the folder of the packages.
fn install(folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let marker = folder.join("installed");
    let wanted = NPM.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.join("node_modules"));
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder).args(NPM);
    sh::run(npm.current_dir(folder).stdin(Stdio::null()))?;
    fs::write(&marker, wanted).map_err(|error| format!("{}: {error}", marker.display()))?;
    Ok(folder.join("node_modules"))
}

/// The largest file of this name: packages hold a small script that starts the program, and the program.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut largest: Option<(u64, PathBuf)> = None;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() == name {
                let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                    largest = Some((bytes, entry.path()));
                }
            }
        }
    }
    largest.map(|(_, path)| path)
}
