//! `homarus config edit`

use std::{path::Path, process::Command};

use super::config_check::problems;
use crate::{
    config::{DEFAULT, file::UserFile},
    dirs::Dirs,
    env,
    exit::CliError,
    put,
};

/// Tried in this order where neither VISUAL nor EDITOR is set.
const EDITORS: [&str; 3] = ["editor", "nano", "vi"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

/// What came of it. It is no operation of the API: there is an editor on this terminal only.
#[derive(Debug, serde::Serialize)]
struct EditResponse {
    file: String,
    changed: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let file = UserFile::read(&Dirs::from_env()?.config_file())?;
        let editor = editor()?;
        let before = match &file.text {
            Some(text) => text.clone(),
            None => commented(DEFAULT),
        };
        let copy = file.copy(&before)?;
        edit(&editor, &copy.path)?;
        let edited = UserFile::read(&copy.path)?;
        let Some(text) = &edited.text else {
            return Err(CliError::failed("the editor left no file").help("nothing was changed"));
        };
        let changed = *text != before;
        if changed {
            let found = problems(&edited)?;
            if let [first, rest @ ..] = found.as_slice() {
                let line = first.line.map_or_else(String::new, |line| format!("line {line}: "));
                let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
                let what = format!("{line}{}{more}", first.what);
                let kept = copy.keep();
                return Err(CliError::usage("the edited configuration is not right, and the old one stays")
                    .cause(what)
                    .help(format!("what you wrote is kept in {}", kept.display())));
            }
            if let Err(error) = file.replace(text) {
                let kept = copy.keep();
                return Err(error.help(format!("what you wrote is kept in {}", kept.display())));
            }
        }
        let response = EditResponse { file: file.path.display().to_string(), changed };
        if self.json {
            put::json(&response)?;
        } else {
            let what = if changed { "is changed" } else { "stays as it was" };
            put::line(&format!("{} {what}", response.file))?;
        }
        Ok(0)
    }
}

/// The user's editor, a command line for the shell.
fn editor() -> Result<String, CliError> {
    let installed = || EDITORS.into_iter().find(|name| env::find_program(name).is_some()).map(str::to_owned);
    env::VISUAL.get().or_else(|| env::EDITOR.get()).or_else(installed).ok_or_else(|| {
        CliError::usage("there is no editor")
            .cause("neither VISUAL nor EDITOR is set")
            .help("set one, for example EDITOR=nano, or use `homarus config set KEY VALUE`")
    })
}

fn edit(editor: &str, path: &Path) -> Result<(), CliError> {
    // As git and crontab do it: the variable may hold options, the path is one word whatever is in it.
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status();
    let cannot = |cause: String| {
        CliError::failed(format!("the editor `{editor}` did not do its work"))
            .cause(cause)
            .help("nothing was changed; VISUAL or EDITOR names the editor")
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(cannot(status.to_string())),
        Err(error) => Err(cannot(error.to_string())),
    }
}

/// The default with every setting behind a `#`, to begin a file of one's own with.
fn commented(default: &str) -> String {
    let line = |line: &str| match line.chars().next() {
        None | Some('#' | '[') => format!("{line}\n"),
        Some(_) => format!("# {line}\n"),
    };
    let head = "# Take away the `#` before what you want to change. What is behind one stays as it is built in.\n#\n";
    format!("{head}{}", default.lines().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{check::check, keys::Keys};

    #[test]
    fn a_file_to_begin_with_sets_nothing_and_is_right() {
        let checked = check(&commented(DEFAULT), &Keys::all().unwrap());
        assert!(checked.problems.is_empty() && checked.set.is_empty(), "{checked:?}");
    }
}
