//! The terminal of a chat: lines go into the scrollback once and stay; below them an area is redrawn.

use std::fmt::Write;

use super::print::Printed;
use crate::show::{
    seat::{Seat, Signals},
    style::Style,
    styled::Line,
};

/// The redrawn part: rows no wider than the terminal, and where its cursor stands.
#[derive(Default)]
pub struct Area {
    pub rows: Vec<Line>,
    pub cursor_row: usize,
    pub cursor_column: usize,
}

pub struct Screen {
    seat: Seat,
    style: Style,
    /// Widths of the rows that are drawn now, and where the cursor is among them.
    drawn: Vec<usize>,
    cursor_row: usize,
    cursor_column: usize,
    /// Lines that wait for the pager to be closed.
    held: Vec<Printed>,
    paging: bool,
}

impl Screen {
    pub fn take() -> std::io::Result<Self> {
        Ok(Self {
            seat: Seat::take(Signals::Keys)?,
            style: Style::for_terminal(),
            drawn: Vec::new(),
            cursor_row: 0,
            cursor_column: 0,
            held: Vec::new(),
            paging: false,
        })
    }

    pub fn size(&self) -> (usize, usize) {
        self.seat.size()
    }

    /// Adds lines to the scrollback and draws the area anew below them.
    pub fn show(&mut self, lines: Vec<Printed>, area: &Area) {
        self.held.extend(lines);
        if self.paging {
            return;
        }
        let (columns, _) = self.size();
        let mut out = self.erase(columns);
        for printed in self.held.drain(..) {
            for row in printed.rows(columns) {
                let _ = write!(out, "{}\r\n", row.paint(self.style));
            }
        }
        let rows: Vec<String> = area.rows.iter().map(|row| row.paint(self.style)).collect();
        out.push_str(&rows.join("\r\n"));
        let up = rows.len().saturating_sub(1).saturating_sub(area.cursor_row);
        if up > 0 {
            let _ = write!(out, "\x1b[{up}A");
        }
        out.push('\r');
        if area.cursor_column > 0 {
            let _ = write!(out, "\x1b[{}C", area.cursor_column);
        }
        self.drawn = area.rows.iter().map(Line::width).collect();
        (self.cursor_row, self.cursor_column) = (area.cursor_row, area.cursor_column);
        // Terminals that know the marks show it all at once; others ignore them.
        self.seat.write(&format!("\x1b[?2026h\x1b[?25l{out}\x1b[?25h\x1b[?2026l"));
    }

    /// A screen of its own over everything; [`Self::show`] holds its lines back meanwhile.
    pub fn page(&mut self, rows: &[Line]) {
        self.paging = true;
        self.seat.alternate(true);
        let rows: Vec<String> = rows.iter().map(|row| row.paint(self.style)).collect();
        self.seat.write(&format!("\x1b[?25l\x1b[H\x1b[2J{}", rows.join("\r\n")));
    }

    pub fn close_page(&mut self) {
        self.paging = false;
        self.seat.alternate(false);
    }

    /// The last word: the area goes, the lines stay.
    pub fn leave(&mut self, lines: Vec<Printed>) {
        self.close_page();
        self.show(lines, &Area::default());
    }

    /// Ctrl-Z: back when somebody lets the program go on.
    pub fn suspend(&mut self) {
        self.leave(Vec::new());
        let _ = self.seat.suspend();
    }

    /// Ctrl-L.
    pub fn clear(&mut self) {
        self.seat.write("\x1b[H\x1b[2J");
        self.drawn.clear();
        self.cursor_row = 0;
    }

    /// Goes to the first row of what is drawn and clears from there. Terminals break rows anew when
    /// they become narrower, so that what was one row may be several now.
    fn erase(&mut self, columns: usize) -> String {
        let rows_of = |width: &usize| width.saturating_sub(1) / columns.max(1) + 1;
        let above: usize = self.drawn.iter().take(self.cursor_row).map(rows_of).sum();
        let up = above + self.cursor_column / columns.max(1);
        let up = if up > 0 { format!("\x1b[{up}A") } else { String::new() };
        format!("\r{up}\x1b[J")
    }
}
