//! The commands of a chat: a line that begins with `/`.

use homarus_contract::text::one_line;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Help,
    Model(Option<String>),
    Agent(Option<String>),
    Undo(Option<String>),
    Diff,
    Cost,
    Approve,
    Quit,
}

pub const HELP: &[(&str, &str)] = &[
    ("/model [PROVIDER/MODEL]", "ask another model from here on; without a name, which one is asked"),
    ("/agent [NAME]", "let another agent go on; without a name, which one does"),
    ("/undo [STEP]", "take back what the last turn changed, or all from a step on; you are asked first"),
    ("/diff", "what this conversation has changed in the workspace"),
    ("/cost", "tokens and money so far"),
    ("/approve", "show the open question again; it is answered there with y or n"),
    ("/help", "this"),
    ("/quit", "leave; `homarus chat last` goes on"),
];

pub const KEYS: &[(&str, &str)] = &[
    ("Enter", "send; while the agent works, the draft is kept"),
    ("Alt-Enter, Ctrl-J", "new line"),
    ("Esc", "stop the turn"),
    ("Ctrl-O", "open the last tool call: its arguments, output and diff; again, the one before"),
    ("Up, Down", "what was said before"),
    ("Ctrl-A/E/W/U/K/Y", "begin, end, cut word, cut to begin, cut to end, put back"),
    ("Ctrl-C", "clear the draft; on an empty one, stop and leave"),
    ("Ctrl-D", "leave"),
];

/// `None` if the line is a message and no command; two slashes begin a message with one.
pub fn parse(line: &str) -> Option<Result<Command, String>> {
    let rest = line.trim().strip_prefix('/')?;
    if rest.starts_with('/') || line.contains('\n') {
        return None;
    }
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    // A path is a message.
    if name.contains('/') {
        return None;
    }
    let argument = Some(argument.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
    let command = match name {
        "model" => Command::Model(argument.clone()),
        "agent" => Command::Agent(argument.clone()),
        "undo" => Command::Undo(argument.clone()),
        "diff" => Command::Diff,
        "cost" => Command::Cost,
        "approve" => Command::Approve,
        "help" | "?" => Command::Help,
        "quit" | "exit" | "q" => Command::Quit,
        _ => return Some(Err(unknown(name))),
    };
    let takes = matches!(command, Command::Model(_) | Command::Agent(_) | Command::Undo(_));
    if let Some(argument) = argument.filter(|_| !takes) {
        return Some(Err(format!("/{name} takes nothing after it, but there is {:?}", one_line(&argument, 60))));
    }
    Some(Ok(command))
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = HELP.iter().filter_map(|(usage, _)| usage[1..].split(' ').next()).collect();
    let hint = homarus_policy::suggest::closest(name, &names);
    let meant = hint.map(|name| format!("; did you mean /{name}?")).unwrap_or_default();
    format!("there is no command /{}{meant} (/help lists them; // begins a message with a slash)", one_line(name, 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        assert_eq!(parse("hello /model"), None);
        assert_eq!(parse("//model"), None);
        assert_eq!(parse("/etc/passwd is odd"), None);
        assert_eq!(parse("/model\nx"), None);
        assert_eq!(parse("/model a/b"), Some(Ok(Command::Model(Some("a/b".to_owned())))));
        assert_eq!(parse(" /model "), Some(Ok(Command::Model(None))));
        assert_eq!(parse("/q"), Some(Ok(Command::Quit)));
        let message = |line| parse(line).unwrap().unwrap_err();
        assert!(message("/cots").contains("did you mean /cost?"), "{}", message("/cots"));
        assert!(message("/cost now").contains("takes nothing"));
        assert!(message("/").contains("no command"));
    }

    #[test]
    fn every_command_that_help_names_exists() {
        for (usage, _) in HELP {
            let name = usage.split(' ').next().unwrap();
            assert!(parse(name).unwrap().is_ok(), "{name}");
        }
    }
}
