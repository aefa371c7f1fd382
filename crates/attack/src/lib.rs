//! Raw system calls for `homarus sandbox selftest`, and nothing else: what an attacker with a compiler would do.
//!
//! One of the two crates of Homarus in which `unsafe` is allowed, and why: a filter of system calls is proved only by
//! calls that no safe wrapper offers (numbers of another ABI, `clone3`, numbers newer than our C library), and no crate
//! offers arbitrary calls safely, since that cannot be safe. So callers cannot choose what is called: they take it from
//! [`calls`] by name. Each entry there is one that cannot harm this process's memory, whatever the kernel answers: its
//! pointers are null or point into a buffer made for that one call and larger than what the kernel may write there.
//!
//! Nothing here runs unless the self-test asks for it, and what is dangerous for a machine has arguments that
//! the kernel refuses as invalid if the filter lets the call through: the errno tells the two apart.

mod memory;
mod table;

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

pub use memory::{shared_memory, system_v_memory};
pub use table::{Call, calls, find};

/// Bytes of the buffer behind each pointer argument: more than any call of the table writes.
const BUFFER_BYTES: usize = 4096;

/// One argument of a call.
#[derive(Debug, Clone, Copy)]
enum Arg {
    Number(i64),
    /// A pointer to a buffer that begins with these bytes; the rest is zero.
    Bytes(&'static [u8]),
    /// Its value is taken from the caller: a process or descriptor, never a pointer.
    Given,
}

impl Call {
    /// Makes the call. `given` is what arguments that name a process or a descriptor become.
    pub fn make(&self, given: i32) -> io::Result<i64> {
        let mut buffers: Vec<Box<[u8; BUFFER_BYTES]>> = Vec::new();
        let mut values = [0 as libc::c_long; 6];
        for (value, arg) in values.iter_mut().zip(self.args) {
            *value = match arg {
                Arg::Number(number) => *number,
                Arg::Given => libc::c_long::from(given),
                Arg::Bytes(bytes) => {
                    let mut buffer = Box::new([0u8; BUFFER_BYTES]);
                    let length = bytes.len().min(BUFFER_BYTES);
                    buffer[..length].copy_from_slice(&bytes[..length]);
                    let pointer = buffer.as_mut_ptr();
                    buffers.push(buffer);
                    pointer as libc::c_long
                }
            };
        }
        let [a, b, c, d, e, f] = values;
        // SAFETY: the entries of the table are the only ones (`Call` has private fields), and each is reviewed to
        // touch no memory of this process but the buffers above, which live until after the call.
        let answer = unsafe { libc::syscall(self.number, a, b, c, d, e, f) };
        drop(buffers);
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }
}

/// An `io_uring`, to be handed down by mistake.
pub fn ring() -> io::Result<OwnedFd> {
    // `struct io_uring_params` is 120 bytes, all zero.
    let mut parameters = [0u64; 32];
    // SAFETY: the kernel writes its 120 bytes into the 256 of this buffer and refers to nothing afterwards.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `clone` with these flags, as `fork` does it; the child ends at once. Its process id.
pub fn clone(flags: i32) -> io::Result<i32> {
    // Sharing memory, descriptors or a stack with the child is not offered.
    const SHARING: i32 = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let flags = libc::c_long::from((flags & !SHARING & !0xff) | libc::SIGCHLD);
    // SAFETY: without sharing this is `fork`: the child has a copy of everything, and all it does is to end, by a
    // system call that takes no lock and runs no destructor.
    let child = unsafe {
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(0);
        }
        child
    };
    if child < 0 { Err(io::Error::last_os_error()) } else { Ok(child as i32) }
}

/// `clone3` with these flags and a new user namespace; the child ends at once. Its process id.
pub fn clone3(flags: i32) -> io::Result<i32> {
    const SHARING: i32 = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let mut arguments = [0u64; 8];
    arguments[0] = u64::from((flags & !SHARING).cast_unsigned());
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: as in `clone`; the kernel only reads the arguments, whose true size it is told.
    let child = unsafe {
        let child = libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size_of_val(&arguments));
        if child == 0 {
            libc::_exit(0);
        }
        child
    };
    if child < 0 { Err(io::Error::last_os_error()) } else { Ok(child as i32) }
}

/// `getpid` through the 32-bit entry of the processor's 64-bit mode.
#[cfg(target_arch = "x86_64")]
pub fn getpid_by_32_bit_entry() -> io::Result<i64> {
    const GETPID_OF_32_BIT: i32 = 20;
    let answer: i32;
    // SAFETY: `getpid` has no arguments and touches no memory. Old kernels clear r8 to r11 in this entry.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") GETPID_OF_32_BIT => answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(i64::from(answer)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_what_the_kernel_answered() {
        // To a signal number that does not exist: the kernel says so, and nothing is sent.
        let call = find("pidfd_send_signal").unwrap();
        assert_eq!(call.make(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(find("no such call").is_none());
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> = calls().iter().map(Call::name).collect();
        assert_eq!(names.len(), calls().len());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_32_bit_entry_answers_where_the_kernel_has_it() {
        match getpid_by_32_bit_entry() {
            Ok(id) => assert_eq!(id, i64::from(std::process::id())),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOSYS)),
        }
    }
}
