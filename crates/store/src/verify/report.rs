//! What verifying found, for people and for JSON.

use serde::Serialize;

const FINDINGS_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 200;

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stream it concerns; text as found, bounded.
    pub stream: Option<String>,
    pub seq: Option<u64>,
    pub what: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub streams: u64,
    pub events: u64,
    pub checkpoints: u64,
    pub blobs: u64,
    /// Empty: everything that was looked at is whole.
    pub findings: Vec<Finding>,
    /// How many more there were than are listed.
    pub findings_left_out: u64,
}

impl VerifyReport {
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, stream: Option<&str>, seq: Option<u64>, what: impl Into<String>) {
        if self.findings.len() == FINDINGS_MAX {
            self.findings_left_out += 1;
            return;
        }
        let stream = stream.map(|text| text.chars().take(TEXT_CHARS_MAX).collect());
        self.findings.push(Finding { stream, seq, what: what.into() });
    }
}
