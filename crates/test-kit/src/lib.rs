//! Fakes for tests: a scripted model server, permits, histories by chance, a disk that loses power. A dev-dependency only.
//!
//! The server speaks the real wire formats over real connections, because what breaks in practice
//! is the wire; it shares no code with the clients it tests.

pub mod disk;
pub mod executed;
pub mod histories;
pub mod model_server;
pub mod permit;
pub mod script;
pub mod tls;

pub use disk::RecordingDisk;
pub use executed::{executed, receipt};
pub use model_server::{ModelServer, Recorded};
pub use permit::{merge_permit_for, permit_for, permit_for_model};
pub use script::{Script, Turn};
pub use tls::TlsFront;
