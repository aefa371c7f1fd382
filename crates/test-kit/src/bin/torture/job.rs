//! A job: what the scripted model does in a run, call by call, and what each call leaves behind.
//!
//! Every call carries a token that stands nowhere else, so that its effect can be counted outside.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    browsing,
    chance::Chance,
    tree::{Entry, Tree},
};

/// Files that one `Many` call makes: enough that a kill finds a merge half way.
pub const MANY_FILES: usize = 60;
pub const LOG: &str = "log.txt";
/// A skill of the home, with so many files beside its instructions: more than a job has calls.
pub const SKILL: &str = "parts";
pub const SKILL_FILES: usize = 60;
/// Of a hundred calls so many are any of the browser's, and those up to the second number clicks: few, for it takes a
/// second to start.
const BROWSING_PERCENT: u64 = 5;
const BROWSING_AND_CLICKING_PERCENT: u64 = 8;
const SEED: &str = "seed\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    List,
    Search,
    Get,
    WebSearch,
    /// A file of a skill.
    Skill,
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
    /// Unkeyed: a page in the browser, which the server outside counts.
    Open,
    /// Reads that page again.
    Look,
    /// Unkeyed: clicks a button of the page, which posts to the server outside.
    Click,
    /// A picture of the page, which is merged.
    Picture,
}

const KINDS: [Kind; 14] = [
    Kind::Read,
    Kind::List,
    Kind::Search,
    Kind::Get,
    Kind::WebSearch,
    Kind::Skill,
    Kind::Note,
    Kind::Post,
    Kind::Append,
    Kind::Many,
    Kind::Write,
    Kind::Edit,
    Kind::HeldWrite,
    Kind::HeldShell,
];
/// Those that need Chromium.
const BROWSING: [Kind; 4] = [Kind::Open, Kind::Look, Kind::Click, Kind::Picture];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub token: String,
    /// Counted from 1 within the job.
    pub number: usize,
    pub kind: Kind,
}

/// A call the model has made.
#[derive(Debug, Clone, Default)]
pub struct Made {
    pub arguments: String,
    /// What it was told of it.
    pub result: String,
}

