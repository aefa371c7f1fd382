//! What a request names that can be seen not to be done yet: commands it quotes, files it says to write; and files it says
//! to leave alone.
//!
//! Wrong now and then, and harmless then: the model is told at most a few times, and may say no.

use homarus_contract::text::one_line;

use crate::{
    seen::{Command, is_named},
    state::State,
};

/// The parts as an instruction: the first is to be done next.
pub fn told(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => format!("Next: {only}."),
        [first, rest @ ..] => format!("Next: {first}. After that: {}.", rest.join("; ")),
    }
}

/// Whether a part is a file that is to be written.
pub fn is_to_write(part: &str) -> bool {
    part.starts_with(WRITE)
}

/// How a part begins that is a file to write.
const WRITE: &str = "write ";
/// Words after which a request names a file that is to be made.
const BEFORE_A_TARGET: [&str; 6] = ["to", "into", "as", "write", "create", "save"];
/// How a sentence begins that names a file to leave alone, and what may come after the name: "keep a.toml valid" is a change.
const LEAVE_ALONE: [&str; 8] =
    ["keep", "leave", "never change", "do not change", "don't change", "do not touch", "don't touch", "do not edit"];
const AFTER_A_KEPT_FILE: [&str; 5] = ["as", "unchanged", "untouched", "alone", "and"];
/// A request that names more than this is a document and not a list of what is to be done.
const PARTS_MAX: usize = 8;
const EXTENSION_CHARS_MAX: usize = 5;
const SHOWN_CHARS_MAX: usize = 100;
const SENTENCE_CHARS_MAX: usize = 300;

/// One line for each part that is left, or `None` if the request names nothing that could be looked for.
pub fn parts(state: &State) -> Option<Vec<String>> {
    let request = state.request.as_str();
    let files = targets(request);
    let commands = quoted_commands(request);
    if !(1..=PARTS_MAX).contains(&(files.len() + commands.len())) {
        return None;
    }
    let seen = &state.seen;
    let written = |name: &str| seen.written.iter().chain(&seen.refused).any(|path| is_named(path, name));
    let commands = commands.iter().filter_map(|command| Some((place(request, command), command_left(state, command)?)));
    let files = files.iter().filter(|name| !written(name)).map(|name| {
        let shown = one_line(name, SHOWN_CHARS_MAX);
        let text = format!("{WRITE}{shown} with file.write, as the task says: \"{}\"", sentence(request, name));
        (place(request, name), text)
    });
    // In the order of the request.
    let mut left: Vec<(usize, String)> = commands.chain(files).collect();
    left.sort();
    left.dedup();
    Some(left.into_iter().map(|(_, text)| text).collect())
}

fn place(request: &str, part: &str) -> usize {
    request.find(part).unwrap_or(request.len())
}

fn command_left(state: &State, quoted: &str) -> Option<String> {
    let shown = one_line(quoted, SHOWN_CHARS_MAX);
    let begins = beginning(quoted);
    match state.seen.commands.iter().rev().find(|command| command.line.contains(&begins)) {
        None => Some(format!("run `{shown}`")),
        Some(Command { failed: true, changes, .. }) if *changes < state.seen.changes => {
            Some(format!("run `{shown}` again: it failed, and files have changed since"))
        }
        Some(Command { failed: true, .. }) => Some(format!("correct what makes `{shown}` fail, and run it again")),
        Some(_) => None,
    }
}

/// Command lines the request puts between backquotes. One word may be a file or a setting.
fn quoted_commands(request: &str) -> Vec<&str> {
    let is_command = |quoted: &&str| quoted.split_whitespace().nth(1).is_some() && !quoted.contains('\n');
    request.split('`').skip(1).step_by(2).filter(is_command).collect()
}

/// The first two words of a command: the rest may stand for something, as NAME in `restart NAME`.
fn beginning(command: &str) -> String {
    command.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn targets(request: &str) -> Vec<&str> {
    let words: Vec<&str> = request.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| BEFORE_A_TARGET.contains(&pair[0].to_lowercase().as_str()))
        .map(|pair| pair[1].trim_matches(is_around))
        .filter(|name| is_file(name))
        .collect()
}

