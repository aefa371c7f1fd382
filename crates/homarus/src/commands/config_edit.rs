//! `homarus config edit`

use super::config_check::problems;
use crate::{
    config::{DEFAULT, file::UserFile},
    dirs::Dirs,
    editor,
    exit::CliError,
    put,
};

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
        let before = match &file.text {
            Some(text) => text.clone(),
            None => commented(DEFAULT),
        };
        let changed = editor::edit(&file, &before, |edited| {
            let found = problems(edited)?;
            let [first, rest @ ..] = found.as_slice() else { return Ok(None) };
            let line = first.line.map_or_else(String::new, |line| format!("line {line}: "));
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Ok(Some(format!("{line}{}{more}", first.what)))
        })?;
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
