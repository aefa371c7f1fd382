//! Budgets: reserved before, settled after, never overdrawn.

use homarus_contract::{
    budget::{Amount, BudgetChange, BudgetState},
    event::Event,
    journal::{Append, Fence, Journal, JournalError},
};
use homarus_store::Store;

use crate::fixture::*;

async fn change(store: &Store, fence: &Fence, event: Event, change: BudgetChange) -> Result<Fence, JournalError> {
    let mut append = Append::new(fence.clone());
    append.push(event);
    append.budget.push(change);
    store.append(append).await
}

async fn reserve(store: &Store, fence: &Fence, amount: Amount) -> Result<Fence, JournalError> {
    change(store, fence, note("reserve"), BudgetChange::Reserve(amount)).await
}

#[tokio::test]
async fn a_reservation_past_a_bound_names_it() {
    let world = World::new();
    let fence = world.run("a").await;
    let cases = [
        (amount(1_001, 0, 0), "cost_usd", 1_000),
        (amount(0, 501, 0), "tokens", 500),
        (amount(0, 0, 4), "steps", 3),
        (amount(1_001, 501, 4), "cost_usd", 1_000),
    ];
    for (amount, bound, limit) in cases {
        let refused = reserve(&world.store, &fence, amount).await;
        assert_eq!(refused, Err(JournalError::OverBudget { bound: bound.into(), limit }));
    }
    let fence = reserve(&world.store, &fence, amount(1_000, 500, 3)).await.unwrap();
    let refused = reserve(&world.store, &fence, amount(0, 1, 0)).await;
    assert_eq!(refused, Err(JournalError::OverBudget { bound: "tokens".into(), limit: 500 }));
}

#[tokio::test]
async fn settling_gives_back_what_was_not_used_and_counts_what_was() {
    let world = World::new();
    let fence = world.run("a").await;
    let fence = reserve(&world.store, &fence, amount(800, 400, 1)).await.unwrap();
    let settle = BudgetChange::Settle { reserved: amount(800, 400, 1), used: amount(900, 100, 1) };
    let fence = change(&world.store, &fence, answered(Some(900), Some(100)), settle).await.unwrap();
    let (limits, state) = world.store.budget(fence.run()).unwrap();
    assert_eq!(limits, accepted("a").budget);
    assert_eq!(state, BudgetState { used: amount(900, 100, 1), reserved: Amount::default() });
    assert!(reserve(&world.store, &fence, amount(101, 0, 0)).await.is_err());
    assert!(reserve(&world.store, &fence, amount(100, 0, 0)).await.is_ok());
}

#[tokio::test]
async fn used_may_pass_the_bound_because_it_has_happened() {
    let world = World::new();
    let fence = world.run("a").await;
    let settle = BudgetChange::Settle { reserved: Amount::default(), used: amount(5_000, 0, 0) };
    let fence = change(&world.store, &fence, note("more than thought"), settle).await.unwrap();
    assert_eq!(world.store.budget(fence.run()).unwrap().1.used.cost, 5_000);
    assert!(reserve(&world.store, &fence, amount(0, 1, 0)).await.is_err(), "nothing more in any figure");
}

#[tokio::test]
async fn nonsense_is_refused() {
    let world = World::new();
    let fence = world.run("a").await;
    let settle = BudgetChange::Settle { reserved: amount(1, 0, 0), used: Amount::default() };
    let refused = change(&world.store, &fence, note("x"), settle).await;
    assert!(matches!(refused, Err(JournalError::Refused(_))), "{refused:?}");
    let huge = reserve(&world.store, &fence, amount(u64::MAX, u64::MAX, u32::MAX)).await;
    assert!(matches!(huge, Err(JournalError::Refused(_))), "{huge:?}");
    let mut alone = Append::new(fence.clone());
    alone.budget.push(BudgetChange::Reserve(amount(1, 1, 1)));
    assert!(matches!(world.store.append(alone).await, Err(JournalError::Refused(_))));
    let mut endless = accepted("b");
    endless.budget.tokens_max = u64::MAX;
    assert!(matches!(world.store.accept(endless, blobs()).await, Err(JournalError::Refused(_))));
    assert_eq!(world.store.budget(fence.run()).unwrap().1, BudgetState::default());
}

#[tokio::test]
async fn a_cost_nobody_knows_is_not_nothing() {
    let cases = [
        (answered(Some(0), Some(10)), true),
        (answered(None, Some(10)), false),
        (answered(None, None), false),
        (answered(None, Some(0)), true),
    ];
    for (event, known) in cases {
        let world = World::new();
        let fence = world.run("a").await;
        push(&world.store, fence, vec![event.clone(), note("later")]).await;
        assert_eq!(world.store.run(&run_id("a")).unwrap().cost_known, known, "{event:?}");
    }
}
