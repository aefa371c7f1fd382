//! What the demo reads of events, one JSON object a line: from `homarus run --json` while a job goes on,
//! from `homarus runs log --json` afterwards.

use serde_json::Value;

/// Calls that a person agreed to, and calls that a rule or a missing grant denied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub approved: usize,
    pub denied: usize,
}

impl Verdicts {
    pub fn of(lines: &str) -> Result<Self, String> {
        let mut verdicts = Self::default();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let event = event(line)?;
            match text(&event, &["kind"]) {
                "approval_decided" if event["approval"]["granted"] == true => verdicts.approved += 1,
                "judged" if text(&event, &["judgement", "verdict"]) == "deny" => verdicts.denied += 1,
                _ => {}
            }
        }
        Ok(verdicts)
    }
}

/// What people are told of an event while a job goes on; `None` for those of no interest.
pub fn progress(line: &str) -> Option<String> {
    let event = event(line).ok()?;
    let short = |path: &[&str]| -> String {
        let plain = text(&event, path).chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(100).collect()
    };
    match text(&event, &["kind"]) {
        "judged" => {
            let verdict = short(&["judgement", "verdict"]);
            Some(format!("{verdict:<16} {} {}", short(&["action", "tool"]), short(&["action", "arguments"])))
        }
        "nudged" => Some(format!("nudge            {}", short(&["reason"]))),
        "model_failed" => Some(format!("model failed     {}", short(&["message"]))),
        "bound_hit" => Some(format!("limit hit        {}", short(&["bound"]))),
        "finished" => Some(format!("{:<16} {}", short(&["status"]), short(&["summary"]))),
        _ => None,
    }
}

fn event(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| format!("not an event: {error}: {line}"))
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().fold(value, |value, key| &value[*key]).as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted() {
        let log = r#"{"kind":"judged","judgement":{"verdict":"deny"}}
            {"kind":"judged","judgement":{"verdict":"ask_before_merge"}}
            {"kind":"approval_decided","approval":{"granted":true}}

            {"kind":"approval_decided","approval":{"granted":false}}"#;
        assert_eq!(Verdicts::of(log), Ok(Verdicts { approved: 1, denied: 1 }));
        assert!(Verdicts::of("oops").is_err());
    }

    #[test]
    fn progress_is_one_plain_line() {
        let judged =
            r#"{"kind":"judged","judgement":{"verdict":"allow"},"action":{"tool":"t","arguments":"a\u001b\nb"}}"#;
        assert_eq!(progress(judged).as_deref(), Some("allow            t a  b"));
        assert_eq!(progress(r#"{"kind":"model_intent"}"#), None);
        assert_eq!(progress("oops"), None);
    }
}
