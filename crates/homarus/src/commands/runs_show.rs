//! `homarus runs show`

use homarus_api::runs::{OpenQuestion, RunDetail};
use homarus_contract::{
    action::{Action, Plan},
    event::{Event, Reconfigured, Record, WaitingOn},
    ids::{CallId, RunId},
    journal::{Journal, JournalError},
    sandbox::LayerDiff,
    text::one_line,
};
use homarus_driver::ports::Question;

use super::{find_run, runs_list::status_word};
use crate::{
    exit::CliError,
    put,
    show::{question, style::Style, styled::Line},
    wiring,
};

const PAGE: u32 = 1_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::read_journal()?;
        let run = find_run(store.as_ref(), &self.run)?;
        let (detail, question) = read(store.as_ref(), &run)?;
        if self.json {
            put::json(&detail)?
        } else {
            print(&detail, question.as_ref())?
        }
        Ok(0)
    }
}

/// A run as its events tell it.
pub fn detail(journal: &dyn Journal, run: &RunId) -> Result<RunDetail, JournalError> {
    read(journal, run).map(|(detail, _)| detail)
}

/// The same, and its open question as the terminal would ask it.
fn read(journal: &dyn Journal, run: &RunId) -> Result<(RunDetail, Option<Question>), JournalError> {
    let row = journal.run(run)?;
    let (limits, _) = journal.budget(run)?;
    let mut detail = RunDetail {
        cost_usd: row.cost_known.then(|| put::usd(row.budget.used.cost)),
        row,
        limits,
        agent: None,
        models: Vec::new(),
        models_why: String::new(),
        steps: 0,
        input_tokens: 0,
        output_tokens: 0,
        cached_tokens: 0,
        wall_ms: 0,
        calls: 0,
        approved: 0,
        denied: 0,
        summary: None,
        question: None,
        unknown: None,
        trouble: None,
    };
    let mut open = Open::default();
    let mut after = 0;
    loop {
        let records = journal.read(&run.stream(), after, PAGE)?;
        for record in &records {
            count(&mut detail, record);
            open.apply(&record.event);
        }
        match records.last() {
            Some(last) if records.len() == PAGE as usize => after = last.seq,
            _ => break,
        }
    }
    let question = open.question(run);
    detail.question = question.as_ref().map(told);
    detail.unknown = open.unknown;
    detail.trouble = open.trouble;
    Ok((detail, question))
}

fn count(detail: &mut RunDetail, record: &Record) {
    match &record.event {
        Event::Accepted(accepted) => {
            detail.models.clone_from(&accepted.models);
            detail.models_why.clone_from(&accepted.models_why);
            detail.agent = accepted.agent.as_ref().map(|agent| agent.name.clone());
        }
        Event::Reconfigured(change) => reconfigured(detail, change),
        // What stands before was done, and paid for, by another run.
        Event::Forked { .. } => {
            detail.input_tokens = 0;
            detail.cached_tokens = 0;
            detail.output_tokens = 0;
            detail.wall_ms = 0;
            detail.calls = 0;
            detail.approved = 0;
            detail.denied = 0;
            detail.summary = None;
        }
        Event::ModelIntent { step, .. } => detail.steps = *step,
        Event::ModelResult { usage, wall_ms, .. } => {
            detail.input_tokens += usage.input_tokens.unwrap_or(0) + usage.cache_write_tokens.unwrap_or(0);
            detail.cached_tokens += usage.cache_read_tokens.unwrap_or(0);
            detail.output_tokens += usage.output_tokens.unwrap_or(0);
            detail.wall_ms += wall_ms;
        }
        Event::ActResult(result) => {
            detail.calls += 1;
            detail.wall_ms += result.wall_ms;
        }
        Event::Denied { .. } => detail.denied += 1,
        Event::ApprovalDecided { approval, .. } if approval.granted => detail.approved += 1,
        Event::TurnEnded { summary, .. } | Event::Finished { summary, .. } => detail.summary = Some(summary.clone()),
        _ => {}
    }
}

fn reconfigured(detail: &mut RunDetail, change: &Reconfigured) {
    if let Some(models) = &change.models {
        detail.models.clone_from(models);
        detail.models_why = format!("changed by {}", change.who);
    }
    if let Some(agent) = &change.agent {
        detail.agent = Some(agent.name.clone());
    }
}

/// The question, the unknown outcome and the trouble that are open at the end of the events.
#[derive(Default)]
struct Open {
    judged: Option<(Action, Plan, String)>,
    diff: Option<(CallId, LayerDiff)>,
    asked: Option<(CallId, homarus_contract::ids::Hash, u64)>,
    unknown: Option<CallId>,
    trouble: Option<String>,
}

