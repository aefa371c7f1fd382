//! What a new agent begins with.

use super::DEFINITION_FILE;

/// A named beginning. The definitions are data files.
#[derive(Debug)]
pub struct Template {
    pub name: &'static str,
    definition: &'static str,
}

macro_rules! templates {
    ($($name:literal),*) => {
        /// All templates; the first is used where none is named.
        pub const TEMPLATES: &[Template] = &[$(Template {
            name: $name,
            definition: include_str!(concat!("../../data/templates/", $name, ".toml")),
        }),*];
    };
}

templates!("base", "worker", "coder", "researcher", "quick", "creative", "small");

pub fn template(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.name == name)
}

/// Files every agent begins with: only a comment, which is not told to the model.
const FILES: [(&str, &str); 5] = [
    ("IDENTITY.md", "<!-- Who the agent is: its name, how it signs. -->\n"),
    ("SOUL.md", "<!-- How the agent thinks and speaks: values, tone, what it never does. -->\n"),
    ("USER.md", "<!-- What the agent should know about you: name, languages, habits, time zone. -->\n"),
    ("AGENTS.md", "<!-- How the agent works: commands, conventions, what to check before it is done. -->\n"),
    ("MEMORY.md", "<!-- What the agent should remember. It adds notes of its own in a section of their own. -->\n"),
];

impl Template {
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [(DEFINITION_FILE, self.definition)].into_iter().chain(FILES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Definition;

    #[test]
    fn every_template_is_valid_and_says_what_it_is_for() {
        for template in TEMPLATES {
            let definition =
                Definition::parse(template.definition).unwrap_or_else(|error| panic!("{}: {error}", template.name));
            assert!(!definition.description.is_empty(), "{}", template.name);
            assert!(template.definition.contains("# tools") || definition.tools.is_some(), "{}", template.name);
        }
        assert!(template("nope").is_none());
    }
}
