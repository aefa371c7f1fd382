//! What came of it, as a table a person reads and as JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{attempt::Outcome, engines::Engine, front::Counts};

/// All outcomes: a row a job, a column an engine.
pub struct Table {
    pub engines: Vec<Engine>,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub job: String,
    /// In the order of the engines; `None`: not tried.
    pub outcomes: Vec<Option<Outcome>>,
}

/// One engine's figures over all jobs.
#[derive(Debug, Default, PartialEq)]
pub struct Sum {
    pub tried: usize,
    pub done: usize,
    pub counts: Counts,
    pub wall: Duration,
}

impl Table {
    pub fn new(engines: Vec<Engine>, jobs: impl IntoIterator<Item = String>) -> Self {
        let rows = jobs.into_iter().map(|job| Row { job, outcomes: vec![None; engines.len()] }).collect();
        Self { engines, rows }
    }

    pub fn set(&mut self, job: usize, engine: usize, outcome: Outcome) {
        if let Some(place) = self.rows.get_mut(job).and_then(|row| row.outcomes.get_mut(engine)) {
            *place = Some(outcome);
        }
    }

    pub fn sum(&self, engine: usize) -> Sum {
        let mut sum = Sum::default();
        for outcome in self.rows.iter().filter_map(|row| row.outcomes.get(engine)?.as_ref()) {
            sum.tried += 1;
            sum.done += usize::from(outcome.is_done());
            sum.wall += outcome.wall;
            let (all, one) = (&mut sum.counts, &outcome.counts);
            all.requests += one.requests;
            all.without_tools += one.without_tools;
            all.input_tokens += one.input_tokens;
            all.computed_tokens += one.computed_tokens;
            all.output_tokens += one.output_tokens;
            all.model_time += one.model_time;
        }
        sum
    }

    /// Whether Homarus did more of the jobs than each of the others; those that are not in the table do not count, so
    /// `true` if it has nobody else, or not Homarus.
    pub fn homarus_leads(&self) -> bool {
        let Some(own) = self.engines.iter().position(|engine| *engine == Engine::Homarus) else { return true };
        let done = self.sum(own).done;
        let mut engines = self.engines.iter().enumerate();
        engines.all(|(at, engine)| !engine.is_theirs() || self.sum(at).done < done)
    }

    /// Whether every engine did every job.
    pub fn is_all_done(&self) -> bool {
        let mut outcomes = self.rows.iter().flat_map(|row| &row.outcomes);
        outcomes.all(|outcome| outcome.as_ref().is_some_and(Outcome::is_done))
    }

    pub fn to_markdown(&self) -> String {
        let names: Vec<&str> = self.engines.iter().map(|engine| engine.name()).collect();
        let mut text = format!("| job | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for row in &self.rows {
            let cells: Vec<String> =
                row.outcomes.iter().map(|outcome| outcome.as_ref().map_or("-".into(), cell)).collect();
            let _ = writeln!(text, "| {} | {} |", row.job, cells.join(" | "));
        }
        let sums: Vec<Sum> = (0..self.engines.len()).map(|engine| self.sum(engine)).collect();
        let mut line = |name: &str, figure: &dyn Fn(&Sum) -> String| {
            let figures: Vec<String> = sums.iter().map(figure).collect();
            let _ = writeln!(text, "| **{name}** | {} |", figures.join(" | "));
        };
        line("done", &|sum| format!("**{} of {}**", sum.done, sum.tried));
        line("steps", &|sum| sum.counts.requests.to_string());
        line("tokens in", &|sum| sum.counts.input_tokens.to_string());
        line("of them computed", &|sum| sum.counts.computed_tokens.to_string());
        line("tokens out", &|sum| sum.counts.output_tokens.to_string());
        line("wall time", &|sum| format!("{:.0} s", sum.wall.as_secs_f64()));
        text
    }

    /// Why what is not done is not.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (engine, outcome) in self.engines.iter().zip(&row.outcomes) {
                if let Some(failure) = outcome.as_ref().and_then(|outcome| outcome.failure.as_ref()) {
                    let _ = writeln!(text, "- {}, {}: {failure}", row.job, engine.name());
                }
            }
        }
        text
    }

    pub fn to_json(&self) -> Value {
        let outcome = |engine: &Engine, outcome: &Outcome| {
            let mut value = figures(&outcome.counts, outcome.wall);
            value["engine"] = json!(engine.name());
            value["done"] = json!(outcome.is_done());
            value["failure"] = json!(outcome.failure);
            value
        };
        let rows = self.rows.iter().map(|row| {
            let tried = self.engines.iter().zip(&row.outcomes);
            let outcomes: Vec<Value> =
                tried.filter_map(|(engine, found)| Some(outcome(engine, found.as_ref()?))).collect();
            json!({"job": row.job, "outcomes": outcomes})
        });
        let sums = self.engines.iter().enumerate().map(|(at, engine)| {
            let sum = self.sum(at);
            let mut value = figures(&sum.counts, sum.wall);
            value["engine"] = json!(engine.name());
            value["done"] = json!(sum.done);
            value["tried"] = json!(sum.tried);
            value
        });
        json!({"jobs": rows.collect::<Vec<Value>>(), "sums": sums.collect::<Vec<Value>>()})
    }
}

