//! Who answers the engines: the embedded model, or a script that does each job with one shell call. What is not done
//! with the script is not the model's fault: so it is shown that every engine can do the jobs here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::front::{self, Counts, Front};
use crate::{
    bench::server::{self, ModelServer, Task},
    demo::job::Job,
    sh,
};

pub enum Model {
    Embedded(Front),
    Scripted(ModelServer),
}

/// An engine's place for one job.
pub enum Seat {
    Embedded(front::Seat),
    Scripted(server::Seat),
}

impl Model {
    /// A place for this job; `log` is where the embedded model's requests and answers are written.
    pub fn seat(&self, job: &Job, log: &Path) -> Result<Seat, String> {
        match self {
            Self::Embedded(front) => front.seat(log).map(Seat::Embedded),
            Self::Scripted(server) => {
                let task = Task { calls: 1, command: command(&solution(job))?, think: Duration::ZERO };
                Ok(Seat::Scripted(server.seat(task)))
            }
        }
    }

    /// Frees its memory until somebody asks again.
    pub fn rest(&self) {
        if let Self::Embedded(front) = self {
            front.rest();
        }
    }
}

impl Seat {
    /// Without `/v1`.
    pub fn base_url(&self) -> &str {
        match self {
            Self::Embedded(seat) => &seat.base_url,
            Self::Scripted(seat) => &seat.base_url,
        }
    }

    /// What was counted of it. A script has read nothing: its tokens are none.
    pub fn close(self) -> Counts {
        match self {
            Self::Embedded(seat) => seat.close(),
            Self::Scripted(seat) => {
                let seen = seat.seen();
                let (requests, troubles) = (seen.asked.len() as u64, seen.trouble.into_iter().collect());
                Counts { requests, troubles, ..Counts::default() }
            }
        }
    }
}

/// The files that a job's workspace has when it is done, as far as they are others than before. No engine gets them.
pub fn solution(job: &Job) -> PathBuf {
    job.folder.join("solution")
}

/// The shell command that writes all files of a folder, texts, into the folder in which it runs.
fn command(folder: &Path) -> Result<String, String> {
    let mut commands = Vec::new();
    for file in files(folder)? {
        let name = file.strip_prefix(folder).unwrap_or(&file);
        if let Some(parent) = name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            commands.push(format!("mkdir -p {}", quoted(&parent.to_string_lossy())));
        }
        commands.push(format!("printf %s {} > {}", quoted(&sh::read(&file)?), quoted(&name.to_string_lossy())));
    }
    Ok(commands.join(" && "))
}

/// All files below a folder, by name.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => files.extend(self::files(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}

/// One word of the shell. `{}` is taken apart, since it stands for a number in a [`Task`].
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace("{}", "{''}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn the_command_writes_what_the_folder_holds() {
        let folder = std::env::temp_dir().join(format!("xtask-model-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("a b/c")).unwrap();
        fs::create_dir_all(&to).unwrap();
        let texts = [("a b/c/d.txt", "it's {} and {0}\n\n"), ("e.sh", "printf '%s\\n' \"$1\" `x`\\\n"), ("f", "")];
        for (name, text) in texts {
            fs::write(from.join(name), text).unwrap();
        }
        // As the script's server does with it.
        let command = command(&from).unwrap().replace("{}", "1");
        assert!(sh::succeeds(Command::new("/bin/sh").args(["-c", &command]).current_dir(&to)), "{command}");
        for (name, text) in texts {
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), text, "{name}");
        }
        assert!(super::command(&folder.join("none")).is_err_and(|error| error.contains("none")));
        fs::remove_dir_all(folder).unwrap();
    }
}
