//! What goes into the scrollback: lines, and how they may be broken.

use crate::show::styled::{Line, Look};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    pub line: Line,
    pub breaking: Breaking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaking {
    /// Between words; further rows are indented by so many columns.
    Words { hang: usize },
    /// Not at all: code and output are copied as they are.
    Never,
    /// One row: what does not fit is cut, but not the last so many columns.
    Fold { kept: usize },
}

impl Printed {
    pub fn prose(line: Line) -> Self {
        Self::hanging(line, 0)
    }

    pub fn hanging(line: Line, hang: usize) -> Self {
        Self { line, breaking: Breaking::Words { hang } }
    }

    pub fn code(line: Line) -> Self {
        Self { line, breaking: Breaking::Never }
    }

    /// One row of which the end is always seen.
    pub fn folded(mut head: Line, end: Line) -> Self {
        let kept = end.width();
        head.append(end);
        Self { line: head, breaking: Breaking::Fold { kept } }
    }

    pub fn dim(text: &str) -> Self {
        Self::hanging(Line::new(Look::DIM, text), 2)
    }

    pub fn blank() -> Self {
        Self::prose(Line::default())
    }

    pub fn rows(&self, columns: usize) -> Vec<Line> {
        match self.breaking {
            Breaking::Words { hang } => self.line.wrap(columns, hang),
            Breaking::Never => vec![self.line.clone()],
            Breaking::Fold { kept } => self.line.fold(columns, kept),
        }
    }
}
