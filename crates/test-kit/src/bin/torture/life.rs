//! The course of one job: its processes are killed and others take over, until it has ended; a person answers where
//! one is asked.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::PoisonError,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    browsing,
    chance::Chance,
    home::Home,
    job::{Job, Kind, Seen},
    judge::{Evidence, Finding, Line, RunLog},
    tree::Tree,
    victim::{How, Remains, Victim, When},
};

/// A run that has not ended after so many processes does not end.
const PROCESSES_MAX: u32 = 120;
const RESOLVE_TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// What a click posts is there before its call has ended, by so much.
const AFTER_CLICK_MS_MAX: u64 = 400;
/// What a process takes from start to end, until it has been measured.
const USUAL_FIRST: Duration = Duration::from_millis(900);
/// What one says that finds the run in other hands, or ended.
const LOSER: [&str; 4] =
    ["is being worked on", "belongs to another driver", "has finished", "is in the middle of a turn"];

/// What came of a job.
pub struct Course {
    pub evidence: Evidence,
    pub remains: Vec<Remains>,
    pub kills: u32,
    pub unknown: u32,
    pub fights: u32,
    /// The last event in the journal when the kill came, and how often.
    pub fell: BTreeMap<String, u32>,
    pub findings: Vec<Finding>,
}

pub struct Life<'a> {
    home: &'a Home,
    job: &'a Job,
    chance: Chance,
    workspace: PathBuf,
    kills_left: u32,
    usual: Duration,
    course: Tally,
}

#[derive(Default)]
struct Tally {
    remains: Vec<Remains>,
    kills: u32,
    unknown: u32,
    fights: u32,
    fell: BTreeMap<String, u32>,
    findings: Vec<Finding>,
}

impl<'a> Life<'a> {
    pub fn new(home: &'a Home, job: &'a Job, chance: Chance, kills_max: u32) -> Self {
        let workspace = home.workspace(job);
        let course = Tally::default();
        Self { home, job, chance, workspace, kills_left: kills_max, usual: USUAL_FIRST, course }
    }

    /// Lives it to its end.
    pub async fn live(mut self) -> Result<Course, String> {
        self.home.add(self.job)?;
        let before = self.tree()?;
        let main = self.main().await?;
        let files = self.tree()?;
        let (mut undone, mut undos): (Vec<(Tree, Tree)>, Vec<RunLog>) = (Vec::new(), Vec::new());
        for number in 0..self.job.undos {
            let target = undos.last().map_or(main.as_str(), |log: &RunLog| log.run.as_str()).to_owned();
            let Some(run) = self.undo(&target).await? else { break };
            let wanted = if number % 2 == 0 { &before } else { &files };
            undone.push((wanted.clone(), self.tree()?));
            undos.push(self.log(&run).await?);
        }
        self.home.outside.settle().await.map_err(|error| error.to_string())?;
        let evidence = Evidence {
            main: self.log(&main).await?,
            job: self.job.clone(),
            memory: self.home.memory(self.job),
            outside: self.home.outside.effects(),
            files,
            undone,
            undos,
        };
        let Tally { remains, kills, unknown, fights, fell, findings } = self.course;
        Ok(Course { evidence, remains, kills, unknown, fights, fell, findings })
    }

    /// The run itself, with all its messages.
    async fn main(&mut self) -> Result<String, String> {
        let mut run: Option<String> = None;
        for _ in 0..PROCESSES_MAX {
            if run.is_none() {
                run = self.home.find(&self.job.message(1)).await?;
            }
            let Some(known) = &run else {
                self.start().await?;
                continue;
            };
            let known = known.clone();
            let detail = self.home.json(&["runs", "show", &known, "--json"]).await?;
            let status = detail["status"].as_str().unwrap_or_default();
            if !matches!(status, "running" | "waiting" | "paused") {
                return Ok(known);
            }
            let rests = status == "waiting" && detail["question"].is_null() && detail["unknown"].is_null();
            if !rests {
                self.go_on(&known, &detail).await?;
                continue;
            }
            let log = self.home.log(&known).await?;
            let said = 1 + log.iter().filter(|line| line["kind"] == "said").count();
            if said >= self.job.turns.len() {
                return Ok(known);
            }
            let message = self.job.message(said + 1);
            self.process(Some(&known), &["runs", "say", &known, &message, "--approvals-from", "cli", "--json"]).await?;
        }
        Err(format!("job {} has not ended after {PROCESSES_MAX} processes", self.job.number))
    }

