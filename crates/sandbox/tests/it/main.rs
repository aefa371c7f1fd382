//! Real sandboxes on this host. Attacks come from inside, as scripts a model could have written.

mod ahead;
mod confinement;
mod fixture;
mod gate;
mod guests;
mod layers;
mod lifetime;
mod limits;
mod merging;
mod ordinary;
mod own;
mod selftest;
mod undoing;
mod workers;
