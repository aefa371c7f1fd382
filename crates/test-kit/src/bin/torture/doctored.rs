//! A check that cannot fail is none: the evidence of a real job is doctored in each way that must be found, and
//! held against the same judge.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    home::Home,
    job::{Kind, MANY_FILES},
    judge::{self, Evidence, Line, seq_of},
    tree::Entry,
    victim::Remains,
};

/// Each way to doctor it, and whether it was found. The evidence is of a job with every kind of call.
pub fn check(evidence: &Evidence, remains: &[Remains]) -> Vec<(&'static str, Line, bool)> {
    let effects = |line, doctor: &dyn Fn(&mut Evidence)| {
        let mut doctored = evidence.clone();
        doctor(&mut doctored);
        judge::effects(&doctored).iter().any(|finding| finding.line == line)
    };
    let printed = |line, doctor: &dyn Fn(&mut Vec<Value>)| {
        let mut log = evidence.main.clone();
        doctor(&mut log.lines);
        judge::printed(&log, remains).iter().any(|finding| finding.line == line)
    };
    let token = |kind| {
        evidence.job.actions().find(|action| action.kind == kind).map(|action| action.token.clone()).unwrap_or_default()
    };
    let run = &evidence.main.run;
    let printed_by: Vec<BTreeSet<u64>> = remains.iter().map(|one| one.events_of(run).map(seq_of).collect()).collect();
    let last = printed_by.iter().flatten().max().copied().unwrap_or(0) as usize;
    // One process printed the events before and after this one.
    let within = |seqs: &BTreeSet<u64>| {
        seqs.iter().find(|seq| seqs.contains(&(*seq + 1)) && seqs.contains(&(*seq + 2))).copied()
    };
    let middle = printed_by.iter().find_map(within).unwrap_or(0) as usize;
    let mut all = vec![
        (
            "an event that was printed is gone",
            Line::AcknowledgedLost,
            printed(Line::AcknowledgedLost, &|lines| lines.truncate(last.saturating_sub(1))),
        ),
        (
            "an event that was printed is another",
            Line::AcknowledgedLost,
            printed(Line::AcknowledgedLost, &|lines| {
                if let Some(line) = lines.get_mut(last.saturating_sub(1)) {
                    line["at_ms"] = json!(0);
                }
            }),
        ),
        (
            "an event of a driver stands after a takeover",
            Line::StaleAccepted,
            printed(Line::StaleAccepted, &|lines| {
                if let Some(line) = lines.get_mut(middle) {
                    *line = json!({"run_id": line["run_id"], "seq": seq_of(line), "kind": "taken_over", "driver": "x"});
                }
            }),
        ),
        (
            "a note is in the memory twice",
            Line::KeyedTwice,
            effects(Line::KeyedTwice, &|evidence| evidence.memory = evidence.memory.repeat(2)),
        ),
        (
            "a note is not in the memory",
            Line::EffectLost,
            effects(Line::EffectLost, &|evidence| evidence.memory.clear()),
        ),
        (
            "a request reached the server twice",
            Line::UnkeyedRepeated,
            effects(Line::UnkeyedRepeated, &|evidence| {
                evidence.outside.insert(token(Kind::Post), 2);
            }),
        ),
        (
            "one path of a merge is missing",
            Line::HalfMerged,
            effects(Line::HalfMerged, &|evidence| {
                evidence.files.0.remove(&format!("many-{}/deep/{}.txt", token(Kind::Many), MANY_FILES / 2));
            }),
        ),
        (
            "a line was added twice",
            Line::WorkspaceTwice,
            effects(Line::WorkspaceTwice, &|evidence| {
                if let Some(Entry::File { bytes, .. }) = evidence.files.0.get_mut(crate::job::LOG) {
                    *bytes = bytes.repeat(2);
                }
            }),
        ),
        (
            "a merged file is gone",
            Line::EffectLost,
            effects(Line::EffectLost, &|evidence| {
                evidence.files.0.remove(&format!("write-{}.txt", token(Kind::Write)));
            }),
        ),
        (
            "an undo left a path behind",
            Line::HalfMerged,
            effects(Line::HalfMerged, &|evidence| {
                for (_, is) in &mut evidence.undone {
                    is.0.insert("left-behind".to_owned(), Entry::Other);
                }
            }),
        ),
    ];
    if evidence.job.browses {
        all.extend(browser(&effects, &token));
    }
    all
}

/// A way to doctor evidence.
type Doctor<'a> = &'a dyn Fn(&mut Evidence);

/// The same for what was done in the browser. `found`: whether this line is, once this is doctored.
fn browser(
    found: &dyn Fn(Line, Doctor<'_>) -> bool,
    token: &dyn Fn(Kind) -> String,
) -> [(&'static str, Line, bool); 3] {
    [
        (
            "a button of a page was clicked twice",
            Line::UnkeyedRepeated,
            found(Line::UnkeyedRepeated, &|evidence| {
                evidence.outside.insert(token(Kind::Click), 2);
            }),
        ),
        (
            "a page was opened twice",
            Line::UnkeyedRepeated,
            found(Line::UnkeyedRepeated, &|evidence| {
                evidence.outside.insert(format!("{}/1", token(Kind::Open)), 2);
            }),
        ),
        (
            "a picture is half there",
            Line::HalfMerged,
            found(Line::HalfMerged, &|evidence| {
                if let Some(Entry::File { bytes, .. }) =
                    evidence.files.0.get_mut(&format!("shot-{}.png", token(Kind::Picture)))
                {
                    bytes.truncate(bytes.len() / 2);
                }
            }),
        ),
    ]
}

/// Whether `runs verify` finds that bytes of an event were changed in a copy of the journal. `token` stands in one.
pub async fn corruption_is_found(home: &Home, token: &str) -> Result<bool, String> {
    let failed = |error: io::Error| format!("the journal cannot be copied: {error}");
    let copy = home.root().join("doctored");
    copy_folder(&home.state(), &copy).map_err(failed)?;
    let whole = home.ask_in(&copy, &["runs", "verify"]).await?;
    if whole.code != Some(0) {
        return Err(format!("a copy of the journal is not whole: {} {}", whole.stdout, whole.stderr));
    }
    let mut changed = 0;
    for file in ["state/journal.db", "state/journal.db-wal"] {
        changed += change(&copy.join(file), token.as_bytes()).map_err(failed)?;
    }
    let found = home.ask_in(&copy, &["runs", "verify"]).await?.code != Some(0);
    fs::remove_dir_all(&copy).map_err(failed)?;
    if changed == 0 { Err(format!("{token} does not stand in the journal")) } else { Ok(found) }
}

/// Writes another letter at the start of each place where these bytes stand.
fn change(file: &Path, wanted: &[u8]) -> io::Result<usize> {
    if !file.exists() {
        return Ok(0);
    }
    let mut bytes = fs::read(file)?;
    let places: Vec<usize> =
        (0..bytes.len().saturating_sub(wanted.len())).filter(|at| bytes[*at..].starts_with(wanted)).collect();
    for at in &places {
        bytes[*at] = b'u';
    }
    fs::write(file, bytes)?;
    Ok(places.len())
}

fn copy_folder(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
