//! `homarus run`

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ValueEnum;
use homarus_agent::folder::AgentFolder;
use homarus_contract::{
    budget::Budget,
    event::{Accepted, ApprovalsMode, Chosen, Inbound, Profile},
    ids::{Hash, RunId},
    journal::Journal,
    message::ToolDefinition,
    model::ModelRef,
    tool::Tool,
};

use crate::{
    agents,
    approver::{Asking, TerminalApprover},
    choose,
    cli::VERSION,
    config::{self, Config},
    dirs::{self, Dirs},
    exit::CliError,
    put,
    reload::{self, Reloader},
    route,
    wiring::{self, Runtime},
};

const PROMPT_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do; `-` reads it from standard input
    prompt: String,
    /// The model, as PROVIDER/MODEL; given more than once, the next is asked when one is down
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Vec<ModelRef>,
    /// The agent that does it (default: the one `homarus agents switch` chose, else none)
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Offer no tools: an answer, and nothing is done
    #[arg(long)]
    no_tools: bool,
    /// A word for what kind of request this is, for rules that choose the model; can be given again
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The folder to work in
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// What happens when a rule says ask (default: ask; without a terminal, deny)
    #[arg(long, value_enum)]
    approvals: Option<Approvals>,
    #[command(flatten)]
    answering: Answering,
    /// Most the run may cost, in USD
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    budget_usd: Option<f64>,
    /// Most model calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps_max: Option<u32>,
    /// A file of rules that is looked at before the configured ones
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Do not finish with the answer, but wait for further messages (`homarus runs say`)
    #[arg(long)]
    conversation: bool,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

/// Who answers questions, shared with `runs resume`.
#[derive(Debug, Clone, clap::Args)]
pub struct Answering {
    /// Where answers to questions come from
    #[arg(long, value_enum, default_value_t = Source::Terminal)]
    approvals_from: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Approvals {
    /// Ask a person
    Ask,
    /// Say no
    Deny,
    /// Say yes, and record that nobody was asked
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The person at this terminal
    Terminal,
    /// `homarus runs approve`, from another process
    Cli,
}

impl Approvals {
    pub fn mode(self) -> ApprovalsMode {
        match self {
            Self::Ask => ApprovalsMode::Ask,
            Self::Deny => ApprovalsMode::Deny,
            Self::Auto => ApprovalsMode::Auto,
        }
    }
}

impl Answering {
    /// Whether answers come from another process.
    pub fn is_elsewhere(&self) -> bool {
        self.approvals_from == Source::Cli
    }

    pub fn can_answer(&self) -> bool {
        self.is_elsewhere() || TerminalApprover::has_terminal()
    }

    /// What was asked for, or to ask where somebody can answer.
    pub fn mode(&self, wanted: Option<Approvals>) -> ApprovalsMode {
        match wanted {
            Some(approvals) => approvals.mode(),
            None if self.can_answer() => ApprovalsMode::Ask,
            None => ApprovalsMode::Deny,
        }
    }

    pub fn approver(&self) -> TerminalApprover {
        TerminalApprover::new(match self.approvals_from {
            Source::Cli => Asking::OtherProcess,
            Source::Terminal if TerminalApprover::has_terminal() => Asking::Terminal,
            Source::Terminal => Asking::Nobody,
        })
    }
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let prompt = read_prompt(&self.prompt)?;
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        let workspace = dirs::workspace(self.workspace.as_deref())?;
        let agent = agents::chosen(&dirs, self.agent.as_deref())?;
        let chosen = Chosen {
            rules: self.policy.as_deref().map(read_policy).transpose()?,
            cost_max: self.budget_usd.map(config::nano_usd),
            steps_max: self.steps_max,
            tags: self.tag,
        };
        let mode = self.answering.mode(self.approvals);
        let profile = wiring::profile(&config, agent.as_ref(), chosen.rules.clone(), mode)?;
        let budget = reload::budget(&config, agent.as_ref(), &chosen);
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            runtime.settle_orphans().await?;
            let with_tools = !self.no_tools && agent.as_ref().is_none_or(|agent| !agent.has_no_tools());
            let name = agent.as_ref().map(|agent| agent.name.as_str());
            let asked = route::Request { text: &prompt, tools: with_tools, agent: name, tags: &chosen.tags };
            let choice = choose::models(&self.model, &asked, agent.as_ref(), &config, &runtime).await?;
            if !self.json {
                crate::put::say!("model {} ({})", choice.names(), choice.why);
            }
            let tools = match self.no_tools {
                true => Vec::new(),
                false => offered(&runtime.tools, agent.as_ref(), &choice.models)?,
            };
            let (system, notes) = agents::system(agent.as_ref(), &tools, &runtime.shelf, &workspace, &profile);
            for note in notes {
                put::note(&format!("note: {note}"));
            }
            let request = Request {
                source: "cli",
                system,
                agent: agent.as_ref(),
                prompt,
                workspace,
                hidden: dirs.hidden(&config),
                profile,
                budget,
                chosen,
                models: choice.models,
                models_why: choice.why,
                answer_ms_max: config.models.answer_ms_max(),
                tools,
                conversation: self.conversation,
            };
            let (accepted, blobs) = accepted(request)?;
            let run = accepted.run.clone();
            let fence = runtime.store.accept(accepted, blobs).await?;
            runtime.drive(run, fence, Reloader::new(&dirs), self.json).await
        })?
    }
}

