//! What the process that becomes the program does to itself first: no_new_privs, seccomp, limits, Landlock,
//! capabilities, ids. None of it can be undone. What is the same for every call is done before the call is known.

use std::{collections::BTreeMap, fs};

use landlock::RulesetCreated;
use rustix::{
    io::Errno,
    process::{Gid, Resource, Rlimit, Uid, setrlimit},
    thread::{
        CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use seccompiler::BpfProgram;

use super::{
    landlocked,
    seccomp::{self, Extra},
};
use crate::spec::{BaseSpec, CallSpec, ProgramSpec, StageFailure, Step};

/// What this process found to be true of itself afterwards.
#[derive(Debug)]
pub struct Confined {
    pub landlock_abi: u32,
    pub seccomp: String,
    pub no_new_privs: bool,
    pub capabilities_dropped: bool,
}

/// What is done already, and what is prepared.
#[derive(Debug)]
pub struct Ahead {
    filters: Vec<BpfProgram>,
    rules: RulesetCreated,
}

/// The kernel allows no smaller number of process ids in a namespace.
const PID_MAX_LEAST: u32 = 301;
/// Of the memory limit: what segments may take on top of what processes have.
const SEGMENTS_SHARE: u64 = 8;
/// The stages' own processes and threads, which count too.
const OWN_PROCESSES: u64 = 6;

/// Without capabilities lost yet: `base` is shown, the call's own is to come.
pub fn ahead(base: &BaseSpec) -> Result<Ahead, StageFailure> {
    let rules = landlocked::prepare(base)?;
    set_no_new_privs(true).step("confine", "no_new_privs")?;
    let filters = seccomp::for_all()?;
    seccomp::load(&filters)?;
    Ok(Ahead { filters, rules })
}

pub fn this_process(
    ahead: Ahead,
    base: &BaseSpec,
    spec: &CallSpec,
    limits: &mut BTreeMap<String, String>,
    direct: bool,
) -> Result<Confined, StageFailure> {
    let extra = Extra {
        direct,
        internal: matches!(spec.program, ProgramSpec::Internal { .. }),
        no_memory_files: !limits.contains_key("memory"),
        no_segments: !limits.contains_key("memory") && !limits.contains_key("segments"),
    };
    resource_limits(spec, limits)?;
    let landlock_abi = landlocked::restrict(ahead.rules, spec)?;
    drop_capabilities(base.map_by_host && may_set_groups(), spec.run_as)?;
    let mut programs = ahead.filters;
    let more = seccomp::on_top(extra)?;
    seccomp::load(&more)?;
    programs.extend(more);
    let status = fs::read_to_string("/proc/thread-self/status").step("confine", "read own status")?;
    let confined = Confined {
        landlock_abi,
        seccomp: seccomp::hash(&programs),
        no_new_privs: field(&status, "NoNewPrivs") == Some("1"),
        capabilities_dropped: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .iter()
            .all(|set| field(&status, set).is_some_and(|bits| bits.bytes().all(|digit| digit == b'0'))),
    };
    // 2: a filter is in force.
    if field(&status, "Seccomp") != Some("2") || !confined.no_new_privs || !confined.capabilities_dropped {
        return Err(StageFailure::new("confine", "the kernel did not take all of it"));
    }
    Ok(confined)
}

/// Bounds what System V segments may take together, where no control group does. Runs in process 1 before /proc is
/// read-only; where it cannot, the filter leaves no segments at all.
pub fn bound_segments(spec: &CallSpec, limits: &mut BTreeMap<String, String>) {
    const PAGE_BYTES: u64 = 4096;
    if limits.contains_key("memory") {
        return;
    }
    let pages = (spec.limits.memory_bytes / SEGMENTS_SHARE / PAGE_BYTES).max(1).to_string();
    let bounded = fs::write("/proc/sys/kernel/shmall", &pages).is_ok()
        && fs::read_to_string("/proc/sys/kernel/shmall").is_ok_and(|now| now.trim() == pages);
    if bounded {
        limits.insert("segments".to_owned(), "shmall".to_owned());
    }
}

/// In a user namespace where groups were given up for good, there are none to drop that could be.
fn may_set_groups() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Chooses how the number of processes is bounded where the host set no control group up.
/// Runs in process 1 before /proc is read-only.
pub fn bound_processes(
    base: &BaseSpec,
    spec: &CallSpec,
    limits: &mut BTreeMap<String, String>,
) -> Result<(), StageFailure> {
    if limits.contains_key("processes") {
        return Ok(());
    }
    // The kernel exempts the host's real root from RLIMIT_NPROC.
    if !base.map_by_host && base.uid != 0 || spec.run_as.is_some() {
        limits.insert("processes".to_owned(), "rlimit".to_owned());
        return Ok(());
    }
    let most = spec.limits.processes_max.max(PID_MAX_LEAST);
    // Namespaced since Linux 6.14; before that the write would change the whole machine.
    let before = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let written = pid_max_is_namespaced() && fs::write("/proc/sys/kernel/pid_max", most.to_string()).is_ok();
    if !written {
        return Err(StageFailure::new(
            "limits",
            format!("nothing here bounds the number of processes (pid_max {})", before.trim()),
        ));
    }
    limits.insert("processes".to_owned(), "pid_max".to_owned());
    Ok(())
}

fn pid_max_is_namespaced() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

fn resource_limits(spec: &CallSpec, limits: &mut BTreeMap<String, String>) -> Result<(), StageFailure> {
    let wanted = &spec.limits;
    let mut set = vec![
        ("core", Resource::Core, 0),
        ("cpu", Resource::Cpu, wanted.cpu_s.max(1)),
        ("open_files", Resource::Nofile, u64::from(wanted.open_files_max)),
        ("file_bytes", Resource::Fsize, wanted.file_bytes_max),
    ];
    if limits.get("processes").is_some_and(|how| how == "rlimit") {
        set.push(("processes", Resource::Nproc, u64::from(wanted.processes_max) + OWN_PROCESSES));
    }
    if !limits.contains_key("memory") {
        // Each process; the sum is watched by process 1.
        set.push(("memory", Resource::Data, wanted.memory_bytes));
    }
    for (name, resource, value) in set {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }).step("limits", name)?;
        limits.insert(name.to_owned(), "rlimit".to_owned());
    }
    Ok(())
}

fn drop_capabilities(groups: bool, run_as: Option<(u32, u32)>) -> Result<(), StageFailure> {
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(StageFailure::new("capabilities", format!("bounding set: {error}"))),
        }
    }
    // Being user 0 gives nothing any more, and none of this can be switched back.
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED;
    set_capabilities_secure_bits(bits).step("capabilities", "secure bits")?;
    if groups {
        set_thread_groups(&[]).step("capabilities", "drop groups")?;
    }
    if let Some((uid, gid)) = run_as {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_res_gid(gid, gid, gid).step("capabilities", "group id")?;
        set_thread_res_uid(uid, uid, uid).step("capabilities", "user id")?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .step("capabilities", "drop all")?;
    clear_ambient_capability_set().step("capabilities", "clear ambient")
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}
