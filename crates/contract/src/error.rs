//! Errors that cross more than one room. Each crate's own boundary error stands beside its port.

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a valid {what}")]
pub struct InvalidId {
    pub what: &'static str,
    pub text: String,
}