    async fn start(&mut self) -> Result<(), String> {
        let (message, agent) = (self.job.message(1), self.home.agent(self.job));
        let (workspace, policy) = (self.workspace.display().to_string(), self.home.policy().display().to_string());
        let mut args =
            vec!["run", &message, "--model", "openai/scripted", "--agent", &agent, "--workspace", &workspace];
        args.extend([
            "--policy",
            &policy,
            "--steps-max",
            "1000",
            "--approvals",
            "ask",
            "--approvals-from",
            "cli",
            "--json",
        ]);
        if self.job.turns.len() > 1 {
            args.push("--conversation");
        }
        self.process(None, &args).await
    }

    /// Undoes a run; the run that did it, or `None` if there was nothing to undo.
    async fn undo(&mut self, target: &str) -> Result<Option<String>, String> {
        for _ in 0..PROCESSES_MAX {
            let Some(run) = self.home.find(&format!("undo {target}:")).await? else {
                let before = self.course.remains.len();
                self.process(None, &["undo", target, "--yes", "--json"]).await?;
                let remains = self.course.remains.get(before);
                if remains.is_some_and(|remains| remains.code == Some(0))
                    && self.home.find(&format!("undo {target}:")).await?.is_none()
                {
                    return Ok(None);
                }
                continue;
            };
            let detail = self.home.json(&["runs", "show", &run, "--json"]).await?;
            let status = detail["status"].as_str().unwrap_or_default().to_owned();
            if !matches!(status.as_str(), "running" | "waiting" | "paused") {
                if status != "completed" {
                    self.find(Line::Unexpected, &run, format!("the undo ended as {status}: {}", detail["summary"]));
                }
                return Ok(Some(run));
            }
            self.go_on(&run, &detail).await?;
        }
        Err(format!("the undo of {target} has not ended after {PROCESSES_MAX} processes"))
    }

    /// Takes a run over; before, says what became of a call of which the runtime does not know.
    async fn go_on(&mut self, run: &str, detail: &Value) -> Result<(), String> {
        if let Some(call) = detail["unknown"].as_str() {
            self.resolve(run, call).await?;
        }
        if self.chance.percent(12) {
            // Takes over what other jobs left too.
            let all = ["runs", "resume-all", "--paused", "--at-once", "2", "--json"];
            return self.process(Some(run), &all).await;
        }
        self.process(Some(run), &["runs", "resume", run, "--approvals-from", "cli", "--json"]).await
    }

