//! The journal from outside: what it promises to drivers, to readers, and against tampering.

mod append;
mod budget;
mod delete;
mod fixture;
mod flips;
mod full;
mod health;
mod mail;
mod many;
mod older;
mod opening;
mod owner;
mod rebuild;
mod runs;
mod verify;
