//! The embedded model: its weights, and the worker that runs them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use homarus_api::doctor::Finding;
use homarus_contract::sandbox::{WorkerLauncher, WorkerSpec};

use super::{Because, Patient, error, info, of_error, ok, warning};
use crate::{
    choose, put,
    weights::{self, State},
};

/// A worker that is asked for its version loads no weights.
const ANSWER: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1_000;
const MEMORY_BYTES: u64 = 512 << 20;

pub fn check(patient: &Patient<'_>, launcher: Option<&Arc<dyn WorkerLauncher>>) -> Vec<Finding> {
    let local = &patient.config.models.local;
    let mut findings = vec![match local.weights() {
        Some(path) => own_weights(&path),
        None => known_weights(patient),
    }];
    match choose::worker(local) {
        Some(worker) if worker.is_file() => {
            findings.push(ok("local.worker", &worker.display().to_string()));
            if let Some(launcher) = launcher {
                findings.push(version(&worker, launcher.as_ref()));
            }
        }
        Some(worker) => findings.push(
            error("local.worker", "the worker of the embedded model is not there")
                .because(format!("`models.local.worker` names {}", worker.display()))
                .fix("`homarus config set models.local.worker --default`, or the right path"),
        ),
        None => findings.push(
            info("local.worker", "there is no worker for embedded models")
                .fix("put `homarus-local-model` beside `homarus` to use them"),
        ),
    }
    findings
}

fn own_weights(path: &Path) -> Finding {
    if path.is_file() {
        return ok("local.weights", &format!("{}, your own file", path.display()));
    }
    error("local.weights", "the weights of the embedded model are not there")
        .because(format!("`models.local.weights` names {}", path.display()))
        .fix("`homarus config set models.local.weights --default`, or the right path")
}

fn known_weights(patient: &Patient<'_>) -> Finding {
    let entry = match weights::find(&patient.config.models.local.name) {
        Ok(entry) => entry,
        Err(failure) => return of_error("local.weights", failure),
    };
    let path = patient.dirs.models.join(&entry.file);
    let again = format!("remove {}, then `homarus models pull {}`", path.display(), entry.name);
    match weights::state(&path, &entry, patient.quiet) {
        Ok(State::Whole) => ok("local.weights", &format!("{} is here and whole", entry.name)),
        Ok(State::Missing) => info("local.weights", &format!("{} is not here", entry.name)).fix(format!(
            "`homarus models pull {}` fetches {} MB",
            entry.name,
            entry.bytes / 1_000_000
        )),
        Ok(State::WrongSize { bytes }) => error("local.weights", &format!("{} is not whole", entry.name))
            .because(format!("it has {} bytes, not {}", put::count(bytes), put::count(entry.bytes)))
            .fix(again),
        Ok(State::WrongHash) => error("local.weights", &format!("{} is not what it should be", entry.name))
            .because("its SHA-256 is another one")
            .fix(again),
        Err(failure) => of_error("local.weights", failure),
    }
}

fn version(worker: &Path, launcher: &dyn WorkerLauncher) -> Finding {
    match ask_version(worker, launcher) {
        Ok(said) => judge_version(&said),
        Err(cause) => warning("local.version", "the worker does not say its version")
            .because(cause)
            .fix("put the `homarus-local-model` that came with this program beside it"),
    }
}

fn judge_version(said: &str) -> Finding {
    let (own, found) = (env!("CARGO_PKG_VERSION"), said.split_whitespace().nth(1).unwrap_or_default());
    if found == own {
        return ok("local.version", said);
    }
    warning("local.version", "the worker is of another version than this program")
        .because(format!("it says {said:?}, this is {own}"))
        .fix("put the `homarus-local-model` that came with this program beside it")
}

/// The first line of `WORKER --version`, run in the sandbox as every worker is.
fn ask_version(worker: &Path, launcher: &dyn WorkerLauncher) -> Result<String, String> {
    let spec = WorkerSpec {
        program: worker.to_path_buf(),
        args: vec!["--version".to_owned()],
        readable: Vec::new(),
        memory_bytes: MEMORY_BYTES,
    };
    let process = launcher.launch(spec).map_err(|error| error.to_string())?;
    let (send, receive) = mpsc::sync_channel(1);
    let stdout = File::from(process.stdout);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout.take(ANSWER_BYTES_MAX)).read_line(&mut line);
        // Nobody waits any more after the time is up.
        let _ = send.send(read.map(|_| line.trim().to_owned()));
    });
    match receive.recv_timeout(ANSWER) {
        Ok(Ok(line)) if !line.is_empty() => Ok(line),
        Ok(Ok(_)) => Err("it ended without a word".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::super::{severity, with_patient};
    use super::*;

    #[test]
    fn weights_that_are_missing_cut_short_or_changed() {
        with_patient("[models.local]\nname = \"smollm2-135m\"\nworker = \"/no/such/worker\"\n", |patient| {
            let entry = weights::find("smollm2-135m").unwrap();
            let path = patient.dirs.models.join(&entry.file);
            let look = || severity(&check(patient, None), "local.weights");
            assert_eq!(look(), Some(Severity::Info));
            std::fs::create_dir_all(&patient.dirs.models).unwrap();
            std::fs::write(&path, "half of it").unwrap();
            assert_eq!(look(), Some(Severity::Error));
            // All of its size and nothing in it.
            File::create(&path).unwrap().set_len(entry.bytes).unwrap();
            let found = known_weights(patient);
            assert!(found.severity == Severity::Error && found.cause.unwrap().contains("SHA-256"));
            assert_eq!(severity(&check(patient, None), "local.worker"), Some(Severity::Error));
        });
        with_patient("[models.local]\nweights = \"/no/such/file\"\n", |patient| {
            assert_eq!(severity(&check(patient, None), "local.weights"), Some(Severity::Error));
        });
    }

    #[test]
    fn another_version_is_told() {
        assert_eq!(judge_version(concat!("homarus-local-model ", env!("CARGO_PKG_VERSION"))).severity, Severity::Ok);
        assert_eq!(judge_version("homarus-local-model 0.0.1").severity, Severity::Warning);
        assert_eq!(judge_version("").severity, Severity::Warning);
    }
}
