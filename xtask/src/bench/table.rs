//! What was measured, as tables a person reads, and the goals it is held against.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

/// One thing measured: a row a program, a column a figure.
#[derive(Debug)]
pub struct Section {
    /// By which goals and `--only` name it.
    pub id: &'static str,
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
    /// Something of ours is not here, or is not as it must be.
    failed: bool,
}

#[derive(Debug)]
pub struct Row {
    pub who: String,
    pub figures: Vec<Option<f64>>,
}

/// A bound on one of our own figures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    section: String,
    /// The row; ours unless it says otherwise.
    #[serde(default = "ours")]
    who: String,
    column: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    /// The figure must also be below this row's in the same column.
    below: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    pub goal: Vec<Goal>,
}

pub const OURS: &str = "homarus";

fn ours() -> String {
    OURS.to_owned()
}

impl Section {
    pub fn new(id: &'static str, title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { id, title: title.into(), columns, rows: Vec::new(), notes: Vec::new(), failed: false }
    }

    pub fn row(&mut self, who: impl Into<String>, figures: Vec<Option<f64>>) {
        self.rows.push(Row { who: who.into(), figures });
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What this program did not do, and why. That others cannot be measured is no failure; of ours it is.
    pub fn fail(&mut self, who: &str, note: impl Into<String>) {
        self.failed |= who.starts_with(OURS);
        self.note(note);
    }

    /// Whether all of ours was measured.
    pub fn is_whole(&self) -> bool {
        let lacks = |row: &Row| row.who.starts_with(OURS) && row.figures.contains(&None);
        !self.failed && !self.rows.iter().any(lacks)
    }

    pub fn figure(&self, who: &str, column: &str) -> Option<f64> {
        let at = self.columns.iter().position(|name| name == column)?;
        *self.rows.iter().find(|row| row.who == who)?.figures.get(at)?
    }

    /// As a Markdown table, with the goals below the rows they are of.
    pub fn to_markdown(&self, goals: &Goals) -> String {
        let mut text = format!("## {}\n\n", self.title);
        if !self.rows.is_empty() {
            let _ = writeln!(text, "| | {} |", self.columns.join(" | "));
            let _ = writeln!(text, "|---|{}", "---:|".repeat(self.columns.len()));
        }
        for row in &self.rows {
            let figures: Vec<String> = row.figures.iter().map(|figure| figure.map_or("-".to_owned(), shown)).collect();
            let _ = writeln!(text, "| {} | {} |", row.who, figures.join(" | "));
            let goal = |column: &String| {
                let mut of = goals.goal.iter().filter(|goal| goal.is_of(self.id, &row.who, column));
                of.next().and_then(Goal::bound)
            };
            let wanted: Vec<Option<String>> = self.columns.iter().map(goal).collect();
            if wanted.iter().any(Option::is_some) {
                let wanted: Vec<String> = wanted.into_iter().map(Option::unwrap_or_default).collect();
                let _ = writeln!(text, "| *goal* | {} |", wanted.join(" | "));
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    pub fn to_json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            let figures: BTreeMap<&str, Option<f64>> =
                self.columns.iter().map(String::as_str).zip(row.figures.iter().copied()).collect();
            serde_json::json!({"who": row.who, "figures": figures})
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        serde_json::json!({"id": self.id, "title": self.title, "rows": rows, "notes": self.notes})
    }
}

/// Three figures that count.
fn shown(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// What became of a goal.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Goal {
    fn is_of(&self, section: &str, who: &str, column: &str) -> bool {
        self.section == section && self.who == who && self.column == column
    }

    fn bound(&self) -> Option<String> {
        let most = self.at_most.map(|bound| format!("≤ {bound}"));
        most.or_else(|| self.at_least.map(|bound| format!("≥ {bound}")))
    }

    /// The goal with its figure, and whether it is met.
    pub fn judge(&self, sections: &[Section]) -> (String, Verdict) {
        let mut text = format!("{}, {}, {}:", self.section, self.who, self.column);
        let section = sections.iter().find(|section| section.id == self.section);
        let Some((section, figure)) =
            section.and_then(|section| Some((section, section.figure(&self.who, &self.column)?)))
        else {
            return (text + " not measured", Verdict::NotMeasured);
        };
        let _ = write!(text, " {}", shown(figure));
        let mut met = true;
        if let Some(bound) = self.at_most {
            met &= figure <= bound;
            let _ = write!(text, ", at most {bound}");
        }
        if let Some(bound) = self.at_least {
            met &= figure >= bound;
            let _ = write!(text, ", at least {bound}");
        }
        if let Some(other) = &self.below {
            let theirs = section.figure(other, &self.column);
            met &= theirs.is_some_and(|theirs| figure < theirs);
            let _ = write!(text, ", less than {other} ({})", theirs.map_or("not measured".to_owned(), shown));
        }
        (text, if met { Verdict::Met } else { Verdict::Missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Section {
        let mut section = Section::new("gap", "Gap", &["p50", "p99"]);
        section.row(OURS, vec![Some(5.0), None]);
        section.row("other", vec![Some(4.0), Some(123.4)]);
        section
    }

    fn goal(text: &str) -> Goal {
        toml::from_str::<Goals>(&format!("[[goal]]\nsection = \"gap\"\n{text}")).unwrap().goal.remove(0)
    }

    #[test]
    fn goals_are_met_missed_or_not_measured() {
        let sections = [section()];
        assert_eq!(goal("column = \"p50\"\nat_most = 8.0").judge(&sections).1, Verdict::Met);
        assert_eq!(goal("column = \"p50\"\nat_most = 4.0").judge(&sections).1, Verdict::Missed);
        assert_eq!(goal("column = \"p50\"\nat_least = 6.0").judge(&sections).1, Verdict::Missed);
        assert_eq!(goal("column = \"p50\"\nbelow = \"other\"").judge(&sections).1, Verdict::Missed);
        assert_eq!(goal("column = \"p50\"\nbelow = \"nobody\"").judge(&sections).1, Verdict::Missed);
        assert_eq!(goal("column = \"p99\"\nat_most = 1.0").judge(&sections).1, Verdict::NotMeasured);
        assert_eq!(goal("column = \"p51\"\nat_most = 1.0").judge(&sections).1, Verdict::NotMeasured);
    }

    #[test]
    fn that_ours_was_not_measured_is_a_failure() {
        assert!(!section().is_whole(), "a figure is missing");
        let mut whole = Section::new("gap", "Gap", &["p50"]);
        whole.row(OURS, vec![Some(5.0)]);
        whole.row("other", vec![None]);
        whole.fail("other", "other: it ended with 1");
        assert!(whole.is_whole(), "others may fail");
        whole.fail("homarus runs list", "it ended with 1");
        assert!(!whole.is_whole());
    }

    #[test]
    fn a_table_has_a_dash_where_nothing_was_measured() {
        let goals = Goals { goal: vec![goal("column = \"p99\"\nat_most = 30.0")] };
        let text = section().to_markdown(&goals);
        let rows = "| homarus | 5.00 | - |\n| *goal* |  | ≤ 30 |\n| other | 4.00 | 123 |\n";
        assert!(text.contains(rows), "{text}");
    }
}
