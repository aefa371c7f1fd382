//! A demo job: a folder with `job.toml` (what is asked, what may be done, how it is checked) and
//! `workspace/` (what the agent finds).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::sh;

const TIMEOUT_S: u64 = 900;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its folder's name.
    #[serde(skip)]
    pub name: String,
    #[serde(skip)]
    pub folder: PathBuf,
    /// One line for people.
    pub title: String,
    /// What the agent is asked.
    pub prompt: String,
    /// The one that `cargo xtask demo` does.
    #[serde(default)]
    pub main: bool,
    /// Rules in Homarus's own language, besides the defaults.
    #[serde(default)]
    pub rules: Option<String>,
    /// How many calls must at least have been approved by a person and denied by a rule.
    #[serde(default)]
    pub approved_min: usize,
    #[serde(default)]
    pub denied_min: usize,
    /// It has failed when it takes longer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    pub check: Vec<Check>,
}

/// Something that is so when the job is done. One table of `job.toml`, told apart by its keys.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Check {
    /// The file has all of these texts in it; case does not matter.
    Contains { file: String, contains: Vec<String> },
    /// The file has none of these texts in it; case does not matter.
    Lacks { file: String, lacks: Vec<String> },
    /// A regular expression matches somewhere in the file.
    Matches { file: String, matches: String },
    /// The file is exactly this text, blank space at its end aside.
    Equals { file: String, equals: String },
    /// The file or folder is as it was before.
    Unchanged { unchanged: String },
    /// Nothing has this name.
    Absent { absent: String },
    /// A command, run in the workspace, ends with code 0.
    Command { command: Vec<String> },
}

impl Job {
    /// All jobs of a folder, by name.
    pub fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let entries = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.retain(|path| path.join("job.toml").is_file());
        folders.sort();
        folders.iter().map(|path| Self::read(path)).collect()
    }

    fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("job.toml");
        let mut job = Self::parse(&sh::read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        job.name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        job.folder = folder.to_path_buf();
        Ok(job)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let job: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if job.check.is_empty() { Err("it checks nothing".to_owned()) } else { Ok(job) }
    }

    pub fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }
}

fn default_timeout_s() -> u64 {
    TIMEOUT_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_can_be_read_and_one_is_the_main_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/jobs");
        let jobs = Job::all(&folder).unwrap();
        assert_eq!(jobs.len(), 10);
        assert_eq!(jobs.iter().filter(|job| job.main).count(), 1);
        assert!(jobs.iter().all(|job| job.workspace().is_dir()));
    }

    #[test]
    fn a_job_that_checks_nothing_or_says_what_nobody_knows_is_refused() {
        let job = "title = \"t\"\nprompt = \"p\"\n";
        assert!(Job::parse(&format!("{job}check = []")).is_err());
        assert!(Job::parse(&format!("{job}check = [{{ unchanged = \"a\" }}]")).is_ok());
        assert!(Job::parse(&format!("{job}check = [{{ unchaned = \"a\" }}]")).is_err());
        assert!(Job::parse(&format!("{job}approve_min = 1\ncheck = [{{ unchanged = \"a\" }}]")).is_err());
    }
}
