//! Limits: of every call, and of those of one tool.
//!
//! What a tool has otherwise is a key as any other, `limits.tools.shell.execute.wall_s` say; where a file does not set it, it
//! follows `limits.wall_s`.

use std::collections::BTreeMap;

use homarus_contract::sandbox::{CallLimits, Limits};
use homarus_tools::{LIMITED, Limited};
use serde::Deserialize;

use super::{
    MIB,
    keys::{Key, Keys},
};
use crate::nearest::nearest;

const LIMITS: &str = "limits.";
/// The limits that are none of a single call.
const OF_ALL_CALLS: &[&str] = &["calls_at_once"];
/// What the keys of a tool begin with; its name follows, whose dots divide tables as all do.
const TOOLS: &str = "limits.tools.";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitOptions {
    wall_s: u64,
    cpu_s: u64,
    memory_mb: u64,
    processes: u32,
    open_files: u32,
    file_mb: u64,
    output_mb: u64,
    pub calls_at_once: u32,
    /// A tool's name is two tables: `shell`, and `execute` in it.
    #[serde(default)]
    tools: BTreeMap<String, BTreeMap<String, ToolLimits>>,
}

/// What calls of one tool have otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ToolLimits {
    wall_s: Option<u64>,
    cpu_s: Option<u64>,
    memory_mb: Option<u64>,
    processes: Option<u32>,
    open_files: Option<u32>,
    file_mb: Option<u64>,
    output_mb: Option<u64>,
}

impl LimitOptions {
    pub fn of_calls(&self) -> CallLimits {
        let tools =
            self.tools.iter().flat_map(|(group, tools)| tools.iter().map(move |(name, own)| (group, name, own)));
        CallLimits {
            common: self.with(&ToolLimits::default()),
            of_tools: tools.map(|(group, name, own)| (format!("{group}.{name}"), self.with(own))).collect(),
        }
    }

    fn with(&self, own: &ToolLimits) -> Limits {
        Limits {
            wall_ms: own.wall_s.unwrap_or(self.wall_s).saturating_mul(1000),
            cpu_s: own.cpu_s.unwrap_or(self.cpu_s),
            memory_bytes: own.memory_mb.unwrap_or(self.memory_mb).saturating_mul(MIB),
            processes_max: own.processes.unwrap_or(self.processes),
            open_files_max: own.open_files.unwrap_or(self.open_files),
            file_bytes_max: own.file_mb.unwrap_or(self.file_mb).saturating_mul(MIB),
            output_bytes_max: own.output_mb.unwrap_or(self.output_mb).saturating_mul(MIB),
        }
    }
}

/// The keys of all tools: the limits of every call that hold for it.
pub fn of_tools(keys: &[Key]) -> Vec<Key> {
    LIMITED.iter().flat_map(|(tool, limited)| of_tool(tool, *limited, keys)).collect()
}

fn of_tool(tool: &str, limited: Limited, keys: &[Key]) -> Vec<Key> {
    let holds = |name: &str| match limited {
        Limited::InAll => !OF_ALL_CALLS.contains(&name),
        Limited::InTime => name == "wall_s",
    };
    let common = keys.iter().filter_map(|key| Some((key.path.strip_prefix(LIMITS)?, key)));
    common
        .filter(|(name, _)| holds(name))
        .map(|(name, key)| Key {
            path: format!("{TOOLS}{tool}.{name}"),
            about: format!("{} Of calls of {tool} alone.", key.about),
            follows: Some(key.path.clone()),
            ..key.clone()
        })
        .collect()
}

/// Whether a path is that of a key of a tool, or of tables of them.
pub fn are_of_tools(path: &str) -> bool {
    format!("{path}.").starts_with(TOOLS)
}

/// Where what can be set is listed, for an unknown path that is near to none.
pub fn listed(path: &str) -> String {
    if !path.starts_with(TOOLS) {
        return "`homarus config get` lists every key".to_owned();
    }
    let tools: Vec<&str> = LIMITED.iter().map(|(tool, _)| *tool).collect();
    format!("the tools that have limits are {}", tools.join(", "))
}

impl Keys {
    /// The limits of one tool, each with its name.
    pub fn of_tool(&self, tool: &str) -> impl Iterator<Item = (&str, &Key)> {
        let table = format!("{TOOLS}{tool}");
        self.of_tools().filter(move |key| key.is_in(&table)).map(|key| (key.name(), key))
    }

    /// The key or table of a tool that was probably meant.
    pub fn meant_of_tools(&self, path: &str) -> Option<&str> {
        let typed = path.strip_prefix(TOOLS)?;
        let paths = || self.tables().chain(self.of_tools().map(|key| key.path.as_str()));
        let near = nearest(typed, paths().filter_map(|path| path.strip_prefix(TOOLS)))?;
        paths().find(|path| path.strip_prefix(TOOLS) == Some(near))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_tool_has_its_own_limits_and_otherwise_those_of_all() {
        let text = "[limits]\nwall_s = 9\n[limits.tools.shell.execute]\nwall_s = 900\noutput_mb = 1\nprocesses = 7\n";
        let limits = Config::parse(text, Path::new("x")).unwrap().limits();
        let common = Limits { wall_ms: 9_000, ..Limits::default() };
        assert_eq!((limits.common, limits.of("file.read")), (common, common));
        let own = Limits { wall_ms: 900_000, output_bytes_max: 1 << 20, processes_max: 7, ..common };
        assert_eq!(limits.of("shell.execute"), own);
        // Every key there is can be set.
        for key in Keys::all().unwrap().of_tools() {
            Config::parse(&format!("{} = 16", key.path), Path::new("x")).unwrap();
        }
    }

    #[test]
    fn a_tool_has_the_limits_that_hold_for_it() {
        let keys = Keys::all().unwrap();
        let of = |tool: &str| keys.of_tool(tool).map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        assert_eq!(of("shell.execute"), "wall_s cpu_s memory_mb processes open_files file_mb output_mb");
        assert_eq!((of("web.search").as_str(), of("skill.read").as_str()), ("wall_s", ""));
        let (_, key) = keys.of_tool("shell.execute").next().unwrap();
        assert_eq!(key.kind, keys.find("limits.wall_s").unwrap().kind);
        assert_eq!(key.follows.as_deref(), Some("limits.wall_s"));
    }

    #[test]
    fn what_was_meant() {
        let keys = Keys::all().unwrap();
        let check = |typed: &str, meant: Option<&str>| assert_eq!(keys.meant(typed), meant, "{typed}");
        check("limits.tools.shell.execute.wal_s", Some("limits.tools.shell.execute.wall_s"));
        check("limits.tools.shell.exec", Some("limits.tools.shell.execute"));
        check("limits.tools.shel", Some("limits.tools.shell"));
        check("limits.tools.memory", None);
    }
}
