//! Landlock: a second, independent statement of which paths may be used how.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{init::EXE_INSIDE, mounts};
use crate::spec::{BaseSpec, CallSpec, StageFailure, Step};

/// The newest rights this code knows; older kernels enforce what they have.
const NEWEST: ABI = ABI::V6;

/// Restricts this thread; returns the ABI that is enforced.
pub fn restrict(base: &BaseSpec, spec: &CallSpec) -> Result<u32, StageFailure> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .step("landlock", "paths")?
        .scope(Scope::from_all(NEWEST))
        .step("landlock", "scopes")?
        .create()
        .step("landlock", "create")?;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = read | AccessFs::Execute;
    let all = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;

    rules = allow(rules, "/", AccessFs::ReadDir.into())?;
    rules = allow(rules, "/proc", read)?;
    rules = allow(rules, "/etc", run)?;
    rules = allow(rules, "/dev", device | AccessFs::ReadDir)?;
    for path in mounts::SCRATCH {
        rules = allow(rules, path, all)?;
    }
    // What lies in /etc is covered already.
    let shown = base.show.binds.iter().chain(&spec.show.binds).chain(&spec.readable);
    for (_, target) in shown.filter(|(_, path)| !path.starts_with("/etc")) {
        rules = allow(rules, target, run)?;
    }
    rules = allow(rules, EXE_INSIDE, run)?;
    if let Some((_, target)) = &spec.writable {
        rules = allow(rules, target, all & !AccessFs::Execute)?;
    }
    if let Some(workspace) = &spec.workspace {
        rules = allow(rules, &workspace.target, if workspace.layer.is_some() { all } else { run })?;
    }
    let status = rules.restrict_self().step("landlock", "restrict")?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err(StageFailure::new("landlock", "the kernel enforces none of it")),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
        (_, other) => Err(StageFailure::new("landlock", format!("{other:?}"))),
    }
}

fn allow(
    rules: RulesetCreated,
    path: impl AsRef<Path>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, StageFailure> {
    let path = path.as_ref();
    let what = path.display().to_string();
    let fd = PathFd::new(path).step("landlock", &what)?;
    // Rights that only folders have are an error on a file.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(fd, access)).step("landlock", &what)
}
