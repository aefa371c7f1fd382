//! Keys of providers: set or not, usable or not. Only the vault looks at what is in them.

use homarus_api::doctor::Finding;
use homarus_vault::Looked;

use super::{Because, error, info, ok, warning};
use crate::{config::Config, providers};

/// A configuration that cannot be used is a finding of its own.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut names: Vec<String> = providers::all(config).into_iter().flatten().filter_map(|known| known.key).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.iter().map(|name| judge(name, homarus_vault::look(name))).collect()
}

fn judge(name: &str, looked: Looked) -> Finding {
    let id = format!("keys.{name}");
    match looked {
        Looked::Missing => info(&id, &format!("{name} is not set")),
        Looked::Fine => ok(&id, &format!("{name} is set")),
        Looked::Padded => warning(&id, &format!("{name} has blanks or line breaks around it"))
            .because("Homarus leaves them out; other programs may not")
            .fix(format!("set {name} again without them")),
        Looked::Unusable(reason) => error(&id, &format!("{name} cannot be used"))
            .because(reason)
            .fix(format!("set {name} to the key alone, or unset it")),
    }
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::*;

    #[test]
    fn each_state_of_a_key_is_told() {
        let check = |looked, severity| {
            let found = judge("OPENAI_API_KEY", looked);
            assert_eq!((found.id.as_str(), found.severity), ("keys.OPENAI_API_KEY", severity), "{found:?}");
        };
        check(Looked::Missing, Severity::Info);
        check(Looked::Fine, Severity::Ok);
        check(Looked::Padded, Severity::Warning);
        check(Looked::Unusable("it holds a space"), Severity::Error);
    }
}
