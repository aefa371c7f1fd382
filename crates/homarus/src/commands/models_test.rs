//! `homarus models test`: a run of one step without tools, gated and journalled like any other.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use homarus_api::models::TestResponse;
use homarus_contract::{
    budget::Budget,
    event::{Chosen, Event, FinishStatus},
    ids::RunId,
    journal::Journal,
    message::Usage,
    model::ModelRef,
};
use homarus_driver::{
    Control, Ended,
    ports::{Live, Observer},
};

use super::run::{Request, accepted};
use crate::{
    approver::{Asking, TerminalApprover},
    choose,
    config::Config,
    dirs::{self, Dirs},
    exit::CliError,
    put, route,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, as PROVIDER/MODEL; the one a run would choose if absent
    model: Option<ModelRef>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        let watch = Arc::new(Watch::new());
        let (model, ended) = wiring::block_on(async {
            let approver = TerminalApprover::new(Asking::Nobody);
            let runtime = Runtime::build(&dirs, &config, |_| watch.clone(), approver)?;
            let given: Vec<ModelRef> = self.model.clone().into_iter().collect();
            let choice = choose::models(&given, &route::Request::default(), None, &config, &runtime).await?;
            let model = choice.models.first().cloned().ok_or_else(|| CliError::failed("no model"))?;
            Ok::<_, CliError>((model.clone(), ask(&runtime, &config, model).await?))
        })??;
        let response = watch.response(model, ended)?;
        if self.json {
            put::json(&response)?;
        } else {
            put::line(&format!(
                "{} {} answered {:?}: first word after {}, all after {}",
                crate::show::style::Style::for_stdout().good(),
                response.model,
                response.answer,
                put::duration(response.first_ms),
                put::duration(response.wall_ms)
            ))?;
        }
        Ok(0)
    }
}

async fn ask(runtime: &Runtime, config: &Config, model: ModelRef) -> Result<Ended, CliError> {
    let request = Request {
        source: "models-test",
        agent: None,
        system: homarus_agent::prompt::system().to_owned(),
        prompt: "Say the word ready.".to_owned(),
        workspace: dirs::workspace(None)?,
        hidden: Vec::new(),
        profile: wiring::profile(config, None, None, homarus_contract::event::ApprovalsMode::Deny)?,
        budget: Budget { steps_max: 4, ..config.budget() },
        chosen: Chosen::default(),
        models: vec![model],
        models_why: "a test".to_owned(),
        answer_ms_max: config.models.answer_ms_max(),
        tools: Vec::new(),
        conversation: false,
    };
    let (accepted, blobs) = accepted(request)?;
    let run = accepted.run.clone();
    let fence = runtime.store.accept(accepted, blobs).await?;
    runtime.register(&run)?;
    Ok(runtime.driver.drive(fence, &Control::default()).await?)
}

/// Takes the time of the first word and of the whole answer.
struct Watch {
    started: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    first_ms: Option<u64>,
    wall_ms: u64,
    usage: Usage,
    failure: Option<String>,
}

impl Watch {
    fn new() -> Self {
        Self { started: Instant::now(), seen: Mutex::new(Seen::default()) }
    }

    fn response(&self, model: ModelRef, ended: Ended) -> Result<TestResponse, CliError> {
        let seen = self.seen.lock().map_err(|_| CliError::failed("the watch broke"))?;
        match ended {
            Ended::Finished { status: FinishStatus::Completed, summary } => Ok(TestResponse {
                model,
                answer: summary.trim().to_owned(),
                first_ms: seen.first_ms.unwrap_or(seen.wall_ms),
                wall_ms: seen.wall_ms,
                input_tokens: seen.usage.input_tokens,
                output_tokens: seen.usage.output_tokens,
            }),
            Ended::Finished { summary, .. } => {
                let cause = seen.failure.clone().unwrap_or(summary);
                Err(CliError::failed(format!("{model} does not answer"))
                    .cause(cause)
                    .help("`homarus doctor` looks at keys, servers and the embedded model"))
            }
            other => Err(CliError::failed(format!("the test did not end: {other:?}"))),
        }
    }
}

impl Observer for Watch {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, event: &Event) {
        let Ok(mut seen) = self.seen.lock() else { return };
        match event {
            Event::ModelResult { usage, wall_ms, .. } => {
                seen.usage = *usage;
                seen.wall_ms = *wall_ms;
            }
            Event::ModelFailed { message, .. } | Event::ModelBroke { message, .. } => {
                seen.failure = Some(message.clone())
            }
            _ => {}
        }
    }

    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, live: &Live) {
        if let (Live::Text { .. }, Ok(mut seen)) = (live, self.seen.lock()) {
            let ms = self.started.elapsed().as_millis() as u64;
            seen.first_ms.get_or_insert(ms);
        }
    }
}
