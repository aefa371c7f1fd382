//! `homarus config check`

use std::path::PathBuf;

use homarus_api::config::{CheckResponse, Problem};
use homarus_contract::event::ApprovalsMode;

use crate::{
    config::{Config, check, file::UserFile, keys::Keys},
    dirs::Dirs,
    exit::{self, CliError},
    put,
    show::style::Style,
    wiring,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A configuration file; the one that holds if absent
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let file = match &self.file {
            Some(path) => UserFile::read(path)?,
            None => UserFile::of(&Dirs::from_env()?)?,
        };
        if self.file.is_some() && file.text.is_none() {
            return Err(CliError::usage(format!("there is no file {}", file.path.display())));
        }
        let problems = problems(&file)?;
        let response = CheckResponse {
            file: file.path.display().to_string(),
            exists: file.text.is_some(),
            ok: problems.is_empty(),
            problems,
        };
        if self.json {
            put::json(&response)?
        } else {
            print(&response)?
        }
        Ok(if response.ok { exit::DONE } else { exit::USAGE })
    }
}

/// Everything that is wrong with a file, also with the files it names.
pub fn problems(file: &UserFile) -> Result<Vec<Problem>, CliError> {
    let found = check::check(file.text(), &Keys::all()?).problems;
    if !found.is_empty() {
        let known = |number: u32| (number > 0).then_some(number);
        return Ok(found
            .into_iter()
            .map(|problem| Problem {
                line: known(problem.line),
                column: known(problem.column),
                what: problem.what,
                help: problem.help,
            })
            .collect());
    }
    let config = Config::parse(file.text(), &file.path)?;
    let named = [
        wiring::profile(&config, None, None, ApprovalsMode::Ask).map(drop),
        wiring::prices(&config).map(drop),
        config.models.local.check(),
    ];
    let problem = |error: CliError| Problem { line: None, column: None, what: error.summary(), help: error.advice() };
    Ok(named.into_iter().filter_map(Result::err).map(problem).collect())
}

fn print(response: &CheckResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for problem in &response.problems {
        let place = match (problem.line, problem.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", response.file),
            _ => response.file.clone(),
        };
        put::line(&format!("{place}: {} {}", style.red("error:"), problem.what))?;
        if let Some(help) = &problem.help {
            put::line(&format!("  help: {help}"))?;
        }
    }
    if !response.ok {
        return Ok(());
    }
    put::line(&match response.exists {
        true => style.green(&format!("{} is right", response.file)),
        false => format!("{} does not exist: every default holds", response.file),
    })
}
