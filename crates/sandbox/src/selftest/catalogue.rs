//! The attacks there are, as data: what each does, how it must end, and whether it may be tried outside.

use homarus_contract::sandbox::Limits;

use super::inside::{Tried, files, kernel, limits, mounts, network, processes, secrets};

/// One line of the matrix.
pub struct Attack {
    /// `group.name`; stable.
    pub id: &'static str,
    pub about: &'static str,
    pub act: fn(&Tried),
    pub wanted: Wanted,
    pub control: Control,
    pub scene: Scene,
    pub bound: fn(&mut Limits),
}

/// How an attack must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Each try is answered with an error, or reaches only what is the sandbox's own.
    Denied,
    /// The kernel ends the process for the call.
    Killed,
    /// Denied, or ended by a limit.
    Held,
    /// What it leaves in the layer can never be merged.
    Refused,
}

/// Whether the same attack is made without the sandbox, to see that it would work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// As it is, on a workspace made for it.
    Plain,
    /// In throwaway namespaces of its own, so that the machine's mounts and names are not touched.
    Lab,
    Not(&'static str),
}

/// What is different about the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    Plain,
    /// The workspace is read-only, as for calls that only read.
    ReadOnly,
    /// The workspace has a cache folder, bound directly.
    Cache,
    /// Standard input is a terminal.
    Terminal,
    /// The driver holds descriptors that it forgot to keep from its children.
    Careless,
}

const HARMS: Control = Control::Not("could harm this machine");
const LOADS: Control = Control::Not("would load this machine; that it was held is seen by itself");

const fn attack(id: &'static str, about: &'static str, act: fn(&Tried)) -> Attack {
    Attack { id, about, act, wanted: Wanted::Denied, control: Control::Plain, scene: Scene::Plain, bound: |_| {} }
}

impl Attack {
    const fn wants(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }

    const fn outside(self, control: Control) -> Self {
        Self { control, ..self }
    }

    const fn on(self, scene: Scene) -> Self {
        Self { scene, ..self }
    }

    const fn within(self, bound: fn(&mut Limits)) -> Self {
        Self { bound, ..self }
    }
}

pub fn all() -> &'static [Attack] {
    ATTACKS
}

pub fn find(id: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.id == id)
}

fn short(limits: &mut Limits) {
    limits.wall_ms = 1500;
}

fn little(limits: &mut Limits) {
    limits.memory_bytes = 96 << 20;
    limits.wall_ms = 15_000;
}

