//! Homarus as the demo uses it: its command line, with a home of its own and shared weights, and the JSON
//! it answers in.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    build::Built,
    env::{self, HOMARUS_HOME, HOMARUS_MODELS_DIR},
    places::Places,
    sh,
};

pub struct Homarus<'a> {
    places: &'a Places,
    program: PathBuf,
    home: PathBuf,
}

/// What the demo needs of `homarus runs show --json`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RunDetail {
    pub run: String,
    pub status: String,
    pub steps: u32,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// `None`: some of it is unknown.
    pub cost_usd: Option<String>,
    pub calls: u32,
    pub summary: Option<String>,
    pub question: Option<Question>,
}

/// A call that waits for a person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    pub call: String,
    pub hash: String,
    pub summary: String,
    pub reason: String,
    pub diff: Option<String>,
}

impl<'a> Homarus<'a> {
    pub fn new(places: &'a Places, built: &Built, home: PathBuf) -> Self {
        Self { places, program: built.homarus.clone(), home }
    }

    /// A command that sees nothing of the user's own keys and settings.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.apart(sh::command(self.places, &self.program), args)
    }

    /// The same for one that takes long: told to end when we are ended, however that happens.
    pub fn long_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = sh::command(self.places, "setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&self.program);
        self.apart(command, args)
    }

    fn apart<S: AsRef<OsStr>>(&self, mut command: Command, args: impl IntoIterator<Item = S>) -> Command {
        for name in env::user_names() {
            command.env_remove(name);
        }
        command.env(HOMARUS_HOME, &self.home).env(HOMARUS_MODELS_DIR, &self.places.models);
        command.args(args);
        command
    }

    pub fn pull(&self, model: &str) -> Result<(), String> {
        sh::run(&mut self.command(["models", "pull", model]))
    }

    /// The one run of this home; `None` as long as there is none.
    pub fn show(&self) -> Option<RunDetail> {
        let text = sh::output(&mut self.command(["runs", "show", "last", "--json"])).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub fn approve(&self, run: &str, question: &Question, why: &str) -> Result<(), String> {
        sh::output(&mut self.command(["runs", "approve", run, &question.call, "--why", why])).map(drop)
    }

    pub fn cancel(&self) -> Result<(), String> {
        sh::output(&mut self.command(["runs", "cancel", "last"])).map(drop)
    }

    /// The run's events, one JSON object a line.
    pub fn log(&self, run: &str) -> Result<String, String> {
        sh::output(&mut self.command(["runs", "log", run, "--json"]))
    }

    /// Whether the journal is whole, and what the check says.
    pub fn verify(&self, run: &str) -> Result<String, String> {
        sh::output(&mut self.command(["runs", "verify", run]))
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn program(&self) -> &Path {
        &self.program
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_what_the_command_prints() {
        let text = r#"{"run":"r1","status":"waiting","prompt":"p","steps":2,"input_tokens":10,"cached_tokens":5,
            "output_tokens":3,"cost_usd":"0","wall_ms":7,"calls":1,"approved":0,"denied":1,"summary":null,
            "question":{"call":"c1.0","tool":"file.write","arguments":"{}","summary":"write a","reason":"rule",
            "diff":null,"hash":"h","expires_ms":1},"unknown":null}"#;
        let detail: RunDetail = serde_json::from_str(text).unwrap();
        assert_eq!((detail.run.as_str(), detail.cost_usd.as_deref()), ("r1", Some("0")));
        assert_eq!(detail.question.unwrap().call, "c1.0");
    }
}
