//! Agents: which one a run has, and what that means for it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use homarus_agent::{
    folder::{self, AgentFolder, AgentName, Definition, FolderError, MEMORY_BYTES_DEFAULT, Memory},
    prompt::{self, Extras},
    skill::Shelf,
};
use homarus_contract::{
    action::Resource,
    budget::Budget,
    event::{AgentRef, Profile},
    message::ToolDefinition,
    tool::ReadRules,
};
use homarus_guard::Readable;
use homarus_policy::pattern::{Pattern, VERBS};
use homarus_tools::{http_request, skill_read, web_search};

use crate::{config, dirs::Dirs, exit::CliError, wiring::now_ms};

/// What an agent's folder holds, in the order it is shown.
pub const FILES: [&str; 6] = [folder::DEFINITION_FILE, "IDENTITY.md", "SOUL.md", "USER.md", "AGENTS.md", "MEMORY.md"];
/// Names the agent of runs that name none. It begins with a dot, so no agent can be called that.
const CURRENT_FILE: &str = ".current";

/// The agent a run has: the one named, else the one that was switched to, else none.
pub fn chosen(dirs: &Dirs, named: Option<&str>) -> Result<Option<AgentFolder>, CliError> {
    match named {
        Some(name) => find(dirs, name).map(Some),
        None => match current(dirs)? {
            None => Ok(None),
            Some(name) => AgentFolder::open(&dirs.agents, &name).map(Some).map_err(|error| {
                let help = "`homarus agents switch NAME` chooses another, `homarus agents switch --none` none";
                CliError::usage(format!("the current agent cannot be used: {error}")).help(help)
            }),
        },
    }
}

pub fn find(dirs: &Dirs, name: &str) -> Result<AgentFolder, CliError> {
    let name: AgentName = name.parse()?;
    AgentFolder::open(&dirs.agents, &name).map_err(|error| match error {
        FolderError::NoSuchAgent(name) => no_such(dirs, &name),
        error => error.into(),
    })
}

/// The folder of an agent, also where its definition cannot be read.
pub fn folder_of(dirs: &Dirs, name: &str) -> Result<PathBuf, CliError> {
    let name: AgentName = name.parse()?;
    let folder = dirs.agents.join(name.as_str());
    if folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) { Ok(folder) } else { Err(no_such(dirs, &name)) }
}

fn no_such(dirs: &Dirs, name: &AgentName) -> CliError {
    let names = folder::names(&dirs.agents).unwrap_or_default();
    let known: Vec<&str> = names.iter().map(AgentName::as_str).collect();
    CliError::usage(format!("there is no agent {name}")).help(match known.as_slice() {
        [] => format!("make it with: homarus agents create {name}"),
        known => format!("there are {}; make a new one with `homarus agents create`", known.join(", ")),
    })
}

/// The agent that was switched to.
pub fn current(dirs: &Dirs) -> Result<Option<AgentName>, CliError> {
    let path = dirs.agents.join(CURRENT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().parse()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::failed(format!("{} cannot be read: {error}", path.display()))),
    }
}

pub fn switch(dirs: &Dirs, to: Option<&AgentFolder>) -> Result<(), CliError> {
    let path = dirs.agents.join(CURRENT_FILE);
    let failed = |error: std::io::Error| CliError::failed(format!("{} cannot be written: {error}", path.display()));
    match to {
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        },
        Some(agent) => {
            let new = path.with_extension("new");
            fs::write(&new, format!("{}\n", agent.name)).and_then(|()| fs::rename(&new, &path)).map_err(failed)
        }
    }
}

pub fn reference(agent: &AgentFolder) -> AgentRef {
    AgentRef { name: agent.name.to_string(), folder: agent.path.clone() }
}

/// The configured bounds, where the agent does not say otherwise.
pub fn budget(base: Budget, definition: &Definition) -> Budget {
    let limits = &definition.limits;
    Budget {
        cost_max: limits.usd.map(config::nano_usd).or(base.cost_max),
        tokens_max: limits.tokens.unwrap_or(base.tokens_max),
        steps_max: limits.steps.unwrap_or(base.steps_max),
        wall_ms_max: limits.wall_s.map_or(base.wall_ms_max, |seconds| seconds.saturating_mul(1000)),
    }
}

/// The system prompt of a run that is offered these tools, and what a person should know about it: memory that
/// did not fit, say.
pub fn system(
    agent: Option<&AgentFolder>,
    offered: &[ToolDefinition],
    shelf: &Shelf,
    workspace: &Path,
    profile: &Profile,
) -> (String, Vec<String>) {
    let (mut files, notes) = agent.map(|agent| folder::memory_of(&agent.path)).unwrap_or_default();
    if let Some(agent) = agent.filter(|agent| agent.definition.daily_log) {
        files.extend(folder::daily_logs(&agent.path, &folder::daily::days(now_ms())));
    }
    let rules = Readable::of(profile);
    let from_workspace =
        folder::workspace_file(workspace, |path| rules.as_ref().is_ok_and(|rules| rules.may_read(path)));
    // Before MEMORY.md, which changes most.
    let at = files.iter().position(|file| file.keeps_its_end).unwrap_or(files.len());
    files.splice(at..at, from_workspace);
    let definition = agent.map(|agent| &agent.definition);
    let bytes_max = definition.and_then(|definition| definition.memory_bytes_max).unwrap_or(MEMORY_BYTES_DEFAULT);
    let memory = Memory::pack(&files, notes, bytes_max);
    let has = |name: &str| offered.iter().any(|tool| tool.name == name);
    let skills = if has(skill_read::NAME) {
        shelf.offered(definition.and_then(|definition| definition.skills.as_deref()))
    } else {
        Vec::new()
    };
    let extras = Extras {
        persona: definition.map_or("", |definition| definition.persona.as_str()),
        memory: &memory.text,
        skills: skills.iter().map(|one| (one.skill.name.as_str(), one.skill.description.as_str())).collect(),
        has_network: has(http_request::NAME) || has(web_search::NAME),
    };
    (prompt::system_with(&extras), memory.notes)
}

