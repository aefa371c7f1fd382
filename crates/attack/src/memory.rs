//! Memory that belongs to no process's data segment: a limit on that alone does not hold it.

use std::io;

const PAGE_BYTES: usize = 4096;

/// Maps shared memory without a file, writes to each page, and gives it back.
pub fn shared_memory(bytes: usize) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address the kernel chooses; it touches nothing that exists.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    touch(start.cast(), bytes);
    // SAFETY: the mapping made above, which nothing refers to any more.
    unsafe { libc::munmap(start, bytes) };
    Ok(())
}

/// The same with a System V segment, which is removed again.
pub fn system_v_memory(bytes: usize) -> io::Result<()> {
    // SAFETY: makes a new object outside of this process's memory.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) };
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: attaches the new segment at an address the kernel chooses.
    let start = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    let attached = start as isize != -1;
    let error = io::Error::last_os_error();
    if attached {
        touch(start.cast(), bytes);
    }
    // SAFETY: only marks our own segment for removal and detaches it; nothing refers to it any more.
    unsafe {
        libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
        if attached {
            libc::shmdt(start);
        }
    }
    if attached { Ok(()) } else { Err(error) }
}

fn touch(start: *mut u8, bytes: usize) {
    for at in (0..bytes).step_by(PAGE_BYTES) {
        // SAFETY: within the mapping of that many bytes which the two callers have just made.
        unsafe { start.add(at).write_volatile(1) };
    }
}
