//! Pages in `docs/` that list what the code declares: each list is compared with the code, and written anew by
//! `UPDATE_DOCS=1 cargo test -p homarus docs`.

use std::{fs, path::Path, sync::Arc};

use homarus_api::tools::Tool;
use homarus_vault::Vault;

use crate::{
    browser,
    commands::tools_list::{rows, word},
    config::{Config, keys::Keys},
    dirs::Dirs,
    doctor, env, exit, wiring,
};

/// Compares the part of a page between `<!-- NAME -->` and `<!-- /NAME -->`.
fn check(page: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} lacks {begin}"));
    let (found, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} lacks {end}"));
    if found == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{begin}{expected}{end}{tail}")).unwrap();
        return;
    }
    panic!("docs/{page} is not what the code says; UPDATE_DOCS=1 writes it anew. It should be:\n{expected}");
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn configuration() {
    let mut table = "| key | value | default | what it is |\n|---|---|---|---|\n".to_owned();
    for key in Keys::all().unwrap().iter() {
        let row = [format!("`{}`", key.path), key.kind.to_string(), format!("`{}`", key.default), key.about.clone()];
        table += &format!("| {} |\n", row.map(|text| cell(&text)).join(" | "));
    }
    check("configuration.md", "keys", &table);
}

#[test]
fn environment() {
    let mut table = "| variable | what it is |\n|---|---|\n".to_owned();
    for variable in env::ALL {
        table += &format!("| `{}` | {} |\n", variable.name, cell(variable.help));
    }
    check("configuration.md", "environment", &table);
}

#[test]
fn doctor_ids() {
    let mut table = "| id | what is looked at |\n|---|---|\n".to_owned();
    for (id, what) in doctor::CHECKS {
        table += &format!("| `{id}` | {} |\n", cell(what));
    }
    check("doctor.md", "checks", &table);
}

#[test]
fn exit_codes() {
    let mut table = "| code | name | when |\n|---|---|---|\n".to_owned();
    for code in exit::CODES {
        table += &format!("| {} | {} | {} |\n", code.code, code.name, cell(code.when));
    }
    check("exit-codes.md", "codes", &table);
}

/// As `homarus tools list` lists them.
fn listed() -> Vec<Tool> {
    let config = Config::parse("", Path::new("homarus.toml")).unwrap();
    let vault = Vault::from_lookup(Vec::new(), |_| None).unwrap();
    let dirs = Dirs::in_folder(Path::new("/nowhere"));
    let vault = Arc::new(vault);
    let browsers = browser::browsers(&dirs, &config, vault.clone(), Arc::new(browser::NotHere)).unwrap();
    let shelf = Arc::new(homarus_agent::skill::Shelf::default());
    rows(&wiring::tools(&config, vault, shelf, browsers).unwrap(), None).unwrap()
}

#[test]
fn tools() {
    let mut table = "| tool | what it does | class | reaches | its bounds |\n|---|---|---|---|---|\n".to_owned();
    for tool in listed() {
        let row = [format!("`{}`", tool.name), tool.description, word(&tool.class), word(&tool.scope), tool.limits];
        table += &format!("| {} |\n", row.map(|text| cell(&text)).join(" | "));
    }
    check("tools.md", "tools", &table);
}

#[test]
fn every_tool_is_limited_or_has_nothing_to_limit() {
    let mut names: Vec<String> = listed().into_iter().map(|tool| tool.name).collect();
    for (tool, _) in homarus_tools::LIMITED {
        let at = names.iter().position(|name| name == tool);
        names.remove(at.unwrap_or_else(|| panic!("there is no tool {tool}")));
    }
    assert_eq!(names, ["memory.note", "skill.read"]);
}

#[test]
fn tool_arguments() {
    let mut text = String::new();
    for tool in listed() {
        text += &format!("### {}\n\n```json\n{:#}\n```\n\n", tool.name, tool.schema);
    }
    check("tools.md", "arguments", &text);
}
