//! `homarus chat`: a conversation inline in the scrollback.
//!
//! [`conversation`] talks with the core, [`desk`] is where the driver's side and the terminal's side
//! meet, [`terminal`] is the loop that draws and takes keys, [`plain`] is the same without a terminal.

pub mod conversation;
pub mod desk;
pub mod plain;
pub mod terminal;

mod command;
mod editor;
mod history;
mod keyboard;
mod markdown;
mod past;
mod print;
mod screen;
mod transcript;
