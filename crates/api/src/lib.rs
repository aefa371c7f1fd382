//! What a user can do to the system, defined once: name, HTTP method and path, capability, request
//! and response. Every surface prints, serves or calls these types; none has its own.

pub mod agents;
pub mod browser;
pub mod config;
pub mod doctor;
pub mod models;
pub mod operation;
pub mod runs;
pub mod sandbox;
pub mod skills;
pub mod tools;

pub use operation::{OPERATIONS, Operation, OperationInfo};
