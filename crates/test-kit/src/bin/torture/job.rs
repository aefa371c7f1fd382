//! A job: what the scripted model does in a run, call by call, and what each call leaves behind.
//!
//! Every call carries a token that stands nowhere else, so that its effect can be counted outside.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{chance::Chance, tree::Tree};

/// Files that one `Many` call makes: enough that a kill finds a merge half way.
pub const MANY_FILES: usize = 60;
pub const LOG: &str = "log.txt";
const SEED: &str = "seed\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    List,
    Search,
    Get,
    /// Keyed: a line in the agent's memory.
    Note,
    /// Unkeyed: counted by the server outside.
    Post,
    /// A shell call that adds a line to a file it shares with others.
    Append,
    /// A shell call with many changed paths, a removal and a rename: one merge.
    Many,
    Write,
    Edit,
    /// A write whose diff a person must agree to.
    HeldWrite,
    /// A command a person must agree to before it runs.
    HeldShell,
}

const KINDS: [Kind; 12] = [
    Kind::Read,
    Kind::List,
    Kind::Search,
    Kind::Get,
    Kind::Note,
    Kind::Post,
    Kind::Append,
    Kind::Many,
    Kind::Write,
    Kind::Edit,
    Kind::HeldWrite,
    Kind::HeldShell,
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub token: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub number: u32,
    /// Messages of the conversation; in each, the answers; in each, the calls. One message: an ordinary run.
    pub turns: Vec<Vec<Vec<Action>>>,
    /// How often it is undone at its end: the second time undoes the undo.
    pub undos: u32,
    /// Between the pieces of a model's answer.
    pub piece_delay_ms: u64,
}

/// What is there of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Absent,
    Once,
    More,
    Half,
}

impl Job {
    /// `every`: a job with every kind of call, in order; else a random one.
    pub fn new(number: u32, chance: &mut Chance, every: bool) -> Self {
        let mut count = 0;
        let mut action = |kind| {
            count += 1;
            Action { token: format!("t{number}x{count}z"), kind }
        };
        if every {
            let groups = KINDS.iter().map(|kind| vec![action(*kind)]).collect();
            return Self { number, turns: vec![groups], undos: 2, piece_delay_ms: 1 };
        }
        let turns = if chance.percent(25) { 2 + chance.below(2) } else { 1 };
        let mut groups = |chance: &mut Chance| -> Vec<Vec<Action>> {
            let answers = 2 + chance.below(3);
            (0..answers)
                .map(|_| {
                    let calls = if chance.percent(55) { 1 } else { 2 + chance.below(3) };
                    let mut kinds: Vec<Kind> = (0..calls).map(|_| chance.pick(&KINDS)).collect();
                    // Two that add to one file beside each other are a conflict, which other tests are about.
                    let mut appends = 0;
                    kinds.retain(|kind| {
                        appends += u32::from(*kind == Kind::Append);
                        *kind != Kind::Append || appends == 1
                    });
                    kinds.into_iter().map(&mut action).collect()
                })
                .collect()
        };
        let turns: Vec<_> = (0..turns).map(|_| groups(chance)).collect();
        let undos = if turns.len() == 1 && chance.percent(35) { 1 + chance.below(2) as u32 } else { 0 };
        Self { number, turns, undos, piece_delay_ms: chance.below(4) }
    }

