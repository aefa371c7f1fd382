//! `*` in patterns over command lines: any run of characters. `\*` is a star, `\\` a backslash.

/// A compiled pattern. A trailing ` *` also matches the absence of arguments: `make *` matches `make`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    Char(char),
}

impl Wildcard {
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => {
                    if parts.last() != Some(&Part::Any) {
                        parts.push(Part::Any);
                    }
                }
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '\\')) => parts.push(Part::Char(escaped)),
                    Some(other) => parts.extend([Part::Char('\\'), Part::Char(other)]),
                    None => parts.push(Part::Char('\\')),
                },
                c => parts.push(Part::Char(c)),
            }
        }
        Self { parts }
    }

    /// Matches anything at all.
    pub fn is_any(&self) -> bool {
        self.parts == [Part::Any]
    }

    /// Exactly this text and no other.
    pub fn is_literal(&self, text: &str) -> bool {
        !self.parts.contains(&Part::Any) && self.matches(text)
    }

    pub fn contains(&self, c: char) -> bool {
        self.parts.contains(&Part::Char(c))
    }

    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        match self.parts.as_slice() {
            [front @ .., Part::Char(' '), Part::Any] if matches(front, &text) => true,
            parts => matches(parts, &text),
        }
    }
}

/// Greedy with one point of return: linear in practice, at worst length times length.
fn matches(parts: &[Part], text: &[char]) -> bool {
    let (mut at_part, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match parts.get(at_part) {
            Some(Part::Any) => {
                retry = Some((at_part + 1, at_text));
                at_part += 1;
            }
            Some(Part::Char(c)) if *c == text[at_text] => {
                at_part += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((part, from)) => {
                    at_part = part;
                    at_text = from + 1;
                    retry = Some((part, from + 1));
                }
                None => return false,
            },
        }
    }
    parts[at_part..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Wildcard::new(pattern).matches(text), expected, "{pattern:?} on {text:?}");
    }

    #[test]
    fn stars() {
        check("rm *", "rm -rf x", true);
        check("rm *", "rm", true);
        check("rm *", "rmdir x", false);
        check("*", "", true);
        check("a*b*c", "aXbYbZc", true);
        check("a*b*c", "aXbYbZ", false);
        check("git *", "git commit\n-m x", true);
        check(r"rm /\*", "rm /*", true);
        check(r"rm /\*", "rm /etc", false);
        check("", "", true);
        check("", "x", false);
    }

    #[test]
    fn many_stars_on_long_text_end() {
        let text = "a".repeat(20_000);
        check("*a*a*a*a*a*a*a*b", &text, false);
    }
}
