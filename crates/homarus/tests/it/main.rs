//! The whole of Homarus: the protocol against kills, and the program as its users run it.

mod agents;
mod chat;
mod cli;
mod config;
mod conversations;
mod doctor;
mod embedded;
mod forks;
mod lives;
mod locals;
mod mortal;
mod parallel;
mod program;
mod protocol;
mod rules;
mod seat;
mod site;
mod skills;
mod snapshots;
mod takeover;
mod terminal;
mod tmux;
mod tools;
mod undo;
mod web;
