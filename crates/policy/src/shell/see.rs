//! Seeing through: keywords, wrappers, strings that are commands themselves.

use super::{Simple, Word, lexer::Lexer};

/// Commands that run the command named in their arguments. Found at any later position, so that their
/// own options need not be known.
const WRAPPERS: &[&str] = &[
    "busybox",
    "builtin",
    "chroot",
    "chrt",
    "command",
    "dbus-run-session",
    "doas",
    "env",
    "eval",
    "exec",
    "fakeroot",
    "find",
    "flock",
    "ionice",
    "nice",
    "nohup",
    "nsenter",
    "parallel",
    "prlimit",
    "runuser",
    "script",
    "setarch",
    "setpriv",
    "setsid",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "systemd-run",
    "taskset",
    "time",
    "timeout",
    "toybox",
    "trap",
    "unbuffer",
    "unshare",
    "watch",
    "xargs",
];

/// Commands after which it cannot be known which commands will run.
const OPAQUE_COMMANDS: &[(&str, &str)] = &[
    ("eval", "`eval` runs text as commands"),
    ("source", "`source` runs a file as commands"),
    (".", "`.` runs a file as commands"),
    ("alias", "`alias` gives commands other names"),
    ("trap", "`trap` runs text as commands"),
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "ash", "mksh", "fish", "rbash"];

/// Words before which a command may stand.
const LEADING_KEYWORDS: &[&str] = &["if", "then", "elif", "else", "while", "until", "do", "!", "{"];
const CLOSING_KEYWORDS: &[&str] = &["fi", "done", "esac", "}"];

/// Positions of one command that are looked at as commands of their own.
const STARTS_MAX: usize = 24;

/// What was found in the arguments of a command.
#[derive(Debug, Default)]
pub struct Found {
    pub opaque: Option<&'static str>,
    pub too_complex: bool,
}

/// Removes keywords, so that what is left is a command. Returns why the line is opaque, if it is.
pub fn strip_keywords(simple: &mut Simple) -> Option<&'static str> {
    let is = |word: &Word, names: &[&str]| !word.quoted && names.contains(&word.text.as_str());
    let leading = simple.words.iter().take_while(|word| is(word, LEADING_KEYWORDS)).count();
    simple.words.drain(..leading);
    let first = simple.words.first()?;
    if is(first, CLOSING_KEYWORDS) {
        simple.words.remove(0);
        return None;
    }
    if is(first, &["for", "select"]) {
        // `for f in a b`: names and values, no command.
        let is_obeyed = simple.words.get(1).is_none_or(|name| may_be_obeyed(&name.text));
        simple.words.clear();
        return is_obeyed.then_some("a loop that may set a variable which programs obey");
    }
    is(first, &["case", "function", "coproc"]).then_some("a `case`, `function` or `coproc`")
}

/// Whether a variable may be one that programs look at, as `PATH` or `https_proxy`.
fn may_be_obeyed(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.chars().all(is_plain) || name.ends_with("_proxy")
}

/// Looks for commands in the arguments of one.
pub fn look_inside(simple: &mut Simple, depth: u32) -> Found {
    let mut found = Found::default();
    let assignments = simple.words.iter().take_while(|word| is_assignment(word)).count();
    let Some(command) = simple.words.get(assignments).cloned() else { return found };
    if command.expands && !matches!(command.text.as_str(), "[" | "[[") {
        found.opaque = Some("which command runs depends on an expansion");
    }
    let mut scripts: Vec<String> = Vec::new();
    let mut has_eval = false;
    for start in starts(simple) {
        let words = &simple.words[start..];
        let Some(name) = words.first().map(|word| base_name(&word.text)) else { continue };
        // `.` is an ordinary argument anywhere but in front (`find . -name x`).
        let opaque =
            OPAQUE_COMMANDS.iter().find(|(command, _)| *command == name && (name != "." || start == assignments));
        if let Some((_, reason)) = opaque {
            found.opaque.get_or_insert(reason);
        }
        if SHELLS.contains(&name) {
            scripts.extend(shell_scripts(words, &mut found));
        } else if start == assignments || (name == "eval" && !has_eval) {
            // Of a row of `eval`s only the first: what it runs holds the others.
            has_eval |= name == "eval";
            scripts.extend(wrapped_scripts(name, words));
        }
    }
    // Each text once: what is nested in wrappers of wrappers would otherwise be read over and over.
    scripts.sort();
    scripts.dedup();
    for script in scripts {
        let nested = Lexer::run(&script, depth);
        found.opaque = found.opaque.or(nested.opaque);
        found.too_complex |= nested.too_complex;
        simple.inner.extend(nested.commands);
    }
    simple.transparent = assignments == 0
        && !simple.inner.is_empty()
        && simple.redirects.is_empty()
        && is_plain_shell_call(&simple.words);
    found
}