    pub fn has_every_kind(&self) -> bool {
        KINDS.iter().all(|kind| self.actions().any(|action| action.kind == *kind))
    }

    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.turns.iter().flatten().flatten()
    }

    /// The message that begins this turn, counted from 1.
    pub fn message(&self, turn: usize) -> String {
        format!("torture job {}, turn {turn}.", self.number)
    }

    /// The calls the model makes next, after the user has said `said` and it has itself made the calls in `made`;
    /// none: it is done.
    pub fn answer(&self, said: &str, made: &str) -> Vec<Action> {
        let turns = (1..=self.turns.len()).filter(|turn| said.contains(&self.message(*turn))).max().unwrap_or(1);
        for group in self.turns.iter().take(turns).flatten() {
            let left: Vec<Action> = group.iter().filter(|action| !made.contains(&action.token)).cloned().collect();
            if !left.is_empty() {
                return left;
            }
        }
        Vec::new()
    }

    /// Makes what the calls work on.
    pub fn prepare(&self, workspace: &Path) -> io::Result<()> {
        std::fs::create_dir_all(workspace)?;
        std::fs::write(workspace.join(LOG), SEED)?;
        for Action { token, kind } in self.actions() {
            match kind {
                Kind::Read => std::fs::write(workspace.join(format!("read-{token}.txt")), SEED)?,
                Kind::List => std::fs::create_dir(workspace.join(format!("list-{token}")))?,
                Kind::Edit => std::fs::write(workspace.join(format!("edit-{token}.txt")), "above\nhere\nbelow\n")?,
                Kind::Many => {
                    std::fs::write(workspace.join(format!("old-{token}.txt")), SEED)?;
                    std::fs::write(workspace.join(format!("from-{token}.txt")), SEED)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Action {
    /// The tool, and its arguments, which hold the token.
    pub fn call(&self, outside: &str) -> (&'static str, Value) {
        let token = &self.token;
        match self.kind {
            Kind::Read => ("file.read", json!({"path": format!("read-{token}.txt")})),
            Kind::List => ("file.list", json!({"path": format!("list-{token}")})),
            Kind::Search => ("file.search", json!({"pattern": token})),
            Kind::Get => ("http.request", json!({"url": format!("{outside}/get/{token}")})),
            Kind::Note => ("memory.note", json!({"note": format!("Remember {token}.")})),
            Kind::Post => {
                ("http.request", json!({"url": format!("{outside}/post/{token}"), "method": "POST", "body": token}))
            }
            Kind::Append => ("shell.execute", json!({"command": format!("sleep 0.03; echo {token} >> {LOG}")})),
            Kind::Many => {
                // No `$(seq ...)`: what a command makes up is asked about.
                let numbers: Vec<String> = (1..=MANY_FILES).map(|number| number.to_string()).collect();
                let numbers = numbers.join(" ");
                let command = format!(
                    "mkdir -p many-{token}/deep; for i in {numbers}; do echo {token} > many-{token}/deep/$i.txt; \
                     done; rm old-{token}.txt; mv from-{token}.txt to-{token}.txt"
                );
                ("shell.execute", json!({ "command": command }))
            }
            Kind::Write => {
                ("file.write", json!({"path": format!("write-{token}.txt"), "content": format!("{token}\n")}))
            }
            Kind::Edit => (
                "file.edit",
                json!({"path": format!("edit-{token}.txt"), "old": "here\n", "new": format!("{token}\nhere\n")}),
            ),
            Kind::HeldWrite => {
                ("file.write", json!({"path": format!("held/{token}.txt"), "content": format!("{token}\n")}))
            }
            Kind::HeldShell => ("shell.execute", json!({"command": format!("touch touched-{token}.txt")})),
        }
    }

    /// Where a merge of this call shows first, to kill in the middle of it.
    pub fn first_trace(&self, workspace: &Path) -> Option<PathBuf> {
        (self.kind == Kind::Many).then(|| workspace.join(format!("many-{}/deep", self.token)))
    }

    /// What of this call stands in the workspace.
    pub fn seen(&self, files: &Tree) -> Seen {
        let token = &self.token;
        let lines = |path: &str| files.lines_with(path, token);
        let times = match self.kind {
            Kind::Append => lines(LOG),
            Kind::Edit => lines(&format!("edit-{token}.txt")),
            Kind::Write => lines(&format!("write-{token}.txt")),
            Kind::HeldWrite => lines(&format!("held/{token}.txt")),
            Kind::HeldShell => usize::from(files.has(&format!("touched-{token}.txt"))),
            Kind::Many => {
                let made = (1..=MANY_FILES).filter(|i| lines(&format!("many-{token}/deep/{i}.txt")) == 1).count();
                let moved = [
                    !files.has(&format!("old-{token}.txt")),
                    !files.has(&format!("from-{token}.txt")),
                    files.has(&format!("to-{token}.txt")),
                ];
                match (made, moved.iter().filter(|done| **done).count()) {
                    (0, 0) => 0,
                    (MANY_FILES, 3) => 1,
                    _ => return Seen::Half,
                }
            }
            Kind::Read | Kind::List | Kind::Search | Kind::Get | Kind::Note | Kind::Post => 0,
        };
        match times {
            0 => Seen::Absent,
            1 => Seen::Once,
            _ => Seen::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_makes_every_call_once_whatever_was_cut_off() {
        let mut chance = Chance::new(3);
        for number in 0..50 {
            let job = Job::new(number, &mut chance, false);
            let mut prompt = String::new();
            let mut made = Vec::new();
            for turn in 1..=job.turns.len() {
                prompt.push_str(&job.message(turn));
                loop {
                    let answer = job.answer(&prompt, &prompt);
                    let Some(first) = answer.first() else { break };
                    // An answer that is cut off after its first call.
                    prompt.push_str(&first.call("http://x").1.to_string());
                    made.push(first.token.clone());
                }
            }
            let all: Vec<String> = job.actions().map(|action| action.token.clone()).collect();
            assert_eq!(made, all, "{job:?}");
        }
    }

    #[test]
    fn half_a_merge_is_seen() {
        let action = Action { token: "t1x1z".to_owned(), kind: Kind::Many };
        let job = Job { number: 1, turns: vec![vec![vec![action.clone()]]], undos: 0, piece_delay_ms: 0 };
        let folder = tempfile::tempdir().unwrap();
        job.prepare(folder.path()).unwrap();
        let seen = || action.seen(&Tree::read(folder.path()).unwrap());
        assert_eq!(seen(), Seen::Absent);
        let (_, arguments) = action.call("");
        let command = arguments["command"].as_str().unwrap().to_owned();
        let status = std::process::Command::new("sh").args(["-c", &command]).current_dir(folder.path()).status();
        assert!(status.unwrap().success());
        assert_eq!(seen(), Seen::Once);
        std::fs::remove_file(folder.path().join("many-t1x1z/deep/7.txt")).unwrap();
        assert_eq!(seen(), Seen::Half);
    }
}
