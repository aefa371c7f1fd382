//! The undo machine against histories by chance.

use homarus_test_kit::histories::{accepted, live};
use homarus_workflow::undo::{NAME, Undo};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_undo_wants_nothing_twice_whatever_happens(choices in vec(any::<u8>(), 0..120)) {
        let course = live(&Undo, accepted(NAME, "undo 01abc:1 up to c4.1", false), &choices);
        let course = course.map_err(TestCaseError::fail)?;
        prop_assert!(course.is_finished && course.merges <= 1, "{course:?}");
    }

    #[test]
    fn a_request_that_names_nothing_ends_without_a_call(choices in vec(any::<u8>(), 0..40)) {
        let course = live(&Undo, accepted(NAME, "undo everything, please", false), &choices);
        let course = course.map_err(TestCaseError::fail)?;
        prop_assert!(course.is_finished && course.merges == 0, "{course:?}");
    }
}
