//! A unified diff as people read it: removed red, added green, the code in its colours.

use super::{
    styled::{Colour, Line, Look},
    syntax::Syntax,
};

/// The lines of a unified diff, with looks.
pub fn lines(diff: &str) -> Vec<Line> {
    let mut reader = Reader { syntax: Syntax::of(""), left: Left::default() };
    diff.lines().map(|line| reader.line(line)).collect()
}

/// How many lines a diff adds and removes.
pub fn counts(diff: &str) -> (usize, usize) {
    let mut left = Left::default();
    let (mut added, mut removed) = (0, 0);
    for line in diff.lines() {
        match left.take(line) {
            Kind::Added => added += 1,
            Kind::Removed => removed += 1,
            _ => {}
        }
    }
    (added, removed)
}

struct Reader {
    syntax: Syntax,
    left: Left,
}

/// Lines the current hunk still has, by its header: a removed line `-- x` is no file name.
#[derive(Default)]
struct Left {
    old: usize,
    new: usize,
}

enum Kind {
    Added,
    Removed,
    Context,
    Hunk,
    File,
    Note,
}

impl Left {
    fn take(&mut self, line: &str) -> Kind {
        if self.old > 0 || self.new > 0 {
            match line.as_bytes().first() {
                Some(b'+') => {
                    self.new = self.new.saturating_sub(1);
                    return Kind::Added;
                }
                Some(b'-') => {
                    self.old = self.old.saturating_sub(1);
                    return Kind::Removed;
                }
                Some(b' ') | None => {
                    self.old = self.old.saturating_sub(1);
                    self.new = self.new.saturating_sub(1);
                    return Kind::Context;
                }
                Some(b'\\') => return Kind::Note,
                // No line of a hunk begins so: the diff was cut.
                _ => *self = Self::default(),
            }
        }
        if let Some((old, new)) = hunk_sizes(line) {
            *self = Self { old, new };
            return Kind::Hunk;
        }
        if line.starts_with("--- ") || line.starts_with("+++ ") { Kind::File } else { Kind::Note }
    }
}

impl Reader {
    fn line(&mut self, text: &str) -> Line {
        match self.left.take(text) {
            Kind::Added => self.code('+', Colour::Green, text),
            Kind::Removed => self.code('-', Colour::Red, text),
            Kind::Context => {
                let mut line = Line::plain(text.get(..1).unwrap_or(""));
                self.syntax.paint(&mut line, text.get(1..).unwrap_or(""), Look::PLAIN);
                line
            }
            Kind::Hunk => Line::new(Look::of(Colour::Cyan), text),
            Kind::File => {
                // Of `/dev/null` and the real name, the real one says what language it is.
                let path = text[4..].split('\t').next().unwrap_or_default();
                if path != "/dev/null" {
                    self.syntax = Syntax::of_path(path);
                }
                Line::new(Look::BOLD, text)
            }
            Kind::Note => Line::new(Look::DIM, text),
        }
    }

    /// The sign and what has no colour of its own show which side a line is on.
    fn code(&self, sign: char, colour: Colour, text: &str) -> Line {
        let mut line = Line::new(Look { bold: true, ..Look::of(colour) }, &sign.to_string());
        self.syntax.paint(&mut line, &text[1..], Look::of(colour));
        line
    }
}

/// `@@ -1,3 +1,4 @@`: how many lines of the old and the new side follow.
fn hunk_sizes(line: &str) -> Option<(usize, usize)> {
    let mut parts = line.strip_prefix("@@ -")?.split(' ');
    let old = side(parts.next()?)?;
    let new = side(parts.next()?.strip_prefix('+')?)?;
    Some((old, new))
}

fn side(text: &str) -> Option<usize> {
    match text.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/x.rs\n+++ b/x.rs\n@@ -1,3 +1,3 @@\n fn f() {\n--- not a file\n+++ let it = 1;\n }\n";

    #[test]
    fn what_a_line_is_follows_from_the_hunk_and_not_from_its_text() {
        let shown = lines(DIFF);
        assert_eq!(shown.iter().map(Line::text).collect::<Vec<_>>(), DIFF.lines().collect::<Vec<_>>());
        let first = |line: &Line| line.spans().next().map(|(look, _)| look).unwrap_or_default();
        assert_eq!(first(&shown[0]), Look::BOLD);
        assert_eq!(first(&shown[4]).colour, Some(Colour::Red));
        assert_eq!(first(&shown[5]).colour, Some(Colour::Green));
        assert_eq!(counts(DIFF), (1, 1));
    }

    #[test]
    fn a_cut_or_strange_diff_is_shown_all_the_same() {
        for diff in [
            "",
            "+++ \n",
            "@@ -1 +1 @@\n",
            "@@ -9999999999999999999999,1 +1 @@\n+é",
            "--- \n-\n+",
            "@@ -0,0 +1,2 @@\n+a",
        ] {
            let shown: Vec<String> = lines(diff).iter().map(Line::text).collect();
            assert_eq!(shown, diff.lines().collect::<Vec<_>>());
        }
    }
}
