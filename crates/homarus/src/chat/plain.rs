//! The chat without a terminal, or for those who want nothing redrawn: a line is a message, the answer
//! is printed as it comes, and `--json` prints events.

use std::io::{IsTerminal, Write};

use homarus_contract::event::WaitingOn;
use homarus_driver::Ended;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    signal::unix::{Signal, SignalKind},
};

use super::{
    command::{self, Command},
    conversation::{Conversation, Found, Turn},
    past,
    transcript::Transcript,
};
use crate::{
    exit::{self, CliError},
    put,
    show::style::Style,
    signals::{HangUp, HangUps, listen},
};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The past is laid out for a page of this width.
const COLUMNS: usize = 100;

struct Plain {
    conversation: Conversation,
    json: bool,
    prompts: bool,
    interrupt: Signal,
    terminate: Signal,
    hang_ups: HangUps,
}

/// Until standard input ends; the exit code.
pub async fn run(conversation: Conversation, found: Option<Found>, json: bool) -> Result<u8, CliError> {
    let mut plain = Plain {
        conversation,
        json,
        prompts: !json && std::io::stdin().is_terminal(),
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
        hang_ups: HangUps::listen()?,
    };
    plain.tell(&plain.conversation.about().await?.long());
    if let Some(code) = plain.begin(found).await? {
        return Ok(code);
    }
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let Some(line) = plain.read(&mut input).await? else { break };
        match command::parse(&line) {
            None if line.trim().is_empty() => {}
            None => {
                let message = line.trim().strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(line.trim());
                let fence = plain.conversation.say(message.to_owned()).await?;
                std::mem::take(&mut plain.conversation.notes).iter().for_each(|note| plain.tell(note));
                let turn = plain.conversation.drive(fence);
                if let Some(code) = plain.turn(turn).await? {
                    return Ok(code);
                }
            }
            Some(Ok(Command::Quit)) => break,
            Some(Ok(Command::Undo(step))) => match plain.conversation.undo(step).await {
                Ok((about, turn)) => {
                    plain.tell(&about);
                    if let Some(code) = plain.turn(turn).await? {
                        return Ok(code);
                    }
                }
                Err(error) => plain.tell(&error.brief()),
            },
            Some(Ok(command)) => {
                let told = plain.obey(command).await.unwrap_or_else(|error| error.brief());
                plain.tell(&told);
            }
            Some(Err(message)) => plain.tell(&message),
        }
    }
    if let Some(run) = plain.conversation.run() {
        plain.tell(&format!("go on with: homarus chat {run}"));
    }
    Ok(exit::DONE)
}

impl Plain {
    async fn begin(&mut self, found: Option<Found>) -> Result<Option<u8>, CliError> {
        if let Some(run) = self.conversation.run().filter(|_| !self.json) {
            let store = self.conversation.runtime.store.as_ref();
            let goes_on = matches!(found, Some(Found::Asking(_)));
            let past = past::replay(store, run, &mut Transcript::default(), goes_on)?;
            let style = Style::for_stdout();
            for row in past.iter().flat_map(|line| line.rows(COLUMNS)) {
                put::line(&row.paint(style))?;
            }
        }
        match found {
            None | Some(Found::Resting) => Ok(None),
            Some(Found::CutOff) => {
                self.tell("the last turn was cut off: what was agreed to is applied, the rest was let go");
                Ok(None)
            }
            Some(Found::Asking(fence)) => {
                let turn = self.conversation.drive(fence);
                self.turn(turn).await
            }
            Some(Found::Unknown(run)) => {
                self.tell(&format!(
                    "nobody knows whether the last call happened: homarus runs resolve {run} done|failed|repeat"
                ));
                Ok(Some(exit::WAITING))
            }
        }
    }

