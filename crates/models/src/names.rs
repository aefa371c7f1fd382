//! Tool names on the wire. OpenAI and Anthropic allow `[A-Za-z0-9_-]{1,64}`; ours hold dots.
//!
//! A dot becomes one dash and a dash two, so a name reads naturally (`file.write` is `file-write`)
//! and can be read back. A name for which that is not unique (dots or dashes side by side), too
//! long, or with other characters, gets a hash after three dashes, which the first form never
//! holds; it is read back by looking among the names offered.

use std::collections::HashMap;

use homarus_contract::{ids::Hash, message::ToolDefinition};

pub(crate) const WIRE_NAME_BYTES_MAX: usize = 64;

/// The wire name of a tool. Always legal, and another for every name.
pub(crate) fn to_wire(name: &str) -> String {
    readable(name).unwrap_or_else(|| hashed(name))
}

/// The names offered with one request, to read answers by.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    by_wire: HashMap<String, String>,
}

impl Offered {
    pub(crate) fn new(tools: &[ToolDefinition]) -> Self {
        Self { by_wire: tools.iter().map(|tool| (to_wire(&tool.name), tool.name.clone())).collect() }
    }

    /// Our name for a wire name; a model that writes our own name (dots and all) is understood too.
    pub(crate) fn name(&self, wire: &str) -> Option<&str> {
        self.by_wire.get(wire).or_else(|| self.by_wire.get(&to_wire(wire))).map(String::as_str)
    }

    /// For messages: what could have been called.
    pub(crate) fn list(&self) -> String {
        let mut names: Vec<&str> = self.by_wire.values().map(String::as_str).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

fn readable(name: &str) -> Option<String> {
    let mut wire = String::with_capacity(name.len() + 4);
    let mut after_mark = false;
    for c in name.chars() {
        let is_mark = matches!(c, '.' | '-');
        if is_mark && after_mark {
            return None;
        }
        after_mark = is_mark;
        match c {
            '.' => wire.push('-'),
            '-' => wire.push_str("--"),
            c if c.is_ascii_alphanumeric() || c == '_' => wire.push(c),
            _ => return None,
        }
    }
    (!wire.is_empty() && wire.len() <= WIRE_NAME_BYTES_MAX).then_some(wire)
}

fn hashed(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let head: String = name.chars().map(plain).take(29).collect();
    format!("{head}---{}", &Hash::of(name.as_bytes()).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_legal(wire: &str) -> bool {
        (1..=WIRE_NAME_BYTES_MAX).contains(&wire.len())
            && wire.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    }

    /// Reads the readable form back without a table, to show that it loses nothing.
    fn from_readable(wire: &str) -> String {
        wire.replace("--", "\0").replace('-', ".").replace('\0', "-")
    }

    #[test]
    fn our_names_read_naturally() {
        for (name, wire) in [
            ("file.write", "file-write"),
            ("shell.execute", "shell-execute"),
            ("mcp.git-hub.list_issues", "mcp-git--hub-list_issues"),
        ] {
            assert_eq!(to_wire(name), wire);
            assert_eq!(from_readable(wire), name);
        }
    }

    #[test]
    fn names_that_look_alike_stay_apart() {
        let names = ["a.b", "a-b", "a_b", "a..b", "a.-b", "a-.b", "a--b", "a b", "a/b", "a", "é", "", "a---b"];
        let wires: std::collections::HashSet<String> = names.iter().map(|name| to_wire(name)).collect();
        assert_eq!(wires.len(), names.len());
        assert!(wires.iter().all(|wire| is_legal(wire)), "{wires:?}");
    }

    proptest! {
        #[test]
        fn every_name_is_legal_and_comes_back(names in proptest::collection::hash_set("[a-zA-Z0-9_.-]{1,64}|.{0,80}", 1..40)) {
            let tools: Vec<ToolDefinition> = names
                .iter()
                .map(|name| ToolDefinition { name: name.clone(), description: String::new(), schema: "{}".to_owned() })
                .collect();
            let offered = Offered::new(&tools);
            for name in &names {
                let wire = to_wire(name);
                prop_assert!(is_legal(&wire), "{wire}");
                prop_assert_eq!(offered.name(&wire), Some(name.as_str()));
            }
        }

        #[test]
        fn the_readable_form_is_reversible(name in "[a-zA-Z0-9_.-]{1,40}") {
            if let Some(wire) = readable(&name) {
                prop_assert_eq!(from_readable(&wire), name);
            }
        }
    }
}
