//! Colours, where they are wanted.

use std::io::IsTerminal;

use crate::env;

#[derive(Debug, Clone, Copy)]
pub struct Style {
    enabled: bool,
    /// Words instead of signs.
    words: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { enabled: false, words: false }
    }

    /// Colours if standard error is a terminal, unless `NO_COLOR` or `CLICOLOR_FORCE` says otherwise.
    pub fn for_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// Colours if standard output is a terminal, unless `NO_COLOR` or `CLICOLOR_FORCE` says otherwise.
    pub fn for_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// Colours on the controlling terminal, whatever standard output and error are.
    pub fn for_terminal() -> Self {
        Self::of(true)
    }

    fn of(is_terminal: bool) -> Self {
        let dumb = env::TERM.get().is_some_and(|term| term == "dumb");
        let forced = env::CLICOLOR_FORCE.get().is_some_and(|value| value != "0");
        let enabled = !env::NO_COLOR.is_set() && (forced || (is_terminal && !dumb));
        Self { enabled, words: env::ACCESSIBLE.is_set() }
    }

    /// No cursor tricks and no signs that a screen reader spells out.
    pub fn is_plain(self) -> bool {
        self.words
    }

    /// A sign, or the word for it.
    pub fn sign(self, sign: &'static str) -> &'static str {
        if !self.words {
            return sign;
        }
        match sign {
            "✓" => "ok:",
            "✗" => "error:",
            "!" => "warning:",
            "▸" => "call:",
            "»" => "reminder:",
            "·" => "-",
            "│" => " ",
            "…" => "...",
            other => other,
        }
    }

    /// Between the figures of a line.
    pub fn between(self) -> &'static str {
        if self.words { ", " } else { " · " }
    }

    /// Before what is as it should be, or was done.
    pub fn good(self) -> String {
        self.green(self.sign("✓"))
    }

    /// Before what is wrong, or was refused.
    pub fn bad(self) -> String {
        self.red(self.sign("✗"))
    }

    pub fn doubtful(self) -> String {
        self.yellow(self.sign("!"))
    }

    /// Before what is only told.
    pub fn idle(self) -> String {
        self.dim(self.sign("·"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_has_a_word_for_those_who_listen() {
        let words = Style { enabled: false, words: true };
        for sign in ["✓", "✗", "▸", "»", "·", "│", "…", "!"] {
            assert!(words.sign(sign).is_ascii(), "{sign}");
            assert_eq!(Style::plain().sign(sign), sign);
        }
        assert_eq!(words.good(), "ok:");
        assert!(!words.red("x").contains('\x1b'));
    }
}
