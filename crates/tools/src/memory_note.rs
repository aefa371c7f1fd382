//! `memory.note`: one line for the agent to remember, in a section of its MEMORY.md that is ours.
//!
//! What stands outside the section's two marks is the user's and stays as it is, byte for byte. Each line carries a
//! short key made of its call, so that a call which is repeated after a kill adds nothing.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    event::AgentRef,
    gate::{Permit, idempotency_key},
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::{neutralise, one_line},
    tool::{Scope, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::arguments;

pub const NAME: &str = "memory.note";
/// The verb that rules and grants name; its target is the agent's name.
pub const VERB: &str = "memory:write";
/// The file, in the agent's folder.
pub const FILE: &str = "MEMORY.md";
const EXAMPLE: &str = r#"{"note": "The user prefers tabs to spaces."}"#;
const NOTE_CHARS_MAX: usize = 500;
const FILE_BYTES_MAX: u64 = 256 * 1024;
const NOTES_MAX: usize = 200;
const NOTES_BYTES_MAX: usize = 32 * 1024;
const OPENING: &str = "<!-- homarus:notes (written by memory.note; edit outside of these marks) -->";
/// What is looked for, so that the words after it may change.
const OPENING_START: &str = "<!-- homarus:notes";
const CLOSING: &str = "<!-- /homarus:notes -->";
const KEY_CHARS: usize = 12;
const LOCK_ATTEMPTS_MAX: u32 = 250;
const LOCK_PAUSE_MS: u64 = 20;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// One sentence to remember in later work.
    #[serde(alias = "text", alias = "line", alias = "content")]
    note: String,
}

pub struct MemoryNote;

impl Tool for MemoryNote {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Remember one sentence for later work: what the user prefers, or a fact that is hard to find \
                          again. Not for this task's own steps, and not for secrets."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Keyed
    }

    fn scope(&self) -> Scope {
        Scope::Memory
    }

    fn limits(&self) -> String {
        format!(
            "{NOTE_CHARS_MAX} characters a note; {NOTES_MAX} notes, {} KiB of them; {FILE} up to {} KiB",
            NOTES_BYTES_MAX >> 10,
            FILE_BYTES_MAX >> 10
        )
    }

    fn unavailable(&self, agent: Option<&AgentRef>) -> Option<String> {
        agent.is_none().then(|| "only a run of an agent has a memory".to_owned())
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let note = note(&action.arguments)?;
        let agent = agent_of(context)?;
        Ok(Plan {
            summary: format!("remember {}", one_line(&note, 200)),
            resources: vec![Resource { verb: VERB.to_owned(), target: agent.name.clone() }],
            class: EffectClass::Keyed,
            diff: Some(format!("+- {note}\n")),
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        _layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let action = permitted(&permit)?;
            let note = note(&action.arguments)?;
            let key = idempotency_key(permit.run(), &action.call)[..KEY_CHARS].to_owned();
            let agent = agent_of(&context)?.clone();
            let written = tokio::task::spawn_blocking(move || write(&agent.folder, &note, &key)).await;
            let text = written.map_err(|error| ToolError::Failed(error.to_string()))?.map_err(ToolError::Failed)?;
            Ok(ToolOutput::said(text))
        })
    }
}

fn agent_of(context: &ToolContext) -> Result<&AgentRef, ToolError> {
    context.agent.as_ref().ok_or_else(|| ToolError::Failed("This run has no agent, and so no memory.".to_owned()))
}

/// The note as it may stand in the file: one line that shows all it holds.
fn note(json: &str) -> Result<String, ToolError> {
    let arguments: Arguments = arguments::parse(NAME, EXAMPLE, json)?;
    let note = arguments.note.trim().trim_start_matches("- ").trim();
    let wrong = |what: &str| Err(ToolError::BadArguments(format!("The note {what}. Send for example {EXAMPLE}")));
    if note.is_empty() || note.chars().count() > NOTE_CHARS_MAX {
        return wrong(&format!("must have 1 to {NOTE_CHARS_MAX} characters"));
    }
    if note.contains(['\n', '\r', '\u{2028}', '\u{2029}', '\t', '\u{b}', '\u{c}', '\u{85}']) {
        return wrong("must be one line");
    }
    // What means something in one font only is not shown either.
    if neutralise(note) != note || note.contains(|c: char| ('\u{e000}'..='\u{f8ff}').contains(&c)) {
        return wrong("holds characters that cannot be seen");
    }
    if note.contains("<!--") || note.contains("-->") {
        return wrong("holds a comment mark (<!-- or -->)");
    }
    Ok(note.to_owned())
}