impl Open {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Judged { action, plan, judgement } => {
                self.judged = Some((action.clone(), plan.clone(), judgement.reason.clone()));
            }
            Event::ActResult(result) => self.diff = Some((result.call.clone(), result.diff.clone())),
            Event::ApprovalRequested { call, hash, expires_ms } => {
                self.asked = Some((call.clone(), *hash, *expires_ms));
            }
            Event::ApprovalDecided { .. } | Event::TurnEnded { .. } | Event::Finished { .. } => self.asked = None,
            Event::OutcomeUnknown { call } => self.unknown = Some(call.clone()),
            Event::Resolved { .. } => self.unknown = None,
            Event::Waiting { on: WaitingOn::Resume(pause) } if !pause.trouble.is_empty() => {
                self.trouble = Some(pause.trouble.clone());
            }
            Event::TakenOver { .. } => self.trouble = None,
            _ => {}
        }
    }

    fn question(&self, run: &RunId) -> Option<Question> {
        let (call, hash, expires_ms) = self.asked.clone()?;
        let (action, plan, reason) = self.judged.as_ref().filter(|(action, ..)| action.call == call)?;
        let ran = self.diff.as_ref().filter(|(of, diff)| *of == call && !diff.is_empty());
        Some(Question {
            run: run.clone(),
            call,
            action: action.clone(),
            plan: plan.clone(),
            reason: reason.clone(),
            diff: ran.map(|(_, diff)| diff.clone()),
            hash,
            expires_ms,
        })
    }
}

fn told(question: &Question) -> OpenQuestion {
    let ran = question.diff.as_ref().map(|diff| diff.text.clone());
    OpenQuestion {
        call: question.call.clone(),
        tool: question.action.tool.clone(),
        arguments: question.action.arguments.clone(),
        summary: question.plan.summary.clone(),
        reason: question.reason.clone(),
        diff: ran.or_else(|| question.plan.diff.clone()),
        hash: question.hash,
        expires_ms: question.expires_ms,
    }
}

/// All that the terminal would show: who answers from here agrees to as much.
fn asked(question: &Question) -> Vec<Line> {
    let mut lines = vec![question::title(question)];
    lines.extend(question::all(question));
    lines
}

fn print(detail: &RunDetail, question: Option<&Question>) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let row = &detail.row;
    let models: Vec<String> = detail.models.iter().map(ToString::to_string).collect();
    let cost = detail.cost_usd.as_ref().map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"));
    let lines = [
        ("run", row.run.to_string()),
        ("request", one_line(&row.prompt, 200)),
        ("status", style.bold(status_word(row))),
        ("result", detail.summary.as_deref().map_or_else(|| "-".to_owned(), |text| one_line(text, 500))),
        ("workspace", one_line(&row.workspace, 300)),
        ("agent", detail.agent.clone().unwrap_or_else(|| "-".to_owned())),
        ("models", one_line(&format!("{} ({})", models.join(", "), detail.models_why), 300)),
        ("started", format!("{} UTC", put::time(row.created_ms))),
        ("worked", put::duration(detail.wall_ms)),
        ("steps", format!("{} of {}", detail.steps, detail.limits.steps_max)),
        (
            "tokens",
            format!(
                "{} in, {} cached, {} out (limit {})",
                put::count(detail.input_tokens),
                put::count(detail.cached_tokens),
                put::count(detail.output_tokens),
                put::count(detail.limits.tokens_max)
            ),
        ),
        ("cost", cost),
        ("calls", format!("{} made, {} approved, {} denied", detail.calls, detail.approved, detail.denied)),
        ("events", format!("{} (epoch {})", row.events, row.epoch)),
    ];
    for (name, value) in lines {
        put::line(&format!("{} {value}", style.dim(&format!("{name:>10}"))))?;
    }
    if let Some(question) = question {
        put::line("")?;
        for line in asked(question) {
            put::line(&line.paint(style))?;
        }
        put::line(&format!("  homarus runs approve {0}, or homarus runs approve {0} --deny", row.run))?;
    }
    if let Some(call) = &detail.unknown {
        put::line(&style.yellow(&format!("\n? nobody knows whether call {call} happened")))?;
        put::line(&match row.status.is_final() {
            true => "  the run has ended: look for yourself what became of it".to_owned(),
            false => format!("  homarus runs resolve {} done|failed|repeat", row.run),
        })?;
    }
    if let Some(trouble) = &detail.trouble {
        put::line(&style.yellow(&format!("\n? cannot go on: {}", one_line(trouble, 600))))?;
        put::line(&format!("  then: homarus runs resume {}", row.run))?;
    }
    Ok(())
}
