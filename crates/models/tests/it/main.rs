//! The providers against real connections: the scripted server, a fake worker, independent servers.

mod answers;
mod damaged;
mod failures;
mod independent;
mod listing;
mod local;
mod rendering;
mod rows;
mod support;
mod table;
mod thoughts;
