//! Long text, a screen at a time: space, b, arrows, g, G, q. It knows no terminal; whoever shows it
//! gives it keys and prints its rows.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::styled::{Line, Look, wrap_all};

pub struct Pager {
    title: Line,
    lines: Vec<Line>,
    /// The lines as rows of `columns`.
    rows: Vec<Line>,
    columns: usize,
    height: usize,
    top: usize,
}

impl Pager {
    pub fn new(title: Line, lines: Vec<Line>) -> Self {
        Self { title, lines, rows: Vec::new(), columns: 0, height: 1, top: 0 }
    }

    /// The whole screen, from its first row to its last.
    pub fn screen(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        if columns != self.columns {
            self.rows = wrap_all(&self.lines, columns, 0);
            self.columns = columns;
        }
        self.height = rows.saturating_sub(2).max(1);
        self.top = self.top.min(self.last_top());
        let end = (self.top + self.height).min(self.rows.len());
        let mut screen = vec![self.title.cut(columns)];
        screen.extend_from_slice(&self.rows[self.top..end]);
        screen.resize(self.height + 1, Line::default());
        let place = if end == self.rows.len() { "end".to_owned() } else { format!("{}%", end * 100 / self.rows.len()) };
        screen.push(Line::new(Look::DIM, &format!("{place} · space on, b back, g top, G end, q close")).cut(columns));
        screen.truncate(rows.max(1));
        screen
    }

    /// Takes a key; `false` when the reader has had enough.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let page = self.height.saturating_sub(1).max(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.top = match key.code {
            KeyCode::Esc => return false,
            KeyCode::Char('c' | 'o') if control => return false,
            KeyCode::Char('q' | 'Q') => return false,
            KeyCode::Char(' ' | 'f') | KeyCode::PageDown => self.top + page,
            KeyCode::Char('b') | KeyCode::PageUp => self.top.saturating_sub(page),
            KeyCode::Char('j') | KeyCode::Down | KeyCode::Enter => self.top + 1,
            KeyCode::Char('k') | KeyCode::Up => self.top.saturating_sub(1),
            KeyCode::Char('g') | KeyCode::Home => 0,
            KeyCode::Char('G') | KeyCode::End => usize::MAX,
            _ => self.top,
        }
        .min(self.last_top());
        true
    }

    fn last_top(&self) -> usize {
        self.rows.len().saturating_sub(self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pager: &mut Pager, columns: usize, rows: usize) -> Vec<String> {
        pager.screen(columns, rows).iter().map(Line::text).collect()
    }

    #[test]
    fn pages_go_on_and_back_and_stop_at_the_ends() {
        let lines = (1..=10).map(|n| Line::plain(&format!("line {n}"))).collect();
        let mut pager = Pager::new(Line::plain("title"), lines);
        let press = |pager: &mut Pager, c: char| pager.key(KeyEvent::from(KeyCode::Char(c)));
        assert_eq!(shown(&mut pager, 40, 6)[..2], ["title", "line 1"]);
        assert!(press(&mut pager, ' '));
        assert_eq!(shown(&mut pager, 40, 6)[1], "line 4");
        press(&mut pager, 'G');
        assert_eq!(shown(&mut pager, 40, 6)[1..5], ["line 7", "line 8", "line 9", "line 10"]);
        press(&mut pager, ' ');
        assert_eq!(shown(&mut pager, 40, 6)[1], "line 7");
        press(&mut pager, 'b');
        assert_eq!(shown(&mut pager, 40, 6)[1], "line 4");
        press(&mut pager, 'y');
        assert_eq!(shown(&mut pager, 40, 6)[1], "line 4", "other keys do nothing");
        assert_eq!(shown(&mut pager, 3, 4).len(), 4, "narrow and low still fits");
        assert!(!press(&mut pager, 'q'));
    }
}
