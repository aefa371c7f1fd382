//! Machines and questions about whole runs, beside the agent's own: what a run changed ([`changes`]),
//! how it is shown ([`render`]), and undoing it ([`undo`]).
//!
//! In come events of the journal; out come changes of a workspace and commands for the driver. Nothing
//! here touches a file.

pub mod changes;
pub mod render;
pub mod undo;
