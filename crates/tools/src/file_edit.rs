//! `file.edit`: one piece of a file's text replaced by another, the rest kept.

use std::{fs, path::Path};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{arguments, confined, file_read, file_write, paths};

pub const NAME: &str = "file.edit";
const EXAMPLE: &str = r#"{"path": "app.conf", "old": "port = 80", "new": "port = 8080"}"#;
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A file up to this size is shown whole when the text to replace is not in it.
const SHOWN_BYTES_MAX: usize = 2_000;
const CHANGED_LINES_SHOWN_MAX: usize = 20;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// File to change, relative to the workspace.
    #[serde(alias = "file", alias = "file_path", alias = "filename")]
    path: String,
    /// The text to replace, exactly as it is in the file, for example a whole line.
    #[serde(alias = "old_string", alias = "search")]
    old: String,
    /// The text to put there.
    #[serde(alias = "new_string", alias = "replace")]
    new: String,
}

pub struct FileEdit;

impl Tool for FileEdit {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Change a file: replaces one piece of its text by another and keeps the rest. The best way \
                          to change a setting."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn limits(&self) -> String {
        format!("files of {} MiB", FILE_BYTES_MAX >> 20)
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, &arguments.path)?;
        let diff = file_write::old_text(&context.workspace, &path).and_then(|old| {
            let new = replaced(&old, &arguments).ok()?;
            Some(file_write::diff(&paths::shown(&path), &old, &new))
        });
        Ok(Plan {
            summary: format!("edit {}: {}", paths::shown(&path), one_line(&arguments.new, 80)),
            resources: resources(&context.workspace, &path)?,
            class: EffectClass::Workspace,
            diff,
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(confined::run_internal(NAME, permit, context, layer, false))
    }
}

/// What does not fit is answered with the file's text, so an edit needs the right to read it as well.
fn resources(workspace: &Path, path: &Path) -> Result<Vec<Resource>, ToolError> {
    let mut resources = paths::resources(workspace, "file:write", path)?;
    resources.extend(paths::resources(workspace, "file:read", path)?);
    Ok(resources)
}

pub fn confined() -> i32 {
    confined::serve(edit)
}

/// Runs inside the sandbox: what is written here lands in the call's layer.
pub fn edit(root: &Path, arguments: &Arguments) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative = paths::relative(&workspace, &arguments.path).map_err(|error| error.to_string())?;
    let name = paths::shown(&relative);
    let path = workspace.join(&relative);
    let meta = fs::metadata(&path).map_err(|error| file_read::missing(&workspace, &relative, &error))?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(format!("{name} is not a text file that can be edited."));
    }
    let old = fs::read_to_string(&path).map_err(|error| format!("{name} cannot be read as text: {error}"))?;
    if old.contains('\0') {
        return Err(format!("{name} is a binary file. Change it with a command instead."));
    }
    let replaced = replaced(&old, arguments);
    let is_there = !arguments.new.trim().is_empty() && old.lines().any(|line| line.trim() == arguments.new.trim());
    if replaced.is_err() && is_there && !old.contains(&arguments.old) {
        return Ok(format!("{name} has the new text already. Nothing was changed.\n"));
    }
    let new = replaced.map_err(|reason| {
        let shown = if old.len() <= SHOWN_BYTES_MAX { format!("\n{name} holds:\n{old}") } else { String::new() };
        format!("{name}: {reason} Nothing was changed. Copy the text to replace exactly from the file.{shown}")
    })?;
    fs::write(&path, &new).map_err(|error| format!("{name} cannot be written: {error}"))?;
    Ok(format!("{name} was changed. {}", changed_lines(&old, &new)))
}

/// What the changed lines are now, and what a single one was: shorter than a diff, and nothing a model could take for a file.
fn changed_lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let changed = &new[before..new.len() - after];
    match changed {
        [] => format!("{} lines were removed after line {before}.\n", old.len() - before - after),
        [line] if old.len() == new.len() => {
            format!("Line {0} was: {1}\nLine {0} is now: {line}\n", before + 1, old[before])
        }
        [line] => format!("Line {} is now: {line}\n", before + 1),
        [..] if changed.len() <= CHANGED_LINES_SHOWN_MAX => {
            format!("Lines {} to {} are now:\n{}\n", before + 1, before + changed.len(), changed.join("\n"))
        }
        [..] => format!("Lines {} to {} are new.\n", before + 1, before + changed.len()),
    }
}

/// The file's new text. The old piece must stand there once, so that no other place is changed.
fn replaced(text: &str, arguments: &Arguments) -> Result<String, String> {
    let (old, new) = (arguments.old.as_str(), arguments.new.as_str());
    if old.is_empty() {
        return Err("the text to replace is empty.".to_owned());
    }
    if old == new {
        return Err("old and new are the same text: give the new text in new.".to_owned());
    }
    // Whole lines first: `port = 80` must not be found inside `port = 8080`.
    let whole = text.lines().filter(|line| *line == old).count();
    if whole == 1 && !old.contains('\n') {
        let lines: Vec<&str> = text.split('\n').map(|line| if line == old { new } else { line }).collect();
        return Ok(lines.join("\n"));
    }
    match text.matches(old).count() {
        1 => Ok(text.replacen(old, new, 1)),
        0 => by_words(text, old, new)
            .or_else(|| by_quotes(text, old, new))
            .ok_or_else(|| "the text to replace is not there.".to_owned()),
        many => {
            Err(format!("the text to replace stands there {many} times. Give a longer piece, such as the whole line."))
        }
    }
}

