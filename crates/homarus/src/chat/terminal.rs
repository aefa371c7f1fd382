//! The chat at a terminal: one loop that takes keys, draws what is new, and asks the core.

mod keys;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use homarus_contract::{event::WaitingOn, ids::RunId, journal::Fence, text::one_line};
use homarus_driver::{Ended, ports::Question};
use tokio::signal::unix::SignalKind;

use super::{
    command::{self, Command},
    conversation::{About, Conversation, Found, Turn},
    desk::Desk,
    editor::Editor,
    history::History,
    keyboard::Keyboard,
    past,
    print::Printed,
    screen::{Area, Screen},
};
use crate::{
    approver::answer::{Answer, QUIET_MS},
    exit::{self, CliError},
    show::{
        diff,
        pager::Pager,
        question::{self, Shown},
        styled::{Colour, Line, Look},
    },
    signals::{Ends, HangUp, HangUps, listen},
};

/// Redrawn at most so often, however fast an answer streams.
const FRAME: Duration = Duration::from_millis(16);
/// While the agent works the clock on the screen goes on.
const SECOND: Duration = Duration::from_millis(1_000);

pub struct Chat {
    conversation: Conversation,
    desk: Arc<Desk>,
    screen: Screen,
    keyboard: Keyboard,
    editor: Editor,
    history: History,
    turn: Option<Turn>,
    turn_began: Instant,
    stopping: bool,
    asked: Option<Asked>,
    pager: Option<Pager>,
    /// Which call Ctrl-O opens next, counted from the last.
    open_next: usize,
    /// Said below the scrollback until the next key.
    hint: String,
    status: String,
    leaving: Option<u8>,
    interrupted: bool,
}

/// The question on the screen.
struct Asked {
    question: Arc<Question>,
    number: u64,
    answer: Answer,
}

impl Chat {
    pub fn new(conversation: Conversation, desk: Arc<Desk>) -> Result<Self, CliError> {
        let screen = Screen::take().map_err(|error| {
            CliError::failed(format!("the terminal cannot be used: {error}")).help("ACCESSIBLE=1 works with any")
        })?;
        Ok(Self {
            history: History::load(&conversation.dirs.state),
            conversation,
            desk,
            screen,
            keyboard: Keyboard::start()?,
            editor: Editor::default(),
            turn: None,
            turn_began: Instant::now(),
            stopping: false,
            asked: None,
            pager: None,
            open_next: 0,
            hint: String::new(),
            status: String::new(),
            leaving: None,
            interrupted: false,
        })
    }

    /// Until the person leaves; the exit code.
    pub async fn run(mut self, found: Option<Found>, about: About) -> Result<u8, CliError> {
        let done = self.until_left(found, &about).await;
        let kept_draft = self.keep_draft();
        let mut last = self.desk.papers().transcript.take();
        if kept_draft {
            last.push(Printed::dim("· what you had typed is kept: Up brings it back in the next chat"));
        }
        if let Some(run) = self.conversation.run() {
            last.push(Printed::dim(&format!("go on with: homarus chat {run}")));
        }
        // An error is reported below a screen that is as it was.
        self.screen.leave(last);
        done
    }

    /// What was typed and not sent outlives the chat, whatever ended it; whether there was anything.
    fn keep_draft(&mut self) -> bool {
        let answer = self.asked.take().map(|asked| asked.answer.line().to_owned()).unwrap_or_default();
        let texts = [answer, self.editor.take()];
        texts.iter().for_each(|text| self.history.add(text));
        texts.iter().any(|text| !text.trim().is_empty())
    }

    async fn until_left(&mut self, found: Option<Found>, about: &About) -> Result<u8, CliError> {
        let mut signals = Ends::listen()?;
        let mut hang_ups = HangUps::listen()?;
        // Heard here too: the keyboard's reader can miss one that comes together with a key.
        let mut resized = listen(SignalKind::window_change())?;
        self.begin(found, about)?;
        let mut drawn = Instant::now();
        let mut stale = true;
        while self.leaving.is_none() || self.turn.is_some() {
            if stale && drawn.elapsed() >= FRAME {
                self.draw();
                (drawn, stale) = (Instant::now(), false);
            }
            let pause = if stale { FRAME.saturating_sub(drawn.elapsed()) } else { SECOND };
            tokio::select! {
                biased;
                () = signals.any() => self.leave(exit::CANCELLED),
                hang_up = hang_ups.next() => match hang_up {
                    HangUp::TerminalGone => self.leave(exit::CANCELLED),
                    HangUp::Reload => self.reload().await,
                },
                ended = ended(&mut self.turn) => self.turn_ended(ended).await?,
                (typed, at_ms) = self.keyboard.next() => self.take_typed(typed, at_ms).await?,
                () = self.desk.news.notified() => {}
                _ = resized.recv() => {}
                () = tokio::time::sleep(pause), if stale || self.turn.is_some() => {}
            }
            while let Some((typed, at_ms)) = self.keyboard.pending() {
                self.take_typed(typed, at_ms).await?;
            }
            stale = true;
        }
        Ok(self.leaving.unwrap_or(exit::DONE))
    }

