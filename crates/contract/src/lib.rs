//! The nouns of Homarus and the ports between its rooms. No I/O and no runtime lives here.
//!
//! Every other crate depends on this one and on no sibling engine, so an edge that is not drawn here
//! does not exist. Reading order: what is said ([`message`], [`model`]), what is wished for
//! ([`action`], [`tool`]), who allows it ([`gate`]), where it runs ([`sandbox`]), and what is
//! remembered ([`event`], [`journal`], [`machine`]).

pub mod action;
pub mod budget;
pub mod egress;
pub mod error;
pub mod event;
pub mod gate;
pub mod guest;
pub mod ids;
pub mod journal;
pub mod machine;
pub mod message;
pub mod model;
pub mod outbound;
pub mod sandbox;
pub mod text;
pub mod tool;
pub mod worker;

use std::{future::Future, pin::Pin};

/// A boxed future, so that ports can be trait objects without a runtime.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed stream, so that ports can be trait objects without a runtime.
pub type BoxStream<T> = Pin<Box<dyn futures_core::Stream<Item = T> + Send>>;
