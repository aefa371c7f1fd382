//! Ends a call whose future nobody waits for any more.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

/// Tells the thread that carries a call to end it when the future waiting for it is dropped.
pub struct CancelOnDrop(OwnedFd);

impl CancelOnDrop {
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// What becomes readable then.
    pub fn signal(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // If the call has ended already, nobody listens.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