/// A tool and its arguments.
pub type Call = (&'static str, Value);

#[derive(Debug, Clone)]
pub struct Job {
    pub number: u32,
    /// Whether there is a browser.
    pub browses: bool,
    /// The browser keeps its profile.
    pub keeps_profile: bool,
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
    pub fn new(number: u32, chance: &mut Chance, every: bool, browses: bool) -> Self {
        let mut count = 0;
        let mut action = |kind| {
            count += 1;
            Action { token: format!("t{number}x{count}z"), number: count, kind }
        };
        let keeps_profile = chance.percent(50);
        if every {
            let groups = kinds(browses).map(|kind| vec![action(kind)]).collect();
            return Self { number, browses, keeps_profile, turns: vec![groups], undos: 2, piece_delay_ms: 1 };
        }
        let turns = if chance.percent(25) { 2 + chance.below(2) } else { 1 };
        let mut groups = |chance: &mut Chance| -> Vec<Vec<Action>> {
            let answers = 2 + chance.below(3);
            (0..answers)
                .map(|_| {
                    let calls = if chance.percent(55) { 1 } else { 2 + chance.below(3) };
                    let mut kinds: Vec<Kind> = (0..calls).map(|_| pick(chance, browses)).collect();
                    // Two that add to one file beside each other are a conflict, which other tests are about; and the
                    // browser has one page.
                    keep_first(&mut kinds, &[Kind::Append]);
                    keep_first(&mut kinds, &BROWSING);
                    kinds.into_iter().map(&mut action).collect()
                })
                .collect()
        };
        let turns: Vec<_> = (0..turns).map(|_| groups(chance)).collect();
        let undos = if turns.len() == 1 && chance.percent(35) { 1 + chance.below(2) as u32 } else { 0 };
        Self { number, browses, keeps_profile, turns, undos, piece_delay_ms: chance.below(4) }
    }

    pub fn has_every_kind(&self) -> bool {
        kinds(self.browses).all(|kind| self.actions().any(|action| action.kind == kind))
    }

    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.turns.iter().flatten().flatten()
    }

    /// The message that begins this turn, counted from 1.
    pub fn message(&self, turn: usize) -> String {
        format!("torture job {}, turn {turn}.", self.number)
    }

    /// What stands in an event of its run and nowhere in another's: a token, if a call has a place for one.
    pub fn told(&self) -> String {
        let token = self.actions().find(|action| action.mark() == action.token).map(|action| action.token.clone());
        token.unwrap_or_else(|| self.message(1))
    }

    /// The calls the model makes next, after the user has said `said` and it has itself made the calls in `made`;
    /// none: it is done.
    pub fn answer(&self, said: &str, made: &[Made], outside: &str) -> Vec<Call> {
        let turns = (1..=self.turns.len()).filter(|turn| said.contains(&self.message(*turn))).max().unwrap_or(1);
        for group in self.turns.iter().take(turns).flatten() {
            let left: Vec<Call> = group.iter().filter_map(|action| action.next(made, outside)).collect();
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
        for Action { token, kind, .. } in self.actions() {
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

/// All that there are; the rarest first, where most kills fall.
fn kinds(browses: bool) -> impl Iterator<Item = Kind> {
    BROWSING.into_iter().filter(move |_| browses).chain(KINDS)
}

fn pick(chance: &mut Chance, browses: bool) -> Kind {
    match chance.below(100) {
        0..BROWSING_PERCENT if browses => chance.pick(&BROWSING),
        // What must not be repeated is what a kill is hardest on.
        BROWSING_PERCENT..BROWSING_AND_CLICKING_PERCENT if browses => Kind::Click,
        _ => chance.pick(&KINDS),
    }
}

/// Keeps one of these at most.
fn keep_first(kinds: &mut Vec<Kind>, of: &[Kind]) {
    let mut count = 0;
    kinds.retain(|kind| {
        count += u32::from(of.contains(kind));
        !of.contains(kind) || count == 1
    });
}

impl Action {
    /// Stands in the arguments of this call and of no other of the job: the token, where the tool has a place for it.
    pub fn mark(&self) -> String {
        match self.kind {
            Kind::Skill => format!("part-{}.md", self.number),
            Kind::Look => self.part().to_string(),
            _ => self.token.clone(),
        }
    }

    /// A part no page has and no other call asks for: what is shown is the last one.
    fn part(&self) -> usize {
        7_000_000 + self.number
    }

    /// Done on a page, which is opened first.
    pub fn is_on_page(&self) -> bool {
        matches!(self.kind, Kind::Look | Kind::Click | Kind::Picture)
    }

    /// The call the model makes next for it; `None`: it is done.
    fn next(&self, made: &[Made], outside: &str) -> Option<Call> {
        match self.kind {
            Kind::Open => browsing::opened(self, made).is_empty().then(|| browsing::open(self, 1, outside)),
            Kind::Look | Kind::Click | Kind::Picture => browsing::next(self, made, outside),
            _ => {
                let mark = self.mark();
                (!made.iter().any(|call| call.arguments.contains(&mark))).then(|| self.call(outside))
            }
        }
    }

    /// The tool, and its arguments, which hold the mark.
    pub fn call(&self, outside: &str) -> Call {
        let token = &self.token;
        match self.kind {
            Kind::Read => ("file.read", json!({"path": format!("read-{token}.txt")})),
            Kind::List => ("file.list", json!({"path": format!("list-{token}")})),
            Kind::Search => ("file.search", json!({"pattern": token})),
            Kind::Get => ("http.request", json!({"url": format!("{outside}/get/{token}")})),
            Kind::WebSearch => ("web.search", json!({"query": token})),
            Kind::Skill => ("skill.read", json!({"skill": SKILL, "file": self.mark()})),
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
            Kind::Open => browsing::open(self, 1, outside),
            Kind::Look => ("browser.read", json!({"part": self.part()})),
            // The text is not looked at where something is clicked.
            Kind::Click => ("browser.act", json!({"element": 1, "action": "click", "text": token})),
            Kind::Picture => ("browser.screenshot", json!({"path": format!("shot-{token}.png")})),
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
            Kind::Picture => match files.0.get(&format!("shot-{token}.png")) {
                None => 0,
                Some(Entry::File { bytes, .. }) if browsing::is_picture(bytes) => 1,
                Some(_) => return Seen::Half,
            },
            Kind::Read | Kind::List | Kind::Search | Kind::Get | Kind::WebSearch | Kind::Skill => 0,
            Kind::Note | Kind::Post | Kind::Open | Kind::Look | Kind::Click => 0,
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
            let job = Job::new(number, &mut chance, number == 0, true);
            let mut prompt = String::new();
            let mut made: Vec<Made> = Vec::new();
            for turn in 1..=job.turns.len() {
                prompt.push_str(&job.message(turn));
                loop {
                    // An answer that is cut off after its first call.
                    let Some((tool, arguments)) = job.answer(&prompt, &made, "http://x").into_iter().next() else {
                        break;
                    };
                    // The page is gone at times.
                    let is_gone = tool.starts_with("browser.") && tool != "browser.open" && chance.percent(40);
                    let result = if is_gone { browsing::NO_PAGE } else { "" };
                    made.push(Made { arguments: arguments.to_string(), result: result.to_owned() });
                }
            }
            assert!(made.len() < 1_000 && job.actions().count() <= SKILL_FILES, "{job:?}");
            for action in job.actions() {
                let mark = action.mark();
                let opens = made.iter().filter(|call| call.arguments.contains(&browsing::page(action))).count();
                let all = || made.iter().filter(|call| call.arguments.contains(&mark));
                let done = all().filter(|call| call.result.is_empty() && !call.arguments.contains("/page/")).count();
                let gone = all().filter(|call| !call.result.is_empty()).count();
                let expected = match action.kind {
                    Kind::Open => (0, 0, 1),
                    _ if action.is_on_page() => (1, gone, 1 + gone),
                    _ => (1, 0, 0),
                };
                assert_eq!((done, gone, opens), expected, "{action:?}: {made:?}");
            }
        }
    }

    #[test]
    fn a_job_with_every_kind_leaves_out_only_a_browser_that_is_not_there() {
        for browses in [true, false] {
            let job = Job::new(1, &mut Chance::new(1), true, browses);
            let count = KINDS.len() + if browses { BROWSING.len() } else { 0 };
            assert!(job.has_every_kind() && job.actions().count() == count);
            let mut less = job.clone();
            less.turns[0].remove(0);
            assert!(!less.has_every_kind());
        }
        let mut skills = Job::new(2, &mut Chance::new(1), true, false);
        assert_eq!(skills.told(), "t2x1z");
        skills.turns[0].retain(|group| group[0].kind == Kind::Skill);
        assert_eq!(skills.told(), skills.message(1), "a skill's file has no token");
        let mut chance = Chance::new(1);
        let is_plain = |job: &Job| job.actions().all(|action| KINDS.contains(&action.kind));
        assert!((2..200).all(|number| is_plain(&Job::new(number, &mut chance, false, false))));
    }

    #[test]
    fn half_a_merge_is_seen() {
        let action = Action { token: "t1x1z".to_owned(), number: 1, kind: Kind::Many };
        let mut job = Job::new(1, &mut Chance::new(1), false, false);
        job.turns = vec![vec![vec![action.clone()]]];
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
