//! The user's own editor on a copy: what is wrong never replaces what was right, and nothing typed is lost.

use std::{path::Path, process::Command};

use crate::{
    config::file::{UserFile, read_text},
    env,
    exit::CliError,
};

/// Tried in this order where neither VISUAL nor EDITOR is set.
const EDITORS: [&str; 3] = ["editor", "nano", "vi"];

/// Lets the user edit `before` and replaces the file with what came of it, unless `problem` finds something
/// wrong. Whether the text changed. Where it cannot be done and something was written, that is kept, and the error
/// says where.
pub fn edit(
    file: &UserFile,
    before: &str,
    problem: impl FnOnce(&UserFile) -> Result<Option<String>, CliError>,
) -> Result<bool, CliError> {
    let editor = editor()?;
    let copy = file.copy(before)?;
    match run(&editor, &copy.path).and_then(|()| take_over(file, before, &copy.path, problem)) {
        Err(error) if copy.differs(before) => {
            let kept = copy.keep();
            Err(error.help(format!("what you wrote is kept in {}", kept.display())))
        }
        done => done,
    }
}

fn take_over(
    file: &UserFile,
    before: &str,
    copy: &Path,
    problem: impl FnOnce(&UserFile) -> Result<Option<String>, CliError>,
) -> Result<bool, CliError> {
    let wrong = |cause: String| {
        CliError::usage(format!("the edited {} is not right, and the old one stays", name(file))).cause(cause)
    };
    let Some(text) = read_text(copy).map_err(wrong)? else {
        return Err(CliError::failed("the editor left no file").help("nothing was changed"));
    };
    if text == before {
        return Ok(false);
    }
    let edited = UserFile { path: copy.to_path_buf(), text: Some(text) };
    if let Some(what) = problem(&edited)? {
        return Err(wrong(what));
    }
    file.replace(edited.text())?;
    Ok(true)
}

fn name(file: &UserFile) -> String {
    file.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The user's editor, a command line for the shell.
fn editor() -> Result<String, CliError> {
    let installed = || EDITORS.into_iter().find(|name| env::find_program(name).is_some()).map(str::to_owned);
    env::VISUAL.get().or_else(|| env::EDITOR.get()).or_else(installed).ok_or_else(|| {
        CliError::usage("there is no editor")
            .cause("neither VISUAL nor EDITOR is set")
            .help("set one, for example EDITOR=nano")
    })
}

fn run(editor: &str, path: &Path) -> Result<(), CliError> {
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