/// The change by its words alone, when quotes, commas or spaces of the old piece are not as in the file:
/// its words must follow each other in one place only, and the new piece must have as many.
fn by_words(text: &str, old: &str, new: &str) -> Option<String> {
    let (have, old, new) = (words(text), words(old), words(new));
    if old.len() < 2 || old.len() != new.len() {
        return None;
    }
    let mut places = have
        .windows(old.len())
        .enumerate()
        .filter(|(_, place)| place.iter().map(|(_, word)| *word).eq(old.iter().map(|(_, word)| *word)));
    let (first, _) = places.next().filter(|_| places.next().is_none())?;
    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for ((start, word), (_, wanted)) in have[first..].iter().zip(&new) {
        result.push_str(&text[copied..*start]);
        result.push_str(wanted);
        copied = start + word.len();
    }
    result.push_str(&text[copied..]);
    (result != text).then_some(result)
}

/// The change when the old piece is right but for its quotes, `'` for `"` or the other way round everywhere: it must
/// stand in one place only, and the new piece gets the file's quotes. One quote too many may be an apostrophe.
fn by_quotes(text: &str, old: &str, new: &str) -> Option<String> {
    [('\'', "\""), ('"', "'")].into_iter().find_map(|(given, wanted)| {
        let old = Some(old.replace(given, wanted)).filter(|swapped| swapped != old)?;
        let is_paired = new.matches(given).count() % 2 == 0;
        (is_paired && text.matches(&old).count() == 1).then(|| text.replacen(&old, &new.replace(given, wanted), 1))
    })
}

/// Runs of letters, digits and what names are made of, with where they begin.
fn words(text: &str) -> Vec<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, is_word(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_asks_for_the_right_to_read_too_and_tells_nothing_of_other_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.conf"), "a = 1\n").unwrap();
        fs::write(folder.path().join("private"), "token = s3cret\n").unwrap();
        let told = edited(folder.path(), "s3cret", "x").unwrap_err();
        assert!(!told.contains("private"), "{told}");
        let resources = resources(folder.path(), Path::new("a.conf")).unwrap();
        let verbs: Vec<&str> = resources.iter().map(|resource| resource.verb.as_str()).collect();
        assert_eq!(verbs, ["file:write", "file:read"]);
    }

    #[test]
    fn a_piece_that_differs_in_quotes_only_is_found_by_its_words() {
        let text = "{\n  \"new_search\": false,\n  \"new_checkout\": false\n}\n";
        let changed = by_words(text, "new_checkout: false", "new_checkout: true").unwrap();
        assert_eq!(changed, "{\n  \"new_search\": false,\n  \"new_checkout\": true\n}\n");
        assert_eq!(by_words(text, "old_checkout: false", "old_checkout: true"), None, "not there");
        assert_eq!(by_words("a: 1\na: 1\n", "a = 1", "a = 2"), None, "two places");
        assert_eq!(by_words("a: 1\n", "a = 1", "a = 1 2"), None, "another number of words");
        assert_eq!(by_words("a: 1\n", "1", "2"), None, "one word is too little to go by");
    }

    #[test]
    fn a_piece_with_other_quotes_is_found_and_gets_those_of_the_file() {
        let text = "cost = item[\"count\"] * item[\"prize\"]\nname = 'x'\n";
        let changed = by_quotes(text, "item['prize']", "item['price'] if 'price' in item else 0").unwrap();
        assert_eq!(changed, "cost = item[\"count\"] * item[\"price\"] if \"price\" in item else 0\nname = 'x'\n");
        assert_eq!(by_quotes(text, "name = \"x\"", "name = \"y\"").unwrap(), text.replace("'x'", "'y'"));
        assert_eq!(by_quotes(text, "item['size']", "item['price']"), None, "not there");
        assert_eq!(by_quotes("a(\"b\")\na(\"b\")\n", "a('b')", "a('c')"), None, "two places");
        assert_eq!(by_quotes("say(\"no\")\n", "say('no')", "say(\"don't\")"), None, "an apostrophe");
        assert_eq!(by_quotes(text, "prize", "price"), None, "no quotes to differ in");
    }

    fn edited(root: &Path, old: &str, new: &str) -> Result<String, String> {
        edit(root, &Arguments { path: "a.conf".to_owned(), old: old.to_owned(), new: new.to_owned() })
    }

    #[test]
    fn one_place_is_changed_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        fs::write(&path, "port = 80\nport = 8080\nname = x\n").unwrap();
        assert!(
            edited(folder.path(), "port = 80", "port = 81")
                .unwrap()
                .contains("Line 1 was: port = 80\nLine 1 is now: port = 81\n")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 81\nport = 8080\nname = x\n");
        assert!(edited(folder.path(), "name", "title").is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 81\nport = 8080\ntitle = x\n");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_file_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.conf"), "a = 1\na = 1\n").unwrap();
        assert!(edited(folder.path(), "b = 1", "c").unwrap_err().contains("a.conf holds:\na = 1"));
        assert!(edited(folder.path(), "a = 1", "c").unwrap_err().contains("2 times"));
        assert!(edited(folder.path(), "a = 1", "a = 1").unwrap_err().contains("same text"));
        assert!(edited(folder.path(), "", "x").unwrap_err().contains("empty"));
        assert!(edited(folder.path(), "b = 1", "a = 1").unwrap().contains("already"), "done is not an error");
        assert_eq!(fs::read_to_string(folder.path().join("a.conf")).unwrap(), "a = 1\na = 1\n");
    }
}