    fn begin(&mut self, found: Option<Found>, about: &About) -> Result<(), CliError> {
        if let Some(run) = self.conversation.run().cloned() {
            let store = self.conversation.runtime.store.clone();
            let mut papers = self.desk.papers();
            let goes_on = matches!(found, Some(Found::Asking(_)));
            let past = past::replay(store.as_ref(), &run, &mut papers.transcript, goes_on)?;
            past.into_iter().for_each(|line| papers.transcript.note(line));
        }
        self.status = about.short();
        let about = format!(" · {}", about.long());
        if self.conversation.run().is_some() {
            self.note(Printed::blank());
        }
        self.note(Printed::hanging(Line::new(Look::BOLD, "homarus chat").and(Look::DIM, &about), 2));
        match found {
            None | Some(Found::Resting) => {}
            Some(Found::CutOff) => {
                self.say_yellow(
                    "the last turn was cut off: what was agreed to is applied, the rest was let go; say what to do now",
                );
            }
            Some(Found::Asking(fence)) => self.drive(fence),
            Some(Found::Unknown(run)) => self.unknown_outcome(&run),
        }
        Ok(())
    }

    fn drive(&mut self, fence: Fence) {
        self.follow(self.conversation.drive(fence));
    }

    async fn undo(&mut self, step: Option<String>) -> Result<(), CliError> {
        let (about, turn) = self.conversation.undo(step).await?;
        self.say_dim(&about);
        self.follow(turn);
        Ok(())
    }

    fn follow(&mut self, turn: Turn) {
        self.turn = Some(turn);
        self.turn_began = Instant::now();
        self.stopping = false;
        self.open_next = 0;
    }

    async fn say(&mut self, text: String) {
        match self.conversation.say(text.clone()).await {
            Ok(fence) => {
                self.desk.papers().transcript.said(&text);
                std::mem::take(&mut self.conversation.notes).iter().for_each(|note| self.say_dim(note));
                self.drive(fence);
            }
            Err(error) => {
                self.say_error(&error);
                self.editor.set(&text);
            }
        }
    }

    async fn turn_ended(&mut self, ended: Ending) -> Result<(), CliError> {
        let turn = self.turn.take();
        let is_undo = turn.as_ref().is_some_and(|turn| turn.is_undo);
        if let Some(turn) = &turn {
            self.conversation.after(turn).await?;
        }
        self.desk.papers().transcript.settle();
        match ended {
            Ok(Ok(Ended::Finished { summary, .. })) if is_undo => self.say_dim(&summary),
            Ok(Ok(_)) if is_undo => self.say_yellow("the undo rests; `homarus runs list` shows it"),
            Ok(Ok(Ended::Waiting(WaitingOn::Message))) => {}
            Ok(Ok(Ended::Paused(pause))) if pause.is_interruption() => {
                self.leaving.get_or_insert(exit::CANCELLED);
            }
            Ok(Ok(Ended::Paused(pause))) => {
                self.say_yellow(&pause.to_string());
                self.leaving.get_or_insert(exit::PAUSED);
            }
            Ok(Ok(Ended::Finished { status, summary })) => {
                self.say_yellow(&format!("the conversation has ended: {summary}"));
                self.leaving = Some(exit::code_of(exit::status_of(status)));
            }
            Ok(Ok(Ended::Waiting(WaitingOn::Resolution { .. }))) => {
                if let Some(run) = self.conversation.run().cloned() {
                    self.unknown_outcome(&run);
                }
            }
            Ok(Ok(Ended::Waiting(_) | Ended::HandedBack { .. })) => {
                self.say_yellow("the turn rests until a question is answered: /approve shows it")
            }
            Ok(Err(error)) => return Err(error),
            Err(error) => return Err(CliError::failed(format!("the turn broke off: {error}"))),
        }
        self.refresh_status().await
    }