/// The first file that is not as it was although the request says to leave it alone, with the sentence that says so.
pub fn changed_but_kept(state: &State) -> Option<(&str, String)> {
    let (name, sentence) = kept(&state.request).find(|(name, _)| state.seen.is_other_than_before(name))?;
    Some((name, one_line(sentence, SENTENCE_CHARS_MAX)))
}

/// Files that a sentence begins with, after words that say to leave them alone, each with that sentence.
fn kept(request: &str) -> impl Iterator<Item = (&str, &str)> {
    sentences(request).filter_map(|sentence| Some((kept_in(sentence)?, sentence)))
}

fn kept_in(sentence: &str) -> Option<&str> {
    let begin = LEAVE_ALONE.iter().find(|words| {
        sentence.get(..words.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(words))
            && sentence[words.len()..].starts_with(' ')
    })?;
    let mut words = sentence[begin.len()..].split_whitespace();
    let name = words.next()?.trim_matches(is_around);
    let is_left_alone = words.next().is_none_or(|word| AFTER_A_KEPT_FILE.contains(&word.trim_matches(is_around)));
    (is_file(name) && is_left_alone).then_some(name)
}

fn sentences(request: &str) -> impl Iterator<Item = &str> {
    request
        .split_inclusive('\n')
        .flat_map(|line| line.split_inclusive(". "))
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
}

fn is_around(c: char) -> bool {
    !c.is_alphanumeric() && c != '/'
}

fn is_file(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && (1..=EXTENSION_CHARS_MAX).contains(&extension.len())
            && extension.chars().all(char::is_alphanumeric)
    })
}

/// The sentence of the request that has `name` in it.
fn sentence(request: &str, name: &str) -> String {
    let at = request.find(name).unwrap_or(0);
    let begin =
        [". ", "? ", "! ", "\n\n"].iter().filter_map(|end| request[..at].rfind(end).map(|i| i + end.len())).max();
    let rest = &request[begin.unwrap_or(0)..];
    let after = at - begin.unwrap_or(0) + name.len();
    let end = [". ", "? ", "! ", "\n\n"].iter().filter_map(|end| rest[after..].find(end).map(|i| after + i + 1)).min();
    one_line(rest[..end.unwrap_or(rest.len())].trim(), SENTENCE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_to_leave_alone_are_found() {
        let request =
            "Save it as mail.json: the same settings. Keep mail.ini. Leave `conf/a.toml` as it is.\nDon't touch b.txt";
        let names: Vec<&str> = kept(request).map(|(name, _)| name).collect();
        assert_eq!(names, ["mail.ini", "conf/a.toml", "b.txt"]);
        assert_eq!(kept(request).next(), Some(("mail.ini", "Keep mail.ini.")));
        let other = "Keep a.json valid. Turn it on in b.json and leave all others as they are. Keep the log. Leave.";
        assert_eq!(kept(other).count(), 0);
    }

    #[test]
    fn targets_and_commands_are_found() {
        let request =
            "Run `sh check.sh`, set `port`, write the number to answer.txt, save it as out/mail.json. Go to it.";
        assert_eq!(targets(request), ["answer.txt", "out/mail.json"]);
        assert_eq!(quoted_commands(request), ["sh check.sh"]);
        assert!(targets("Look at app.toml and go to 1.2.3.").iter().all(|name| *name == "1.2.3"));
        assert!(quoted_commands("an odd ` quote").is_empty());
        assert!(quoted_commands("pasted:\n```\ncargo build --release\n```\n").is_empty());
        assert_eq!(sentence(request, "mail.json"), request[..request.find(" Go").unwrap()]);
        assert_eq!(sentence("One. Write a.txt: x, y. Two.", "a.txt"), "Write a.txt: x, y.");
    }
}