/// Adds the note to the memory of the agent in `folder`; what the model is told of it.
fn write(folder: &Path, note: &str, key: &str) -> Result<String, String> {
    let failed = |what: &str, error: Errno| format!("{FILE} cannot be {what}: {error}. Go on without it.");
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = fs::open(folder, flags, Mode::empty()).map_err(|error| failed("reached", error))?;
    // Another run of the same agent may write as well. The lock goes with the descriptor.
    lock(&folder).map_err(|error| failed("locked", error))?;
    let (old, mode) = read(&folder)?;
    let new = match noted(&old, note, key)? {
        Some(new) => new,
        None => return Ok("It is in the memory already.\n".to_owned()),
    };
    replace(&folder, &new, mode).map_err(|error| format!("{FILE} cannot be written: {error}. Go on without it."))?;
    Ok(format!("Noted: {note}\n"))
}

fn lock(folder: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(LOCK_PAUSE_MS)),
            done => return done,
        }
    }
    Err(Errno::WOULDBLOCK)
}

/// The text that is there, and its mode; an absent file is an empty one.
fn read(folder: &OwnedFd) -> Result<(String, Mode), String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match fs::openat(folder, FILE, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok((String::new(), Mode::from_raw_mode(0o600))),
        Err(Errno::LOOP) => return Err(format!("{FILE} is a link, which is not followed. Go on without it.")),
        Err(error) => return Err(format!("{FILE} cannot be read: {error}. Go on without it.")),
    };
    let stat = fs::fstat(&file).map_err(|error| format!("{FILE} cannot be read: {error}. Go on without it."))?;
    if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::RegularFile {
        return Err(format!("{FILE} is not a regular file. Go on without it."));
    }
    if stat.st_size as u64 > FILE_BYTES_MAX {
        return Err(format!("{FILE} is larger than {} KiB. The user has to shorten it.", FILE_BYTES_MAX >> 10));
    }
    let mut text = String::new();
    let read = File::from(file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| format!("{FILE} cannot be read as text: {error}. Go on without it."))?;
    Ok((text, Mode::from_raw_mode(stat.st_mode & 0o777)))
}

/// The text with the note in it; `None` if it is there already.
fn noted(old: &str, note: &str, key: &str) -> Result<Option<String>, String> {
    let line = format!("- {note} <!-- {key} -->\n");
    let broken = || format!("The marks of the notes in {FILE} are damaged. The user has to mend or remove them.");
    let new = match (old.matches(OPENING_START).count(), old.matches(CLOSING).count()) {
        (0, 0) => {
            let gap = match old {
                "" => "",
                old if old.ends_with("\n\n") => "",
                old if old.ends_with('\n') => "\n",
                _ => "\n\n",
            };
            format!("{old}{gap}{OPENING}\n{line}{CLOSING}\n")
        }
        (1, 1) => {
            let opening = old.find(OPENING_START).ok_or_else(broken)?;
            let start = opening + old[opening..].find('\n').ok_or_else(broken)? + 1;
            let end = old.find(CLOSING).filter(|end| *end >= start).ok_or_else(broken)?;
            let notes = &old[start..end];
            if !notes.is_empty() && !notes.ends_with('\n') {
                return Err(broken());
            }
            let is_there = notes.lines().any(|line| {
                let (text, of) = line.rsplit_once(" <!-- ").unwrap_or((line, ""));
                of.strip_suffix(" -->") == Some(key) || text.strip_prefix("- ") == Some(note)
            });
            if is_there {
                return Ok(None);
            }
            if notes.lines().count() >= NOTES_MAX || notes.len() + line.len() > NOTES_BYTES_MAX {
                return Err(format!(
                    "The memory is full ({NOTES_MAX} notes, {} KiB). The user has to remove some from {FILE}.",
                    NOTES_BYTES_MAX >> 10
                ));
            }
            format!("{}{line}{}", &old[..end], &old[end..])
        }
        _ => return Err(broken()),
    };
    if new.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{FILE} would be larger than {} KiB. The user has to shorten it.", FILE_BYTES_MAX >> 10));
    }
    Ok(Some(new))
}

