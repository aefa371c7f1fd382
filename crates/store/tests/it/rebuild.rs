//! The projections are nothing but a fold of the events.

use homarus_contract::{
    budget::{Amount, BudgetChange},
    event::{Event, WaitingOn},
    ids::CallId,
    journal::{Append, Journal, JournalError},
};
use proptest::prelude::*;

use crate::fixture::*;

/// One append, as a test case can spell it.
#[derive(Debug, Clone)]
enum Step {
    Note(u8),
    Reserve(u16, u16),
    Answer { cost: Option<u8>, tokens: Option<u8> },
    Settle,
    Wait(bool),
    Takeover,
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..5).prop_map(Step::Note),
        3 => (0u16..600, 0u16..300).prop_map(|(cost, tokens)| Step::Reserve(cost, tokens)),
        2 => (any::<Option<u8>>(), any::<Option<u8>>()).prop_map(|(cost, tokens)| Step::Answer { cost, tokens }),
        2 => Just(Step::Settle),
        1 => any::<bool>().prop_map(Step::Wait),
        1 => Just(Step::Takeover),
        1 => Just(Step::Finish),
    ]
}

async fn play(world: &World, name: &str, steps: &[Step]) {
    let mut fence = world.run(name).await;
    for step in steps {
        let mut append = Append::new(fence.clone());
        match step {
            Step::Note(count) => append.events = vec![note("x"); usize::from(*count)],
            Step::Reserve(cost, tokens) => {
                append.push(note("reserve"));
                append.budget.push(BudgetChange::Reserve(amount(u64::from(*cost), u64::from(*tokens), 1)));
            }
            Step::Answer { cost, tokens } => append.push(answered(cost.map(u64::from), tokens.map(u64::from))),
            Step::Settle => {
                let reserved = world.store.budget(fence.run()).unwrap().1.reserved;
                append.push(note("settle"));
                append.push(note("settled"));
                let used = Amount { cost: reserved.cost / 2, ..reserved };
                append.budget.push(BudgetChange::Settle { reserved, used });
            }
            Step::Wait(true) => append.push(paused()),
            Step::Wait(false) => {
                append.push(Event::Waiting { on: WaitingOn::Approval { call: CallId::new(1, 0) } });
            }
            Step::Takeover => {
                world.store.release(fence.clone()).await.unwrap();
                fence = world.store.claim(fence.run().clone()).await.unwrap();
                continue;
            }
            Step::Finish => append.push(finished()),
        }
        match world.store.append(append).await {
            Ok(next) => fence = next,
            Err(JournalError::OverBudget { .. }) => {}
            Err(JournalError::AlreadyFinished(_)) => return,
            Err(error) => panic!("{error}"),
        }
        if matches!(step, Step::Finish) {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rebuilt_is_what_was_live(scripts in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            for (at, steps) in scripts.iter().enumerate() {
                play(&world, &format!("r{at}"), steps).await;
            }
            let live = world.projections();
            let report = world.store.verify(None).unwrap();
            prop_assert!(report.is_whole(), "{report:?}");
            world.sql().execute_batch(
                "UPDATE runs SET status = 'failed', cost_known = 0, prompt = 'other'; UPDATE budgets SET used_cost = 77;
                 DELETE FROM inbox",
            ).unwrap();
            prop_assert!(!world.store.verify(None).unwrap().is_whole());
            prop_assert_eq!(world.store.rebuild_projections().await.unwrap(), scripts.len() as u64);
            prop_assert_eq!(world.projections(), live);
            prop_assert!(world.store.verify(None).unwrap().is_whole());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_rebuild_keeps_the_notes_of_the_present() {
    let world = World::new();
    let fence = world.run("a").await;
    world.store.request_cancel(run_id("a")).await.unwrap();
    world.store.rebuild_projections().await.unwrap();
    assert!(world.store.cancel_requested(&run_id("a")).unwrap());
    assert_eq!(push(&world.store, fence, vec![note("on")]).await.seq(), 2, "the owner goes on");
}

#[tokio::test]
async fn a_rebuild_of_a_damaged_journal_changes_nothing() {
    let world = World::new();
    world.run("a").await;
    world.run("b").await;
    let live = world.projections();
    world.sql().execute("UPDATE events SET body = '{' WHERE stream = 'b'", []).unwrap();
    assert!(matches!(world.store.rebuild_projections().await, Err(JournalError::Damaged(_))));
    assert_eq!(world.projections(), live);
}
