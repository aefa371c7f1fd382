//! Landlock: a second, independent statement of which paths may be used how.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{init::EXE_INSIDE, mounts};
use crate::spec::{BaseSpec, CallSpec, StageFailure, Step};

/// The newest rights this code knows; older kernels enforce what they have.
const NEWEST: ABI = ABI::V6;

/// The rules for what every call sees, while only that is there.
pub fn prepare(base: &BaseSpec) -> Result<RulesetCreated, StageFailure> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .step("landlock", "paths")?
        .scope(Scope::from_all(NEWEST))
        .step("landlock", "scopes")?
        .create()
        .step("landlock", "create")?;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    rules = allow(rules, "/", AccessFs::ReadDir.into())?;
    rules = allow(rules, "/proc", read())?;
    rules = allow(rules, "/etc", run())?;
    rules = allow(rules, "/dev", device | AccessFs::ReadDir)?;
    for path in mounts::SCRATCH {
        rules = allow(rules, path, all())?;
    }
    rules = allow_shown(rules, base.show.binds.iter())?;
    allow(rules, EXE_INSIDE, run())
}

/// Adds the call's own and restricts this process, which must have one thread; returns the ABI that is enforced.
pub fn restrict(mut rules: RulesetCreated, spec: &CallSpec) -> Result<u32, StageFailure> {
    rules = allow_shown(rules, spec.show.binds.iter().chain(&spec.readable))?;
    if let Some((_, target)) = &spec.writable {
        rules = allow(rules, target, all() & !AccessFs::Execute)?;
    }
    if let Some(workspace) = &spec.workspace {
        rules = allow(rules, &workspace.target, if workspace.layer.is_some() { all() } else { run() })?;
    }
    let status = rules.restrict_self().step("landlock", "restrict")?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err(StageFailure::new("landlock", "the kernel enforces none of it")),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
        (_, other) => Err(StageFailure::new("landlock", format!("{other:?}"))),
    }
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn run() -> BitFlags<AccessFs> {
    read() | AccessFs::Execute
}

fn all() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

/// What lies in /etc is covered already.
fn allow_shown<'a>(
    rules: RulesetCreated,
    mut shown: impl Iterator<Item = &'a (PathBuf, PathBuf)>,
) -> Result<RulesetCreated, StageFailure> {
    shown.try_fold(rules, |rules, (_, path)| match path.starts_with("/etc") {
        true => Ok(rules),
        false => allow(rules, path, run()),
    })
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
