//! What the proxy asks about each connection of a browser: the run's rules, and what a person has agreed to for it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use homarus_contract::{
    egress::{EgressRules, EgressVerdict},
    event::Profile,
    outbound::Reach,
    tool::{HostRules, HostView},
};

use super::launch::OWN_HOST;
use crate::web;

pub struct Rules {
    rules: Arc<dyn HostRules>,
    run: Mutex<OfRun>,
}

struct OfRun {
    profile: Profile,
    /// `HOST:PORT`s that passed the gate with a call of this browser.
    agreed: BTreeSet<String>,
}

impl Rules {
    pub fn new(rules: Arc<dyn HostRules>, profile: Profile) -> Self {
        Self { rules, run: Mutex::new(OfRun { profile, agreed: BTreeSet::new() }) }
    }

    /// What was agreed to under other rules does not count any more.
    pub fn agree(&self, profile: &Profile, targets: impl IntoIterator<Item = String>) {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.profile != *profile {
            *run = OfRun { profile: profile.clone(), agreed: BTreeSet::new() };
        }
        run.agreed.extend(targets);
    }

    fn view(&self, target: &str) -> Result<(HostView, bool), String> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((self.rules.view(&run.profile, target)?, run.agreed.contains(target)))
    }
}

impl EgressRules for Rules {
    fn judge(&self, host: &str, port: u16) -> EgressVerdict {
        if host == OWN_HOST {
            return EgressVerdict::Deny("the browser wants it for itself".to_owned());
        }
        let target = format!("{host}:{port}");
        let (view, is_agreed) = match self.view(&target) {
            Ok(view) => view,
            Err(why) => return EgressVerdict::Deny(why),
        };
        if !view.is_free && !is_agreed {
            return EgressVerdict::Deny("the rules do not allow it unasked".to_owned());
        }
        EgressVerdict::Allow(reach(view, host))
    }
}

fn reach(view: HostView, host: &str) -> Reach {
    let is_literal = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    web::reach(view, is_literal)
}

#[cfg(test)]
mod tests {
    use homarus_contract::{action::Tier, event::ApprovalsMode};

    use super::*;

    /// Frees and names what begins with these words.
    struct Fixed;

    impl HostRules for Fixed {
        fn view(&self, profile: &Profile, target: &str) -> Result<HostView, String> {
            if profile.rules == "broken" {
                return Err("the rules cannot be read".to_owned());
            }
            Ok(HostView {
                is_free: target.starts_with("free"),
                is_named: target.contains("named") || target.starts_with('['),
            })
        }
    }

    fn profile(rules: &str) -> Profile {
        Profile { grants: Vec::new(), rules: rules.to_owned(), approvals: ApprovalsMode::Ask, tier: Tier::Internal }
    }

    #[test]
    fn what_was_agreed_to_holds_for_exactly_that_and_under_those_rules() {
        let rules = Rules::new(Arc::new(Fixed), profile("a"));
        let denied = |verdict: EgressVerdict| matches!(verdict, EgressVerdict::Deny(_));
        assert!(denied(rules.judge("shop.example", 443)));
        rules.agree(&profile("a"), ["shop.example:443".to_owned()]);
        assert_eq!(rules.judge("shop.example", 443), EgressVerdict::Allow(Reach::Public));
        assert!(denied(rules.judge("shop.example", 80)) && denied(rules.judge("x.shop.example", 443)));
        rules.agree(&profile("b"), []);
        assert!(denied(rules.judge("shop.example", 443)), "other rules");
        assert_eq!(rules.judge("free", 1), EgressVerdict::Allow(Reach::Public));
        assert_eq!(rules.judge("free.named", 1), EgressVerdict::Allow(Reach::Private));
        rules.agree(&profile("b"), ["[::1]:1".to_owned()]);
        assert_eq!(rules.judge("[::1]", 1), EgressVerdict::Allow(Reach::Any));
        rules.agree(&profile("broken"), ["free:1".to_owned()]);
        assert!(denied(rules.judge("free", 1)));
    }
}
