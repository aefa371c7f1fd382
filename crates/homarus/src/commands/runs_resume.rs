//! `homarus runs resume`

use super::{find_run, run::Answering};
use crate::{
    choose,
    config::Config,
    conversation,
    dirs::Dirs,
    exit::CliError,
    reload::Reloader,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    #[command(flatten)]
    answering: Answering,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            let run = find_run(runtime.store.as_ref(), &self.run)?;
            choose::check_any(&conversation::current(runtime.store.as_ref(), &run)?.models, &runtime)?;
            let fence = conversation::claim(runtime.store.as_ref(), &run).await?;
            runtime.drive(run, fence, Reloader::new(&dirs), self.json).await
        })?
    }
}
