//! The calls there are, as data. A new line is reviewed for what the module of the crate promises.

use super::Arg::{self, Bytes, Given, Number};

/// A system call with arguments that can do no harm to this process.
#[derive(Debug)]
pub struct Call {
    name: &'static str,
    pub(crate) number: i64,
    pub(crate) args: &'static [Arg],
}

impl Call {
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Every call there is here.
pub fn calls() -> &'static [Call] {
    CALLS
}

pub fn find(name: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.name == name)
}

const NULL: Arg = Number(0);
const CWD: Arg = Number(libc::AT_FDCWD as i64);
const MINUS_ONE: Arg = Number(-1);
/// `struct file_handle` with room for 128 bytes.
const HANDLE: Arg = Bytes(&[128, 0, 0, 0]);
/// An attribute for `BPF_MAP_CREATE`: an array, keys and values of four bytes, one entry.
const BPF_ARRAY: Arg = Bytes(&[2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
/// `struct perf_event_attr`: a software event, size 64, the dummy, without kernel and hypervisor, disabled.
const PERF_DUMMY: Arg = Bytes(&[
    1, 0, 0, 0, 64, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0x61,
]);

const fn call(name: &'static str, number: i64, args: &'static [Arg]) -> Call {
    Call { name, number, args }
}

/// The bit that asks for the x32 ABI.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// Bits above the lower 32 of an argument are not looked at by the kernel; a filter must not be fooled by them.
const HIGH_BIT: i64 = 1 << 32;

const CALLS: &[Call] = &[
    // Other processes. Seizing stops nothing.
    call("ptrace_seize", libc::SYS_ptrace, &[Number(0x4206), Given, NULL, NULL]),
    call("ptrace_traceme", libc::SYS_ptrace, &[NULL, NULL, NULL, NULL]),
    call("process_vm_readv", libc::SYS_process_vm_readv, &[Given, NULL, NULL, NULL, NULL, NULL]),
    call("process_vm_writev", libc::SYS_process_vm_writev, &[Given, NULL, NULL, NULL, NULL, NULL]),
    call("process_madvise", libc::SYS_process_madvise, &[MINUS_ONE, NULL, NULL, NULL, NULL]),
    call("kcmp", libc::SYS_kcmp, &[Given, Given, NULL, NULL, NULL]),
    call("pidfd_getfd", libc::SYS_pidfd_getfd, &[Given, NULL, NULL]),
    call("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[Given, Number(9999), NULL, NULL]),
    call("move_pages", libc::SYS_move_pages, &[Given, NULL, NULL, NULL, NULL, NULL]),
    // Namespaces.
    call("setns", libc::SYS_setns, &[Given, NULL]),
    call("unshare with a high bit", libc::SYS_unshare, &[Number(libc::CLONE_NEWUSER as i64 | HIGH_BIT)]),
    // The mount table.
    call("mount", libc::SYS_mount, &[NULL, Bytes(b"/tmp"), Bytes(b"tmpfs"), NULL, NULL]),
    call("open_tree", libc::SYS_open_tree, &[CWD, Bytes(b"/tmp"), Number(1)]),
    call("move_mount", libc::SYS_move_mount, &[MINUS_ONE, Bytes(b""), CWD, Bytes(b"/tmp"), Number(4)]),
    call("fsopen", libc::SYS_fsopen, &[Bytes(b"tmpfs"), NULL]),
    call("fsconfig", libc::SYS_fsconfig, &[MINUS_ONE, Number(6), NULL, NULL, NULL]),
    call("fsmount", libc::SYS_fsmount, &[MINUS_ONE, NULL, NULL]),
    call("fspick", libc::SYS_fspick, &[CWD, Bytes(b"/tmp"), NULL]),
    // `struct mount_attr` that clears nothing and sets nothing.
    call("mount_setattr", libc::SYS_mount_setattr, &[CWD, Bytes(b"/tmp"), NULL, Bytes(b""), Number(32)]),
    // Newer than most C libraries: `open_tree_attr`, cloning.
    call("open_tree_attr", 467, &[CWD, Bytes(b"/tmp"), Number(1), Bytes(b""), Number(32)]),
    call("a call no kernel has yet", 1000, &[NULL]),
    call("umount2", libc::SYS_umount2, &[Bytes(b"/tmp"), NULL]),
    // Files by handle, past every folder.
    call("name_to_handle_at", libc::SYS_name_to_handle_at, &[CWD, Bytes(b"/"), HANDLE, Bytes(b""), NULL]),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, &[CWD, HANDLE, NULL]),
    // Parts of the kernel that were often its weak point, or that are not in a namespace.
    call("bpf", libc::SYS_bpf, &[NULL, BPF_ARRAY, Number(72)]),
    call("perf_event_open", libc::SYS_perf_event_open, &[PERF_DUMMY, NULL, MINUS_ONE, MINUS_ONE, NULL]),
    call("userfaultfd", libc::SYS_userfaultfd, &[Number(1)]),
    call("io_uring_setup", libc::SYS_io_uring_setup, &[Number(1), Bytes(b"")]),
    call("io_uring_enter", libc::SYS_io_uring_enter, &[Given, NULL, NULL, NULL, NULL, NULL]),
    // Asks which operations there are.
    call("io_uring_register", libc::SYS_io_uring_register, &[Given, Number(8), Bytes(b""), Number(64)]),
    call("keyctl", libc::SYS_keyctl, &[NULL, Number(-3), Number(1)]),
    // To the key ring of this process alone, which goes with it.
    call(
        "add_key",
        libc::SYS_add_key,
        &[Bytes(b"user"), Bytes(b"homarus-selftest"), Bytes(b"x"), Number(1), Number(-2)],
    ),
    call("request_key", libc::SYS_request_key, &[Bytes(b"user"), Bytes(b"homarus-selftest"), NULL, Number(-2)]),
    call("fanotify_init", libc::SYS_fanotify_init, &[NULL, NULL]),
    // The machine. Each is invalid, if it is reached.
    call("reboot", libc::SYS_reboot, &[NULL, NULL, NULL, NULL]),
    call("kexec_load", libc::SYS_kexec_load, &[NULL, Number(9999), NULL, MINUS_ONE]),
    call("init_module", libc::SYS_init_module, &[NULL, NULL, NULL]),
    call("finit_module", libc::SYS_finit_module, &[MINUS_ONE, NULL, MINUS_ONE]),
    call("delete_module", libc::SYS_delete_module, &[NULL, NULL]),
    call("swapon", libc::SYS_swapon, &[NULL, MINUS_ONE]),
    call("swapoff", libc::SYS_swapoff, &[NULL]),
    call("acct", libc::SYS_acct, &[Bytes(b"/no-such-folder/file")]),
    call("quotactl", libc::SYS_quotactl, &[MINUS_ONE, NULL, NULL, NULL]),
    call("quotactl_fd", libc::SYS_quotactl_fd, &[MINUS_ONE, MINUS_ONE, NULL, NULL]),
    call("syslog", libc::SYS_syslog, &[Number(10), NULL, NULL]),
    call("settimeofday", libc::SYS_settimeofday, &[NULL, Number(1)]),
    call("clock_settime", libc::SYS_clock_settime, &[MINUS_ONE, NULL]),
    call("sethostname", libc::SYS_sethostname, &[NULL, MINUS_ONE]),
    call("setdomainname", libc::SYS_setdomainname, &[NULL, MINUS_ONE]),
    // Typing into the terminal that is standard input; the second with bits the kernel does not look at.
    call("TIOCSTI", libc::SYS_ioctl, &[NULL, Number(0x5412), Bytes(b"x")]),
    call("TIOCSTI with a high bit", libc::SYS_ioctl, &[NULL, Number(0x5412 | HIGH_BIT), Bytes(b"x")]),
    call("TIOCLINUX", libc::SYS_ioctl, &[NULL, Number(0x541c), Bytes(&[0])]),
    // Sockets of families and types, to be closed by the end of the process.
    call("socket netlink", libc::SYS_socket, &[Number(16), Number(3), NULL]),
    call("socket packet", libc::SYS_socket, &[Number(17), Number(3), NULL]),
    call("socket vsock", libc::SYS_socket, &[Number(40), Number(1), NULL]),
    call("socket alg", libc::SYS_socket, &[Number(38), Number(5), NULL]),
    call("socket bluetooth", libc::SYS_socket, &[Number(31), Number(3), NULL]),
    call("socket tipc", libc::SYS_socket, &[Number(30), Number(2), NULL]),
    call("socket xdp", libc::SYS_socket, &[Number(44), Number(3), NULL]),
    call("socket netlink with a high bit", libc::SYS_socket, &[Number(16 | HIGH_BIT), Number(3), NULL]),
    call("socket raw", libc::SYS_socket, &[Number(2), Number(3), Number(1)]),
    call("socket raw of IPv6", libc::SYS_socket, &[Number(10), Number(3), Number(58)]),
    call("socket raw, close-on-exec", libc::SYS_socket, &[Number(2), Number(3 | 0o2_000_000), Number(1)]),
    // The same calls through other ABIs.
    #[cfg(target_arch = "x86_64")]
    call("x32 getpid", X32 | 39, &[]),
    #[cfg(target_arch = "x86_64")]
    call("x32 unshare", X32 | libc::SYS_unshare, &[Number(libc::CLONE_NEWUSER as i64)]),
    #[cfg(target_arch = "x86_64")]
    call("x32 ptrace", X32 | 521, &[NULL, NULL, NULL, NULL]),
    #[cfg(target_arch = "x86_64")]
    call("modify_ldt", libc::SYS_modify_ldt, &[NULL, NULL, NULL]),
    #[cfg(target_arch = "x86_64")]
    call("iopl", libc::SYS_iopl, &[Number(99)]),
];
