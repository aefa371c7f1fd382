//! `homarus config check`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use homarus_api::config::{CheckResponse, Problem};
use homarus_contract::{event::ApprovalsMode, text::neutralise};

use crate::{
    browser,
    config::{Config, check, file::UserFile, keys::Keys},
    dirs::Dirs,
    env,
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
        check_browser(&config),
    ];
    let readable = config.sandbox.readable.iter().map(|path| check_readable(path));
    let problem = |error: CliError| Problem { line: None, column: None, what: error.summary(), help: error.advice() };
    Ok(named.into_iter().chain(readable).filter_map(Result::err).map(problem).collect())
}

/// A run without it goes on, but is offered no browser.
fn check_browser(config: &Config) -> Result<(), CliError> {
    match browser::program(config).filter(|program| !program.is_file()) {
        None => Ok(()),
        Some(program) => Err(CliError::usage(format!("`browser.program` names {}", program.display()))
            .cause("there is no such file")
            .help("write the whole path, or leave it empty: then it is looked for")),
    }
}

/// The sandbox passes over what is not there, so that calls would only miss it.
fn check_readable(path: &Path) -> Result<(), CliError> {
    let wrong = || CliError::usage(format!("`sandbox.readable` names {}", path.display()));
    if !path.is_absolute() {
        let in_home = path.strip_prefix("~").ok().zip(env::home()).map(|(rest, home)| home.join(rest));
        let path = in_home.map_or_else(|| "/home/me/.rustup".to_owned(), |path| path.display().to_string());
        return Err(wrong().cause("that is no whole path").help(format!("write one from the root on, as {path}")));
    }
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(wrong().cause("there is no such folder")),
        Err(error) => Err(wrong().cause(error)),
    }
}

/// The file may be another's: nothing of it reaches the terminal as it is.
fn print(response: &CheckResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for problem in &response.problems {
        let place = match (problem.line, problem.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", response.file),
            _ => response.file.clone(),
        };
        let what = neutralise(&problem.what);
        put::line(&format!("{}: {} {what}", neutralise(&place), style.red("error:")))?;
        if let Some(help) = &problem.help {
            put::line(&format!("  help: {}", neutralise(help)))?;
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