pub fn read_policy(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::usage(format!("the policy {} cannot be read", path.display())).cause(error))
}

/// What a new run is made of.
pub struct Request<'a> {
    pub source: &'static str,
    pub agent: Option<&'a AgentFolder>,
    /// The system prompt.
    pub system: String,
    pub prompt: String,
    pub workspace: PathBuf,
    /// What of it nobody but the user sees.
    pub hidden: Vec<PathBuf>,
    pub profile: Profile,
    pub budget: Budget,
    /// What of this a person chose for the run alone.
    pub chosen: Chosen,
    pub models: Vec<ModelRef>,
    /// Why these models.
    pub models_why: String,
    /// Time all attempts at one answer may take until it begins.
    pub answer_ms_max: u64,
    /// What it is offered.
    pub tools: Vec<ToolDefinition>,
    pub conversation: bool,
}

/// The first event of a run, and the blobs it names.
pub fn accepted(request: Request<'_>) -> Result<(Accepted, Vec<Vec<u8>>), CliError> {
    let run = new_run_id()?;
    let orientation = match request.tools.is_empty() {
        true => String::new(),
        false => wiring::orientation(&request.workspace, &request.profile, &request.hidden),
    };
    let tools = serde_json::to_vec(&request.tools).map_err(CliError::failed)?;
    let (system, orientation) = (request.system.into_bytes(), orientation.into_bytes());
    let accepted = Accepted {
        inbound: Inbound { source: request.source.to_owned(), ext_id: run.to_string(), text: request.prompt },
        run,
        machine: "agent".to_owned(),
        workspace: request.workspace,
        agent: request.agent.map(agents::reference),
        models: request.models,
        models_why: request.models_why,
        answer_ms_max: request.answer_ms_max,
        profile: request.profile,
        budget: request.budget,
        chosen: Some(request.chosen),
        conversation: request.conversation,
        system: Hash::of(&system),
        tools: Hash::of(&tools),
        orientation: Hash::of(&orientation),
        homarus_version: VERSION.to_owned(),
    };
    Ok((accepted, vec![system, tools, orientation]))
}

/// The definitions of the tools an agent is offered with these models. The embedded one plans worse with each tool
/// more: unless the agent names its tools, it gets those of the workspace.
pub fn offered(
    tools: &[Arc<dyn Tool>],
    agent: Option<&AgentFolder>,
    models: &[ModelRef],
) -> Result<Vec<ToolDefinition>, CliError> {
    let known: Vec<String> = tools.iter().map(|tool| tool.definition().name).collect();
    let wanted = agents::tools(agent, &known)?;
    let embedded = !models.is_empty() && models.iter().all(|model| model.provider == choose::LOCAL);
    let reference = agent.map(agents::reference);
    let mut definitions = homarus_tools::offered(tools, reference.as_ref(), embedded && wanted.is_none());
    if let Some(wanted) = wanted {
        definitions.retain(|tool| wanted.contains(&tool.name));
    }
    Ok(definitions)
}

pub fn new_run_id() -> Result<RunId, CliError> {
    let mut random = [0u8; 5];
    getrandom::fill(&mut random).map_err(|error| CliError::failed("there are no random numbers").cause(error))?;
    Ok(RunId::generate(wiring::now_ms(), random))
}

pub fn read_prompt(given: &str) -> Result<String, CliError> {
    let text = if given == "-" {
        let mut text = String::new();
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            crate::put::say!("reading the prompt from the terminal; end it with Ctrl-D");
        }
        stdin
            .lock()
            .take(PROMPT_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| CliError::usage("the prompt cannot be read from standard input").cause(error))?;
        text
    } else {
        given.to_owned()
    };
    if text.len() as u64 > PROMPT_BYTES_MAX {
        return Err(CliError::usage("the prompt is longer than 1 MiB").help("put it into a file of the workspace"));
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(CliError::usage("the prompt is empty").help("homarus run \"say what to do here\""));
    }
    Ok(text.to_owned())
}

pub fn parse_usd(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd > 0.0 && usd <= 1_000_000.0 => Ok(usd),
        _ => Err("expected an amount in USD over 0, for example 0.50".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::browser;

    #[test]
    fn the_embedded_model_alone_is_offered_the_tools_of_the_workspace() {
        let config = Config::parse("", Path::new("homarus.toml")).unwrap();
        let vault = homarus_vault::Vault::from_lookup(Vec::new(), |_| None).unwrap();
        let (dirs, vault) = (Dirs::in_folder(Path::new("/nowhere")), Arc::new(vault));
        let browsers = browser::browsers(&dirs, &config, vault.clone(), Arc::new(browser::NotHere)).unwrap();
        let tools = wiring::tools(&config, vault, Arc::new(homarus_agent::skill::Shelf::default()), browsers).unwrap();
        let names = |models: &[&str]| -> Vec<String> {
            let models: Vec<ModelRef> = models.iter().map(|model| model.parse().unwrap()).collect();
            offered(&tools, None, &models).unwrap().into_iter().map(|tool| tool.name).collect()
        };
        let workspace = ["file.search", "file.read", "file.edit", "file.write", "shell.execute", "file.list"];
        assert_eq!(names(&["local/x"]), workspace);
        assert!(names(&["local/x", "openai/y"]).contains(&"http.request".to_owned()));
        assert!(names(&[]).contains(&"http.request".to_owned()), "a call by hand");
    }
}