const ATTACKS: &[Attack] = &[
    attack("write.outside", "write to the host beside the workspace", files::outside),
    attack("write.system", "write to the system's folders", files::system).outside(HARMS),
    attack("write.dot-dot", "leave the workspace by ..", files::dot_dot),
    attack("write.symlink", "write through symbolic links", files::by_symlink),
    attack("write.hardlink", "write through hard links", files::by_hardlink),
    attack("write.rename", "move files out and in", files::by_rename),
    attack("write.swap", "swap a path while it is written to", files::by_swap),
    attack("write.proc-root", "write through /proc/*/root", files::by_proc),
    attack("write.descriptor", "write through an inherited descriptor", files::by_descriptor).on(Scene::Careless),
    attack("write.new-protected", "make files that other programs obey", files::new_protected).wants(Wanted::Refused),
    attack("write.old-protected", "change files that other programs obey", files::old_protected),
    attack("write.mounts", "find a mount that is writable or obeys set-user-id bits", files::mount_table)
        .on(Scene::Cache),
    attack("layer.leave", "reach what lies under the overlay", files::leave_overlay).outside(Control::Lab),
    attack("layer.forge", "forge the overlay's own marks", files::forged_overlay)
        .outside(Control::Not("means nothing without an overlay")),
    attack("layer.set-user-id", "leave programs that run as another user", files::set_user_id)
        .wants(Wanted::Refused)
        .outside(Control::Not("would leave a set-user-id program on this machine")),
    attack("layer.set-user-id-in-cache", "the same in a cache folder", files::set_user_id_in_cache).on(Scene::Cache),
    attack("layer.devices", "make device nodes", files::device_nodes),
    attack("proc.switches", "write kernel settings", secrets::switches),
    attack("proc.core-pattern", "set the program for core dumps", secrets::core_pattern),
    attack("proc.sysrq", "reach the system request keys", secrets::sysrq),
    attack("proc.release-agent", "set a control group's release agent", secrets::release_agent),
    attack("proc.other", "write other files of /proc", secrets::other_switches),
    attack("read.system", "read the system's secrets", secrets::files),
    attack("read.state", "read the journal and its key", secrets::state),
    attack("read.workspace", "read the workspace's own secrets", secrets::workspace),
    attack("read.environments", "read other processes' environments", secrets::environments),
    attack("read.memory", "read other processes' memory", secrets::memory),
    attack("read.links", "follow other processes' root, folder, program and descriptors", secrets::links),
    attack("read.devices", "open devices", files::devices).outside(HARMS),
    attack("process.trace", "trace processes", processes::trace),
    attack("process.memory", "read and write memory of processes", processes::memory),
    attack("process.descriptors", "take descriptors of processes", kernel::descriptors)
        .outside(Control::Not("would signal this machine's process 1")),
    attack("process.kill", "kill the driver and the sandbox's stages", processes::kill_parents)
        .outside(Control::Not("would kill everything of this user")),
    attack("process.stop", "stop the keeper of the sandbox", processes::stop_group)
        .wants(Wanted::Held)
        .outside(Control::Not("would stop the self-test"))
        .within(short),
    attack("process.background", "leave a process behind", processes::background),
    attack("process.daemon", "leave a twice forked daemon behind", processes::daemon),
    attack("process.deaf", "leave one that ignores SIGTERM", processes::deaf_one)
        .wants(Wanted::Held)
        .outside(Control::Not("as process.daemon, whose daemon ignores it too"))
        .within(short),
    attack("mount.mount", "mount", mounts::mounts).outside(Control::Lab),
    attack("mount.unmount", "unmount", mounts::unmounts).outside(Control::Lab),
    attack("mount.root", "change the root", mounts::roots).outside(Control::Lab),
    attack("mount.new-api", "use the new mount calls", mounts::new_api).outside(Control::Lab),
    attack("mount.handles", "open files by handle", mounts::handles),
    attack("namespace.unshare", "enter new namespaces", mounts::namespaces).outside(Control::Lab),
    attack("namespace.clone", "start a process in new namespaces", mounts::clones),
    attack("namespace.clone3", "the same by clone3", mounts::clone3),
    attack("namespace.set", "enter namespaces of others", mounts::set_namespace).outside(Control::Lab),
    attack("kernel.unknown", "make calls the filter has no name for", mounts::unknown_calls)
        .outside(Control::Not("kernels differ in which calls they have")),
    attack("kernel.keys", "use key rings", kernel::keys),
    attack("kernel.bpf", "load into the kernel's virtual machine", kernel::bpf),
    attack("kernel.perf", "open performance counters", kernel::perf),
    attack("kernel.userfaultfd", "handle page faults", kernel::page_faults),
    attack("kernel.io-uring", "make an io_uring", kernel::io_uring),
    attack("kernel.inherited-ring", "use an inherited io_uring", kernel::inherited_ring).on(Scene::Careless),
    attack("kernel.machine", "restart, load modules, set clocks and names", kernel::machine).outside(HARMS),
    attack("kernel.terminal", "type into the terminal", kernel::typing).on(Scene::Terminal),
    attack("kernel.privileges", "take privileges back", kernel::privileges),
    #[cfg(target_arch = "x86_64")]
    attack("abi.x32", "make a call by the x32 ABI", kernel::x32).wants(Wanted::Killed),
    #[cfg(target_arch = "x86_64")]
    attack("abi.x32-unshare", "enter a user namespace by the x32 ABI", kernel::x32_unshare).wants(Wanted::Killed),
    #[cfg(target_arch = "x86_64")]
    attack("abi.x32-ptrace", "trace by the x32 ABI", kernel::x32_ptrace).wants(Wanted::Killed),
    #[cfg(target_arch = "x86_64")]
    attack("abi.32-bit", "make a call by the 32-bit entry", kernel::entry_of_32_bit).wants(Wanted::Killed),
    attack("socket.abstract", "connect to an abstract socket of the host", network::abstract_socket),
    attack("socket.path", "connect to a socket beside the workspace", network::outside_socket),
    attack("socket.workspace", "connect to a socket of the host in the workspace", network::workspace_socket),
    attack("socket.read-only", "the same in a workspace that is shown read-only", network::workspace_socket)
        .on(Scene::ReadOnly),
    attack("socket.readable", "connect to a socket in a folder that is shown", network::readable_socket),
    attack("socket.cache", "connect to a socket in a cache folder", network::cache_socket).on(Scene::Cache),
    attack("socket.netlink", "open netlink sockets", network::netlink),
    attack("socket.raw", "open raw sockets", network::raw_sockets),
    attack("socket.packet", "open packet sockets", network::packets),
    attack("socket.families", "open vsock and other sockets", network::families)
        .outside(Control::Not("could load modules into this machine's kernel")),
    attack("network.loopback", "connect to the host's loopback", network::loopback),
    attack("network.datagrams", "send datagrams", network::datagrams)
        .outside(Control::Not("would send to the network")),
    attack("network.connections", "connect to other machines", network::connections)
        .outside(Control::Not("would connect to the network")),
    attack("network.names", "look up names", network::names).outside(Control::Not("would ask the network")),
    attack("network.devices", "find network devices", network::devices),
    attack("limit.processes", "start too many processes", limits::processes)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.processes_max = 64),
    attack("limit.threads", "start too many threads", limits::threads)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.processes_max = 64),
    attack("limit.memory", "take too much memory", limits::memory).wants(Wanted::Held).outside(LOADS).within(little),
    attack("limit.memory-of-many", "take it in many processes", limits::memory_of_many)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(little),
    attack("limit.memory-files", "take it in files without a name", limits::memory_files)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(little),
    attack("limit.shared-memory", "take it as shared memory", limits::shared_memory)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(little),
    attack("limit.system-v", "take it as a System V segment", limits::system_v)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(little),
    attack("limit.scratch", "fill scratch space", limits::scratch).wants(Wanted::Held).outside(LOADS).within(little),
    attack("limit.sockets", "fill socket buffers", limits::socket_buffers)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(little),
    attack("limit.descriptors", "open too many files", limits::descriptors)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.open_files_max = 128),
    attack("limit.file", "write one file that is too large", limits::one_file)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.file_bytes_max = 8 << 20),
    attack("limit.disk", "fill the disk with many files", limits::disk).wants(Wanted::Held).outside(LOADS),
    attack("limit.disk-by-cache", "fill the disk by a cache folder", limits::disk_by_cache)
        .on(Scene::Cache)
        .wants(Wanted::Held)
        .outside(LOADS),
    attack("limit.output", "flood the output", limits::output)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.output_bytes_max = 1 << 20),
    attack("limit.processor", "keep a processor busy", limits::busy)
        .wants(Wanted::Held)
        .outside(LOADS)
        .within(|limits| limits.cpu_s = 1),
    attack("limit.time", "never end", limits::idle).wants(Wanted::Held).outside(LOADS).within(short),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn attacks_have_names_of_their_own() {
        let ids: BTreeSet<&str> = all().iter().map(|attack| attack.id).collect();
        assert_eq!(ids.len(), all().len());
        assert!(all().iter().all(|attack| attack.id.split('.').count() == 2 && !attack.about.is_empty()));
        assert!(find("write.outside").is_some() && find("write").is_none());
    }
}
