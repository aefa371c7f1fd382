//! What some models want otherwise, from a data file (`data/quirks.toml`).

use std::sync::LazyLock;

use serde::Deserialize;

use crate::prices;

const BUILT_IN: &str = include_str!("../data/quirks.toml");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quirks {
    openai_without_reasoning: Vec<String>,
    gemini_without_signatures: Vec<String>,
}

/// The file is part of the program, and a test reads it: it cannot be wrong.
static QUIRKS: LazyLock<Quirks> = LazyLock::new(|| toml::from_str(BUILT_IN).unwrap_or_default());

pub(crate) fn openai_reasons(model: &str) -> bool {
    !is_one_of(&QUIRKS.openai_without_reasoning, model)
}

pub(crate) fn gemini_wants_signatures(model: &str) -> bool {
    !is_one_of(&QUIRKS.gemini_without_signatures, model)
}

fn is_one_of(patterns: &[String], model: &str) -> bool {
    patterns.iter().any(|pattern| prices::matches(pattern, model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_can_be_read() {
        let quirks: Quirks = toml::from_str(BUILT_IN).unwrap();
        assert!(!quirks.openai_without_reasoning.is_empty() && !quirks.gemini_without_signatures.is_empty());
    }

    #[test]
    fn who_wants_what() {
        for (model, reasons) in
            [("gpt-5-mini", true), ("o4-mini", true), ("gpt-4.1", false), ("gpt-5-chat-latest", false)]
        {
            assert_eq!(openai_reasons(model), reasons, "{model}");
        }
        for (model, wants) in [("gemini-2.5-pro", false), ("gemini-3.1-pro-preview", true), ("gemini-4-argon", true)] {
            assert_eq!(gemini_wants_signatures(model), wants, "{model}");
        }
    }
}
