//! What counts as an answer to a question.
//!
//! Only a line that says exactly `y` or `n` (or `v`, to see more), ended by Enter, and begun after
//! nothing was typed for a while with the question on the screen. All else is text that was meant for
//! something else: pasted text always, and any line that grows into more than an answer.

/// So long nothing may be typed before a key counts.
pub const QUIET_MS: u64 = 400;
const WHY_CHARS_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Char(char),
    Backspace,
    Enter,
    /// Pasted text, arrows, and every other key: never part of an answer.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The key went into the answer.
    Taken,
    /// The key was meant for something else, as was this text before it.
    Elsewhere(String),
    Yes,
    No {
        why: String,
    },
    View,
}

/// Times are milliseconds of one clock that never goes back.
#[derive(Debug)]
pub struct Answer {
    line: String,
    last_key_ms: u64,
    listening: bool,
}

impl Answer {
    /// `now_ms`: when the question stood on the screen and earlier keys were out of the way.
    pub fn new(now_ms: u64) -> Self {
        Self { line: String::new(), last_key_ms: now_ms, listening: false }
    }

    /// Nothing that was typed is unread at this time. Only that can begin the listening: a key that
    /// was read late may have been pressed before the question.
    pub fn idle(&mut self, now_ms: u64) {
        self.listening |= now_ms.saturating_sub(self.last_key_ms) >= QUIET_MS;
    }

    /// Whether a key would count.
    pub fn listens(&self) -> bool {
        self.listening
    }

    /// What stands in the answer so far.
    pub fn line(&self) -> &str {
        &self.line
    }

    pub fn input(&mut self, input: &Input, now_ms: u64) -> Heard {
        self.last_key_ms = now_ms;
        if !self.listening {
            return Heard::Elsewhere(String::new());
        }
        match input {
            Input::Char(c) if may_become_answer(&self.line, *c) => {
                self.line.push(*c);
                Heard::Taken
            }
            Input::Backspace if !self.line.is_empty() => {
                self.line.pop();
                Heard::Taken
            }
            Input::Enter if !self.line.is_empty() => self.decide(),
            _ => self.turn_away(),
        }
    }

    fn decide(&mut self) -> Heard {
        let line = self.line.trim().to_owned();
        let (word, why) = line.split_once(' ').unwrap_or((&line, ""));
        match word.to_lowercase().as_str() {
            "y" | "yes" if why.is_empty() => Heard::Yes,
            "n" | "no" => Heard::No { why: why.trim().to_owned() },
            "v" | "view" if why.is_empty() => {
                self.line.clear();
                self.listening = false;
                Heard::View
            }
            _ => self.turn_away(),
        }
    }

    fn turn_away(&mut self) -> Heard {
        self.listening = false;
        Heard::Elsewhere(std::mem::take(&mut self.line))
    }
}

/// Whether the line and this character begin an answer. Only a no has words after it: its reason.
fn may_become_answer(line: &str, next: char) -> bool {
    let mut line = line.to_lowercase();
    line.extend(next.to_lowercase());
    let refusal = line.starts_with("n ") || line.starts_with("no ");
    if refusal {
        return line.chars().count() <= WHY_CHARS_MAX && !next.is_control();
    }
    ["yes", "no", "view"].iter().any(|word| word.starts_with(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types with this pause before each key; what was heard last, and what went elsewhere.
    fn typed(answer: &mut Answer, now_ms: &mut u64, keys: &str, pause_ms: u64) -> (Heard, String) {
        let mut elsewhere = String::new();
        let mut last = Heard::Taken;
        for key in keys.chars() {
            *now_ms += pause_ms;
            if pause_ms > 0 {
                answer.idle(*now_ms - 1);
            }
            let input = match key {
                '\n' => Input::Enter,
                '\x08' => Input::Backspace,
                '\x1b' => Input::Other,
                c => Input::Char(c),
            };
            last = answer.input(&input, *now_ms);
            if let Heard::Elsewhere(before) = &last {
                elsewhere.push_str(before);
                elsewhere.push(key);
            }
        }
        (last, elsewhere)
    }

    fn after_a_pause(keys: &str) -> (Heard, String) {
        let mut answer = Answer::new(0);
        let mut now_ms = QUIET_MS;
        answer.idle(now_ms - 1);
        assert!(!answer.listens());
        answer.idle(now_ms);
        typed(&mut answer, &mut now_ms, keys, 0)
    }

    #[test]
    fn a_deliberate_line_answers() {
        for yes in ["y\n", "Y\n", "yes\n", "n\x08y\n"] {
            assert_eq!(after_a_pause(yes).0, Heard::Yes, "{yes:?}");
        }
        assert_eq!(after_a_pause("n\n").0, Heard::No { why: String::new() });
        assert_eq!(after_a_pause("no not this file\n").0, Heard::No { why: "not this file".to_owned() });
        assert_eq!(after_a_pause("v\n").0, Heard::View);
    }

    #[test]
    fn what_is_typed_without_a_pause_never_answers_and_is_kept_for_elsewhere() {
        for pause_ms in [0, 1, 50, QUIET_MS] {
            let mut answer = Answer::new(0);
            let keys = "y\n".repeat(50);
            let (heard, elsewhere) = typed(&mut answer, &mut 0, &keys, pause_ms);
            assert_eq!(heard, Heard::Elsewhere(String::new()));
            assert_eq!(elsewhere, keys);
        }
    }

    #[test]
    fn text_that_is_more_than_an_answer_goes_elsewhere_whole() {
        for text in [
            "yesterday\n",
            "y y\n",
            "yes please\n",
            "yy\n",
            "\n",
            "\ny\n",
            "view it\n",
            "maybe\n",
            "\x1by\n",
            "y\x1b\n",
            " y\n",
        ] {
            let (heard, elsewhere) = after_a_pause(text);
            assert_eq!(heard, Heard::Elsewhere(String::new()), "{text:?}");
            assert_eq!(elsewhere, text, "nothing is lost");
        }
    }

    #[test]
    fn after_looking_at_all_of_it_a_pause_is_needed_again() {
        let mut answer = Answer::new(0);
        let mut now_ms = QUIET_MS;
        answer.idle(now_ms);
        assert_eq!(typed(&mut answer, &mut now_ms, "v\n", 0).0, Heard::View);
        assert_eq!(typed(&mut answer, &mut now_ms, "y\n", 0).1, "y\n");
        now_ms += QUIET_MS;
        answer.idle(now_ms);
        assert_eq!(typed(&mut answer, &mut now_ms, "y\n", 0).0, Heard::Yes);
    }

    #[test]
    fn keys_that_are_read_late_do_not_count() {
        let mut answer = Answer::new(0);
        let (_, elsewhere) = typed(&mut answer, &mut (10 * QUIET_MS), "y\n", 0);
        assert_eq!(elsewhere, "y\n", "nobody saw that nothing was unread in between");
    }
}
