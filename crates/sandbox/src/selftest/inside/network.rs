//! Every way out by a socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::io::Errno;

use super::{Outcome, Tried, kernel::raw};

const PERM: &[Errno] = &[Errno::PERM];
const CONNECT_MAX: Duration = Duration::from_millis(300);

fn say(mut stream: impl io::Write) -> io::Result<()> {
    stream.write_all(b"out")
}

pub fn abstract_socket(tried: &Tried) {
    let address = UnixAddr::from_abstract_name(&tried.place.abstract_socket);
    let said = address.and_then(|address| UnixStream::connect_addr(&address)).and_then(say);
    tried.denied("say something to the host's abstract socket", said);
}

fn path_socket(tried: &Tried, path: &Path) {
    tried.denied(&format!("connect to {}", path.display()), UnixStream::connect(path).and_then(say));
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"out", path.with_extension("datagram")));
    tried.denied("send a datagram there", sent);
}

pub fn outside_socket(tried: &Tried) {
    path_socket(tried, &tried.place.outside.join("socket"));
    for path in
        ["/run/dbus/system_bus_socket", "/run/docker.sock", "/var/run/docker.sock", "/run/systemd/private", "/dev/log"]
    {
        tried.denied(&format!("connect to {path}"), UnixStream::connect(path));
    }
}

pub fn workspace_socket(tried: &Tried) {
    path_socket(tried, &tried.place.workspace.join("socket"));
}

pub fn readable_socket(tried: &Tried) {
    path_socket(tried, &tried.place.readable.join("socket"));
}

pub fn cache_socket(tried: &Tried) {
    path_socket(tried, &tried.place.workspace.join("target/socket"));
}

pub fn families(tried: &Tried) {
    for name in ["socket vsock", "socket alg", "socket bluetooth", "socket tipc", "socket xdp"] {
        raw(tried, name, 0, PERM);
    }
}

pub fn packets(tried: &Tried) {
    raw(tried, "socket packet", 0, PERM);
}

pub fn netlink(tried: &Tried) {
    for name in ["socket netlink", "socket netlink with a high bit"] {
        raw(tried, name, 0, PERM);
    }
}

pub fn raw_sockets(tried: &Tried) {
    for name in ["socket raw", "socket raw of IPv6", "socket raw, close-on-exec"] {
        raw(tried, name, 0, PERM);
    }
}

pub fn loopback(tried: &Tried) {
    let port = tried.place.tcp_port;
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        tried.denied(&format!("connect to {address}"), TcpStream::connect_timeout(&address, CONNECT_MAX).and_then(say));
    }
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
    tried.denied(&format!("connect to {mapped}"), TcpStream::connect_timeout(&mapped, CONNECT_MAX).and_then(say));
}

/// What is sent to an address outside is a packet into the void: addresses of documentation.
pub fn datagrams(tried: &Tried) {
    let send = |to: SocketAddr| {
        let own = if to.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 0)) } else { SocketAddr::from(([0u16; 8], 0)) };
        UdpSocket::bind(own).and_then(|socket| socket.send_to(b"out", to)).map(drop)
    };
    tried.denied("to the host's loopback", send(SocketAddr::from((Ipv4Addr::LOCALHOST, tried.place.udp_port))));
    tried.denied("to 192.0.2.1", send(SocketAddr::from(([192, 0, 2, 1], 9))));
    tried.denied("to 2001:db8::1", send(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))));
    tried.denied("to everybody near", send(SocketAddr::from((Ipv4Addr::BROADCAST, 9))));
}

/// With a route, connecting would wait; without, it fails at once.
pub fn connections(tried: &Tried) {
    for address in [SocketAddr::from(([192, 0, 2, 1], 443)), SocketAddr::from(([169, 254, 169, 254], 80))] {
        let connected = match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            other => other.map(drop),
        };
        tried.denied(&format!("connect to {address}"), connected);
    }
}

pub fn names(tried: &Tried) {
    // The answer of a host without a resolver is an error too: what counts is that nothing could be sent.
    tried.denied("look up a name", ("selftest.invalid", 80).to_socket_addrs().map(drop));
    for resolver in ["127.0.0.53:53", "127.0.0.1:53", "192.0.2.1:53"] {
        let Ok(address) = resolver.parse::<SocketAddr>() else { continue };
        let asked = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            // A question for the name `a.`, address record.
            socket.send_to(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01", address).map(drop)
        });
        tried.denied(&format!("ask {resolver}"), asked);
    }
}

/// The machine's devices are not there at all.
pub fn devices(tried: &Tried) {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    match names.as_slice() {
        [] | ["lo"] => {
            tried.note("find a network device", Outcome::Denied { how: "only `lo`, and it is down".to_owned() })
        }
        more => tried.through("find a network device", &more.join(", ")),
    }
}
