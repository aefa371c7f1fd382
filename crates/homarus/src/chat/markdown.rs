//! An answer's Markdown, rendered as it streams: each line when it is complete, a table when it has
//! ended. What stands in the scrollback is never drawn again.

mod inline;
mod table;

use homarus_contract::text::one_line;

use self::inline::inline;
use super::print::Printed;
use crate::show::{
    styled::{Colour, Line, Look},
    syntax::Syntax,
};

/// Of a line that is not complete yet only its end is shown; a longer one is broken here.
const LINE_BYTES_MAX: usize = 64 << 10;
const TABLE_ROWS_MAX: usize = 500;

#[derive(Default)]
pub struct Markdown {
    partial: String,
    fence: Option<Fence>,
    table: Vec<String>,
    /// Whether anything was printed, and whether the last of it was a blank line.
    begun: bool,
    blank: bool,
}

struct Fence {
    mark: char,
    length: usize,
    syntax: Syntax,
}

impl Markdown {
    /// More of the answer; what is complete now.
    pub fn push(&mut self, text: &str) -> Vec<Printed> {
        let mut out = Vec::new();
        for piece in text.split_inclusive('\n') {
            self.partial.push_str(piece);
            if self.partial.ends_with('\n') {
                let line = std::mem::take(&mut self.partial);
                self.line(line.trim_end_matches(['\n', '\r']), &mut out);
            } else if self.partial.len() > LINE_BYTES_MAX {
                let line = std::mem::take(&mut self.partial);
                self.line(&line, &mut out);
            }
        }
        out
    }

    /// The answer is over.
    pub fn finish(&mut self) -> Vec<Printed> {
        let mut out = Vec::new();
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line, &mut out);
        }
        self.end_table(&mut out);
        *self = Self::default();
        out
    }

    /// What has come but is not complete, as it is.
    pub fn preview(&self) -> Vec<Line> {
        let table = self.table.iter().rev().take(5).rev().map(|row| Line::new(Look::DIM, row));
        let partial = Some(&self.partial).filter(|text| !text.is_empty());
        table.chain(partial.map(|text| Line::plain(text))).collect()
    }

    fn line(&mut self, text: &str, out: &mut Vec<Printed>) {
        if let Some(fence) = &self.fence {
            if is_closing(text, fence) {
                self.fence = None;
                self.put(out, Printed::code(Line::new(Look::DIM, text)));
            } else {
                let mut line = Line::default();
                fence.syntax.paint(&mut line, text, Look::PLAIN);
                self.put(out, Printed::code(line));
            }
            return;
        }
        if text.trim_start().starts_with('|') && self.table.len() < TABLE_ROWS_MAX {
            self.table.push(text.trim().to_owned());
            return;
        }
        self.end_table(out);
        if let Some(fence) = opening(text) {
            self.fence = Some(fence);
            self.put(out, Printed::code(Line::new(Look::DIM, text)));
        } else if text.trim().is_empty() {
            if self.begun && !self.blank {
                out.push(Printed::blank());
                self.blank = true;
            }
        } else {
            self.put(out, block_line(text));
        }
    }

    fn put(&mut self, out: &mut Vec<Printed>, printed: Printed) {
        out.push(printed);
        (self.begun, self.blank) = (true, false);
    }

    fn end_table(&mut self, out: &mut Vec<Printed>) {
        for printed in table::render(&std::mem::take(&mut self.table)) {
            self.put(out, printed);
        }
    }
}

fn block_line(text: &str) -> Printed {
    let indent = text.len() - text.trim_start().len();
    let body = text.trim();
    if let Some((level, title)) = heading(body) {
        return Printed::prose(inline(title, Look { underlined: level == 1, ..Look::BOLD }));
    }
    if is_rule(body) {
        return Printed::prose(Line::new(Look::DIM, &"─".repeat(20)));
    }
    if let Some(quoted) = body.strip_prefix('>') {
        let mut line = Line::new(Look::DIM, "│ ");
        line.append(inline(quoted.trim_start(), Look { italic: true, ..Look::PLAIN }));
        return Printed::hanging(line, 2);
    }
    let pad = " ".repeat(indent.min(24));
    if let Some((marker, item)) = list_item(body) {
        let lead = format!("{pad}{marker} ");
        let mut line = Line::new(Look::of(Colour::Cyan), &lead);
        let hang = line.width();
        line.append(inline(item, Look::PLAIN));
        return Printed::hanging(line, hang);
    }
    let mut line = Line::plain(&pad);
    line.append(inline(body, Look::PLAIN));
    Printed::hanging(line, pad.len())
}

fn heading(text: &str) -> Option<(usize, &str)> {
    let level = text.len() - text.trim_start_matches('#').len();
    let title = text.get(level..)?.strip_prefix(' ')?;
    (1..=6).contains(&level).then(|| (level, title.trim().trim_end_matches('#').trim_end()))
}

