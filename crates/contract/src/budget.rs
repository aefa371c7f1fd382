//! What a run may use up. Every figure has a default bound; none is unlimited.

use serde::{Deserialize, Serialize};

/// The limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Nano-USD (1e-9). `None`: no budget in money; then a model of unknown price is allowed.
    pub cost_max: Option<u64>,
    pub tokens_max: u64,
    /// Model calls.
    pub steps_max: u32,
    /// Time the run may be worked on, in milliseconds, waiting for people not included.
    pub wall_ms_max: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { cost_max: None, tokens_max: 2_000_000, steps_max: 60, wall_ms_max: 2 * 60 * 60 * 1000 }
    }
}

/// An amount reserved before a model call or settled after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Nano-USD.
    pub cost: u64,
    pub tokens: u64,
    pub steps: u32,
}

/// A change to a run's budget, made in the transaction of the events it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetChange {
    /// Fails the whole append when `used + reserved + amount` would pass a limit.
    Reserve(Amount),
    /// Replaces a reservation by what was really used (which may be more).
    Settle { reserved: Amount, used: Amount },
}

/// Where a run's budget stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    pub used: Amount,
    pub reserved: Amount,
}
