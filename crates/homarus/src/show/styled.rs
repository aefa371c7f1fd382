//! Text with looks: the only form in which foreign text reaches the terminal of a chat or a question.
//!
//! What goes into a [`Line`] is neutralised on its way in, so nothing that is shown can move the
//! cursor, hide itself or draw a question of its own.

use homarus_contract::text::neutralise;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::style::Style;

const TAB_COLUMNS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Magenta,
    Cyan,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    pub bold: bool,
    pub dim: bool,
    pub italic: bool,
    pub underlined: bool,
    pub struck: bool,
    pub colour: Option<Colour>,
}

/// One line; it holds no newline and no control character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    spans: Vec<(Look, String)>,
}

impl Look {
    pub const PLAIN: Self =
        Self { bold: false, dim: false, italic: false, underlined: false, struck: false, colour: None };
    pub const BOLD: Self = Self { bold: true, ..Self::PLAIN };
    pub const DIM: Self = Self { dim: true, ..Self::PLAIN };

    pub const fn of(colour: Colour) -> Self {
        Self { colour: Some(colour), ..Self::PLAIN }
    }

    fn codes(self) -> String {
        let colour = self.colour.map(|colour| match colour {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Magenta => "35",
            Colour::Cyan => "36",
        });
        let flags = [(self.bold, "1"), (self.dim, "2"), (self.italic, "3"), (self.underlined, "4"), (self.struck, "9")];
        let codes: Vec<&str> = flags.into_iter().filter_map(|(on, code)| on.then_some(code)).chain(colour).collect();
        codes.join(";")
    }
}

impl Line {
    pub fn new(look: Look, text: &str) -> Self {
        let mut line = Self::default();
        line.push(look, text);
        line
    }

    pub fn plain(text: &str) -> Self {
        Self::new(Look::PLAIN, text)
    }

    /// Adds text at the end; a newline becomes a space.
    pub fn push(&mut self, look: Look, text: &str) {
        let text = neutralise(text).replace('\n', " ").replace('\t', &" ".repeat(TAB_COLUMNS));
        match self.spans.last_mut() {
            _ if text.is_empty() => {}
            Some((last, held)) if *last == look => held.push_str(&text),
            _ => self.spans.push((look, text)),
        }
    }

    pub fn and(mut self, look: Look, text: &str) -> Self {
        self.push(look, text);
        self
    }

    pub fn append(&mut self, other: Self) {
        for (look, text) in other.spans {
            self.push(look, &text);
        }
    }