    /// The next line; `None` at the end. Lines of a terminal that were typed while the agent worked
    /// are read only now, so they are messages and no answers.
    async fn read(&mut self, input: &mut Lines<BufReader<Stdin>>) -> Result<Option<String>, CliError> {
        if self.prompts {
            let mut out = std::io::stdout();
            let _ = write!(out, "you: ").and_then(|()| out.flush());
        }
        loop {
            tokio::select! {
                line = input.next_line() => return match line {
                    Ok(Some(line)) if line.len() > MESSAGE_BYTES_MAX => Err(CliError::usage("a message is longer than 1 MiB")),
                    Ok(line) => Ok(line),
                    Err(error) => Err(CliError::usage(format!("standard input cannot be read: {error}"))),
                },
                _ = self.interrupt.recv() => return Ok(None),
                _ = self.terminate.recv() => return Ok(None),
                hang_up = self.hang_ups.next() => match hang_up {
                    HangUp::TerminalGone => return Ok(None),
                    HangUp::Reload => self.reload(None).await,
                },
            }
        }
    }

    /// Drives a turn to its end; the exit code if it was the last one.
    async fn turn(&mut self, mut turn: Turn) -> Result<Option<u8>, CliError> {
        let ended = loop {
            tokio::select! {
                ended = &mut turn.done => break ended,
                // The first one stops the turn, as Esc does at a terminal.
                _ = self.interrupt.recv() => turn.stop(),
                _ = self.terminate.recv() => turn.pause(),
                hang_up = self.hang_ups.next() => match hang_up {
                    HangUp::TerminalGone => turn.pause(),
                    HangUp::Reload => self.reload(Some(&turn)).await,
                },
            }
        };
        let ended = ended.map_err(|error| CliError::failed(format!("the turn broke off: {error}")))??;
        self.conversation.after(&turn).await?;
        match ended {
            Ended::Waiting(WaitingOn::Message) => Ok(None),
            Ended::Finished { summary, .. } if turn.is_undo => {
                self.tell(&summary);
                Ok(None)
            }
            Ended::Finished { status, summary } => {
                self.tell(&summary);
                Ok(Some(exit::code_of(exit::status_of(status))))
            }
            Ended::Paused(pause) if pause.is_interruption() => Ok(Some(exit::CANCELLED)),
            Ended::Paused(pause) => {
                self.tell(&pause.to_string());
                Ok(Some(exit::PAUSED))
            }
            Ended::Waiting(_) | Ended::HandedBack { .. } => {
                if let Some(run) = self.conversation.run() {
                    self.tell(&format!("the turn rests until a person answers: homarus runs show {run}"));
                }
                Ok(Some(exit::WAITING))
            }
        }
    }

    async fn reload(&mut self, turn: Option<&Turn>) {
        let told = self.conversation.reload(turn).await;
        // Also beside JSON: it is no answer to anything that was read.
        put::say!("{}", told.unwrap_or_else(|error| format!("the configuration stays as it was: {}", error.brief())));
    }

    async fn obey(&mut self, command: Command) -> Result<String, CliError> {
        let store = self.conversation.runtime.store.clone();
        match command {
            Command::Model(model) => self.conversation.change_model(model).await,
            Command::Agent(agent) => self.conversation.change_agent(agent).await,
            Command::Cost => match self.conversation.run() {
                Some(run) => Ok(past::cost(store.as_ref(), run)?),
                None => Ok("nothing was asked yet".to_owned()),
            },
            Command::Diff => match self.conversation.run() {
                Some(run) => Ok(Style::for_stderr().diff(&past::changes(store.clone(), run)?)),
                None => Ok("nothing was changed yet".to_owned()),
            },
            Command::Approve => {
                Ok("there is no open question: one is asked, and answered, when it comes up".to_owned())
            }
            Command::Help => {
                let lines: Vec<String> =
                    command::HELP.iter().map(|(usage, does)| format!("{usage:<26} {does}")).collect();
                Ok(lines.join("\n"))
            }
            Command::Quit | Command::Undo(_) => Ok(String::new()),
        }
    }

    /// What is not the model's goes to standard error.
    fn tell(&self, text: &str) {
        if !self.json {
            crate::put::say!("{text}");
        }
    }
}
