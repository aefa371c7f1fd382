//! The way out of a call that has one: loopback of its network namespace, and a socket that listens there and is
//! handed to the host. There is no route and no other interface; what connects to the socket talks to the host.

use std::net::{Ipv4Addr, TcpListener};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::spec::{StageFailure, Step};

/// Loopback is the first interface of every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Runs in process 1, which holds its capabilities over this namespace, before the program is started.
pub fn listen(port: u16) -> Result<TcpListener, StageFailure> {
    raise_loopback()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).step("net", "listen for the way out")
}

/// `RTM_NEWLINK` with `IFF_UP` for loopback, acknowledged. One message in the layout of rtnetlink(7).
fn raise_loopback() -> Result<(), StageFailure> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const IFF_UP: u32 = 1;
    const BYTES: usize = 32;
    let mut message = Vec::with_capacity(BYTES);
    message.extend((BYTES as u32).to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1u32.to_ne_bytes()); // sequence
    message.extend(0u32.to_ne_bytes()); // to the kernel
    message.extend([0, 0, 0, 0]); // family, padding, type: any
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them change
    // No protocol is protocol 0: NETLINK_ROUTE.
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .step("net", "socket to raise loopback")?;
    send(&kernel, &message, SendFlags::empty()).step("net", "raise loopback")?;
    let mut answer = [0u8; 256];
    let (got, _) = recv(&kernel, &mut answer[..], RecvFlags::empty()).step("net", "raise loopback")?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if got < 20 || kind != NLMSG_ERROR || code != 0 {
        return Err(StageFailure::new("net", format!("loopback cannot be raised (answer {kind}, error {code})")));
    }
    Ok(())
}
