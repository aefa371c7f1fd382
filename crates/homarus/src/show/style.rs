//! Colours, where they are wanted.

use std::io::IsTerminal;

use crate::env;

#[derive(Debug, Clone, Copy)]
pub struct Style {
    enabled: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { enabled: false }
    }

    /// Colours if standard error is a terminal and `NO_COLOR` is not set.
    pub fn for_stderr() -> Self {
        Self { enabled: std::io::stderr().is_terminal() && !env::NO_COLOR.is_set() }
    }

    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub fn for_stdout() -> Self {
        Self { enabled: std::io::stdout().is_terminal() && !env::NO_COLOR.is_set() }
    }

    /// Colours on the controlling terminal, if `NO_COLOR` is not set.
    pub fn for_terminal() -> Self {
        Self { enabled: !env::NO_COLOR.is_set() }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `code`: the parameters of an SGR sequence; none, no sequence.
    pub fn paint(self, code: &str, text: &str) -> String {
        if self.enabled && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A diff in colours, for lines that are printed as they are.
    pub fn diff(self, text: &str) -> String {
        let lines: Vec<String> = super::diff::lines(text).iter().map(|line| line.paint(self)).collect();
        lines.join("\n")
    }
}
