//! Light syntax colours for code in answers and diffs: comments, strings, numbers and keywords.
//!
//! One small lexer for all languages instead of a grammar for each: it costs nothing to load, and a
//! line it reads wrongly is still the same text.

use super::styled::{Colour, Line, Look};

/// What the lexer must know of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    line_comments: &'static [&'static str],
    keywords: &'static [&'static str],
    /// A single quote opens a string. Not so in Rust (lifetimes) and prose.
    single_quotes: bool,
}

const C_LIKE: &[&str] = &["//", "/*", " * "];
const HASH: &[&str] = &["#"];

const RUST: Syntax = Syntax {
    line_comments: &["//", "/*"],
    keywords: &[
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "false", "fn", "for",
        "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "Self",
        "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
    ],
    single_quotes: false,
};
const PYTHON: Syntax = Syntax {
    line_comments: HASH,
    keywords: &[
        "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
        "False", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "None", "not", "or", "pass",
        "raise", "return", "self", "True", "try", "while", "with", "yield",
    ],
    single_quotes: true,
};
const SCRIPT: Syntax = Syntax {
    line_comments: C_LIKE,
    keywords: &[
        "abstract",
        "async",
        "await",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "from",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "of",
        "private",
        "public",
        "return",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "type",
        "typeof",
        "undefined",
        "var",
        "void",
        "while",
        "yield",
    ],
    single_quotes: true,
};
const C: Syntax = Syntax {
    line_comments: C_LIKE,
    keywords: &[
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "chan",
        "char",
        "class",
        "const",
        "continue",
        "default",
        "defer",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "false",
        "final",
        "float",
        "for",
        "func",
        "go",
        "goto",
        "if",
        "import",
        "int",
        "interface",
        "long",
        "map",
        "namespace",
        "new",
        "nil",
        "null",
        "NULL",
        "nullptr",
        "package",
        "private",
        "protected",
        "public",
        "range",
        "return",
        "select",
        "short",
        "signed",
        "sizeof",
        "static",
        "string",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "type",
        "typedef",
        "union",
        "unsigned",
        "using",
        "var",
        "virtual",
        "void",
        "volatile",
        "while",
    ],
    single_quotes: true,
};
const SHELL: Syntax = Syntax {
    line_comments: HASH,
    keywords: &[
        "case", "do", "done", "elif", "else", "esac", "exit", "export", "fi", "for", "function", "if", "in", "local",
        "return", "set", "then", "until", "while",
    ],
    single_quotes: true,
};
const SQL: Syntax = Syntax {
    line_comments: &["--"],
    keywords: &[
        "and", "as", "begin", "by", "commit", "create", "delete", "drop", "from", "group", "having", "in", "index",
        "insert", "into", "join", "left", "limit", "not", "null", "on", "or", "order", "select", "set", "table",
        "union", "update", "values", "where", "AND", "AS", "BEGIN", "BY", "COMMIT", "CREATE", "DELETE", "DROP", "FROM",
        "GROUP", "HAVING", "IN", "INDEX", "INSERT", "INTO", "JOIN", "LEFT", "LIMIT", "NOT", "NULL", "ON", "OR",
        "ORDER", "SELECT", "SET", "TABLE", "UNION", "UPDATE", "VALUES", "WHERE",
    ],
    single_quotes: true,
};
const DATA: Syntax = Syntax { line_comments: HASH, keywords: &["true", "false", "null"], single_quotes: true };
const NONE: Syntax = Syntax { line_comments: &[], keywords: &[], single_quotes: false };

impl Syntax {
    /// By the word after a code fence, or the end of a file's name.
    pub fn of(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "rust" | "rs" => RUST,
            "python" | "py" | "pyi" | "rb" | "ruby" => PYTHON,
            "javascript" | "js" | "jsx" | "mjs" | "typescript" | "ts" | "tsx" => SCRIPT,
            "c" | "h" | "cpp" | "cc" | "hpp" | "c++" | "cs" | "csharp" | "java" | "kt" | "kotlin" | "go" | "swift"
            | "dart" | "scala" | "php" | "zig" => C,
            "sh" | "bash" | "shell" | "zsh" | "fish" | "console" | "makefile" | "dockerfile" => SHELL,
            "sql" => SQL,
            "json" | "jsonc" | "toml" | "yaml" | "yml" | "ini" | "cfg" | "conf" => DATA,
            _ => NONE,
        }
    }

    /// By a path.
    pub fn of_path(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self::of(name.rsplit('.').next().unwrap_or(name))
    }

    /// Adds a line of code in its colours; `base` is the look of what has none of its own.
    pub fn paint(self, line: &mut Line, code: &str, base: Look) {
        let mut rest = code;
        let mut start = true;
        while let Some(first) = rest.chars().next() {
            let comment = self.line_comments.iter().any(|mark| rest.starts_with(mark)) && (start || first != '#');
            let (length, look) = if comment {
                (rest.len(), Look { dim: true, ..base })
            } else if first == '"' || first == '`' || (first == '\'' && self.single_quotes) {
                (string_length(rest, first), self.coloured(base, Colour::Yellow))
            } else if first.is_ascii_digit() && start {
                (
                    run_length(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')),
                    self.coloured(base, Colour::Cyan),
                )
            } else if first.is_alphanumeric() || first == '_' {
                let length = run_length(rest, |c| c.is_alphanumeric() || c == '_');
                let known = self.keywords.contains(&&rest[..length]);
                (length, if known { self.coloured(base, Colour::Magenta) } else { base })
            } else {
                (first.len_utf8(), base)
            };
            line.push(look, &rest[..length]);
            // A word ends here, so a comment or a number may begin.
            start = !(first.is_alphanumeric() || first == '_');
            rest = &rest[length..];
        }
    }

    fn coloured(self, base: Look, colour: Colour) -> Look {
        if self == NONE { base } else { Look { colour: Some(colour), ..base } }
    }
}

fn run_length(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Up to the closing quote, or the end of the line.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(language: &str, code: &str) -> String {
        let mut line = Line::default();
        Syntax::of(language).paint(&mut line, code, Look::PLAIN);
        assert_eq!(line.text(), code, "no text is lost");
        line.spans()
            .map(|(look, text)| match (look.dim, look.colour) {
                (true, _) => format!("<c:{text}>"),
                (_, Some(Colour::Yellow)) => format!("<s:{text}>"),
                (_, Some(Colour::Cyan)) => format!("<n:{text}>"),
                (_, Some(Colour::Magenta)) => format!("<k:{text}>"),
                _ => text.to_owned(),
            })
            .collect()
    }

    #[test]
    fn tokens_are_told_apart() {
        let cases = [
            ("rust", "let x = 12; // it's", "<k:let> x = <n:12>; <c:// it's>"),
            ("rs", "fn f<'a>(s: &'a str)", "<k:fn> f<'a>(s: &'a str)"),
            ("py", "return 'a\\'b' # c", "<k:return> <s:'a\\'b'> <c:# c>"),
            ("sh", "echo \"$#\" a#b # c", "echo <s:\"$#\"> a#b <c:# c>"),
            ("json", "{\"a\": 1.5}", "{<s:\"a\">: <n:1.5>}"),
            ("", "let x = \"1\"", "let x = \"1\""),
            ("js", "const ü = `漢", "<k:const> ü = <s:`漢>"),
        ];
        for (language, code, expected) in cases {
            assert_eq!(marked(language, code), expected);
        }
        assert_eq!(Syntax::of_path("a/b.rs"), RUST);
        assert_eq!(Syntax::of_path("Makefile"), SHELL);
    }
}
