//! The draft: multi-line text with a cursor that moves by what people see as characters.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::show::styled::{Line, Look};

/// Longer text belongs into a file of the workspace.
pub const DRAFT_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Editor {
    text: String,
    /// A byte offset, always on the border of a grapheme cluster.
    cursor: usize,
    /// What Ctrl-W, Ctrl-U, Ctrl-K or Ctrl-C removed last.
    cut: String,
}

/// What the draft looks like.
pub struct View {
    pub rows: Vec<Line>,
    pub cursor_row: usize,
    pub cursor_column: usize,
}

impl Editor {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn set(&mut self, text: &str) {
        self.text.clear();
        self.cursor = 0;
        self.insert(text);
    }

    /// Gives the draft away and begins a new one.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Puts text at the cursor; `false` if that would be too much. Control characters are left out.
    pub fn insert(&mut self, text: &str) -> bool {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        if self.text.len() + text.len() > DRAFT_BYTES_MAX {
            return false;
        }
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        // A combining character joins what stands before and after it.
        self.cursor = self.border_at_or_after(self.cursor);
        true
    }

    pub fn backspace(&mut self) {
        let from = self.before(self.cursor);
        self.remove(from, self.cursor);
    }

    pub fn delete(&mut self) {
        let to = self.after(self.cursor);
        self.remove(self.cursor, to);
    }

    pub fn left(&mut self) {
        self.cursor = self.before(self.cursor);
    }

    pub fn right(&mut self) {
        self.cursor = self.after(self.cursor);
    }

    pub fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub fn line_start(&mut self) {
        self.cursor = self.start_of_line(self.cursor);
    }

    pub fn line_end(&mut self) {
        self.cursor = self.end_of_line(self.cursor);
    }

    /// Up a line; `false` on the first one.
    pub fn up(&mut self) -> bool {
        let start = self.start_of_line(self.cursor);
        if start == 0 {
            return false;
        }
        let column = self.text[start..self.cursor].width();
        self.cursor = self.at_column(self.start_of_line(start - 1), column);
        true
    }

    /// Down a line; `false` on the last one.
    pub fn down(&mut self) -> bool {
        let end = self.end_of_line(self.cursor);
        if end == self.text.len() {
            return false;
        }
        let column = self.text[self.start_of_line(self.cursor)..self.cursor].width();
        self.cursor = self.at_column(end + 1, column);
        true
    }

    pub fn cut_word(&mut self) {
        self.cut_range(self.word_start(), self.cursor);
    }

    pub fn cut_word_after(&mut self) {
        self.cut_range(self.cursor, self.word_end());
    }

    pub fn cut_to_line_start(&mut self) {
        self.cut_range(self.start_of_line(self.cursor), self.cursor);
    }

    pub fn cut_to_line_end(&mut self) {
        let end = self.end_of_line(self.cursor);
        // At the end of a line its newline goes, so that lines can be joined.
        self.cut_range(self.cursor, if end == self.cursor { self.after(end) } else { end });
    }

    /// Clears the draft; what stood there can be put back.
    pub fn cut_all(&mut self) -> &str {
        self.cut = self.take();
        &self.cut
    }

    pub fn put_back(&mut self) {
        let cut = self.cut.clone();
        self.insert(&cut);
    }

    /// The draft in rows of at most `columns`, each after a prompt, and no more rows than `rows_max`
    /// around the cursor.
    pub fn view(&self, columns: usize, rows_max: usize) -> View {
        let width = columns.saturating_sub(3).max(4);
        let mut rows: Vec<String> = vec![String::new()];
        let mut used = 0;
        let (mut cursor_row, mut cursor_column) = (0, 0);
        for (at, cluster) in self.text.grapheme_indices(true) {
            let shown = if cluster == "\t" { "    " } else { cluster };
            let wide = Line::plain(shown).width();
            if cluster != "\n" && used + wide > width {
                rows.push(String::new());
                used = 0;
            }
            if at == self.cursor {
                (cursor_row, cursor_column) = (rows.len() - 1, used);
            }
            if cluster == "\n" {
                rows.push(String::new());
                used = 0;
            } else if let Some(row) = rows.last_mut() {
                row.push_str(shown);
                used += wide;
            }
        }
        if self.cursor == self.text.len() {
            (cursor_row, cursor_column) = (rows.len() - 1, used);
        }
        let rows_max = rows_max.max(1);
        let top = cursor_row.saturating_sub(rows_max - 1).min(rows.len().saturating_sub(rows_max));
        let lines = rows.iter().enumerate().skip(top).take(rows_max).map(|(index, row)| {
            let prompt = if index == 0 { "› " } else { "  " };
            Line::new(Look::BOLD, prompt).and(Look::PLAIN, row)
        });
        View { rows: lines.collect(), cursor_row: cursor_row - top, cursor_column: cursor_column + 2 }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = self.border_at_or_after(from);
    }

