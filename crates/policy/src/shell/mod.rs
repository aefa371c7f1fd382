//! Command lines taken apart into the commands a shell would run.
//!
//! Two questions are asked of the result. *Could this deny or ask rule apply?* is answered generously:
//! every command anywhere in the line, behind wrappers, in substitutions and in strings handed to other
//! shells. *Is all of this allowed?* is answered narrowly: each command as it stands, and nothing that
//! only a running shell could know.

mod lexer;
mod see;

use lexer::Lexer;

/// Longer lines are not judged at all.
pub const LINE_BYTES_MAX: usize = homarus_contract::tool::COMMAND_BYTES_MAX;

/// A command line, analysed.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    pub raw: String,
    /// In the order they appear; substitutions are listed beside the command that holds them.
    pub commands: Vec<Simple>,
    /// The commands of the outermost level with single spaces and their operators, for patterns such
    /// as `curl * | sh *`.
    pub normal: String,
    /// Why it cannot be said for certain which commands will run, if it cannot.
    pub opaque: Option<&'static str>,
    /// It is too long or too nested to be judged.
    pub too_complex: bool,
}

/// One command with its arguments.
#[derive(Debug, Clone, Default)]
pub struct Simple {
    pub words: Vec<Word>,
    /// Redirections as text: `> out.txt`, `< in.txt`; those to `/dev/null` and between descriptors are left out.
    pub redirects: Vec<String>,
    pub writes_by_redirect: bool,
    /// Commands found in its arguments (`sh -c "..."`, `eval`, `xargs`, ...).
    pub inner: Vec<Simple>,
    /// It does nothing but run `inner`, as in `sh -c "make test"`.
    pub transparent: bool,
}

/// A word after quotes and backslashes were removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Some of it was quoted or escaped, so it is no keyword.
    pub quoted: bool,
    /// Holds an expansion: what it will be is not known here.
    pub expands: bool,
}

impl CommandLine {
    pub fn parse(raw: &str) -> Self {
        let mut line = CommandLine { raw: raw.trim().to_owned(), ..CommandLine::default() };
        if raw.len() > LINE_BYTES_MAX {
            line.too_complex = true;
            return line;
        }
        let lexer = Lexer::run(raw, 0);
        line.commands = lexer.commands;
        if line.commands.is_empty() {
            // So that rules for every command line hold for an empty one too.
            line.commands.push(Simple::default());
        }
        line.normal = lexer.normal;
        line.opaque = lexer.opaque;
        line.too_complex = lexer.too_complex;
        line
    }

    /// What deny and ask patterns are compared with besides the commands: the whole line.
    pub fn whole_texts(&self) -> Vec<String> {
        let mut texts = vec![self.raw.clone(), self.normal.clone()];
        if self.opaque.is_some() {
            texts.extend(see::coarse(&self.raw));
        }
        texts
    }
}

impl Simple {
    /// As it stands, for patterns that allow: words that hold spaces or operators are quoted again, so
    /// that an argument cannot look like several.
    pub fn text(&self) -> String {
        let words = self.words.iter().map(|word| see::requoted(&word.text));
        words.chain(self.redirects.iter().cloned()).collect::<Vec<_>>().join(" ")
    }

    /// All that deny and ask patterns are compared with.
    pub fn suspect_texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        see::suspects(self, &mut texts);
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(line: &str) -> Vec<String> {
        CommandLine::parse(line).commands.iter().map(Simple::text).collect()
    }

    #[test]
    fn operators_part_commands() {
        assert_eq!(commands("a 1; b && c || d | e & f\ng"), ["a 1", "b", "c", "d", "e", "f", "g"]);
        assert_eq!(commands("(a; b) && { c; }"), ["a", "b", "c"]);
        assert_eq!(commands("a 'x; y' \"z && w\" p\\;q"), ["a 'x; y' 'z && w' 'p;q'"]);
        assert_eq!(commands("a # b; c\nd"), ["a", "d"]);
        assert_eq!(commands("a#b"), ["a#b"]);
        assert_eq!(commands("a \\\n  b"), ["a b"]);
    }

    #[test]
    fn redirections_belong_to_their_command() {
        assert_eq!(commands("a > x 2>&1 b <in"), ["a b > x < in"]);
        assert_eq!(commands("a >/dev/null 2>/dev/null; b &>> log"), ["a", "b > log"]);
        assert!(CommandLine::parse("a >> x").commands[0].writes_by_redirect);
        assert!(!CommandLine::parse("a 2>&1").commands[0].writes_by_redirect);
        assert!(CommandLine::parse("a >& x").commands[0].writes_by_redirect);
    }

    #[test]
    fn keywords_are_not_commands() {
        assert_eq!(commands("for f in a b; do wc -l $f; done"), ["wc -l $f"]);
        assert_eq!(commands("if test -f x; then a; else b; fi"), ["test -f x", "a", "b"]);
        assert_eq!(commands("! a && while true; do b; done > c"), ["a", "true", "b", "> c"]);
        assert_eq!(commands("'if' x"), ["if x"]);
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        for line in [
            "a $(b)",
            "a `b`",
            "a \"$(b)\"",
            "$X a",
            "a; ${X}",
            "diff <(a) <(b)",
            "eval a",
            ". ./x",
            "source x",
            "a 'b",
            "a \"b",
            "f() { a; }",
            "x=(1 2)",
            "cat <<E\nE",
            "a | sh",
            "sh -s",
            "/bin/r?",
            "{a,b}",
            "case x in a) b;; esac",
            "$'\\x72m' x",
            "alias a=b",
            "bash -c \"$X\"",
            "trap 'a' EXIT",
            "${X:-a} b",
            "a ${X:-$(b)}",
        ] {
            assert!(CommandLine::parse(line).opaque.is_some(), "{line:?}");
        }
        for line in [
            "a b",
            "a $X",
            "a *.log",
            "X=1 a",
            "for f in *; do a \"$f\"; done",
            "[ -f x ] && a",
            "sh x.sh",
            "a '$(b)'",
            "a \\`",
        ] {
            assert_eq!(CommandLine::parse(line).opaque, None, "{line:?}");
        }
    }

    #[test]
    fn nesting_and_length_end() {
        assert!(CommandLine::parse(&"$(".repeat(1000)).too_complex);
        assert!(CommandLine::parse(&"(".repeat(10_000)).too_complex);
        assert!(CommandLine::parse(&"a;".repeat(10_000)).too_complex);
        assert!(CommandLine::parse(&"a ".repeat(LINE_BYTES_MAX)).too_complex);
        assert!(!CommandLine::parse("echo a; echo $(date)").too_complex);
    }
}