    /// A person who can look outside.
    async fn resolve(&mut self, run: &str, call: &str) -> Result<(), String> {
        self.course.unknown += 1;
        self.home.outside.settle().await.map_err(|error| error.to_string())?;
        let effects = self.home.outside.effects();
        let log = self.home.log(run).await?;
        let made = log
            .iter()
            .find(|line| line["kind"] == "block_done" && line["block"].to_string().contains(&format!("\"{call}\"")));
        let made = made.map(|line| line["block"].to_string()).unwrap_or_default();
        let action = self.job.actions().find(|action| made.contains(&action.token));
        let effect = action.map(|action| browsing::key(&made).unwrap_or(&action.token));
        let decision = match effect {
            Some(effect) if effects.contains_key(effect) => "done",
            Some(_) if self.chance.percent(60) => "repeat",
            Some(_) => "failed",
            None => return Err(format!("call {call} of run {run} is unknown, and no call of the job")),
        };
        for _ in 0..RESOLVE_TRIES {
            let said = self.home.ask(&["runs", "resolve", run, decision]).await?;
            if said.code == Some(0) || !said.stderr.contains(LOSER[0]) {
                return said.expect(0).map(|_| ());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("run {run} stayed busy"))
    }

    /// One process, or two that fight for the run; killed, as long as there are kills left.
    async fn process(&mut self, run: Option<&str>, args: &[&str]) -> Result<(), String> {
        let what = args.join(" ");
        let failed = |error: std::io::Error| format!("`{what}` cannot be started: {error}");
        let (when, how) = self.plan();
        let fights = args.starts_with(&["runs", "resume"]) && self.chance.percent(25);
        let began = Instant::now();
        let victim = Victim::start(self.home.command(args), &what).map_err(failed)?;
        let rival = match fights {
            true => Some(Victim::start(self.home.command(args), &format!("{what} (rival)")).map_err(failed)?),
            false => None,
        };
        self.course.fights += u32::from(fights);
        let person = self.person(&victim);
        let rival_person = rival.as_ref().map(|rival| self.person(rival));
        let outside = &self.home.outside;
        let course = async {
            tokio::join!(victim.see_out(when, how, outside), async {
                match rival {
                    Some(rival) => Some(rival.see_out(When::Never, how, outside).await),
                    None => None,
                }
            })
        };
        let people = async {
            match rival_person {
                Some(rival) => tokio::join!(person, rival).0,
                None => person.await,
            }
        };
        let (remains, rival) = tokio::select! {
            ended = course => ended,
            () = people => unreachable!("people wait for ever"),
        };
        if remains.killed {
            self.kills_left = self.kills_left.saturating_sub(1);
            self.course.kills += 1;
        } else if rival.is_none() {
            self.usual = (self.usual * 3 + began.elapsed()) / 4;
        }
        let was_killed = remains.killed;
        for remains in [Some(remains), rival].into_iter().flatten() {
            self.look_at(&remains);
            self.course.remains.push(remains);
        }
        if was_killed {
            self.after_the_kill(run).await?;
        }
        Ok(())
    }

    async fn after_the_kill(&mut self, run: Option<&str>) -> Result<(), String> {
        let run = match run {
            Some(run) => Some(run.to_owned()),
            None => self.home.find(&self.job.message(1)).await?,
        };
        let Some(run) = run else {
            *self.course.fell.entry("before the first event".to_owned()).or_default() += 1;
            return Ok(());
        };
        let files = self.tree()?;
        if self.job.actions().any(|action| action.seen(&files) == Seen::Half) {
            *self.course.fell.entry("in the middle of a merge".to_owned()).or_default() += 1;
        }
        let verified = self.home.ask(&["runs", "verify", &run]).await?;
        if verified.code != Some(0) {
            self.find(Line::Unexpected, &run, format!("the journal is damaged after a kill: {}", verified.stdout));
        }
        let log = self.home.log(&run).await?;
        let last = log.last().map(|line| line["kind"].as_str().unwrap_or_default()).unwrap_or_default();
        *self.course.fell.entry(format!("after {last}")).or_default() += 1;
        if let Some(tool) = under_way(&log).filter(|tool| tool.starts_with("browser.")) {
            *self.course.fell.entry(format!("in the middle of {tool}")).or_default() += 1;
        }
        Ok(())
    }

    /// Ends that nobody planned.
    fn look_at(&mut self, remains: &Remains) {
        let text = |what: &str| format!("`{}` {what}: {}", remains.what, remains.stderr.trim());
        let lost = LOSER.iter().any(|words| remains.stderr.contains(words));
        match remains.code {
            _ if remains.hung => self.find(Line::Unexpected, "", text("hung")),
            None if remains.killed => {}
            // Done, denied, waits: what the journal says of it is looked at later.
            Some(0 | 3 | 4) => {}
            // One of all the runs it took over was stopped on purpose, or failed: that job's own evidence says so.
            Some(1 | 130) if remains.what.starts_with("runs resume-all") => {}
            Some(1) if lost => {}
            code => self.find(Line::Unexpected, "", text(&format!("ended with {code:?}"))),
        }
    }

    /// The next kill.
    fn plan(&mut self) -> (When, How) {
        if self.kills_left == 0 {
            return (When::Never, How::Everything);
        }
        let how = if self.chance.percent(40) { How::DriverOnly } else { How::Everything };
        let has = |kind| self.job.actions().any(|action| action.kind == kind);
        let lines = When::Lines(1 + self.chance.below(25) as usize, Duration::from_micros(self.chance.below(6_000)));
        let usual_us = u64::try_from(self.usual.as_micros()).unwrap_or(u64::MAX);
        let when = match self.chance.below(100) {
            // A click that is made seldom is met on purpose.
            0..60 if self.clicks() => When::Post(Duration::from_millis(self.chance.below(AFTER_CLICK_MS_MAX))),
            0..45 => lines,
            45..70 => When::After(Duration::from_micros(self.chance.below(usual_us))),
            70..82 if has(Kind::Post) => When::Post(Duration::ZERO),
            82..100 if has(Kind::Many) => {
                let traces = self.job.actions().filter_map(|action| action.first_trace(&self.workspace));
                When::Merge(traces.filter(|trace| !trace.exists()).collect())
            }
            _ => lines,
        };
        (when, how)
    }

    /// Whether a click is still to be made.
    fn clicks(&self) -> bool {
        let seen = self.home.outside.effects();
        self.job.actions().any(|action| action.kind == Kind::Click && !seen.contains_key(&action.token))
    }

    /// Somebody who answers each question of this process after a while, mostly with yes. Never ends.
    fn person(&mut self, victim: &Victim) -> impl Future<Output = ()> + use<'a> {
        let (lines, mut count) = (victim.lines(), victim.count());
        let home = self.home;
        let mut chance = Chance::new(self.chance.next());
        async move {
            let mut seen = 0;
            loop {
                if count.wait_for(|count| *count > seen).await.is_err() {
                    std::future::pending::<()>().await;
                }
                let line = lines.lock().unwrap_or_else(PoisonError::into_inner).get(seen).cloned();
                seen += 1;
                let Some(line) = line.filter(|line| line["kind"] == "waiting" && line["on"]["what"] == "approval")
                else {
                    continue;
                };
                tokio::time::sleep(Duration::from_millis(chance.below(60))).await;
                let mut args = vec!["runs", "approve", line["run_id"].as_str().unwrap_or_default()];
                if chance.percent(20) {
                    args.extend(["--deny", "--why", "not this one"]);
                }
                // The process may be dead by now; then the question comes again.
                let _ = home.ask(&args).await;
            }
        }
    }

    async fn log(&self, run: &str) -> Result<RunLog, String> {
        Ok(RunLog { run: run.to_owned(), lines: self.home.log(run).await? })
    }

    fn tree(&self) -> Result<Tree, String> {
        Tree::read(&self.workspace).map_err(|error| format!("{}: {error}", self.workspace.display()))
    }

    fn find(&mut self, line: Line, run: &str, text: String) {
        let run = if run.is_empty() { format!("job {}", self.job.number) } else { run.to_owned() };
        self.course.findings.push(Finding { line, run, text });
    }
}

/// The tool of the call that was begun last, if it had not ended.
fn under_way(log: &[Value]) -> Option<&str> {
    let last = log.last().filter(|line| line["kind"] == "act_intent")?;
    let judged = log.iter().rfind(|line| line["kind"] == "judged" && line["action"]["call"] == last["call"])?;
    judged["action"]["tool"].as_str()
}