/// What the agent may do at all: its own grants, else the configured ones; of skills only those it names.
pub fn grants(configured: &[String], definition: Option<&Definition>) -> Vec<String> {
    let own = definition.and_then(|definition| definition.grants.as_deref());
    let grants = own.unwrap_or(configured);
    let Some(skills) = definition.and_then(|definition| definition.skills.as_deref()) else { return grants.to_vec() };
    let mut kept = Vec::new();
    for grant in grants.iter().flat_map(|grant| within(grant, skills)) {
        if !kept.contains(&grant) {
            kept.push(grant);
        }
    }
    kept
}

/// A grant, of skills only for these: the same for every other verb it stands for, and each skill it covers by name.
fn within(grant: &str, skills: &[String]) -> Vec<String> {
    // What cannot be read is refused where the grants are checked.
    let Some(pattern) = Pattern::parse(grant).ok().filter(|pattern| pattern.covers_verb(skill_read::VERB)) else {
        return vec![grant.to_owned()];
    };
    let target = grant.splitn(3, ':').nth(2).map(|target| format!(":{target}")).unwrap_or_default();
    let others = VERBS.iter().map(|(verb, _)| *verb).filter(|verb| *verb != skill_read::VERB);
    let others = others.filter(|verb| pattern.covers_verb(verb)).map(|verb| format!("{verb}{target}"));
    let resource = |name: &str| Resource { verb: skill_read::VERB.to_owned(), target: name.to_owned() };
    // No skill has a name with a `*`, which would stand for others too.
    let named = skills.iter().filter(|name| !name.contains('*') && pattern.matches(&resource(name), true));
    others.chain(named.map(|name| format!("{}:{name}", skill_read::VERB))).collect()
}

/// The tools an agent is offered, by name; `None`: all.
pub fn tools<'a>(agent: Option<&'a AgentFolder>, known: &[String]) -> Result<Option<&'a [String]>, CliError> {
    let Some((agent, wanted)) = agent.and_then(|agent| Some((agent, agent.definition.tools.as_deref()?))) else {
        return Ok(None);
    };
    match wanted.iter().find(|name| !known.contains(name)) {
        None => Ok(Some(wanted)),
        Some(name) => Err(CliError::usage(format!("agent {} wants the tool {name:?}, which there is not", agent.name))
            .help(format!("the tools are {}", known.join(", ")))),
    }
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { .. } => Self::failed(error),
            FolderError::Invalid { .. } => {
                Self::usage(error).help("correct it with: homarus agents edit NAME; its comments list every key")
            }
            error => Self::usage(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use homarus_policy::Grants;

    use super::*;

    fn covers(grants: &[String], verb: &str, target: &str) -> bool {
        let resource = Resource { verb: verb.to_owned(), target: target.to_owned() };
        Grants::parse(grants).unwrap().covering(&resource).is_some()
    }

    #[test]
    fn an_agent_that_names_skills_is_granted_no_other_however_wide_its_grants_are() {
        let of = |grants: &str, skills: &str| {
            let text = format!("grants = {grants}\nskills = {skills}");
            super::grants(&[], Some(&Definition::parse(&text).unwrap()))
        };
        for wide in ["*", "*:*", "*:read", "skill:*", "skill:read", "skill:read:*", "skill:*:*", "skill:*:?"] {
            let grants = of(&format!("[{wide:?}, \"shell:run\"]"), "[\"a\"]");
            assert!(covers(&grants, "skill:read", "a") || wide.ends_with('?'), "{wide}: {grants:?}");
            assert!(!covers(&grants, "skill:read", "b"), "{wide}: {grants:?}");
            assert!(covers(&grants, "shell:run", "ls"), "{wide}: {grants:?}");
            assert_eq!(covers(&grants, "file:write", "x"), ["*", "*:*"].contains(&wide), "{wide}: {grants:?}");
            assert_eq!(covers(&grants, "file:read", "x"), wide.starts_with('*'), "{wide}: {grants:?}");
        }
        assert!(!covers(&of("[\"*\"]", "[]"), "skill:read", "a"));
        assert!(!covers(&of("[\"*\"]", "[\"*\"]"), "skill:read", "b"), "a name is no pattern");
        assert!(!covers(&of("[\"skill:read:b\"]", "[\"a\"]"), "skill:read", "a"), "naming a skill grants nothing");
        let unnamed = Definition::parse("grants = [\"*\"]").unwrap();
        assert_eq!(super::grants(&[], Some(&unnamed)), ["*"]);
    }
}
