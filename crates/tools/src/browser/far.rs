//! How far a call of the browser had come when something went wrong, and how that is told. What was done, or may have
//! been, is never told as a mere failure: a model would do it again.

use super::page::PageError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// Nothing was done.
    Nowhere,
    /// This page was opened; only it cannot be shown.
    Opened(String),
    /// This may have been done.
    Perhaps(String),
    /// This was done; only the page cannot be shown after it.
    Done(String),
}

impl Far {
    /// For the model.
    pub fn told(&self, error: &PageError) -> String {
        let (why, end, next) = match error {
            PageError::Said(why) => (why.as_str(), "", ""),
            PageError::Lost(why) => {
                (why.as_str(), "; the browser was ended", " Open the page again, or go on without it.")
            }
        };
        let why = format!("{}{end}.", why.trim_end_matches('.'));
        match self {
            Self::Nowhere => format!("{why}{next}"),
            Self::Opened(page) => format!("opened {page}, but it cannot be shown: {why}{next}"),
            Self::Perhaps(deed) => format!("{deed}: {why} It may have been done; do not repeat it without checking."),
            Self::Done(deed) => {
                format!("done: {deed}, but the page cannot be shown: {why} Do not repeat it without checking.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_first() {
        let lost = PageError::Lost("The page crashed".to_owned());
        let said = PageError::Said("It went.".to_owned());
        for (far, error, expected) in [
            (Far::Nowhere, &said, "It went."),
            (Far::Nowhere, &lost, "The page crashed; the browser was ended. Open the page again, or go on without it."),
            (Far::Opened("x".to_owned()), &said, "opened x, but it cannot be shown: It went."),
            (
                Far::Perhaps("click a".to_owned()),
                &lost,
                "click a: The page crashed; the browser was ended. It may have been done; do not repeat it without checking.",
            ),
            (
                Far::Done("click a".to_owned()),
                &said,
                "done: click a, but the page cannot be shown: It went. Do not repeat it without checking.",
            ),
        ] {
            assert_eq!(far.told(error), expected);
        }
    }
}
