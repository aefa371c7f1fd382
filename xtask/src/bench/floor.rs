//! What a call costs at the least on the machine: clients that ask, run what they are told and ask again, and do nothing
//! else. The first has no sandbox and forgets everything; the second is made of what is there for the taking: bubblewrap,
//! and a file that is synced before and after each call.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    engines,
    server::{ModelServer, Seen, Task},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    Nothing,
    BubblewrapAndSync,
}

pub const ALL: [(&str, Parts); 2] =
    [("floor: `bash -c`", Parts::Nothing), ("floor: `bwrap bash -c`, two fdatasync", Parts::BubblewrapAndSync)];

/// The task as such a client does it, as the server saw it.
pub fn run(server: &ModelServer, task: &Task, parts: Parts, folder: &Path) -> Result<Seen, String> {
    let told = |error: io::Error| error.to_string();
    fs::create_dir_all(folder).map_err(told)?;
    let seat = server.seat(task.clone());
    seat.belongs_to(std::process::id());
    let mut journal = File::create(folder.join("journal")).map_err(told)?;
    let mut model = Model::connect(&seat.base_url)?;
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    while let Some(message) = model.ask(&messages)? {
        let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default();
        let arguments: Value = serde_json::from_str(arguments).map_err(|error| error.to_string())?;
        let command = arguments["command"].as_str().ok_or("a call without a command")?;
        let output = call(command, parts, folder, &mut journal, &message)?;
        let id = message["tool_calls"][0]["id"].clone();
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": String::from_utf8_lossy(&output.stdout)}));
    }
    let seen = seat.seen();
    seen.trouble.clone().map_or(Ok(seen), Err)
}

fn call(command: &str, parts: Parts, folder: &Path, journal: &mut File, message: &Value) -> Result<Output, String> {
    let mut shell = match parts {
        Parts::Nothing => Command::new("bash"),
        Parts::BubblewrapAndSync => {
            let mut shell = engines::bubblewrap(folder)?;
            shell.arg("bash");
            shell
        }
    };
    shell.args(["-c", command]).stdin(Stdio::null()).current_dir(folder);
    let keep = |journal: &mut File, text: &str| match parts {
        Parts::Nothing => Ok(()),
        Parts::BubblewrapAndSync => {
            journal.write_all(text.as_bytes()).and_then(|()| journal.sync_data()).map_err(|error| error.to_string())
        }
    };
    keep(journal, &message.to_string())?;
    let output = shell.output().map_err(|error| format!("{:?}: {error}", shell.get_program()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    keep(journal, &String::from_utf8_lossy(&output.stdout))?;
    Ok(output)
}

/// A connection to the scripted server.
struct Model {
    connection: BufReader<TcpStream>,
    path: String,
}

impl Model {
    fn connect(base_url: &str) -> Result<Self, String> {
        let rest = base_url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let (address, path) = rest.ok_or_else(|| format!("no address: {base_url}"))?;
        let connection = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        connection.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { connection: BufReader::new(connection), path: format!("/{path}/v1/chat/completions") })
    }

    /// The message with its call; `None`: it has said its last word.
    fn ask(&mut self, messages: &[Value]) -> Result<Option<Value>, String> {
        let parameters =
            json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]});
        let tool = json!({"type": "function", "function": {"name": "bash", "parameters": parameters}});
        let body = json!({"model": "scripted", "stream": false, "tools": [tool], "messages": messages}).to_string();
        let path = &self.path;
        let request = format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = self.exchange(request.as_bytes()).map_err(|error| format!("the model server: {error}"))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let message = answer["choices"][0]["message"].clone();
        Ok(message["tool_calls"].is_array().then_some(message))
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.connection.get_mut().write_all(request)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body)?;
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_least_client_does_the_task() {
        let folder = std::env::temp_dir().join(format!("xtask-floor-{}", std::process::id()));
        let server = ModelServer::start().unwrap();
        let task = Task { calls: 2, command: "echo {} >> done.txt".into(), think: Duration::ZERO };
        let seen = run(&server, &task, Parts::Nothing, &folder).unwrap();
        assert_eq!(seen.gaps().len(), 2);
        assert_eq!(fs::read_to_string(folder.join("done.txt")).unwrap(), "1\n2\n");
        let failing = Task { command: "exit 3".into(), ..task };
        assert!(run(&server, &failing, Parts::Nothing, &folder).unwrap_err().contains("3"));
        fs::remove_dir_all(folder).unwrap();
    }
}
