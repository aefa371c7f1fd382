//! `fork`, for the zygote of the sandbox, and nothing else.
//!
//! Why there is `unsafe` for it: a sandbox is two processes of ours that prepare namespaces and mounts. Started as
//! programs, each loads this whole binary anew, which costs more than all they do; forked from one that stands
//! ready, it costs nothing to speak of. No crate in use offers `fork` safely, because in a process with several threads
//! it is not safe: a lock that another thread held stays locked in the child for ever. So it is offered here only
//! to a process of one thread, and that is looked up in the kernel's list, not assumed.

use std::{fs, io};

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new one. It has a copy of everything, open descriptors among it.
    Child,
    /// The one that was there; the number is the new one's process id.
    Parent(u32),
}

/// Makes a second process of this one. An error in a process that has other threads.
pub fn fork_alone() -> io::Result<Forked> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a process of {threads} threads cannot be forked safely")));
    }
    // SAFETY: this is the only thread there is, and only a thread of this process could start another. So no lock is
    // held by somebody who will not be in the child, and the child may go on as any program.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        child => u32::try_from(child).map(Forked::Parent).map_err(|_| io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runner of tests has a thread besides the test's.
    #[test]
    fn a_process_with_other_threads_is_not_forked() {
        let other = std::thread::spawn(std::thread::park);
        assert!(fork_alone().unwrap_err().to_string().contains("threads cannot be forked"));
        other.thread().unpark();
        other.join().unwrap();
    }
}
