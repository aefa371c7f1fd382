//! The list of operations.

use serde::{Serialize, de::DeserializeOwned};

use crate::{agents, browser, config, doctor, models, runs, sandbox, skills, tools};

/// One thing a user can do.
pub trait Operation {
    const INFO: OperationInfo;
    type Request: Serialize + DeserializeOwned;
    type Response: Serialize + DeserializeOwned;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationInfo {
    /// `noun.verb`; the CLI's command is the same two words.
    pub name: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    /// What a caller's token must grant.
    pub capability: &'static str,
    /// One line for help and OpenAPI.
    pub summary: &'static str,
}

macro_rules! operations {
    ($($operation:ty),* $(,)?) => {
        /// All operations, in the order help lists them.
        pub const OPERATIONS: &[OperationInfo] = &[$(<$operation as Operation>::INFO),*];
    };
}

operations![
    runs::Start,
    runs::List,
    runs::Show,
    runs::Undo,
    runs::Diff,
    runs::Fork,
    runs::Log,
    runs::Verify,
    runs::Pause,
    runs::Resume,
    runs::ResumeAll,
    runs::Say,
    runs::Configure,
    runs::Approve,
    runs::Resolve,
    runs::Cancel,
    runs::Delete,
    runs::Prune,
    agents::List,
    agents::Show,
    agents::Create,
    agents::Edit,
    agents::Delete,
    agents::Switch,
    skills::List,
    skills::Show,
    skills::Add,
    skills::Update,
    skills::Allow,
    skills::Remove,
    models::List,
    models::Pull,
    models::Test,
    browser::Profiles,
    browser::Clear,
    sandbox::Probe,
    sandbox::Selftest,
    tools::List,
    tools::Show,
    tools::Call,
    config::Get,
    config::Set,
    config::Path,
    config::Check,
    doctor::Check,
];

/// Declares an operation: a type that carries its description and its two wire types.
macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $dotted:literal, $method:literal $path:literal, needs $capability:literal,
     $request:ty => $response:ty) => {
        $(#[$doc])*
        pub struct $name;

        impl crate::Operation for $name {
            const INFO: crate::OperationInfo = crate::OperationInfo {
                name: $dotted,
                method: $method,
                path: $path,
                capability: $capability,
                summary: concat!($dotted, " over ", $method, " ", $path),
            };
            type Request = $request;
            type Response = $response;
        }
    };
}
pub(crate) use operation;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::OPERATIONS;

    #[test]
    fn names_and_routes_are_unique() {
        let names: BTreeSet<_> = OPERATIONS.iter().map(|info| info.name).collect();
        let routes: BTreeSet<_> = OPERATIONS.iter().map(|info| (info.method, info.path)).collect();
        assert_eq!(names.len(), OPERATIONS.len());
        assert_eq!(routes.len(), OPERATIONS.len());
    }
}
