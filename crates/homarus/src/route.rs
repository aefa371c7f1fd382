//! Routing: rules that send simple kinds of request to a cheap or local model.

use homarus_contract::model::ModelRef;
use serde::{Deserialize, Serialize};

/// One rule. All its conditions must hold; one without conditions always does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Asked in this order.
    pub models: Vec<ModelRef>,
    /// The request has at most so many words.
    pub words_max: Option<u32>,
    /// Whether the run is offered tools.
    pub tools: Option<bool>,
    pub agent: Option<String>,
    /// One of the run's tags.
    pub tag: Option<String>,
}

/// What rules look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    pub text: &'a str,
    pub tools: bool,
    pub agent: Option<&'a str>,
    pub tags: &'a [String],
}

impl Route {
    pub fn fits(&self, request: &Request<'_>) -> bool {
        let words = u32::try_from(request.text.split_whitespace().count()).unwrap_or(u32::MAX);
        self.words_max.is_none_or(|max| words <= max)
            && self.tools.is_none_or(|tools| tools == request.tools)
            && self.agent.as_deref().is_none_or(|agent| request.agent == Some(agent))
            && self.tag.as_ref().is_none_or(|tag| request.tags.contains(tag))
    }

    /// Its conditions, for the record: `words_max = 20, tools = false`.
    pub fn why(&self) -> String {
        let conditions = [
            self.words_max.map(|words| format!("words_max = {words}")),
            self.tools.map(|tools| format!("tools = {tools}")),
            self.agent.as_ref().map(|agent| format!("agent = {agent}")),
            self.tag.as_ref().map(|tag| format!("tag = {tag}")),
        ];
        let conditions: Vec<String> = conditions.into_iter().flatten().collect();
        if conditions.is_empty() { "always".to_owned() } else { conditions.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        let check = |rule: &str, expected: bool| {
            let route: Route = toml::from_str(&format!("models = [\"local/x\"]\n{rule}")).unwrap();
            let tags = ["small".to_owned()];
            let request = Request { text: "how many files", tools: false, agent: Some("quick"), tags: &tags };
            assert_eq!(route.fits(&request), expected, "{rule}");
        };
        check("", true);
        check("words_max = 3", true);
        check("words_max = 2", false);
        check("tools = false\nagent = \"quick\"\ntag = \"small\"", true);
        check("tools = true", false);
        check("agent = \"coder\"", false);
        check("words_max = 3\ntag = \"big\"", false);
        assert!(toml::from_str::<Route>("models = [\"local/x\"]\nword_max = 3").is_err());
    }
}
