//! What an attack is made on: a workspace, and beside it what must not be reached; and whoever listens.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::{TcpListener, UdpSocket},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::fs::{MetadataExt, symlink},
        unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::Limits;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    catalogue::{Attack, Scene},
    inside::Place,
};
use crate::{layer::remove_tree, options::Options};

/// Little, so that filling the disk ends soon.
const LAYER_BYTES_MAX: u64 = 64 << 20;
const SECRET: &str = "a secret of the self-test";

/// A folder with everything an attack is made on. Removed on drop.
pub struct World {
    pub root: PathBuf,
    sockets: Vec<UnixListener>,
    datagrams: Vec<UnixDatagram>,
}

/// Who listens on this host while attacks are made.
pub struct Ears {
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    name: String,
}

impl World {
    pub fn make(root: &Path) -> io::Result<Self> {
        if root.exists() {
            remove_tree(root)?;
        }
        let mut world = Self { root: root.to_owned(), sockets: Vec::new(), datagrams: Vec::new() };
        for folder in [
            "workspace/dir",
            "workspace/target",
            "outside/dir",
            "state/layers",
            "readable",
            "workspace/.git/hooks",
            "workspace/.aws",
        ] {
            fs::create_dir_all(root.join(folder))?;
        }
        for (path, text) in [
            ("outside/canary", "untouched"),
            ("outside/other", "untouched"),
            ("readable/file", "untouched"),
            ("workspace/note", "untouched"),
            ("workspace/dir/canary", "untouched"),
            ("workspace/.git/config", "[core]\n"),
            ("workspace/.git/HEAD", "ref: refs/heads/main\n"),
            ("workspace/.netrc", SECRET),
            ("workspace/.aws/credentials", SECRET),
            ("state/secret", SECRET),
        ] {
            fs::write(root.join(path), text)?;
        }
        symlink(root.join("outside/canary"), root.join("workspace/planted-link"))?;
        for folder in ["outside", "workspace", "workspace/target", "readable"] {
            world.sockets.push(listen(&root.join(folder).join("socket"))?);
            let datagram = UnixDatagram::bind(root.join(folder).join("socket.datagram"))?;
            datagram.set_nonblocking(true)?;
            world.datagrams.push(datagram);
        }
        Ok(world)
    }

    pub fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    pub fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn options(&self, exe: &Path, scene: Scene) -> Options {
        Options {
            readable: vec![self.root.join("readable")],
            cache_paths: if scene == Scene::Cache { vec!["target".to_owned()] } else { Vec::new() },
            exe: exe.to_owned(),
            layer_bytes_max: LAYER_BYTES_MAX,
            ..Options::new(self.state())
        }
    }

    pub fn place(&self, attack: &Attack, token: &str, ears: &Ears, limits: &Limits) -> io::Result<Place> {
        Ok(Place {
            attack: attack.id.to_owned(),
            token: token.to_owned(),
            workspace: self.workspace(),
            outside: self.outside(),
            state: self.state(),
            readable: self.root.join("readable"),
            driver: std::process::id().cast_signed(),
            tcp_port: ears.tcp.local_addr()?.port(),
            udp_port: ears.udp.local_addr()?.port(),
            abstract_socket: ears.name.clone(),
            memory_bytes: limits.memory_bytes,
            processes_max: limits.processes_max,
            open_files_max: limits.open_files_max,
            control: false,
            lab: false,
        })
    }

    /// Descriptors open to every child: of a file and a folder that must not be reached, and of an io_uring, if this
    /// kernel has it.
    pub fn careless(&self) -> io::Result<Vec<OwnedFd>> {
        let canary = File::options().read(true).append(true).open(self.outside().join("canary"))?;
        let mut open: Vec<OwnedFd> = vec![canary.into(), File::open(self.outside())?.into()];
        open.extend(homarus_attack::ring());
        for fd in &open {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(open)
    }

    /// What came in on sockets of this world since it was last asked.
    fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        for socket in &self.sockets {
            while let Ok((mut stream, _)) = socket.accept() {
                let mut some = [0u8; 16];
                let got = stream.set_nonblocking(true).and_then(|()| stream.read(&mut some)).unwrap_or(0);
                heard.push(format!("a connection to {} with {got} bytes", name_of(socket.local_addr())));
            }
        }
        for socket in &self.datagrams {
            let mut some = [0u8; 16];
            while socket.recv(&mut some).is_ok() {
                heard.push(format!("a datagram to {}", name_of(socket.local_addr())));
            }
        }
        heard
    }

    /// What in the cache folder would run with more than its caller may do.
    pub fn armed(&self) -> Vec<String> {
        let mut armed = Vec::new();
        let mut folders = vec![self.workspace().join("target")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.is_dir() {
                    folders.push(path);
                } else if !meta.is_symlink() {
                    let mut some = [0u8; 64];
                    let has = rustix::fs::lgetxattr(&path, "security.capability", &mut some).is_ok();
                    if has || meta.mode() & 0o6000 != 0 {
                        armed.push(format!("{} with mode {:o}, capabilities: {has}", path.display(), meta.mode()));
                    }
                }
            }
        }
        armed
    }

    /// Every path beside the layer and the cache folder, with what it is.
    pub fn look(&self) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                let own = [self.state().join("layers"), self.workspace().join("target")].contains(&path);
                if meta.is_dir() && !own {
                    folders.push(path.clone());
                }
                if own {
                    continue;
                }
                let content = if meta.is_file() {
                    fs::read(&path).map(|bytes| blake3::hash(&bytes).to_hex().to_string())
                } else {
                    Ok(String::new())
                };
                let link = fs::read_link(&path).unwrap_or_default();
                let what = format!(
                    "mode {:o} owner {}:{} links {} content {} {}",
                    meta.mode(),
                    meta.uid(),
                    meta.gid(),
                    if meta.is_dir() { 0 } else { meta.nlink() },
                    content.unwrap_or_else(|error| error.to_string()),
                    link.display()
                );
                seen.push((path.display().to_string(), what));
            }
        }
        seen
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What cannot be removed now is met again by the next world, which then cannot be made.
        let _ = remove_tree(&self.root);
    }
}

impl Ears {
    pub fn open(token: &str) -> io::Result<Self> {
        let name = format!("homarus-{token}");
        let ears = Self {
            tcp: TcpListener::bind("127.0.0.1:0")?,
            udp: UdpSocket::bind("127.0.0.1:0")?,
            unix: UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name)?)?,
            name,
        };
        ears.tcp.set_nonblocking(true)?;
        ears.udp.set_nonblocking(true)?;
        ears.unix.set_nonblocking(true)?;
        Ok(ears)
    }

    /// What came in since it was last asked: on this machine's loopback, and on the world's sockets.
    pub fn heard(&self, world: &World) -> Vec<String> {
        let mut heard = world.heard();
        while self.tcp.accept().is_ok() {
            heard.push("a connection to the host's loopback".to_owned());
        }
        let mut some = [0u8; 16];
        while self.udp.recv(&mut some).is_ok() {
            heard.push("a datagram to the host's loopback".to_owned());
        }
        while self.unix.accept().is_ok() {
            heard.push("a connection to an abstract socket".to_owned());
        }
        heard
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixListener::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn name_of(address: io::Result<UnixAddr>) -> String {
    address.ok().and_then(|address| Some(address.as_pathname()?.display().to_string())).unwrap_or_default()
}
