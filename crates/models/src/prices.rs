//! What models cost and how much they hold, from a data file (`data/prices.toml`).

use homarus_contract::model::{ModelRef, Price};
use serde::Deserialize;
use thiserror::Error;

const BUILT_IN: &str = include_str!("../data/prices.toml");

/// Entries by pattern. What was merged last counts first, then the longest pattern.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    entries: Vec<Known>,
}

/// What is known of the models a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// `PROVIDER/MODEL`, where `*` stands for any characters.
    pub pattern: String,
    pub context_tokens: Option<u32>,
    pub output_tokens_max: Option<u32>,
    pub price: Option<Price>,
    /// Where the figures are from, and the day (`YYYY-MM-DD`) they were read.
    pub source: String,
    pub date: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the price table is wrong: {0}")]
pub struct BadPrices(pub String);

impl Prices {
    /// The table that comes with the program.
    pub fn built_in() -> Result<Self, BadPrices> {
        let mut prices = Self::default();
        prices.merge(BUILT_IN)?;
        Ok(prices)
    }

    /// Adds a table in the form of `data/prices.toml`; its entries count before those already here.
    pub fn merge(&mut self, text: &str) -> Result<(), BadPrices> {
        let file: File = toml::from_str(text).map_err(|error| BadPrices(error.to_string()))?;
        let mut entries = file.models.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
        // Longest pattern first: `gpt-5-mini*` before `gpt-5*`.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.len()));
        entries.append(&mut self.entries);
        self.entries = entries;
        Ok(())
    }

    pub fn find(&self, model: &ModelRef) -> Option<&Known> {
        let name = model.to_string();
        self.entries.iter().find(|entry| matches(&entry.pattern, &name))
    }

    pub fn entries(&self) -> &[Known] {
        &self.entries
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    models: Vec<Entry>,
}

/// As written: USD per million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    pattern: String,
    input: Option<f64>,
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    context_tokens: Option<u32>,
    output_tokens_max: Option<u32>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    date: String,
}

fn known(entry: Entry) -> Result<Known, BadPrices> {
    let wrong = |what: &str| BadPrices(format!("{}: {what}", entry.pattern));
    if !entry.pattern.contains('/') {
        return Err(wrong("the pattern must be PROVIDER/MODEL"));
    }
    let nano =
        |usd: f64| nano_per_token(usd).ok_or_else(|| wrong("a price must be 0 to 100,000 USD in steps of 0.001"));
    let price = match (entry.input, entry.output) {
        (Some(input), Some(output)) => Some(Price {
            input: nano(input)?,
            output: nano(output)?,
            // Where a provider has no price of its own for the cache, cached tokens cost like others.
            cache_read: nano(entry.cache_read.unwrap_or(input))?,
            cache_write: nano(entry.cache_write.unwrap_or(input))?,
        }),
        (None, None) if entry.cache_read.is_none() && entry.cache_write.is_none() => None,
        _ => return Err(wrong("a price needs both input and output")),
    };
    if entry.context_tokens == Some(0) || entry.output_tokens_max == Some(0) {
        return Err(wrong("a number of tokens may not be 0"));
    }
    let Entry { pattern, context_tokens, output_tokens_max, source, date, .. } = entry;
    Ok(Known { pattern, context_tokens, output_tokens_max, price, source, date })
}

/// One USD per million tokens is 1000 nano-USD per token.
fn nano_per_token(usd: f64) -> Option<u64> {
    let nano = (usd * 1000.0).round();
    let exact = (usd * 1000.0 - nano).abs() < 1e-6;
    (exact && (0.0..=1e8).contains(&nano)).then_some(nano as u64)
}

/// Whether a text is what a pattern with `*` says.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(prices: &Prices, model: &str) -> Option<Known> {
        prices.find(&model.parse().unwrap()).cloned()
    }

    #[test]
    fn the_built_in_table_is_sound() {
        let prices = Prices::built_in().unwrap();
        assert!(prices.entries().len() >= 12);
        for entry in prices.entries() {
            assert!(!entry.source.is_empty() && entry.date.len() == 10, "{} has no source or date", entry.pattern);
            if let Some(price) = entry.price {
                assert!(price.input > 0 && price.output >= price.input, "{}", entry.pattern);
                assert!(price.cache_read <= price.input && price.cache_write >= price.input, "{}", entry.pattern);
            }
        }
        let mini = find(&prices, "openai/gpt-5-mini-2025-08-07").unwrap().price.unwrap();
        assert_eq!((mini.input, mini.output, mini.cache_read), (250, 2000, 25));
        assert_eq!(find(&prices, "anthropic/claude-sonnet-4-5").unwrap().price.unwrap().cache_write, 3750);
        assert_eq!(find(&prices, "openai/some-new-model"), None);
    }

    #[test]
    fn a_family_does_not_swallow_its_relatives() {
        let prices = Prices::built_in().unwrap();
        for model in ["openai/gpt-5", "openai/gpt-5-pro", "openai/gpt-6-sol-fast", "anthropic/claude-opus-5-5-fast"] {
            assert_eq!(find(&prices, model), None, "{model}");
        }
        let opus = |model: &str| find(&prices, model).unwrap().price.unwrap().input;
        assert_eq!((opus("anthropic/claude-opus-5"), opus("anthropic/claude-opus-5-5")), (5000, 4000));
    }

    #[test]
    fn a_users_table_counts_first() {
        let mut prices = Prices::built_in().unwrap();
        prices.merge("[[models]]\npattern = \"openai/*\"\ninput = 0.005\noutput = 1\n").unwrap();
        assert_eq!(find(&prices, "openai/gpt-5-mini").unwrap().price.unwrap().input, 5);
        assert_eq!(find(&prices, "openai/gpt-5-mini").unwrap().price.unwrap().cache_read, 5);
    }

    #[test]
    fn wrong_tables_are_refused() {
        for text in [
            "[[models]]\npattern = \"gpt\"\n",
            "[[models]]\npattern = \"a/b\"\ninput = 1.0\n",
            "[[models]]\npattern = \"a/b\"\ninput = -1.0\noutput = 1.0\n",
            "[[models]]\npattern = \"a/b\"\ninput = 0.0001\noutput = 1.0\n",
            "[[models]]\npattern = \"a/b\"\nprize = 1.0\n",
            "[[models]]\npattern = \"a/b\"\ncontext_tokens = 0\n",
        ] {
            assert!(Prices::default().merge(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/b*", "a/bc", true),
            ("*/b", "x/b", true),
            ("a/*-x-*", "a/1-x-2", true),
            ("a/*-x-*", "a/1-y-2", false),
            ("a/b*b", "a/b", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