fn is_rule(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| *c != ' ').collect();
    bare.len() >= 3 && ['-', '*', '_'].iter().any(|mark| bare.chars().all(|c| c == *mark))
}

fn list_item(text: &str) -> Option<(String, &str)> {
    if let Some(item) = ["- ", "* ", "+ "].iter().find_map(|mark| text.strip_prefix(mark)) {
        return Some(match item.split_at_checked(4) {
            Some(("[ ] ", rest)) => ("☐".to_owned(), rest),
            Some(("[x] " | "[X] ", rest)) => ("☑".to_owned(), rest),
            _ => ("•".to_owned(), item.trim_start()),
        });
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|at| (1..=9).contains(at))?;
    let item = text[digits..].strip_prefix(". ").or_else(|| text[digits..].strip_prefix(") "))?;
    Some((text[..=digits].to_owned(), item.trim_start()))
}

fn opening(text: &str) -> Option<Fence> {
    let body = text.trim_start();
    let mark = body.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = body.len() - body.trim_start_matches(mark).len();
    let info = body[length..].trim();
    if length < 3 || info.contains('`') {
        return None;
    }
    let language = one_line(info.split([' ', ',', '{']).next().unwrap_or_default(), 40);
    Some(Fence { mark, length, syntax: Syntax::of(&language) })
}

fn is_closing(text: &str, fence: &Fence) -> bool {
    let body = text.trim();
    body.len() >= fence.length && body.chars().all(|c| c == fence.mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Vec<String> {
        let mut markdown = Markdown::default();
        let mut out = markdown.push(text);
        out.extend(markdown.finish());
        out.iter().map(|printed| printed.line.text()).collect()
    }

    const ANSWER: &str = "# Title\n\n\nSome **bold** and `code`.\n- one\n  1. two\n- [x] done\n> quote\n\n```rust\nfn f() {\n\n- no list\n```\n---\n| a | long |\n|---|:-:|\n| 漢字 | x |\nend";

    #[test]
    fn blocks_become_readable_lines() {
        let expected = [
            "Title",
            "",
            "Some bold and code.",
            "• one",
            "  1. two",
            "☑ done",
            "│ quote",
            "",
            "```rust",
            "fn f() {",
            "",
            "- no list",
            "```",
            "────────────────────",
            "a    │ long",
            "─────┼─────",
            "漢字 │ x",
            "end",
        ];
        assert_eq!(rendered(ANSWER), expected);
    }

    #[test]
    fn however_it_is_cut_into_pieces_it_comes_out_the_same() {
        let whole = rendered(ANSWER);
        for size in 1..7 {
            let mut markdown = Markdown::default();
            let mut out = Vec::new();
            let chars: Vec<char> = ANSWER.chars().collect();
            for piece in chars.chunks(size) {
                out.extend(markdown.push(&piece.iter().collect::<String>()));
            }
            out.extend(markdown.finish());
            assert_eq!(out.iter().map(|printed| printed.line.text()).collect::<Vec<_>>(), whole, "{size}");
        }
    }

    #[test]
    fn escapes_do_nothing_however_they_are_written() {
        for text in [
            "\x1b[2J\x1b]0;x\x07",
            "&#27;[2J &#x9b;1m",
            "`\x1b[2J`",
            "```\x1b[2J\n\x1b[2J\n```",
            "| \x1b[2J |\n|-|",
            "[a](\x1b[2J)",
            "# &#27;x",
            "- &#x202e;x",
            "<\x1b[2J>",
            "&Tab;&NewLine;x",
            "\\\x1b[2J",
        ] {
            for line in rendered(text) {
                assert!(!line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{line:?}");
            }
        }
    }

    #[test]
    fn no_text_is_lost_in_what_is_no_markdown() {
        for text in [
            "[x]: http://a.b",
            "a_b_c * d",
            "<div>hi</div>",
            "1986. A year",
            "#hash",
            "a | b",
            "**open",
            "---x",
            "`",
            "&nope;",
            "==",
        ] {
            let shown = rendered(text).concat();
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                assert!(shown.contains(word), "{word:?} of {text:?} in {shown:?}");
            }
        }
    }

    #[test]
    fn signs_at_the_begin_of_cells_items_and_quotes_stay() {
        let table = rendered("| a | > 100 ms |\n|-|-|\n| x | - 5 |");
        assert!(table[0].contains("> 100 ms") && table[2].contains("- 5"), "{table:?}");
        assert_eq!(rendered("- > 90 %\n> 3. Do X\n# 1. Install"), ["• > 90 %", "│ 3. Do X", "1. Install"]);
    }

    #[test]
    fn an_incomplete_line_is_seen_before_it_is_printed() {
        let mut markdown = Markdown::default();
        assert_eq!(markdown.push("one\ntw").len(), 1);
        assert_eq!(markdown.preview(), [Line::plain("tw")]);
        assert_eq!(markdown.push(&"x".repeat(LINE_BYTES_MAX + 1)).len(), 1, "even an endless line is bounded");
    }
}
