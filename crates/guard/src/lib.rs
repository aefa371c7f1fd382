//! The judge: what stands between a wish and a permit.
//!
//! In this order: the run must be known, a grant of its profile must cover every resource the plan
//! names, then its rules decide, then its approvals mode says what an *ask* means. The guard has no
//! effects and remembers nothing but what was registered; the gate asks it again before a merge, and
//! the same question gets the same answer.

mod hosts;
mod judge;
mod profile;
mod readable;

pub use hosts::Hosts;
pub use judge::Guard;
pub use profile::GuardError;
pub use readable::Readable;
