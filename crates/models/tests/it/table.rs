//! `docs/providers.md` lists every way a provider fails, with its test: the list is the rows, and what is done follows
//! from what a row is taken as.

use std::{collections::BTreeSet, fs, path::Path};

use homarus_contract::model::ModelErrorClass;

use crate::rows::{self, Taken};

/// What a run does about it: see `order.rs` of the agent and `breaker.rs` here.
fn done(taken_as: Taken) -> String {
    let class = match taken_as {
        Taken::Answer => return "nothing: it is a good answer".to_owned(),
        Taken::Refusal => return "the run (or turn) ends as failed; nothing else is asked".to_owned(),
        Taken::Failure(class) => class,
    };
    let next = "then the next model";
    let text = match class {
        ModelErrorClass::RateLimited => {
            format!("asked again after the pause it wants, or a growing one, 4 times at most; {next}")
        }
        _ if class.is_retryable() => format!("asked again after a growing pause, 4 times at most; {next}"),
        _ if class.allows_failover() => "the next model at once; this one is not asked again for a while".to_owned(),
        _ => "the run (or turn) ends with the provider's words: another attempt would end the same".to_owned(),
    };
    // What the words promise is what the machine goes by.
    assert_eq!(text.contains("asked again after"), class.is_retryable(), "{class:?}");
    assert_eq!(text.contains("next model"), class.allows_failover(), "{class:?}");
    text
}

fn class(taken_as: Taken) -> String {
    match taken_as {
        Taken::Answer => "an answer".to_owned(),
        Taken::Refusal => "`refusal`".to_owned(),
        Taken::Failure(class) => format!("`{}`", serde_json::to_value(class).unwrap().as_str().unwrap()),
    }
}

#[test]
fn the_page_lists_every_row_and_every_row_is_a_test() {
    let rows = rows::all();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.test).collect();
    assert_eq!(names.len(), rows.len(), "a name is taken twice");
    let mut table = "| what happens | taken as | what is done | test |\n|---|---|---|---|\n".to_owned();
    for row in &rows {
        let (class, done) = (class(row.taken_as), done(row.taken_as));
        table += &format!("| {} | {class} | {done} | `{}` |\n", row.what.replace('|', "\\|"), row.test);
    }
    check("failures", &table);
}

/// Compares the part of the page between `<!-- NAME -->` and `<!-- /NAME -->`.
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (head, rest) = text.split_once(&begin).unwrap();
    let (found, tail) = rest.split_once(&end).unwrap();
    if found == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{begin}{expected}{end}{tail}")).unwrap();
        return;
    }
    panic!("docs/providers.md is not what the tests say; UPDATE_DOCS=1 writes it anew. It should be:\n{expected}");
}