    /// Columns on the terminal.
    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.width()).sum()
    }

    #[cfg(test)]
    pub fn spans(&self) -> impl Iterator<Item = (Look, &str)> {
        self.spans.iter().map(|(look, text)| (*look, text.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Without looks.
    pub fn text(&self) -> String {
        self.spans.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// With escape sequences for the looks, if there are to be colours.
    pub fn paint(&self, style: Style) -> String {
        self.spans.iter().map(|(look, text)| style.paint(&look.codes(), text)).collect()
    }

    /// At most `columns` wide; what was cut off ends in `…`.
    pub fn cut(&self, columns: usize) -> Self {
        if self.width() <= columns {
            return self.clone();
        }
        let mut cut = Self::default();
        let mut left = columns.saturating_sub(1);
        'all: for (look, text) in &self.spans {
            for cluster in text.graphemes(true) {
                let width = cluster.width();
                if width > left {
                    break 'all;
                }
                left -= width;
                cut.push(*look, cluster);
            }
        }
        if columns > 0 {
            cut.push(Look::DIM, "…");
        }
        cut
    }

    /// One row, cut before its last `kept` columns if it is too wide; two where there is no room for that.
    pub fn fold(&self, columns: usize, kept: usize) -> Vec<Self> {
        if self.width() <= columns {
            return vec![self.clone()];
        }
        let (mut head, mut end) = (Self::default(), Self::default());
        let border = self.width().saturating_sub(kept);
        let mut used = 0;
        for (look, text) in &self.spans {
            for cluster in text.graphemes(true) {
                if used < border { &mut head } else { &mut end }.push(*look, cluster);
                used += cluster.width();
            }
        }
        if kept + 16 > columns {
            let mut rows = vec![head.cut(columns)];
            rows.extend(Self::plain("  ").joined(end).wrap(columns, 2));
            return rows;
        }
        vec![head.cut(columns - kept).joined(end)]
    }

    fn joined(mut self, other: Self) -> Self {
        self.append(other);
        self
    }

    /// Rows of at most `columns`, broken between words where that is possible; rows after the first
    /// begin with `hang` spaces.
    pub fn wrap(&self, columns: usize, hang: usize) -> Vec<Self> {
        let columns = columns.max(2);
        let hang = if hang + 8 > columns { 0 } else { hang };
        let mut rows = vec![Self::default()];
        let mut used = 0;
        let mut indent = 0;
        for word in self.words() {
            let width: usize = word.iter().map(|(_, cluster)| cluster.width()).sum();
            let blank = word.iter().all(|(_, cluster)| *cluster == " ");
            let seen =
                word.iter().filter(|(_, cluster)| *cluster != " ").map(|(_, cluster)| cluster.width()).sum::<usize>();
            if used + seen > columns && used > indent && (seen <= columns - hang || used + 8 > columns) {
                rows.push(Self::plain(&" ".repeat(hang)));
                (used, indent) = (hang, hang);
                if blank {
                    continue;
                }
            }
            if used + width <= columns {
                for (look, cluster) in word {
                    push_last(&mut rows, look, cluster);
                }
                used += width;
                continue;
            }
            for (look, cluster) in word {
                let width = cluster.width();
                if used + width > columns {
                    if cluster == " " {
                        continue;
                    }
                    rows.push(Self::plain(&" ".repeat(hang)));
                    (used, indent) = (hang, hang);
                }
                push_last(&mut rows, look, cluster);
                used += width;
            }
        }
        rows
    }

    /// Words with the spaces after them, as clusters.
    fn words(&self) -> Vec<Vec<(Look, &str)>> {
        let mut words: Vec<Vec<(Look, &str)>> = Vec::new();
        let mut after_space = true;
        for (look, text) in &self.spans {
            for cluster in text.graphemes(true) {
                let space = cluster == " ";
                match words.last_mut() {
                    Some(word) if space || !after_space => word.push((*look, cluster)),
                    _ => words.push(vec![(*look, cluster)]),
                }
                after_space = space;
            }
        }
        words
    }
}

fn push_last(rows: &mut [Line], look: Look, cluster: &str) {
    if let Some(row) = rows.last_mut() {
        match row.spans.last_mut() {
            Some((last, held)) if *last == look => held.push_str(cluster),
            _ => row.spans.push((look, cluster.to_owned())),
        }
    }
}

/// The same for many lines.
pub fn wrap_all(lines: &[Line], columns: usize, hang: usize) -> Vec<Line> {
    lines.iter().flat_map(|line| line.wrap(columns, hang)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, columns: usize, hang: usize) -> Vec<String> {
        Line::plain(text).wrap(columns, hang).iter().map(|line| line.text().trim_end().to_owned()).collect()
    }

    #[test]
    fn words_stay_whole_where_they_fit_and_no_row_is_too_wide() {
        assert_eq!(wrapped("one two three", 8, 0), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 20, 0), ["one two three"]);
        assert_eq!(wrapped("- one two three four", 12, 2), ["- one two", "  three four"]);
        assert_eq!(wrapped("abcdefghijkl", 5, 0), ["abcde", "fghij", "kl"]);
        assert_eq!(wrapped("", 5, 0), [""]);
        assert_eq!(wrapped("漢字漢字漢", 5, 0), ["漢字", "漢字", "漢"]);
        for columns in 2..30 {
            let text = "  a 漢字 wörd 😀😀😀 with-a-very-long-unbroken-tail e\u{301}e\u{301}e\u{301}   x";
            for line in Line::plain(text).wrap(columns, 3) {
                assert!(line.text().trim_end().width() <= columns, "{columns}: {line:?}");
            }
            let joined: String = wrapped(text, columns, 3).concat();
            let bare = |text: &str| text.replace(' ', "");
            assert_eq!(bare(&joined), bare(text), "{columns}");
        }
    }

    #[test]
    fn a_folded_line_keeps_its_end() {
        let folded = |columns, kept| -> Vec<String> {
            Line::plain("shell.execute cargo test --all · exit 0").fold(columns, kept).iter().map(Line::text).collect()
        };
        assert_eq!(folded(80, 9), ["shell.execute cargo test --all · exit 0"]);
        assert_eq!(folded(30, 9), ["shell.execute cargo … · exit 0"]);
        assert_eq!(folded(20, 9), ["shell.execute cargo…", "   · exit 0"]);
    }

    #[test]
    fn nothing_foreign_passes_a_line() {
        let line = Line::plain("a\x1b[2Jb\r\u{202e}c\u{9b}1m\nd\te");
        assert_eq!(line.text(), "a␛[2Jb␍\u{fffd}c\u{fffd}1m d    e");
        assert_eq!(line.cut(5).text(), "a␛[2…");
    }
}