    fn cut_range(&mut self, from: usize, to: usize) {
        if from < to {
            self.cut = self.text[from..to].to_owned();
            self.remove(from, to);
        }
    }

    fn before(&self, at: usize) -> usize {
        self.text[..at].grapheme_indices(true).next_back().map_or(0, |(start, _)| start)
    }

    fn after(&self, at: usize) -> usize {
        self.text[at..].graphemes(true).next().map_or(at, |cluster| at + cluster.len())
    }

    fn border_at_or_after(&self, at: usize) -> usize {
        let starts = self.text.grapheme_indices(true).map(|(start, _)| start);
        starts.into_iter().find(|start| *start >= at).unwrap_or(self.text.len())
    }

    fn start_of_line(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    fn end_of_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline)
    }

    fn at_column(&self, start: usize, column: usize) -> usize {
        let line = &self.text[start..self.end_of_line(start)];
        let mut used = 0;
        for (at, cluster) in line.grapheme_indices(true) {
            used += cluster.width();
            if used > column {
                return start + at;
            }
        }
        start + line.len()
    }

    fn word_start(&self) -> usize {
        let before = self.text[..self.cursor].trim_end_matches(|c: char| !c.is_alphanumeric());
        before.trim_end_matches(char::is_alphanumeric).len()
    }

    fn word_end(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let word = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        self.text.len() - word.trim_start_matches(char::is_alphanumeric).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    fn shown(editor: &Editor, columns: usize, rows: usize) -> (Vec<String>, usize, usize) {
        let view = editor.view(columns, rows);
        (view.rows.iter().map(Line::text).collect(), view.cursor_row, view.cursor_column)
    }

    #[test]
    fn the_cursor_moves_by_what_people_see_as_one_character() {
        let mut editor = editor("ae\u{301}漢👍🏽");
        for expected in ["ae\u{301}漢", "ae\u{301}", "a", ""] {
            editor.backspace();
            assert_eq!(editor.text(), expected);
        }
        editor.backspace();
        editor.insert("x漢y");
        editor.left();
        editor.left();
        assert_eq!(shown(&editor, 40, 3).2, 3);
        editor.delete();
        assert_eq!(editor.text(), "xy");
        editor.insert("\u{301}");
        assert_eq!(editor.text(), "x\u{301}y");
        editor.insert("z");
        assert_eq!(editor.text(), "x\u{301}zy");
    }

    #[test]
    fn words_and_lines_are_cut_and_put_back() {
        let mut editor = editor("one two-three\nfour");
        editor.cut_word();
        assert_eq!(editor.text(), "one two-three\n");
        editor.put_back();
        editor.up();
        editor.line_end();
        editor.cut_word();
        assert_eq!(editor.text(), "one two-\nfour");
        editor.word_left();
        editor.cut_to_line_start();
        assert_eq!(editor.text(), "two-\nfour");
        editor.cut_to_line_end();
        editor.cut_to_line_end();
        assert_eq!(editor.text(), "four");
        editor.word_right();
        editor.insert("!");
        assert_eq!(editor.text(), "four!");
    }

    #[test]
    fn a_draft_that_was_cleared_can_be_put_back_whole() {
        let text = "x".repeat(DRAFT_BYTES_MAX);
        let mut editor = editor(&text);
        assert_eq!(editor.cut_all(), text);
        assert!(editor.is_empty());
        editor.put_back();
        assert_eq!(editor.text(), text);
    }

    #[test]
    fn up_and_down_keep_the_column_and_say_where_the_text_ends() {
        let mut editor = editor("abcdef\nx\n漢漢漢");
        assert!(editor.up() && editor.up());
        editor.line_end();
        assert!(!editor.up());
        editor.left();
        assert!(editor.down());
        editor.insert("|");
        assert_eq!(editor.text(), "abcdef\nx|\n漢漢漢");
        assert!(editor.down());
        assert!(!editor.down());
    }

    #[test]
    fn long_drafts_are_shown_around_the_cursor() {
        let mut editor = editor("abcdefghij\nk");
        assert_eq!(shown(&editor, 9, 5), (vec!["› abcdef".to_owned(), "  ghij".into(), "  k".into()], 2, 3));
        assert_eq!(shown(&editor, 9, 2).0, ["  ghij", "  k"]);
        editor.up();
        editor.line_start();
        assert_eq!(shown(&editor, 9, 2), (vec!["› abcdef".to_owned(), "  ghij".into()], 0, 2));
    }

    #[test]
    fn what_is_pasted_keeps_its_lines_but_not_its_escapes_and_has_an_end() {
        let mut editor = editor("a\r\nb\x1b[2J\rc\u{9b}");
        assert_eq!(editor.text(), "a\nb[2J\nc");
        assert!(!editor.insert(&"x".repeat(DRAFT_BYTES_MAX)));
        assert_eq!(editor.text(), "a\nb[2J\nc", "all or nothing");
    }
}
