//! Counting: from what test runners print, and from their reports, to three numbers.

use std::fmt;

use regex_lite::Regex;

/// How a test that cannot run on this machine begins the line in which it says why; case does not matter.
const SKIP_MARK: &str = "skipped: ";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// From a line of `cargo nextest`: `Summary [ 0.1s] 9 tests run: 8 passed (1 slow), 1 failed, 2 skipped`.
    /// Tests that were not run because the run was cut short count as failed.
    pub fn of_nextest_summary(line: &str) -> Option<Self> {
        let counts = line.trim_start().strip_prefix("Summary [")?.split_once("] ")?.1;
        let (run, counts) = counts.split_once(':')?;
        let planned = run.split_whitespace().next()?.rsplit('/').next()?.parse().ok()?;
        let count = |what: &str| number_before(counts, what);
        let passed = count("passed");
        let failed = count("failed") + count("exec failed") + count("timed out");
        let lost = u64::saturating_sub(planned, passed + failed);
        Some(Self { passed, failed: failed + lost, skipped: count("skipped") })
    }

    /// From a line of `cargo test`: `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
    pub fn of_libtest_result(line: &str) -> Option<Self> {
        let counts = line.trim_start().strip_prefix("test result: ")?;
        let count = |what: &str| number_before(counts, what);
        Some(Self { passed: count("passed"), failed: count("failed"), skipped: count("ignored") })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What a JUnit report tells besides the counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub failed: Vec<String>,
    /// Tests that passed only in that they found out that they cannot run here: name and reason.
    pub skipped: Vec<(String, String)>,
}

impl Report {
    pub fn of_junit(xml: &str) -> Self {
        let mut report = Self::default();
        for case in xml.split("<testcase ").skip(1) {
            let case = case.split("</testcase>").next().unwrap_or(case);
            let Some((head, body)) = case.split_once('>') else { continue };
            let name = format!("{} {}", attribute(head, "classname"), attribute(head, "name"));
            if body.contains("<failure") || body.contains("<error") {
                report.failed.push(name);
            } else if let Some(reason) = body.lines().find_map(skip_reason) {
                report.skipped.push((name, reason));
            }
        }
        report
    }
}

fn skip_reason(line: &str) -> Option<String> {
    let line = line.trim_start();
    let line = line.strip_prefix("<system-out>").or_else(|| line.strip_prefix("<system-err>")).unwrap_or(line);
    let (mark, reason) = line.split_at_checked(SKIP_MARK.len())?;
    mark.eq_ignore_ascii_case(SKIP_MARK).then(|| unescape(reason.split("</system-").next().unwrap_or(reason)))
}

/// The number that stands before this word, alone or as a sum if it stands there more than once.
fn number_before(text: &str, what: &str) -> u64 {
    let Ok(pattern) = Regex::new(&format!(r"(\d+) {what}\b")) else { return 0 };
    pattern.captures_iter(text).filter_map(|found| found[1].parse::<u64>().ok()).sum()
}

fn attribute(head: &str, name: &str) -> String {
    let value = head.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    // `classname="` ends in `name="` too: only the attribute that stands by itself counts.
    let value = if name == "name" { head.strip_prefix("name=\"").and_then(|rest| rest.split_once('"')) } else { value };
    value.map(|(value, _)| unescape(value)).unwrap_or_default()
}

fn unescape(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally { passed, failed, skipped })
    }

    #[test]
    fn summaries_of_nextest() {
        let check = |line: &str, expected| assert_eq!(Tally::of_nextest_summary(line), expected, "{line}");
        check("     Summary [   0.088s] 3 tests run: 2 passed, 1 failed, 1 skipped", tally(2, 1, 1));
        check("Summary [ 1.0s] 1 test run: 1 passed (1 slow, 1 leaky), 0 skipped", tally(1, 0, 0));
        check("Summary [ 1.0s] 4 tests run: 1 passed, 1 failed, 1 exec failed, 1 timed out, 2 skipped", tally(1, 3, 2));
        check("Summary [ 1.0s] 3/10 tests run: 3 passed, 0 skipped", tally(3, 7, 0));
        check("Summary [ 0.0s] 0 tests run: 0 passed, 0 skipped", tally(0, 0, 0));
        check("Compiling a Summary [", None);
    }

    #[test]
    fn results_of_libtest() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s";
        assert_eq!(Tally::of_libtest_result(line), tally(5, 2, 1));
        assert_eq!(Tally::of_libtest_result("test result was fine"), None);
    }

    #[test]
    fn a_report_names_the_failed_and_those_that_could_not_run() {
        let xml = r#"<testsuites name="r" tests="3"><testsuite name="s">
            <testcase name="tests::a" classname="probe" time="0.1">
                <system-out>
running 1 test
SKIPPED: no &lt;kvm&gt; &amp; so
test tests::a ... ok
</system-out></testcase>
            <testcase name="tests::b" classname="probe" time="0.1"><system-out>2 passed, skipped: 0</system-out></testcase>
            <testcase name="tests::d" classname="probe"><system-err>skipped: no root</system-err></testcase>
            <testcase name="tests::c" classname="probe" time="0.1"><failure message="m">SKIPPED: no</failure></testcase>
            </testsuite></testsuites>"#;
        let expected = Report {
            failed: vec!["probe tests::c".to_owned()],
            skipped: vec![
                ("probe tests::a".to_owned(), "no <kvm> & so".to_owned()),
                ("probe tests::d".to_owned(), "no root".to_owned()),
            ],
        };
        assert_eq!(Report::of_junit(xml), expected);
    }
}
