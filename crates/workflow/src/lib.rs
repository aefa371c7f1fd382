//! Machines and questions about whole runs, beside the agent's own: what a run changed ([`changes`]),
//! how it is shown ([`render`]), undoing it ([`undo`]), and going on otherwise from a step of it ([`fork`]).
//!
//! In come events of the journal; out come changes of a workspace and commands for the driver. Nothing
//! here touches a file.

pub mod changes;
pub mod fork;
pub mod render;
pub mod undo;
