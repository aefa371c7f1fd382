//! A table with its columns under each other.

use super::inline::inline;
use crate::{
    chat::print::Printed,
    show::styled::{Line, Look},
};

/// A cell wider than this does not widen its column for all others.
const CELL_COLUMNS_MAX: usize = 40;

/// The rows of a table, as they stood between bars.
pub fn render(rows: &[String]) -> Vec<Printed> {
    let has_rule = rows.get(1).is_some_and(|row| is_rule(row));
    let cells: Vec<Vec<Line>> = rows
        .iter()
        .enumerate()
        .filter(|(index, row)| !(*index == 1 && is_rule(row)))
        .map(|(index, row)| {
            let look = if index == 0 && has_rule { Look::BOLD } else { Look::PLAIN };
            split(row).iter().map(|cell| inline(cell, look)).collect()
        })
        .collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widths = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.width().min(CELL_COLUMNS_MAX));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = Vec::new();
    for (index, row) in cells.into_iter().enumerate() {
        let last = row.len().saturating_sub(1);
        let mut line = Line::default();
        for (column, cell) in row.into_iter().enumerate() {
            let pad = widths[column].saturating_sub(cell.width());
            line.append(cell);
            if column < last {
                line.push(Look::PLAIN, &" ".repeat(pad));
                line.push(Look::DIM, " │ ");
            }
        }
        out.push(Printed::hanging(line, 4));
        if index == 0 && has_rule {
            let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            out.push(Printed::hanging(Line::new(Look::DIM, &rule.join("─┼─")), 0));
        }
    }
    out
}

fn is_rule(row: &str) -> bool {
    row.contains('-') && row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

/// Cells between bars; a bar after a backslash belongs to its cell.
fn split(row: &str) -> Vec<String> {
    let inner = row.trim().trim_start_matches('|');
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in inner.chars() {
        match (c, cells.last_mut()) {
            ('|', _) if !escaped => cells.push(String::new()),
            (c, Some(cell)) => cell.push(c),
            (_, None) => {}
        }
        escaped = c == '\\' && !escaped;
    }
    if cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().replace("\\|", "|")).collect()
}