/// Whole or not at all, also when the machine stops in between.
fn replace(folder: &OwnedFd, text: &str, mode: Mode) -> std::io::Result<()> {
    const TEMPORARY: &str = ".MEMORY.md.new";
    // Left by a call that was killed; the lock says that nobody is at it now.
    match fs::unlinkat(folder, TEMPORARY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(folder, TEMPORARY, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(text.as_bytes())?;
    fs::fchmod(&file, mode)?;
    file.sync_all()?;
    fs::renameat(folder, TEMPORARY, folder, FILE)?;
    fs::fsync(folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_users_text_stays_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mine = "# Mine\r\n\r\n- about <homarus>\u{200b}\nno newline at the end";
        std::fs::write(&path, mine).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(folder.path(), "one", "k1").unwrap();
        let below = "\n\nbelow\n";
        let text = std::fs::read_to_string(&path).unwrap() + below;
        std::fs::write(&path, &text).unwrap();
        write(folder.path(), "two", "k2").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{mine}\n\n{OPENING}\n- one <!-- k1 -->\n- two <!-- k2 -->\n{CLOSING}\n{below}"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn a_call_that_is_repeated_adds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(write(folder.path(), "one", "k1").unwrap(), "Noted: one\n");
        let text = std::fs::read_to_string(&path).unwrap();
        // The same call after a kill, also when what it would write has changed; and the same note of another call.
        for (note, key) in [("one", "k1"), ("other", "k1"), ("one", "k9")] {
            assert!(write(folder.path(), note, key).unwrap().contains("already"), "{note} {key}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        // A kill between the write and the rename leaves a file that the next call replaces.
        std::fs::write(folder.path().join(".MEMORY.md.new"), "half").unwrap();
        write(folder.path(), "two", "k2").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("- two <!-- k2 -->\n"));
        assert!(!folder.path().join(".MEMORY.md.new").exists());
    }

    #[test]
    fn calls_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let folder = folder.path();
                scope.spawn(move || write(folder, &format!("note {number}."), &format!("k{number}")).unwrap());
            }
        });
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!((0..16).all(|number| text.contains(&format!("- note {number}. <!-- k{number} -->\n"))), "{text}");
        assert_eq!(text.lines().count(), 18, "{text}");
    }

    #[test]
    fn damaged_marks_links_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in [
            format!("{OPENING}\nno end\n"),
            format!("{CLOSING}\n{OPENING}\n"),
            format!("{OPENING}\n{OPENING}\n{CLOSING}\n"),
            format!("{OPENING}\n- x {CLOSING}\n"),
            OPENING.to_owned(),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert!(write(folder.path(), "n", "k").unwrap_err().contains("damaged"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "nothing was changed");
        }
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(write(folder.path(), "n", "k").unwrap_err().contains("as text"));
        std::fs::remove_file(&path).unwrap();
        let outside = folder.path().join("outside");
        std::fs::write(&outside, "secret\n").unwrap();
        symlink(&outside, &path).unwrap();
        assert!(write(folder.path(), "n", "k").unwrap_err().contains("is a link"));
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret\n");
        std::fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert!(write(folder.path(), "n", "k").unwrap_err().contains("is a link"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(write(folder.path(), "n", "k").unwrap_err().contains("regular file"));
        let way = folder.path().join("way");
        symlink(folder.path(), &way).unwrap();
        assert!(write(&way, "n", "k").unwrap_err().contains("cannot be reached"), "nor is a link to the folder");
        assert!(write(&folder.path().join("none"), "n", "k").unwrap_err().contains("cannot be reached"));
    }

    #[test]
    fn the_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..NOTES_MAX {
            write(folder.path(), &format!("note {number}"), &format!("k{number}")).unwrap();
        }
        assert!(write(folder.path(), "more", "k").unwrap_err().contains("full"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "x".repeat(FILE_BYTES_MAX as usize - 50)).unwrap();
        assert!(write(folder.path(), "more", "k").unwrap_err().contains("would be larger"));
        let file = File::create(folder.path().join(FILE)).unwrap();
        file.set_len(2 << 30).unwrap();
        assert!(write(folder.path(), "more", "k").unwrap_err().contains("larger than"));
    }

    #[test]
    fn a_note_shows_all_it_holds() {
        let json = |text: &str| format!("{{\"note\":{}}}", serde_json::to_string(text).unwrap());
        assert_eq!(note(&json(" - Prefers tabs. ")).unwrap(), "Prefers tabs.");
        assert_eq!(note(&json("ünï 漢字 ❤\u{fe0f} ok")).unwrap(), "ünï 漢字 ❤\u{fe0f} ok");
        for (text, words) in [
            ("", "1 to 500"),
            ("  ", "1 to 500"),
            (&"x".repeat(NOTE_CHARS_MAX + 1), "1 to 500"),
            ("a\nb", "one line"),
            ("a\u{2028}b", "one line"),
            ("a\u{1b}[2J", "cannot be seen"),
            ("a\u{0}b", "cannot be seen"),
            ("a\u{200b}b", "cannot be seen"),
            ("a\u{202e}b", "cannot be seen"),
            ("a\u{ad}b", "cannot be seen"),
            ("a\u{e0041}b", "cannot be seen"),
            ("a\u{fe0f}b", "cannot be seen"),
            ("a\u{3164}b", "cannot be seen"),
            ("a\u{e000}b", "cannot be seen"),
            ("x --> <!-- /homarus:notes", "comment mark"),
        ] {
            let error = note(&json(text)).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("for example"), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_seen_in_a_note_is_shown_in_what_comes_from_outside() {
        let shown = crate::web::outside(&homarus_contract::ids::CallId::new(1, 0), "x", "a\u{e0101}\u{3164}b");
        assert!(shown.contains("\na\u{fffd}\u{fffd}b\n"), "{shown}");
    }
}