/// All texts a deny or ask pattern is compared with.
pub fn suspects(simple: &Simple, texts: &mut Vec<String>) {
    texts.push(simple.text());
    for start in starts(simple) {
        let words = &simple.words[start..];
        texts.push(joined(words.iter().map(|word| word.text.as_str()), &simple.redirects));
        if let Some(first) = words.first().filter(|word| word.text.contains('/')) {
            let name = base_name(&first.text);
            let rest = words[1..].iter().map(|word| word.text.as_str());
            texts.push(joined(std::iter::once(name).chain(rest), &simple.redirects));
        }
    }
    for inner in &simple.inner {
        suspects(inner, texts);
    }
}

/// Pieces of a line that could not be read for certain, cut at everything that could part commands.
pub fn coarse(raw: &str) -> Vec<String> {
    let without_quotes: String = raw.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
    let cut = |text: &str, at: &[char]| -> Vec<String> {
        text.split(at)
            .map(|piece| piece.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|p| !p.is_empty())
            .collect()
    };
    let operators = [';', '&', '|', '(', ')', '\n', '`', '{', '}', ','];
    let quotes = [';', '&', '|', '(', ')', '\n', '`', '{', '}', '\'', '"'];
    let mut texts = Vec::new();
    for piece in cut(&without_quotes, &operators).into_iter().chain(cut(raw, &quotes)) {
        let word = |text: &str| Word { text: text.to_owned(), ..Word::default() };
        let simple = Simple { words: piece.split(' ').map(word).collect(), ..Simple::default() };
        suspects(&simple, &mut texts);
    }
    texts
}

/// A word as it would have to be written, if it is more than a plain word.
pub fn requoted(text: &str) -> String {
    let special = |c: char| c.is_whitespace() || ";&|()<>`'\"\\".contains(c);
    if text.is_empty() || text.contains(special) {
        format!("'{}'", text.replace('\'', "'\\''"))
    } else {
        text.to_owned()
    }
}

/// Where a command may begin in these words: after assignments, and anywhere after a wrapper.
fn starts(simple: &Simple) -> Vec<usize> {
    let first = simple.words.iter().take_while(|word| is_assignment(word)).count();
    let Some(command) = simple.words.get(first) else { return Vec::new() };
    let wraps = WRAPPERS.contains(&base_name(&command.text));
    let last = if wraps { simple.words.len().min(first + STARTS_MAX) } else { first + 1 };
    (first..last).collect()
}

/// The script of `sh -c SCRIPT`; notes a shell that takes its commands from elsewhere.
fn shell_scripts(words: &[Word], found: &mut Found) -> Vec<String> {
    let is_option = |word: &&Word| word.text.starts_with('-') || word.text.starts_with('+');
    let options: Vec<&Word> = words[1..].iter().take_while(is_option).collect();
    if options.iter().any(|word| !word.text.starts_with("--") && word.text.contains('c')) {
        // Options may follow `-c`; every later word is looked at, the first is the script.
        let rest = &words[1 + options.len()..];
        if rest.first().is_none_or(|script| script.expands) {
            found.opaque.get_or_insert("a shell is given text that is not known");
        }
        return rest.iter().map(|word| word.text.clone()).take(STARTS_MAX).collect();
    }
    if words.len() == 1 + options.len() || options.iter().any(|word| word.text.contains('s')) {
        found.opaque.get_or_insert("a shell reads commands from its input");
    }
    Vec::new()
}

/// Arguments of a wrapper that hold a whole command line (`su -c "..."`, `watch "..."`).
fn wrapped_scripts(name: &str, words: &[Word]) -> Vec<String> {
    if !WRAPPERS.contains(&name) {
        return Vec::new();
    }
    if name == "eval" {
        return vec![joined(words[1..].iter().map(|word| word.text.as_str()), &[])];
    }
    let holds_a_line = |word: &&Word| word.text.contains(|c: char| c.is_whitespace() || ";&|`$(".contains(c));
    words[1..].iter().filter(holds_a_line).map(|word| word.text.clone()).take(STARTS_MAX).collect()
}

/// `sh -c "..."` and nothing else: what it runs is what its script says.
fn is_plain_shell_call(words: &[Word]) -> bool {
    let [shell, option, script] = words else { return false };
    let shell_ok = ["sh", "bash", "dash", "/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/sh", "/usr/bin/bash"];
    shell_ok.contains(&shell.text.as_str()) && ["-c", "-lc", "-ec"].contains(&option.text.as_str()) && !script.expands
}

fn is_assignment(word: &Word) -> bool {
    let Some((name, _)) = word.text.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_[]".contains(c))
}

fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn joined<'a>(words: impl Iterator<Item = &'a str>, redirects: &'a [String]) -> String {
    words.chain(redirects.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}
