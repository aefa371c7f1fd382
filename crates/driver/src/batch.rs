//! Calls of one answer that run at the same time, each in a layer of its own over the same workspace.
//!
//! Their results are taken in, and their changes merged, in the order of the calls. A call joins others only if it is
//! allowed without asking, has no effect but on its own layer, and its plan does not depend on theirs; anything else
//! waits until nothing runs and what ran is merged.

use futures_util::{StreamExt, stream::FuturesOrdered};
use homarus_contract::{
    BoxFuture,
    action::{EffectClass, Plan},
    gate::{Judge, Ledger},
    ids::CallId,
    machine::{Command, Machine},
};

use crate::{
    DriverError,
    act::{ActDone, Start},
    session::Session,
};

#[derive(Default)]
pub(crate) struct Batch {
    running: FuturesOrdered<BoxFuture<'static, ActDone>>,
    /// Every call since anything was merged: those that run, and those whose changes are still to be merged.
    open: Vec<(CallId, Touches)>,
    /// The one that runs suffers no other.
    is_alone: bool,
}

/// What a call reads or changes, as far as its plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Touches {
    Reads(Vec<String>),
    Writes(Vec<String>),
    /// A command: nobody knows before it has run.
    Anything,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next call in order, when it has ended.
    pub(crate) async fn next(&mut self) -> Option<ActDone> {
        self.running.next().await
    }

    pub(crate) fn may_join(&self, touches: &Touches) -> bool {
        self.is_empty() || (!self.is_alone && self.open.iter().all(|(_, open)| open.allows(touches)))
    }

    pub(crate) fn push(&mut self, call: CallId, touches: Touches, is_alone: bool, act: BoxFuture<'static, ActDone>) {
        self.is_alone = is_alone;
        self.open.push((call, touches));
        self.running.push_back(act);
    }

    fn has(&self, call: &CallId) -> bool {
        self.open.iter().any(|(open, _)| open == call)
    }
}

impl Touches {
    pub(crate) fn of(plan: &Plan) -> Self {
        let files = plan.resources.iter().all(|resource| resource.verb.starts_with("file:"));
        let paths = plan.resources.iter().map(|resource| resource.target.clone()).collect();
        match plan.class {
            EffectClass::Read if files => Self::Reads(paths),
            // Reads something else than files, which no call of a batch can change.
            EffectClass::Read => Self::Reads(Vec::new()),
            EffectClass::Workspace if files => Self::Writes(paths),
            _ => Self::Anything,
        }
    }

    /// Whether a later call may run beside this one as if it came after it.
    ///
    /// What is read now is not changed by a later call, which writes to a layer of its own. Commands run beside each
    /// other: whoever sends two in one answer does not wait for the first. Should both change one path, the later one's
    /// change is a conflict. A command after a declared change is likely to want it, and waits.
    fn allows(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Reads(_), _) | (Self::Anything, Self::Anything) => true,
            (Self::Writes(paths), Self::Reads(others) | Self::Writes(others)) => {
                !paths.iter().any(|path| others.iter().any(|other| overlap(path, other)))
            }
            (Self::Writes(_), Self::Anything) | (Self::Anything, _) => false,
        }
    }
}

/// Whether two paths are the same, or one lies in the other.
fn overlap(a: &str, b: &str) -> bool {
    let a = a.strip_prefix("./").unwrap_or(a).trim_end_matches('/');
    let b = b.strip_prefix("./").unwrap_or(b).trim_end_matches('/');
    let within = |inner: &str, outer: &str| {
        outer.is_empty()
            || outer == "."
            || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Runs what the machine wants run, as far as it may run together, to its end.
    pub(crate) async fn act_now(&mut self) -> Result<(), DriverError> {
        let mut batch = Batch::default();
        self.start_ready(&mut batch).await?;
        let mut stop = Box::pin(self.stop_wanted());
        loop {
            tokio::select! {
                biased;
                done = batch.next() => match done {
                    Some(done) => self.act_done(done),
                    None => return Ok(()),
                },
                // Dropping the calls kills them; the loop acts on the stop.
                _ = &mut stop => return Ok(()),
            }
            self.start_ready(&mut batch).await?;
        }
    }

    /// Starts the calls that may run now. What is to be merged before is merged, once nothing runs.
    pub(crate) async fn start_ready(&mut self, batch: &mut Batch) -> Result<(), DriverError> {
        'again: loop {
            if batch.is_empty() {
                batch.open.clear();
            }
            // Nothing can be run before somebody has mended the machine.
            if self.trouble.is_some() {
                return Ok(());
            }
            for command in self.driver.options.machine.next(&self.state) {
                match command {
                    Command::Act { action, .. } if batch.has(&action.call) => {}
                    Command::Act { action, attempt, approval } => {
                        if batch.running.len() >= self.driver.options.calls_at_once.max(1) {
                            return Ok(());
                        }
                        match self.start_act(action, attempt, approval, batch).await? {
                            Start::Done => continue 'again,
                            Start::NotYet => return Ok(()),
                        }
                    }
                    Command::Settle { action, plan, result, hold: false, approval } if batch.is_empty() => {
                        self.flush().await?;
                        self.merge_now(action, *plan, *result, approval).await?;
                        continue 'again;
                    }
                    _ => return Ok(()),
                }
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use homarus_contract::action::Resource;

    use super::*;

    fn touches(class: EffectClass, verb: &str, targets: &[&str]) -> Touches {
        let resource = |target: &&str| Resource { verb: verb.to_owned(), target: (*target).to_owned() };
        Touches::of(&Plan {
            summary: String::new(),
            resources: targets.iter().map(resource).collect(),
            class,
            diff: None,
        })
    }

    fn read(path: &str) -> Touches {
        touches(EffectClass::Read, "file:read", &[path])
    }

    fn write(path: &str) -> Touches {
        touches(EffectClass::Workspace, "file:write", &[path])
    }

    fn shell() -> Touches {
        touches(EffectClass::Workspace, "shell:run", &["make"])
    }

    #[test]
    fn what_may_depend_on_an_earlier_call_waits_for_it() {
        for (earlier, later, together) in [
            (read("./a"), read("./a"), true),
            (read("./a"), write("./a"), true),
            (read("."), shell(), true),
            (write("./a"), write("./b"), true),
            (write("./a"), write("./a/b"), false),
            (write("./a/b"), read("./a"), false),
            (write("./a"), read("."), false),
            (write("./a"), read("./ab"), true),
            (write("./a"), shell(), false),
            (shell(), shell(), true),
            (shell(), read("./a"), false),
            (shell(), write("./a"), false),
            (write("./a"), touches(EffectClass::Read, "net:connect", &["x"]), true),
        ] {
            assert_eq!(earlier.allows(&later), together, "{earlier:?} then {later:?}");
        }
    }
}
