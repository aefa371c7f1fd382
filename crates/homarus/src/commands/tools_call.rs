//! `homarus tools call`: one call in a run of its own without a model, gated, sandboxed and journalled like any other.

use std::{io::Read, path::PathBuf, sync::Arc};

use homarus_agent::one_call;
use homarus_api::{runs::Ended, tools::CallResponse};
use homarus_contract::{
    event::{Chosen, Event},
    ids::{CallId, RunId},
    journal::Journal,
    text::{neutralise, one_line},
};
use homarus_driver::ports::{Live, Observer};

use super::{
    run::{Answering, Approvals, Request, accepted, offered, read_policy},
    tools_list, tools_show,
};
use crate::{
    agents,
    config::Config,
    dirs::{self, Dirs},
    exit::CliError,
    put,
    show::style::Style,
    wiring::{self, Runtime},
};

const PAGE: u32 = 1_000;
const ARGUMENTS_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A tool's name, for example file.read
    tool: String,
    /// Its arguments as JSON, for example '{"path": "notes.txt"}'; `-` reads them from standard input
    #[arg(default_value = "{}")]
    arguments: String,
    /// The folder to work in
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// The agent that calls: its grants, rules and memory; the current one if absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// What happens when a rule says ask (default: ask; without a terminal, deny)
    #[arg(long, value_enum)]
    approvals: Option<Approvals>,
    #[command(flatten)]
    answering: Answering,
    /// A file of rules that is looked at before the configured ones
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let arguments = read_arguments(&self.arguments)?;
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        let workspace = dirs::workspace(self.workspace.as_deref())?;
        let agent = agents::chosen(&dirs, self.agent.as_deref())?;
        let own = self.policy.as_deref().map(read_policy).transpose()?;
        let profile = wiring::profile(&config, agent.as_ref(), own, self.answering.mode(self.approvals))?;
        let budget = agent.as_ref().map_or(config.budget(), |agent| agents::budget(config.budget(), &agent.definition));
        let response = wiring::block_on(async {
            let runtime = Runtime::build(&dirs, &config, |_| Arc::new(Silent), self.answering.approver())?;
            let tool = tools_show::find(tools_list::rows(&runtime.tools, agent.as_ref())?, &self.tool)?;
            if let Some(why_not) = tool.why_not {
                return Err(CliError::usage(format!("{} cannot be called", tool.name)).cause(why_not));
            }
            runtime.settle_orphans().await?;
            let request = Request {
                source: "tools-call",
                agent: agent.as_ref(),
                system: String::new(),
                prompt: one_call::request(&tool.name, &arguments),
                workspace,
                hidden: dirs.hidden(&config),
                profile,
                budget,
                chosen: Chosen::default(),
                models: Vec::new(),
                models_why: String::new(),
                answer_ms_max: config.models.answer_ms_max(),
                tools: offered(&runtime.tools, agent.as_ref(), &[])?,
                conversation: false,
            };
            let (mut accepted, blobs) = accepted(request)?;
            one_call::MACHINE.clone_into(&mut accepted.machine);
            let run = accepted.run.clone();
            let fence = runtime.store.accept(accepted, blobs).await?;
            let ended = runtime.drive_silently(run, fence).await?;
            response(runtime.store.as_ref(), ended)
        })??;
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(response.exit_code)
    }
}

fn read_arguments(given: &str) -> Result<String, CliError> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let read = std::io::stdin().lock().take(ARGUMENTS_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| CliError::usage("the arguments cannot be read from standard input").cause(error))?;
    }
    if text.len() as u64 > ARGUMENTS_BYTES_MAX {
        return Err(CliError::usage(format!("the arguments are longer than {} MiB", ARGUMENTS_BYTES_MAX >> 20)));
    }
    Ok(text)
}

/// What the journal says of the call.
fn response(journal: &dyn Journal, ended: Ended) -> Result<CallResponse, CliError> {
    let mut response = CallResponse {
        call: CallId::new(1, 0),
        status: ended.status,
        summary: ended.summary,
        text: None,
        exit: None,
        wall_ms: 0,
        diff: String::new(),
        merged: Vec::new(),
        conflicts: Vec::new(),
        exit_code: ended.exit_code,
        next: ended.next,
        run_id: ended.run_id,
    };
    for record in journal.read(&response.run_id.stream(), 0, PAGE)? {
        match record.event {
            Event::ActResult(result) => {
                let text = journal.blob(&result.shown)?;
                response.text = Some(String::from_utf8_lossy(&text).into_owned());
                response.exit = result.exit;
                response.wall_ms = result.wall_ms;
                response.diff = result.diff.text;
            }
            Event::Merged { report, .. } => {
                response.merged = report.merged;
                response.conflicts = report.conflicts.into_iter().map(|conflict| conflict.path).collect();
            }
            _ => {}
        }
    }
    Ok(response)
}

fn print(response: &CallResponse) -> Result<(), CliError> {
    let style = Style::for_stderr();
    if let Some(text) = &response.text {
        put::line(neutralise(text).trim_end())?;
    }
    if !response.diff.is_empty() {
        put::note(&style.diff(&neutralise(&response.diff)));
    }
    for path in &response.conflicts {
        put::note(&style.yellow(&one_line(&format!("{path} was changed by somebody else; kept apart"), 300)));
    }
    put::note(&format!(
        "{} · {} · {} · run {}",
        response.status.as_str(),
        one_line(&response.summary, 400),
        put::duration(response.wall_ms),
        response.run_id
    ));
    if let Some(next) = &response.next {
        put::note(&format!("next: {next}"));
    }
    Ok(())
}

/// The call's result is all there is to see.
struct Silent;

impl Observer for Silent {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, _event: &Event) {}
    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, _live: &Live) {}
}
