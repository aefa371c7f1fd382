//! Tries, from inside, what must be denied. The probe runs it once before anything else may run.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use nix::sched::CloneFlags;
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, SocketType, socket},
};
use serde::{Deserialize, Serialize};

/// One thing that was tried.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub id: String,
    pub denied: bool,
    pub detail: String,
}

/// The code for it: the overlay is there, and does not do what it must.
pub const NO_WORKSPACE: i32 = 2;

pub fn run() -> i32 {
    let attempts: Vec<Attempt> = vec![
        attempt("write-root", fs::write("/attempt", "x")),
        attempt("write-system", fs::write("/usr/attempt", "x")),
        attempt("write-etc", fs::write("/etc/attempt", "x")),
        attempt("write-proc-sys", rewrite("/proc/sys/vm/swappiness")),
        attempt("sysrq", fs::OpenOptions::new().write(true).open("/proc/sysrq-trigger").map(drop)),
        attempt("read-shadow", fs::read("/etc/shadow").map(drop)),
        attempt("look-into-init", fs::read("/proc/1/environ").map(drop)),
        attempt("terminal", fs::File::open("/dev/tty").map(drop)),
        attempt("user-namespace", errno(nix::sched::unshare(CloneFlags::CLONE_NEWUSER))),
        attempt("mount", mount("x", "/tmp", "tmpfs", MountFlags::empty(), None).map_err(io::Error::from)),
        attempt("netlink", socket(AddressFamily::NETLINK, SocketType::RAW, None).map(drop).map_err(io::Error::from)),
        attempt("connect", connect()),
        attempt("datagram", UdpSocket::bind("0.0.0.0:0").and_then(|udp| udp.send_to(b"x", "192.0.2.1:9")).map(drop)),
        attempt("capabilities", no_capabilities()),
        attempt("privileges", rustix::thread::set_no_new_privs(false).map_err(io::Error::from)),
    ];
    if let Err(error) = use_workspace() {
        eprintln!("the workspace cannot be used: {error}");
        return NO_WORKSPACE;
    }
    let all_denied = attempts.iter().all(|attempt| attempt.denied);
    for attempt in attempts {
        println!("{}", serde_json::to_string(&attempt).unwrap_or_default());
    }
    i32::from(!all_denied)
}

/// Must be possible, and be found in the layer afterwards. Works in the probe's own workspace.
fn use_workspace() -> io::Result<()> {
    fs::write("written", "new")?;
    fs::remove_file("removed")?;
    fs::remove_dir_all("replaced")?;
    fs::create_dir("replaced")?;
    fs::write("replaced/new", "new")
}

fn attempt(id: &str, result: io::Result<()>) -> Attempt {
    let detail = match &result {
        Ok(()) => "was possible".to_owned(),
        Err(error) => error.to_string(),
    };
    Attempt { id: id.to_owned(), denied: result.is_err(), detail }
}

/// Writes the value that is there already, so that a success harms nothing.
fn rewrite(path: &str) -> io::Result<()> {
    let now = fs::read_to_string(path)?;
    fs::write(path, now)
}

fn errno(result: nix::Result<()>) -> io::Result<()> {
    result.map_err(io::Error::from)
}

/// To a documentation address: with a route this would wait, not fail at once.
fn connect() -> io::Result<()> {
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 9));
    match TcpStream::connect_timeout(&nowhere, Duration::from_millis(50)) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        other => other.map(drop),
    }
}

fn no_capabilities() -> io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    if sets.effective.is_empty() && sets.permitted.is_empty() {
        return Err(Errno::PERM.into());
    }
    Ok(())
}
