//! The providers there are: those everybody knows, as the environment describes them, and those of the
//! configuration (`[[models.provider]]`), each with its own address, key and bounds.

use homarus_models::{ProviderKind, ProviderOptions, base_url_from_env_value};
use homarus_vault::Looked;
use serde::{Deserialize, Serialize};

use crate::{config::Config, env, exit::CliError};

/// Longest pause that can be configured.
const PAUSE_S_MAX: u64 = 3_600;
const NAME_CHARS_MAX: usize = 64;

/// A provider that models can be named of.
pub struct Provider {
    /// Its address and bounds; the key is named by `key`.
    pub options: ProviderOptions,
    /// The variable that holds its key.
    pub key: Option<String>,
    /// What gave its address: a variable, or the configuration.
    pub address_from: Option<String>,
    /// The variable that would.
    pub address: Option<&'static env::Variable>,
}

impl Provider {
    pub fn id(&self) -> &str {
        &self.options.id
    }

    pub fn has_key(&self) -> bool {
        self.key.as_deref().is_some_and(|key| homarus_vault::look(key) != Looked::Missing)
    }

    /// Whether somebody set it up; one that needs no key counts as soon as it answers.
    pub fn is_set_up(&self) -> bool {
        self.has_key() || self.address_from.is_some() || self.key.is_none()
    }

    /// What to look at when its address is wrong.
    pub fn address_name(&self) -> &str {
        self.address_from.as_deref().or(self.address.map(|variable| variable.name)).unwrap_or("models.provider")
    }
}

/// One of `[[models.provider]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// The part before the slash in `PROVIDER/MODEL`.
    id: String,
    kind: String,
    url: Option<String>,
    /// The variable of the environment that holds the key; never the key itself.
    key: Option<String>,
    connect_s: Option<u64>,
    silence_s: Option<u64>,
    context_tokens: Option<u32>,
    output_tokens_max: Option<u32>,
}

impl Own {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is wrong with it, in words for whoever wrote it.
    pub fn check(&self) -> Result<(), String> {
        let id_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.id.is_empty() || self.id.len() > NAME_CHARS_MAX || !self.id.chars().all(id_ok) {
            return Err("`id` must be of small letters, digits and dashes".to_owned());
        }
        if self.id == crate::choose::LOCAL {
            return Err("`local` is the embedded model; take another `id`".to_owned());
        }
        let kind: ProviderKind = self.kind.parse().map_err(|error| format!("`kind`: {error}"))?;
        if let Some(url) = &self.url {
            base_url_from_env_value(kind, url).map_err(|error| format!("`url`: {error}"))?;
        }
        let name_ok = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if let Some(key) = &self.key
            && (key.is_empty() || key.len() > NAME_CHARS_MAX || !key.chars().all(name_ok))
        {
            // Not repeated here: it may be the key itself.
            return Err(
                "`key` names a variable of the environment, such as WORK_API_KEY, and is not the key".to_owned()
            );
        }
        for (name, seconds) in [("connect_s", self.connect_s), ("silence_s", self.silence_s)] {
            if seconds.is_some_and(|seconds| !(1..=PAUSE_S_MAX).contains(&seconds)) {
                return Err(format!("`{name}` must be from 1 to {PAUSE_S_MAX}"));
            }
        }
        for (name, tokens) in [("context_tokens", self.context_tokens), ("output_tokens_max", self.output_tokens_max)] {
            if tokens == Some(0) {
                return Err(format!("`{name}` must be at least 1"));
            }
        }
        Ok(())
    }

    fn provider(&self) -> Result<Provider, CliError> {
        let wrong =
            |cause: String| CliError::usage(format!("the provider {} of models.provider", self.id)).cause(cause);
        self.check().map_err(wrong)?;
        let kind: ProviderKind =
            self.kind.parse().map_err(|error: homarus_contract::error::InvalidId| wrong(error.to_string()))?;
        let mut options = ProviderOptions::new(kind);
        options.id.clone_from(&self.id);
        if let Some(url) = &self.url {
            options.base_url = base_url_from_env_value(kind, url).map_err(|error| wrong(error.to_string()))?;
        }
        options.connect_ms = self.connect_s.map_or(options.connect_ms, |seconds| seconds.saturating_mul(1000));
        options.idle_ms = self.silence_s.map_or(options.idle_ms, |seconds| seconds.saturating_mul(1000));
        options.context_tokens = self.context_tokens;
        options.output_tokens_max = self.output_tokens_max;
        let address_from = self.url.is_some().then(|| "models.provider".to_owned());
        Ok(Provider { options, key: self.key.clone(), address_from, address: None })
    }
}

