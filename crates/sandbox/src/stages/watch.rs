//! The memory bound where no control group can hold it: the sum of what all processes of the call
//! have resident, looked at ten times a second. Coarser than a control group, and the receipt says so.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    process, thread,
    time::Duration,
};

use crate::{handoff, spec::FromStage};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const PAGE_BYTES: u64 = 4096;

/// Ends the sandbox (by ending its process 1) once the sum passes the limit.
#[allow(clippy::disallowed_methods, reason = "process 1 of a sandbox has nothing to close, and its end is the point")]
pub fn memory(bytes_max: u64, host: &OwnedFd) {
    let Ok(host) = host.as_fd().try_clone_to_owned() else { process::exit(125) };
    thread::spawn(move || {
        loop {
            if resident_bytes() > bytes_max {
                let _ = handoff::send(&host, &FromStage::MemoryExceeded, &[]);
                process::exit(125);
            }
            thread::sleep(LOOK_EVERY);
        }
    });
}

fn resident_bytes() -> u64 {
    let Ok(entries) = fs::read_dir("/proc") else { return u64::MAX };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| private_pages(&fs::read_to_string(entry.path().join("statm")).ok()?))
        .sum::<u64>()
        * PAGE_BYTES
}

/// Resident pages that no file backs, from a `statm` line.
fn private_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split(' ').skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    #[test]
    fn file_backed_pages_do_not_count() {
        assert_eq!(super::private_pages("900 500 120 1 0 300 0"), Some(380));
        assert_eq!(super::private_pages("900"), None);
    }
}