fn figures(counts: &Counts, wall: Duration) -> Value {
    json!({
        "steps": counts.requests, "steps_without_tools": counts.without_tools, "input_tokens": counts.input_tokens,
        "computed_tokens": counts.computed_tokens, "output_tokens": counts.output_tokens,
        "model_ms": counts.model_time.as_millis() as u64, "wall_ms": wall.as_millis() as u64,
    })
}

/// `yes · 5 steps · 6.1k + 0.2k tokens · 28 s`
pub fn cell(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let thousands = |tokens: u64| format!("{:.1}k", tokens as f64 / 1000.0);
    format!(
        "{} · {} steps · {} + {} tokens · {:.0} s",
        if outcome.is_done() { "yes" } else { "NO" },
        counts.requests,
        thousands(counts.input_tokens),
        thousands(counts.output_tokens),
        outcome.wall.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(done: bool, requests: u64) -> Outcome {
        let counts = Counts { requests, input_tokens: 1000 * requests, output_tokens: 50, ..Counts::default() };
        let failure = (!done).then(|| "a.txt is missing".to_owned());
        Outcome { failure, counts, wall: Duration::from_millis(1500) }
    }

    fn table() -> Table {
        let mut table = Table::new(vec![Engine::Homarus, Engine::Goose], ["a".to_owned(), "b".to_owned()]);
        table.set(0, 0, outcome(true, 3));
        table.set(1, 0, outcome(true, 4));
        table.set(0, 1, outcome(false, 9));
        table
    }

    #[test]
    fn rows_are_jobs_and_the_last_ones_sums() {
        let text = table().to_markdown();
        assert!(text.starts_with("| job | homarus | goose |\n|---|---|---|\n"), "{text}");
        assert!(text.contains("| a | yes · 3 steps · 3.0k + 0.1k tokens · 2 s | NO · 9 steps"), "{text}");
        assert!(text.contains("| b | yes · 4 steps · 4.0k + 0.1k tokens · 2 s | - |"), "{text}");
        assert!(text.contains("| **done** | **2 of 2** | **0 of 1** |"), "{text}");
        assert!(text.contains("| **tokens in** | 7000 | 9000 |"), "{text}");
        assert_eq!(table().reasons(), "- a, goose: a.txt is missing\n");
    }

    /// Whether Homarus leads where each engine did so many of three jobs.
    fn leads(engines: &[(Engine, usize)]) -> bool {
        let names = engines.iter().map(|(engine, _)| *engine).collect();
        let mut table = Table::new(names, ["a", "b", "c"].map(str::to_owned));
        for (column, (_, done)) in engines.iter().enumerate() {
            (0..3).for_each(|row| table.set(row, column, outcome(row < *done, 1)));
        }
        table.homarus_leads()
    }

    #[test]
    fn homarus_leads_where_it_did_more_than_each_other() {
        use Engine::{Embedded, Goose, Homarus, OpenCode};
        assert!(leads(&[(Homarus, 2), (OpenCode, 1), (Goose, 0)]));
        assert!(leads(&[(Goose, 1), (Homarus, 2)]));
        assert!(!leads(&[(Homarus, 0), (OpenCode, 0), (Goose, 0)]), "nothing is not more than nothing");
        assert!(!leads(&[(Homarus, 2), (OpenCode, 0), (Goose, 2)]), "as many is not enough");
        assert!(!leads(&[(Homarus, 1), (OpenCode, 2)]));
        assert!(leads(&[(Homarus, 0)]) && leads(&[(OpenCode, 3), (Goose, 1)]), "who was not measured does not count");
        assert!(leads(&[(Homarus, 1), (Embedded, 1)]), "both are Homarus");
    }

    #[test]
    fn all_is_done_when_every_engine_did_every_job() {
        let mut table = table();
        table.set(0, 1, outcome(true, 9));
        assert!(!table.is_all_done(), "one was not tried");
        table.set(1, 1, outcome(false, 9));
        assert!(!table.is_all_done());
        table.set(1, 1, outcome(true, 9));
        assert!(table.is_all_done());
    }

    #[test]
    fn the_same_as_json() {
        let json = table().to_json();
        assert_eq!(json["jobs"][0]["outcomes"][1]["failure"], "a.txt is missing");
        assert_eq!(json["jobs"][1]["outcomes"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["sums"][0]["input_tokens"], 7000);
        assert_eq!(json["sums"][0]["wall_ms"], 3000);
    }
}
