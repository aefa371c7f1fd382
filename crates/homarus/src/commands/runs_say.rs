//! `homarus runs say`

use super::{
    find_run,
    run::{Answering, read_prompt},
};
use crate::{
    config::Config,
    dirs::Dirs,
    exit::CliError,
    reload::Reloader,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A conversation: its run's id, a unique beginning of it, or `last`
    run: String,
    /// The message; `-` reads it from standard input
    message: String,
    #[command(flatten)]
    answering: Answering,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let message = read_prompt(&self.message)?;
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            let run = find_run(runtime.store.as_ref(), &self.run)?;
            let fence = runtime.say(&run, "cli", message).await?;
            runtime.drive(run, fence, Reloader::new(&dirs), self.json).await
        })?
    }
}
