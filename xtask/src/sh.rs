//! Running other programs: without standard input, with a clean environment, and with errors that
//! name the command.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
};

use crate::{env, places::Places};

/// Longest line that [`watch`] hands on whole.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A program to run in the repository, reading nothing.
pub fn command(places: &Places, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(&places.root).stdin(Stdio::null());
    for name in env::names_to_drop() {
        command.env_remove(name);
    }
    match env::library_path() {
        Some(path) if !path.is_empty() => command.env("LD_LIBRARY_PATH", path),
        _ => command.env_remove("LD_LIBRARY_PATH"),
    };
    command
}

/// Cargo, building where all but the worker is built.
pub fn cargo(places: &Places, args: &[&str]) -> Command {
    let mut cargo = command(places, "cargo");
    cargo.args(args).env(env::CARGO_TARGET_DIR, &places.target);
    cargo
}

/// Runs it to its end; an error if it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", shown(command))) }
}

pub fn status(command: &mut Command) -> Result<ExitStatus, String> {
    command.status().map_err(|error| cannot_start(command, &error))
}

/// Runs it to its end and returns what it printed on standard output; an error, with what it printed on
/// standard error, if it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` failed: {}\n{}", shown(command), output.status, errors.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it can be started and succeeds. Prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs it to its end, printing all it prints, and hands each line to `seen` as well.
pub fn watch(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<ExitStatus, String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot_start(command, &error))?;
    let (lines, received) = std::sync::mpsc::sync_channel(256);
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let lines = lines.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            while let Some(line) = next_line(&mut pipe) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
    }
    drop(lines);
    for line in received {
        println!("{line}");
        seen(&line);
    }
    child.wait().map_err(|error| format!("`{}`: {error}", shown(command)))
}

/// A line without its end; `None` when there are no more.
fn next_line(pipe: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = pipe.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    if read == 0 {
        return None;
    }
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned())
}

/// Whether a program of this name is on the search path.
pub fn on_path(program: &str) -> bool {
    env::path("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn shown(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(command.get_program().to_string_lossy().into_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` cannot be started: {error}", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_need_no_end() {
        let mut input = BufReader::new(&b"one\r\ntwo"[..]);
        assert_eq!(next_line(&mut input).as_deref(), Some("one"));
        assert_eq!(next_line(&mut input).as_deref(), Some("two"));
        assert_eq!(next_line(&mut input), None);
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 3"]);
        let error = output(&mut failing).unwrap_err();
        assert!(error.contains("sh -c") && error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn what_is_not_there_does_not_succeed() {
        assert!(!succeeds(&mut Command::new("no-such-program-here")));
        assert!(succeeds(&mut Command::new("true")));
    }
}
