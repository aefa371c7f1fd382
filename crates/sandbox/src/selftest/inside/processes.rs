//! Other processes, and processes that will not end.

use std::{
    io,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{SigSet, Signal, kill, killpg},
    unistd::Pid,
};

use super::{Outcome, Place, Tried, arguments, kernel::raw};
use rustix::io::Errno;

const PERM: &[Errno] = &[Errno::PERM];
/// Longer than any call is allowed; outside, the self-test ends them.
const LIFE: Duration = Duration::from_secs(60);

/// A process of this attack that is not the attack itself. `Some`: it was one.
pub fn helper(place: &Place) -> Option<i32> {
    match place.attack.as_str() {
        "helper.pause" => std::thread::sleep(LIFE),
        "helper.half" => return Some(super::limits::half(place.memory_bytes)),
        "helper.deaf" => {
            deaf();
            std::thread::sleep(LIFE);
        }
        // Leaves the session, starts the one that stays, and ends, so that nobody is its parent.
        "helper.fork" => {
            let _ = nix::unistd::setsid();
            return Some(i32::from(start(place, "helper.deaf").is_err()));
        }
        _ => return None,
    }
    Some(0)
}

fn deaf() {
    for each in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE, Signal::SIGQUIT] {
        let mut set = SigSet::empty();
        set.add(each);
        let _ = set.thread_block();
    }
}

/// Another process of the same program.
pub fn start(place: &Place, attack: &str) -> io::Result<Child> {
    let place = Place { attack: attack.to_owned(), lab: false, ..place.clone() };
    Command::new("/proc/self/exe")
        .args(arguments(&place)?)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// With a child of our own, since a stranger might be refused for being one.
fn with_child(tried: &Tried, names: &[&str]) {
    match start(tried.place, "helper.pause") {
        Ok(mut child) => {
            for name in names {
                raw(tried, name, child.id().cast_signed(), PERM);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        Err(error) => tried.untried("start a process", error),
    }
}

pub fn trace(tried: &Tried) {
    with_child(tried, &["ptrace_seize", "kcmp"]);
    if !tried.place.control {
        raw(tried, "ptrace_seize", 1, PERM);
    }
    raw(tried, "ptrace_seize", tried.place.driver, PERM);
    raw(tried, "ptrace_traceme", 0, PERM);
}

pub fn memory(tried: &Tried) {
    with_child(tried, &["process_vm_readv", "process_vm_writev", "move_pages"]);
    for pid in [1, tried.place.driver] {
        for name in ["process_vm_readv", "process_vm_writev"] {
            raw(tried, name, pid, PERM);
        }
    }
    raw(tried, "process_madvise", 0, PERM);
}

/// The sandbox's own stages, the driver, the group, and everybody. What is still alive is seen by the host.
pub fn kill_parents(tried: &Tried) {
    let errno = |result: nix::Result<()>| result.map_err(io::Error::from);
    let parent = nix::unistd::getppid();
    tried.denied_as(
        "signal the driver",
        errno(kill(Pid::from_raw(tried.place.driver), Signal::SIGKILL)),
        &[Errno::SRCH],
    );
    match kill(parent, Signal::SIGKILL) {
        Ok(()) => tried.confined("kill the parent", "it is process 1, and immune"),
        Err(error) => tried.denied("kill the parent", Err::<(), _>(error.into())),
    }
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) => tried.confined("kill everybody", "who is in the sandbox"),
        Err(error) => tried.denied("kill everybody", Err::<(), _>(error.into())),
    }
    // 0: led by a process this namespace does not see, which a signal to the group would reach.
    match (nix::unistd::getpgrp().as_raw(), nix::unistd::getsid(None).map(Pid::as_raw)) {
        (0, _) | (_, Ok(0)) => tried.through("share a group with the host", "it is led from outside"),
        _ => tried.note("share a group with the host", Outcome::Denied { how: "own group".to_owned() }),
    }
    // The stages stand outside of the process namespace; those in our group would hear this.
    let stopped = SigSet::all();
    let _ = stopped.thread_block();
    match killpg(nix::unistd::getpgrp(), Signal::SIGUSR1) {
        Ok(()) => tried.confined("signal the group", "it is the sandbox's own"),
        Err(error) => tried.denied("signal the group", Err::<(), _>(error.into())),
    }
}

/// Stops its whole group, itself included: were the keeper of the sandbox in it, the call would never end.
pub fn stop_group(tried: &Tried) {
    tried.begun("stop the group");
    let _ = killpg(nix::unistd::getpgrp(), Signal::SIGSTOP);
    std::thread::sleep(LIFE);
}

fn left(tried: &Tried, what: &str, started: io::Result<Child>) {
    match started {
        Ok(child) => {
            tried.confined(what, &format!("as process {} of the sandbox", child.id()));
            // Not waited for: it is to be left behind.
            drop(child);
        }
        Err(error) => tried.note(what, Outcome::Denied { how: super::errno(&error) }),
    }
}

pub fn background(tried: &Tried) {
    left(tried, "leave a process behind", start(tried.place, "helper.pause"));
}

pub fn daemon(tried: &Tried) {
    let started = start(tried.place, "helper.fork").and_then(|mut child| child.wait().map(|_| child));
    left(tried, "leave a daemon behind", started);
}

pub fn deaf_one(tried: &Tried) {
    left(tried, "leave one that ignores signals", start(tried.place, "helper.deaf"));
    deaf();
    tried.begun("stay until the end");
    std::thread::sleep(LIFE);
}
