//! The memory bound where no control group can hold it: the sum of what all processes of the call
//! have resident or swapped out, and of their page tables, looked at ten times a second. Coarser than a control group, and the receipt says so.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
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
            if anonymous_bytes() + shared_bytes(bytes_max) > bytes_max {
                let _ = handoff::send(&host, &FromStage::MemoryExceeded, &[]);
                process::exit(125);
            }
            thread::sleep(LOOK_EVERY);
        }
    });
}

/// The folders of all processes. Where they cannot be listed, nothing can be bounded, and the caller must not go on.
fn processes() -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    Some(named.map(|entry| entry.path()).collect())
}

fn anonymous_bytes() -> u64 {
    let Some(all) = processes() else { return u64::MAX / 2 };
    let pages = all.iter().filter_map(|path| private_pages(&fs::read_to_string(path.join("statm")).ok()?));
    let others = all.iter().filter_map(|path| Some(not_resident(&fs::read_to_string(path.join("status")).ok()?)));
    pages.sum::<u64>() * PAGE_BYTES + others.sum::<u64>() * 1024
}

/// What a process has besides resident pages, in kibibytes, from its `status`: a page table can be as large as what it maps.
fn not_resident(status: &str) -> u64 {
    ["VmPTE:", "VmSwap:"].iter().filter_map(|name| kibibytes(status, name)).sum()
}

/// What is mapped as shared memory. Each process is asked for all it maps, and only if that would be too much, for its
/// part of what it shares, which costs the kernel a walk over all of its pages.
fn shared_bytes(enough: u64) -> u64 {
    let Some(all) = processes() else { return u64::MAX / 2 };
    let whole = |path: &PathBuf| kibibytes(&fs::read_to_string(path.join("status")).ok()?, "RssShmem:");
    let most: u64 = all.iter().filter_map(whole).sum::<u64>() * 1024;
    if most <= enough / 2 {
        return most;
    }
    // Where the kernel does not tell the part, the whole counts.
    let part = |path: &PathBuf| {
        let text = fs::read_to_string(path.join("smaps_rollup")).ok();
        text.and_then(|text| kibibytes(&text, "Pss_Shmem:")).or_else(|| whole(path))
    };
    all.iter().filter_map(part).sum::<u64>() * 1024
}

/// The figure of a line such as `RssShmem:     12 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
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
        let text = "Rss: 9 kB\nPss_Shmem:      12 kB\n";
        assert_eq!(super::kibibytes(text, "Pss_Shmem:"), Some(12));
        assert_eq!(super::kibibytes(text, "Pss_Anon:"), None);
    }

    #[test]
    fn page_tables_and_swap_count() {
        assert_eq!(super::not_resident("VmRSS: 900 kB\nVmPTE:      52 kB\nVmSwap:     8 kB\n"), 60);
        assert_eq!(super::not_resident("Name: kernel thread\n"), 0);
    }
}
