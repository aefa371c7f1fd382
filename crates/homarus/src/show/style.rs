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

    /// Colours if standard error is a terminal and `NO_COLOR` is not set.
    pub fn for_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub fn for_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    fn of(is_terminal: bool) -> Self {
        Self { enabled: is_terminal && !env::NO_COLOR.is_set(), words: env::ACCESSIBLE.is_set() }
    }

    /// Before what is as it should be, or was done.
    pub fn good(self) -> String {
        self.green(if self.words { "ok:" } else { "✓" })
    }

    /// Before what is wrong, or was refused.
    pub fn bad(self) -> String {
        self.red(if self.words { "error:" } else { "✗" })
    }

    pub fn doubtful(self) -> String {
        self.yellow(if self.words { "warning:" } else { "!" })
    }

    /// Before what is only told.
    pub fn idle(self) -> String {
        self.dim(if self.words { "info:" } else { "·" })
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

    fn paint(self, code: &str, text: &str) -> String {
        if self.enabled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A diff with its added and removed lines coloured. The text must be neutralised already.
    pub fn diff(self, text: &str) -> String {
        let lines: Vec<String> = text
            .lines()
            .map(|line| match line.as_bytes().first() {
                Some(b'+') => self.green(line),
                Some(b'-') => self.red(line),
                Some(b'@') => self.dim(line),
                _ => line.to_owned(),
            })
            .collect();
        lines.join("\n")
    }
}
