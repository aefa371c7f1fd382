//! `homarus man`

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory, ValueHint};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::{
    cli::Cli,
    env,
    exit::{self, CliError},
    put,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "To read one at once: homarus man | man -l -")]
pub struct Args {
    /// A folder to write the pages of all commands to; printed is only the first one if absent
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: Option<PathBuf>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

/// It is no operation of the API: only a terminal has a use for it.
#[derive(Debug, serde::Serialize)]
struct ManResponse {
    pages: Vec<PageRow>,
}

#[derive(Debug, serde::Serialize)]
struct PageRow {
    name: String,
    /// Where it was written.
    path: Option<String>,
    /// Where it was not written.
    text: Option<String>,
}

struct Page {
    /// `homarus-config-get.1`
    name: String,
    text: String,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let mut pages = pages()?;
        let Some(folder) = &self.folder else {
            pages.truncate(1);
            let rows = pages.into_iter().map(|page| PageRow { name: page.name, path: None, text: Some(page.text) });
            return print(rows.collect(), self.json);
        };
        let mut rows = Vec::new();
        for page in pages {
            rows.push(PageRow { path: Some(write(folder, &page)?), name: page.name, text: None });
        }
        print(rows, self.json)
    }
}

fn print(pages: Vec<PageRow>, json: bool) -> Result<u8, CliError> {
    if json {
        put::json(&ManResponse { pages })?;
        return Ok(0);
    }
    for page in pages {
        match (page.text, page.path) {
            (Some(text), _) => put::text(&text)?,
            (None, path) => put::line(&path.unwrap_or(page.name))?,
        }
    }
    Ok(0)
}

fn write(folder: &Path, page: &Page) -> Result<String, CliError> {
    let path = folder.join(&page.name);
    fs::create_dir_all(folder).and_then(|()| fs::write(&path, &page.text)).map_err(|error| {
        CliError::failed(format!("the page {} cannot be written", path.display()))
            .cause(error)
            .help("name a folder that you may write to")
    })?;
    Ok(path.display().to_string())
}

/// The page of the program first, then those of its commands.
fn pages() -> Result<Vec<Page>, CliError> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    // Said in sections of their own, which lay the lists out.
    let root = root.after_long_help("").after_help("");
    let mut pages = Vec::new();
    collect(&root, &mut pages)?;
    if let Some(first) = pages.first_mut() {
        first.text += &lists();
    }
    Ok(pages)
}

/// Exit codes and variables, as sections.
fn lists() -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for code in exit::CODES {
        let text = format!("{}: {}", code.name, code.when);
        roff.control("TP", []).text([bold(code.code.to_string())]).text([roman(text)]);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for variable in env::ALL {
        roff.control("TP", []).text([bold(variable.name)]).text([roman(variable.help)]);
    }
    roff.render()
}

fn collect(command: &Command, pages: &mut Vec<Page>) -> Result<(), CliError> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut bytes = Vec::new();
    Man::new(command.clone()).manual("Homarus").render(&mut bytes).map_err(CliError::failed)?;
    let text = String::from_utf8(bytes).map_err(CliError::failed)?;
    pages.push(Page { name: format!("{name}.1"), text });
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        collect(inner, pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let pages = pages().unwrap();
        assert_eq!(pages[0].name, "homarus.1");
        for name in ["homarus-run.1", "homarus-runs-list.1", "homarus-config-get.1", "homarus-doctor.1"] {
            assert!(pages.iter().any(|page| page.name == name), "{name} is missing");
        }
        for page in &pages {
            assert!(!page.name.contains("-help"), "{}", page.name);
            for section in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
                assert!(page.text.contains(section), "{} lacks {section}", page.name);
            }
        }
        for part in ["EXIT STATUS", "HOMARUS_HOME", "130"] {
            assert!(pages[0].text.contains(part), "{part}: {}", pages[0].text);
        }
    }
}
