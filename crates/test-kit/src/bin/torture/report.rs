//! The table at the end.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::judge::{Finding, LINES, Line};

#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub jobs: u32,
    pub kills: u32,
    pub resumed: u32,
    pub unknown: u32,
    pub fights: u32,
    pub events: u64,
    pub effects: u64,
    /// The tools there are, and how often each was called.
    pub tools: Vec<String>,
    pub calls: BTreeMap<String, u32>,
    /// Whether there was a browser.
    pub browses: bool,
    pub fell: BTreeMap<String, u32>,
    pub findings: Vec<Finding>,
    /// Ways to doctor the evidence, and whether it was found.
    pub doctored: Vec<(&'static str, bool)>,
    pub took: Duration,
}

impl Report {
    pub fn count(&self, line: Line) -> usize {
        self.findings.iter().filter(|finding| finding.line == line).count()
    }

    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && !self.doctored.is_empty() && self.doctored.iter().all(|(_, found)| *found)
    }

    fn lost(&self) -> usize {
        self.count(Line::AcknowledgedLost) + self.count(Line::EffectLost)
    }

    fn doubled(&self) -> usize {
        self.count(Line::KeyedTwice) + self.count(Line::UnkeyedRepeated) + self.count(Line::WorkspaceTwice)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "torture, seed {}: {} jobs in {:.0} s", self.seed, self.jobs, self.took.as_secs_f64())?;
        writeln!(f)?;
        writeln!(f, "{:>9} {:>9} {:>9} {:>9} {:>9}", "kills", "resumed", "unknown", "lost", "doubled")?;
        let (lost, doubled) = (self.lost(), self.doubled());
        writeln!(f, "{:>9} {:>9} {:>9} {lost:>9} {doubled:>9}", self.kills, self.resumed, self.unknown)?;
        writeln!(f)?;
        writeln!(f, "zero tolerance, over {} events and {} requests outside:", self.events, self.effects)?;
        for (line, name) in LINES {
            writeln!(f, "  {name:<34} {:>5}", self.count(line))?;
        }
        writeln!(f, "two processes at once for one run: {} times", self.fights)?;
        let fell: Vec<String> = self.fell.iter().map(|(at, times)| format!("{at} {times}")).collect();
        writeln!(f, "where the kills fell: {}", fell.join(", "))?;
        let calls: Vec<String> = self.calls.iter().map(|(tool, times)| format!("{tool} {times}")).collect();
        writeln!(f, "calls: {}", calls.join(", "))?;
        if !self.browses {
            writeln!(f, "LEFT OUT: the browser's tools, for there is no Chromium (Debian: apt-get install chromium)")?;
        }
        let found = self.doctored.iter().filter(|(_, found)| *found).count();
        writeln!(f, "doctored evidence that was found out: {found} of {}", self.doctored.len())?;
        for (what, _) in self.doctored.iter().filter(|(_, found)| !found) {
            writeln!(f, "  NOT found out: {what}")?;
        }
        for Finding { line, run, text } in &self.findings {
            let name = LINES.iter().find(|(known, _)| known == line).map_or("", |(_, name)| name);
            writeln!(f, "FAILED {name}: run {run}, seed {}: {text}", self.seed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said() {
        let told = |browses| Report { browses, ..Report::default() }.to_string().contains("LEFT OUT");
        assert!(told(false) && !told(true));
    }

    #[test]
    fn one_finding_or_one_trick_that_worked_is_enough_to_fail() {
        let clean = || Report { doctored: vec![("a", true)], ..Report::default() };
        assert!(clean().is_clean());
        assert!(!Report::default().is_clean(), "nothing was tried");
        assert!(!Report { doctored: vec![("a", true), ("b", false)], ..Report::default() }.is_clean());
        for (line, name) in LINES {
            let finding = Finding { line, run: "r1".to_owned(), text: "x".to_owned() };
            let report = Report { findings: vec![finding], seed: 42, ..clean() };
            assert!(!report.is_clean());
            let text = report.to_string();
            assert!(text.contains(&format!("FAILED {name}: run r1, seed 42: x")), "{text}");
        }
    }
}
