//! The egress proxy: serves the one socket a sandbox has, and judges, resolves, checks and dials for it.
//!
//! Who speaks there is known by the socket, so nothing is asked of it but where it wants to go. It is trusted with
//! nothing: every request is parsed by an HTTP library and made anew, every name is looked up here, once, and exactly
//! the addresses that were checked are dialled.

mod dial;
mod meter;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use homarus_contract::egress::{Egress, EgressBounds, EgressHandle, EgressRules, Refusal};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{Vault, resolve::Lookup};
use meter::Meter;

/// Different refusals that are kept until somebody asks; more are only counted, in the last.
const REFUSALS_MAX: usize = 32;
/// A name in a refusal is not shown beyond this.
const TARGET_CHARS_MAX: usize = 120;

impl Egress for Vault {
    fn serve(
        &self,
        listener: TcpListener,
        rules: Arc<dyn EgressRules>,
        bounds: EgressBounds,
    ) -> io::Result<Box<dyn EgressHandle>> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            rules,
            lookup: self.lookup.clone(),
            bounds,
            meter: Meter::new(bounds.bytes_max),
            slots: Arc::new(Semaphore::new(bounds.connections_max)),
            refusals: Mutex::default(),
        });
        let accepting = tokio::spawn(serve::accept(listener, shared.clone()));
        Ok(Box::new(Served { shared, accepting }))
    }
}

/// What the connections of one way out have in common.
struct Shared {
    rules: Arc<dyn EgressRules>,
    lookup: Arc<dyn Lookup>,
    bounds: EgressBounds,
    meter: Meter,
    slots: Arc<Semaphore>,
    refusals: Mutex<Vec<Refusal>>,
}

impl Shared {
    fn refuse(&self, target: &str, why: &str) {
        let target: String = target.chars().filter(|char| !char.is_control()).take(TARGET_CHARS_MAX).collect();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let full = refusals.len() >= REFUSALS_MAX;
        match refusals.iter_mut().find(|known| known.target == target && known.why == why) {
            Some(known) => known.count += 1,
            None if !full => refusals.push(Refusal { target, why: why.to_owned(), count: 1 }),
            None => {
                if let Some(last) = refusals.last_mut() {
                    if last.target != "others" {
                        *last = Refusal {
                            target: "others".to_owned(),
                            why: "too many to list".to_owned(),
                            count: last.count,
                        };
                    }
                    last.count += 1;
                }
            }
        }
    }
}

/// Ends with its handle: the connections are children of the accepting task.
struct Served {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl EgressHandle for Served {
    fn take_refusals(&self) -> Vec<Refusal> {
        std::mem::take(&mut *self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self) -> u64 {
        self.shared.meter.used()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
