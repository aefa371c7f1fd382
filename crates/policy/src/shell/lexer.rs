//! The lexer: enough of the shell's grammar to find every command in a line.
//!
//! It never runs or expands anything. Where the grammar goes on but the meaning depends on a running
//! shell, it notes the line as opaque and keeps looking for commands.

use super::{Simple, Word, see};

/// Substitutions and subshells inside one another.
const DEPTH_MAX: u32 = 8;
const COMMANDS_MAX: usize = 400;
const WORDS_MAX: usize = 4_000;

#[derive(Debug, Default)]
pub struct Lexer {
    chars: Vec<char>,
    at: usize,
    depth: u32,
    words: usize,
    pub commands: Vec<Simple>,
    pub normal: String,
    pub opaque: Option<&'static str>,
    pub too_complex: bool,
}

impl Lexer {
    pub fn run(text: &str, depth: u32) -> Self {
        let mut lexer = Lexer { chars: text.chars().collect(), depth, ..Lexer::default() };
        if depth > DEPTH_MAX {
            lexer.too_complex = true;
            return lexer;
        }
        lexer.list(false, true);
        lexer
    }

    /// Commands up to the end or, `in_parens`, to the closing parenthesis.
    fn list(&mut self, in_parens: bool, outermost: bool) {
        self.depth += 1;
        if self.depth > DEPTH_MAX * 2 {
            self.too_complex = true;
            self.at = self.chars.len();
        }
        let mut current = Simple::default();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\\' if self.peek_at(1) == Some('\n') => self.at += 2,
                '#' => self.skip_comment(),
                '\n' | ';' | '|' | '&' if !(c == '&' && self.peek_at(1) == Some('>')) => {
                    self.flush(&mut current);
                    self.operator(outermost);
                }
                '(' => {
                    self.at += 1;
                    if !current.words.is_empty() {
                        self.note("a function or an array is defined");
                        self.flush(&mut current);
                    }
                    self.list(true, false);
                }
                ')' => {
                    self.at += 1;
                    self.flush(&mut current);
                    if in_parens {
                        self.depth -= 1;
                        return;
                    }
                    self.note("a parenthesis is not balanced");
                }
                '<' | '>' | '&' => self.redirect(&mut current),
                c if c.is_ascii_digit() && self.is_descriptor() => {
                    while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                        self.at += 1;
                    }
                }
                _ => {
                    let word = self.word();
                    self.words += 1;
                    if self.words > WORDS_MAX {
                        self.too_complex = true;
                        self.at = self.chars.len();
                    }
                    current.words.push(word);
                }
            }
        }
        if in_parens {
            self.note("a parenthesis is not balanced");
        }
        self.flush(&mut current);
        self.depth -= 1;
    }

    /// Ends a command: keywords go, what it hides is looked into.
    fn flush(&mut self, current: &mut Simple) {
        let mut simple = std::mem::take(current);
        if let Some(reason) = see::strip_keywords(&mut simple) {
            self.note(reason);
        }
        if simple.words.is_empty() && simple.redirects.is_empty() {
            return;
        }
        let found = see::look_inside(&mut simple, self.depth);
        if let Some(reason) = found.opaque {
            self.note(reason);
        }
        self.too_complex |= found.too_complex;
        if self.depth == 1 {
            self.normal.push_str(&simple.text());
        }
        self.commands.push(simple);
        if self.commands.len() > COMMANDS_MAX {
            self.too_complex = true;
            self.at = self.chars.len();
        }
    }

    fn operator(&mut self, outermost: bool) {
        let from = self.at;
        while self.peek().is_some_and(|c| matches!(c, '\n' | ';' | '|' | '&')) && self.at - from < 2 {
            self.at += 1;
        }
        if outermost {
            let operator: String = self.chars[from..self.at].iter().collect();
            let operator = if operator.trim().is_empty() { ";".to_owned() } else { operator.trim().to_owned() };
            let glue = if operator == ";" { "; ".to_owned() } else { format!(" {operator} ") };
            self.normal.push_str(&glue);
        }
    }

    fn redirect(&mut self, current: &mut Simple) {
        let from = self.at;
        while self.peek().is_some_and(|c| matches!(c, '<' | '>' | '&' | '|')) && self.at - from < 3 {
            self.at += 1;
        }
        let operator: String = self.chars[from..self.at].iter().collect();
        if self.peek() == Some('(') {
            self.note("a process substitution");
            self.at += 1;
            return self.list(true, false);
        }
        while self.peek().is_some_and(|c| matches!(c, ' ' | '\t')) {
            self.at += 1;
        }
        if operator == "<<" {
            // Its lines are data, but where they end depends on the word: read them as commands too.
            self.note("a here-document");
        }
        let target = self.word();
        let between_descriptors = operator.ends_with('&')
            && target.text.chars().all(|c| c.is_ascii_digit() || c == '-')
            && !target.text.is_empty();
        if between_descriptors || (target.text == "/dev/null" && !target.expands) {
            return;
        }
        let writes = operator.contains('>');
        current.writes_by_redirect |= writes;
        current.redirects.push(format!("{} {}", if writes { ">" } else { "<" }, see::requoted(&target.text)));
    }

    /// Digits directly before a redirection name a descriptor.
    fn is_descriptor(&self) -> bool {
        let end = self.chars[self.at..].iter().position(|c| !c.is_ascii_digit());
        end.is_some_and(|offset| matches!(self.chars[self.at + offset], '<' | '>'))
    }

    fn word(&mut self) -> Word {
        let mut word = Word::default();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\\' => {
                    self.at += 1;
                    match self.bump() {
                        Some('\n') => {}
                        Some(c) => {
                            word.text.push(c);
                            word.quoted = true;
                        }
                        None => word.text.push('\\'),
                    }
                }
                '\'' => {
                    self.at += 1;
                    word.quoted = true;
                    self.single(&mut word);
                }
                '"' => {
                    self.at += 1;
                    word.quoted = true;
                    self.double(&mut word);
                }
                '$' => self.dollar(&mut word, false),
                '`' => self.backticks(&mut word),
                c => {
                    word.expands |= matches!(c, '*' | '?' | '[' | '{');
                    word.text.push(c);
                    self.at += 1;
                }
            }
        }
        word
    }

    fn single(&mut self, word: &mut Word) {
        loop {
            match self.bump() {
                Some('\'') => return,
                Some(c) => word.text.push(c),
                None => return self.note("a quote is not closed"),
            }
        }
    }

    fn double(&mut self, word: &mut Word) {
        loop {
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return;
                }
                Some('\\') => {
                    self.at += 1;
                    match self.bump() {
                        Some('\n') => {}
                        Some(c @ ('$' | '`' | '"' | '\\')) => word.text.push(c),
                        Some(c) => word.text.extend(['\\', c]),
                        None => word.text.push('\\'),
                    }
                }
                Some('$') => self.dollar(word, true),
                Some('`') => self.backticks(word),
                Some(c) => {
                    word.text.push(c);
                    self.at += 1;
                }
                None => return self.note("a quote is not closed"),
            }
        }
    }

    fn dollar(&mut self, word: &mut Word, in_double: bool) {
        self.at += 1;
        match self.peek() {
            Some('(') => {
                self.note("a command substitution");
                self.at += 1;
                word.expands = true;
                word.text.push_str("$(...)");
                self.list(true, false);
            }
            Some('\'') if !in_double => {
                self.note("an escaped string");
                self.at += 1;
                word.quoted = true;
                self.ansi_c(word);
            }
            Some('"') if !in_double => {}
            Some('{') => {
                word.expands = true;
                if !self.is_plain_parameter() {
                    self.note("a parameter expansion with an operation");
                }
                word.text.push_str("${");
                self.at += 1;
            }
            Some(c) if c.is_ascii_alphanumeric() || "_@*#?$!-".contains(c) => {
                word.expands = true;
                word.text.extend(['$', c]);
                self.at += 1;
            }
            _ => word.text.push('$'),
        }
    }

    /// `{NAME}` stands ahead.
    fn is_plain_parameter(&self) -> bool {
        let ahead = &self.chars[self.at + 1..];
        let end = ahead.iter().position(|c| !(c.is_ascii_alphanumeric() || "_@*#?".contains(*c)));
        end.is_some_and(|end| end > 0 && ahead[end] == '}')
    }

    /// `$'...'`, decoded, so that a deny rule sees what the shell will.
    fn ansi_c(&mut self, word: &mut Word) {
        loop {
            match self.bump() {
                Some('\'') => return,
                Some('\\') => match self.bump() {
                    Some('n') => word.text.push('\n'),
                    Some('t') => word.text.push('\t'),
                    Some('x') => self.code(word, 16, 2),
                    Some('u') => self.code(word, 16, 4),
                    Some('U') => self.code(word, 16, 8),
                    Some(c) if c.is_digit(8) => {
                        self.at -= 1;
                        self.code(word, 8, 3);
                    }
                    Some(c) => word.text.push(c),
                    None => {}
                },
                Some(c) => word.text.push(c),
                None => return self.note("a quote is not closed"),
            }
        }
    }

    fn code(&mut self, word: &mut Word, radix: u32, digits_max: usize) {
        let mut value = 0u32;
        for _ in 0..digits_max {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.at += 1;
        }
        word.text.extend(char::from_u32(value));
    }

    fn backticks(&mut self, word: &mut Word) {
        self.note("a command substitution");
        self.at += 1;
        word.expands = true;
        word.text.push_str("$(...)");
        let mut inner = String::new();
        loop {
            match self.bump() {
                Some('`') => break,
                Some('\\') => match self.bump() {
                    Some(c @ ('`' | '\\' | '$' | '"')) => inner.push(c),
                    Some(c) => inner.extend(['\\', c]),
                    None => {}
                },
                Some(c) => inner.push(c),
                None => {
                    self.note("a quote is not closed");
                    break;
                }
            }
        }
        let nested = Lexer::run(&inner, self.depth);
        self.too_complex |= nested.too_complex;
        self.commands.extend(nested.commands);
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn note(&mut self, reason: &'static str) {
        self.opaque.get_or_insert(reason);
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn peek_at(&self, offset: usize) -> Option<char> {
        self.chars.get(self.at + offset).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }
}