/// Everybody's, with their variables.
const KNOWN: [(ProviderKind, Option<&env::Variable>, &env::Variable); 4] = [
    (ProviderKind::Anthropic, Some(&env::ANTHROPIC_API_KEY), &env::ANTHROPIC_BASE_URL),
    (ProviderKind::OpenAi, Some(&env::OPENAI_API_KEY), &env::OPENAI_BASE_URL),
    (ProviderKind::Gemini, Some(&env::GEMINI_API_KEY), &env::GEMINI_BASE_URL),
    (ProviderKind::Ollama, None, &env::OLLAMA_HOST),
];

/// All there are. One of the configuration goes before the known one of the same name.
pub fn all(config: &Config) -> Result<Vec<Provider>, CliError> {
    let own: Vec<Provider> = config.models.provider.iter().map(Own::provider).collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for (kind, key, address) in KNOWN {
        if !own.iter().any(|provider| provider.id() == kind.as_str()) {
            all.push(known(kind, key, address)?);
        }
    }
    all.extend(own);
    Ok(all)
}

fn known(
    kind: ProviderKind,
    key: Option<&env::Variable>,
    address: &'static env::Variable,
) -> Result<Provider, CliError> {
    let mut options = ProviderOptions::new(kind);
    let given = address.get();
    if let Some(text) = &given {
        options.base_url = base_url_from_env_value(kind, text).map_err(|error| {
            CliError::usage(format!("{} cannot be used", address.name))
                .cause(error)
                .help("write an address such as http://127.0.0.1:8080, or unset it")
        })?;
    }
    // OpenAI itself is asked by Responses: only there does a model keep what it reasoned from one tool call to the
    // next. Servers that are compatible with OpenAI are so by Chat Completions.
    if kind == ProviderKind::OpenAi && options.base_url == kind.default_base_url() {
        options.kind = ProviderKind::OpenAiResponses;
    }
    Ok(Provider {
        options,
        key: key.map(|key| key.name.to_owned()),
        address_from: given.map(|_| address.name.to_owned()),
        address: Some(address),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Config, CliError> {
        Config::parse(text, Path::new("homarus.toml"))
    }

    #[test]
    fn a_provider_of_ones_own_has_its_own_address_key_and_bounds() {
        let config = parse(
            "[[models.provider]]\nid = \"work\"\nkind = \"openai-responses\"\nkey = \"WORK_API_KEY\"\n\
             silence_s = 60\noutput_tokens_max = 900\n\
             [[models.provider]]\nid = \"anthropic\"\nkind = \"anthropic\"\nurl = \"http://127.0.0.1:9/\"\n",
        )
        .unwrap();
        let all = all(&config).unwrap();
        let ids: Vec<&str> = all.iter().map(Provider::id).collect();
        assert_eq!(ids, ["openai", "gemini", "ollama", "work", "anthropic"]);
        let work = &all[3];
        assert_eq!((work.key.as_deref(), work.options.idle_ms), (Some("WORK_API_KEY"), 60_000));
        assert_eq!(work.options.base_url, "https://api.openai.com");
        assert_eq!(work.options.output_tokens_max, Some(900));
        assert!(!work.is_set_up(), "its variable is not set");
        assert_eq!(all[4].options.base_url, "http://127.0.0.1:9");
        assert!(all[4].is_set_up());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |fields: &str, part: &str| {
            let error = parse(&format!("[[models.provider]]\n{fields}\n")).unwrap_err().text();
            assert!(error.contains(part), "{fields}: {error}");
        };
        check("id = \"Work\"\nkind = \"openai\"", "small letters");
        check("id = \"local\"\nkind = \"openai\"", "embedded");
        check("id = \"w\"\nkind = \"opanai\"", "anthropic, openai, openai-responses, gemini, ollama");
        check("id = \"w\"\nkind = \"openai\"\nurl = \"host\"", "https://");
        check("id = \"w\"\nkind = \"openai\"\nsilence_s = 0", "from 1 to 3600");
        check("id = \"w\"\nkind = \"openai\"\ncontext_tokens = 0", "at least 1");
        check("id = \"w\"\nkind = \"openai\"\ntemperature = 1", "unknown field `temperature`");
        check("kind = \"openai\"", "missing field `id`");
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated() {
        let error = parse("[[models.provider]]\nid = \"w\"\nkind = \"openai\"\nkey = \"sk-hunter2\"\n").unwrap_err();
        let text = error.text();
        assert!(text.contains("is not the key") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn names_are_taken_once() {
        let one = "[[models.provider]]\nid = \"w\"\nkind = \"openai\"\n";
        let error = parse(&format!("{one}{one}")).unwrap_err();
        assert!(error.text().contains("`models.provider`: two are called w"), "{}", error.text());
    }
}
