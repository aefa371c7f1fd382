//! `homarus skills update`

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, sync::Arc};

use homarus_agent::skill::{Skill, SkillFile, scan};
use homarus_api::skills::UpdateResponse;
use homarus_contract::{
    ids::Hash,
    sandbox::{Change, ContentSource, Entry},
    text::neutralise,
};
use homarus_workflow::render;

use super::agents_delete::confirmed;
use crate::{
    dirs::Dirs,
    exit::{self, CliError},
    put,
    show::style::Style,
    skills::{self, keep},
    wiring,
};

/// Of a commit, for people.
const COMMIT_CHARS: usize = 12;
const DIFF_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of a skill that was added from a repository
    skill: String,
    /// Take it over without asking; what is found in it still counts
    #[arg(long)]
    yes: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let shelf = wiring::shelf(&dirs)?;
        let old = &skills::find(&shelf, &self.skill)?.skill;
        let origin = keep::origin(&old.name, &dirs.skills)?.ok_or_else(|| {
            CliError::usage(format!("the skill {} was not added from a repository", old.name))
                .help("`homarus skills add FOLDER --replace` copies it anew")
        })?;
        if !self.json {
            put::note(&format!("fetching {}", origin.from));
        }
        let fetched = keep::fetch(&origin.from)?;
        let new = &fetched.skill;
        if new.name != old.name {
            return Err(CliError::usage(format!("what is there now is the skill {}", new.name))
                .help("add it under its new name, and remove this one"));
        }
        let mut response = UpdateResponse {
            skill: old.name.clone(),
            from: origin.commit,
            to: fetched.origin.commit.clone(),
            diff: difference(old, new),
            findings: scan(new).iter().map(skills::finding).collect(),
            updated: false,
        };
        let is_same = new.digest == old.digest;
        if !self.json && !is_same {
            show(&response)?;
        }
        let agreed = is_same || self.yes || (!self.json && confirmed("take this over?")?);
        if agreed {
            keep::keep(new, Some(fetched.origin.clone()), &dirs.skills)?;
            response.updated = !is_same;
        }
        if self.json {
            put::json(&response)?;
        } else if is_same {
            put::line(&format!("{} is as it is there, at {}", old.name, short(&response.to)))?;
        } else if agreed {
            skills::put(skills::find(&wiring::shelf(&dirs)?, &self.skill)?, false)?;
        } else {
            put::line("nothing was changed")?;
        }
        Ok(if agreed { exit::DONE } else { exit::WAITING })
    }
}

fn show(response: &UpdateResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    put::line(&format!("{} from {} to {}", response.skill, short(&response.from), short(&response.to)))?;
    put::line(style.diff(&neutralise(&response.diff)).trim_end())?;
    response.findings.iter().try_for_each(|finding| put::line(&skills::told(finding, style)))
}

fn short(commit: &str) -> &str {
    commit.get(..COMMIT_CHARS).unwrap_or(commit)
}

/// A unified diff of all files, bounded.
fn difference(old: &Skill, new: &Skill) -> String {
    let paths: BTreeSet<&str> = old.files.iter().chain(&new.files).map(|file| file.path.as_str()).collect();
    let all: Vec<(Hash, Vec<u8>)> =
        old.files.iter().chain(&new.files).map(|file| (Hash::of(&file.bytes), file.bytes.clone())).collect();
    let contents: ContentSource =
        Arc::new(move |hash| all.iter().find(|(known, _)| known == hash).map(|(_, bytes)| bytes.clone()));
    let mut text = String::new();
    for path in paths {
        let change = Change { path: path.to_owned(), old: entry(old, path), new: entry(new, path) };
        if change.old != change.new {
            text += &render::show(&change, &contents).text;
        }
    }
    homarus_contract::text::bounded(&text, DIFF_BYTES_MAX, "the difference is longer")
}

fn entry(skill: &Skill, path: &str) -> Entry {
    let Some(SkillFile { bytes, .. }) = skill.files.iter().find(|file| file.path == path) else { return Entry::Absent };
    let mode = std::fs::metadata(skill.folder.join(path)).map_or(0o600, |file| file.permissions().mode() & 0o777);
    Entry::File { hash: Hash::of(bytes), bytes: bytes.len() as u64, mode }
}
