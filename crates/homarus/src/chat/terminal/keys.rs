//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Chat;
use crate::{
    approver::{
        answer::{Answer, Heard, Input},
        decision, input_of,
    },
    chat::{command, editor::DRAFT_BYTES_MAX, keyboard::Typed},
    exit::{self, CliError},
    show::question,
};

impl Chat {
    pub(super) async fn take_typed(&mut self, typed: Typed, at_ms: u64) -> Result<(), CliError> {
        match typed {
            Typed::Idle => {
                if let Some(asked) = self.asked.as_mut().filter(|_| self.pager.is_none()) {
                    asked.answer.idle(at_ms);
                }
            }
            Typed::Resized => {}
            Typed::Gone => self.leave(exit::CANCELLED),
            Typed::Paste(text) => {
                self.turn_away_answer(&Input::Other, at_ms);
                if self.pager.is_none() {
                    self.insert(&text);
                }
            }
            Typed::Key(key) => self.key(key, at_ms).await,
        }
        Ok(())
    }

    async fn key(&mut self, key: KeyEvent, at_ms: u64) {
        self.hint.clear();
        if let Some(pager) = &mut self.pager {
            let again = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('o');
            if !pager.key(key) {
                self.pager = None;
                self.screen.close_page();
                // Keys that were meant for the pager are none for the question.
                if let Some(asked) = &mut self.asked {
                    asked.answer = Answer::new(at_ms);
                } else if again {
                    self.open_call();
                }
            }
            return;
        }
        if !is_command_key(&key) && self.turn_away_answer(&input_of(&key), at_ms) {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.control_key(key, at_ms).await;
        }
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => self.insert("\n"),
            KeyCode::Enter => self.enter().await,
            KeyCode::Esc => self.stop_turn(),
            KeyCode::Char('b') if alt => self.editor.word_left(),
            KeyCode::Char('f') if alt => self.editor.word_right(),
            KeyCode::Char('d') if alt => self.editor.cut_word_after(),
            KeyCode::Backspace if alt => self.editor.cut_word(),
            KeyCode::Left if alt => self.editor.word_left(),
            KeyCode::Right if alt => self.editor.word_right(),
            KeyCode::Char(c) if !alt => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Tab => self.insert("\t"),
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.line_start(),
            KeyCode::End => self.editor.line_end(),
            KeyCode::Up => self.up(),
            KeyCode::Down => self.down(),
            _ => {}
        }
    }

    async fn control_key(&mut self, key: KeyEvent, at_ms: u64) {
        if key.code != KeyCode::Char('c') {
            self.interrupted = false;
        }
        match key.code {
            KeyCode::Char('j') => self.insert("\n"),
            KeyCode::Char('a') => self.editor.line_start(),
            KeyCode::Char('e') => self.editor.line_end(),
            KeyCode::Char('b') => self.editor.left(),
            KeyCode::Char('f') => self.editor.right(),
            KeyCode::Char('h') => self.editor.backspace(),
            KeyCode::Char('w') | KeyCode::Backspace => self.editor.cut_word(),
            KeyCode::Char('u') => self.editor.cut_to_line_start(),
            KeyCode::Char('k') => self.editor.cut_to_line_end(),
            KeyCode::Char('y') => self.editor.put_back(),
            KeyCode::Char('p') => self.up(),
            KeyCode::Char('n') => self.down(),
            KeyCode::Left => self.editor.word_left(),
            KeyCode::Right => self.editor.word_right(),
            KeyCode::Char('d') if self.editor.is_empty() => self.leave(exit::DONE),
            KeyCode::Char('d') => self.editor.delete(),
            KeyCode::Char('l') => self.screen.clear(),
            KeyCode::Char('z') => self.screen.suspend(),
            KeyCode::Char('o') => match &self.asked {
                Some(_) => self.view_question(at_ms),
                None => self.open_call(),
            },
            KeyCode::Char('c') => self.interrupt(),
            _ => {}
        }
    }

    /// Gives a key to the open question, if there is one; whether it was one for it. Text it does not
    /// want goes into the draft.
    fn turn_away_answer(&mut self, input: &Input, at_ms: u64) -> bool {
        let Some(asked) = &mut self.asked else { return false };
        let number = asked.number;
        match asked.answer.input(input, at_ms) {
            Heard::Taken => true,
            Heard::Elsewhere(text) => {
                self.insert(&text);
                false
            }
            Heard::Yes => {
                self.asked = None;
                self.desk.decide(number, decision(true, String::new()));
                true
            }
            Heard::No { why } => {
                self.asked = None;
                self.desk.decide(number, decision(false, why));
                true
            }
            Heard::View => {
                self.view_question(at_ms);
                true
            }
        }
    }

    fn view_question(&mut self, at_ms: u64) {
        let Some(asked) = &mut self.asked else { return };
        asked.answer = Answer::new(at_ms);
        let question = asked.question.clone();
        self.open_pager(question::title(&question), question::all(&question));
    }

    /// Enter: a command is obeyed at once, a message is sent when the agent is not at work. Until then
    /// it stays in the draft: nothing that was typed ahead leaves by itself.
    async fn enter(&mut self) {
        let text = self.editor.text().trim().to_owned();
        if text.is_empty() {
            return;
        }
        if let Some(parsed) = command::parse(&text) {
            self.editor.take();
            self.history.add(&text);
            match parsed {
                Ok(command) => self.obey(command).await,
                Err(message) => self.say_error(&CliError::usage(message)),
            }
            return;
        }
        if self.turn.is_some() {
            if !self.editor.text().ends_with('\n') {
                self.insert("\n");
            }
            self.hint = "the agent works: your draft is kept, Enter sends it afterwards (Esc stops)".to_owned();
            return;
        }
        if self.leaving.is_some() {
            return;
        }
        self.editor.take();
        self.history.add(&text);
        // Two slashes begin a message with one.
        let message = text.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(&text).to_owned();
        self.say(message).await;
    }

    fn interrupt(&mut self) {
        if !self.editor.is_empty() {
            self.history.add(self.editor.cut_all());
        } else if self.turn.is_some() || self.interrupted {
            self.leave(exit::CANCELLED);
        } else {
            self.interrupted = true;
            self.hint = "Ctrl-C again leaves, as do Ctrl-D and /quit".to_owned();
        }
    }

    fn insert(&mut self, text: &str) {
        if !self.editor.insert(text) {
            self.hint = format!("a draft has at most {} KiB: put long text into a file", DRAFT_BYTES_MAX >> 10);
        }
    }

    fn up(&mut self) {
        if !self.editor.up()
            && let Some(text) = self.history.older(self.editor.text())
        {
            self.editor.set(text);
        }
    }

    fn down(&mut self) {
        if !self.editor.down()
            && let Some(text) = self.history.newer()
        {
            self.editor.set(text);
        }
    }
}

/// Keys that mean the same with a question and without: they are never part of an answer.
fn is_command_key(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.code == KeyCode::Esc || (control && matches!(key.code, KeyCode::Char('c' | 'd' | 'l' | 'o' | 'z')))
}