    fn unknown_outcome(&mut self, run: &RunId) {
        self.say_yellow(&format!(
            "nobody knows whether the last call happened; say so with `homarus runs resolve {run} done|failed|repeat`, then `homarus chat {run}`"
        ));
        self.leaving = Some(exit::WAITING);
    }

    /// Leaves when the turn, if there is one, has been brought to rest.
    fn leave(&mut self, code: u8) {
        if let Some(turn) = &self.turn {
            turn.pause();
            self.stopping = true;
        }
        self.leaving.get_or_insert(code);
    }

    fn stop_turn(&mut self) {
        if let Some(turn) = &self.turn {
            turn.stop();
            self.stopping = true;
        }
    }

    async fn obey(&mut self, command: Command) {
        let between_turns = matches!(command, Command::Model(Some(_)) | Command::Agent(Some(_)) | Command::Undo(_));
        if between_turns && self.turn.is_some() {
            self.say_yellow("not while the agent works: Esc stops it");
            return;
        }
        let done = match command {
            Command::Help => {
                self.help();
                Ok(())
            }
            Command::Model(model) => self.conversation.change_model(model).await.map(|now| self.say_dim(&now)),
            Command::Agent(agent) => self.conversation.change_agent(agent).await.map(|now| self.say_dim(&now)),
            Command::Undo(step) => self.undo(step).await,
            Command::Diff => self.diff(),
            Command::Cost => self.cost(),
            Command::Approve => {
                self.ask_again();
                Ok(())
            }
            Command::Quit => {
                self.leave(exit::DONE);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.say_error(&error);
        }
        if let Err(error) = self.refresh_status().await {
            self.say_error(&error);
        }
    }

    fn help(&mut self) {
        let entry = |what: &str, does: &str| {
            Printed::hanging(
                Line::new(Look::of(Colour::Cyan), &format!("  {what:<26}")).and(Look::PLAIN, &format!(" {does}")),
                4,
            )
        };
        for (usage, does) in command::HELP {
            self.note(entry(usage, does));
        }
        self.note(Printed::blank());
        for (key, does) in command::KEYS {
            self.note(entry(key, does));
        }
    }

    fn cost(&mut self) -> Result<(), CliError> {
        let Some(run) = self.conversation.run() else {
            self.say_dim("nothing was asked yet");
            return Ok(());
        };
        let text = past::cost(self.conversation.runtime.store.as_ref(), run)?;
        self.say_dim(&text);
        Ok(())
    }

    fn ask_again(&mut self) {
        match self.asked.take() {
            None => self.say_dim("there is no open question"),
            // It is drawn anew, and only keys after that answer it.
            Some(asked) => drop(asked),
        }
    }

    async fn reload(&mut self) {
        match self.conversation.reload(self.turn.as_ref()).await {
            Ok(told) => self.say_dim(&told),
            Err(error) => self.say_error(&error),
        }
        if let Err(error) = self.refresh_status().await {
            self.say_error(&error);
        }
    }

    async fn refresh_status(&mut self) -> Result<(), CliError> {
        self.status = self.conversation.about().await?.short();
        Ok(())
    }

    fn note(&self, line: Printed) {
        self.desk.papers().transcript.note(line);
    }

    fn say_dim(&self, text: &str) {
        self.note(Printed::dim(&format!("· {}", one_line(text, 600))));
    }

    fn say_yellow(&self, text: &str) {
        self.note(Printed::hanging(Line::new(Look::of(Colour::Yellow), &format!("! {}", one_line(text, 600))), 2));
    }

    fn say_error(&self, error: &CliError) {
        self.note(Printed::hanging(
            Line::new(Look::of(Colour::Red), &format!("✗ {}", one_line(&error.brief(), 600))),
            2,
        ));
    }

    fn open_pager(&mut self, title: Line, lines: Vec<Line>) {
        self.pager = Some(Pager::new(title, lines));
    }

    /// The call before the one that was opened last, from the newest on.
    fn open_call(&mut self) {
        let papers = self.desk.papers();
        let calls = papers.transcript.calls();
        let Some(call) = calls.iter().rev().nth(self.open_next % calls.len().max(1)) else {
            drop(papers);
            self.hint = "no tool was called yet".to_owned();
            return;
        };
        let title = call.title().and(Look::DIM, " · Ctrl-O again: the call before");
        let lines = past::opened(self.conversation.runtime.store.as_ref(), call);
        drop(papers);
        self.open_next += 1;
        self.open_pager(title, lines);
    }

    fn draw(&mut self) {
        let (columns, rows) = self.screen.size();
        self.meet_question(rows);
        if let Some(pager) = &mut self.pager {
            let screen = pager.screen(columns, rows);
            self.screen.page(&screen);
        }
        let mut papers = self.desk.papers();
        let lines = papers.transcript.take();
        let editor_rows = (rows / 2).clamp(1, 12);
        let view = self.editor.view(columns, editor_rows);
        let fixed = view.rows.len() + 3;
        let mut area_rows = papers.transcript.under_way(columns, rows.saturating_sub(fixed).clamp(1, 12));
        drop(papers);
        area_rows.push(Line::default());
        area_rows.push(self.status_line(columns).cut(columns.saturating_sub(1)));
        let cursor_row = area_rows.len() + view.cursor_row;
        area_rows.extend(view.rows);
        let mut area = Area { rows: area_rows, cursor_row, cursor_column: view.cursor_column };
        // A terminal of a few rows shows what stands at the bottom.
        let over = area.rows.len().saturating_sub(rows.max(1));
        area.rows.drain(..over);
        area.cursor_row = area.cursor_row.saturating_sub(over);
        self.screen.show(lines, &area);
    }

    /// Puts a new question on the screen, and takes one away that is answered or not asked any more.
    fn meet_question(&mut self, rows: usize) {
        let mut papers = self.desk.papers();
        let open = papers.asked.as_ref().map(|asked| (asked.number, asked.question.clone()));
        let shown = self.asked.as_ref().map(|asked| asked.number);
        if shown == open.as_ref().map(|(number, _)| *number) {
            return;
        }
        let before = self.asked.take();
        if let Some((number, question)) = open {
            let shown = Shown::in_short(&question, rows.saturating_sub(8), "v or Ctrl-O");
            papers.transcript.note(Printed::blank());
            shown.head.into_iter().for_each(|line| papers.transcript.note(Printed::hanging(line, 4)));
            shown.diff.into_iter().for_each(|line| papers.transcript.note(Printed::code(line)));
            drop(papers);
            self.asked = Some(Asked { question, number, answer: Answer::new(self.keyboard.now_ms()) });
        } else {
            drop(papers);
        }
        // What stood in an answer that is not wanted any more is the person's text all the same.
        if let Some(before) = before {
            self.editor.insert(before.answer.line());
        }
        self.keyboard.tell_idle(self.asked.is_some());
    }

    fn status_line(&self, columns: usize) -> Line {
        if let Some(asked) = &self.asked {
            return match asked.answer.listens() {
                true => question::prompt(columns, &format!("{}▏", asked.answer.line())),
                false => Line::new(Look::DIM, &format!("? keys count {QUIET_MS} ms after the last one")),
            };
        }
        let seconds = self.turn_began.elapsed().as_secs();
        match (&self.turn, self.stopping) {
            _ if !self.hint.is_empty() => Line::new(Look::of(Colour::Yellow), &self.hint),
            (Some(_), true) => Line::new(Look::of(Colour::Yellow), "stopping …"),
            (Some(_), false) => {
                Line::new(Look::of(Colour::Green), &format!("● works · {seconds} s")).and(Look::DIM, " · Esc stops")
            }
            (None, _) => Line::new(Look::DIM, &format!("/help · {}", self.status)),
        }
    }

    fn diff(&mut self) -> Result<(), CliError> {
        let Some(run) = self.conversation.run().cloned() else {
            self.say_dim("nothing was changed yet");
            return Ok(());
        };
        let text = past::changes(self.conversation.runtime.store.clone(), &run)?;
        if text.is_empty() {
            self.say_dim("nothing was changed");
            return Ok(());
        }
        let lines = diff::lines(&text);
        let (added, removed) = diff::counts(&text);
        let (_, rows) = self.screen.size();
        let head =
            Line::new(Look::BOLD, "changed by this conversation").and(Look::DIM, &format!(" +{added} -{removed}"));
        if lines.len() + 4 > rows {
            self.open_pager(head, lines);
        } else {
            self.note(Printed::prose(head));
            lines.into_iter().for_each(|line| self.note(Printed::code(line)));
        }
        Ok(())
    }
}

type Ending = Result<Result<Ended, CliError>, tokio::task::JoinError>;

/// Resolves when the turn ends; never without one.
async fn ended(turn: &mut Option<Turn>) -> Ending {
    match turn {
        Some(turn) => (&mut turn.done).await,
        None => std::future::pending().await,
    }
}
