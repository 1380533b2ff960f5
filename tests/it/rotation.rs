//! Rotation as an operator meets it: the real daemon on a real store, killed, cheated and searched.

mod hooks;
pub mod house;
mod load;
mod oldkey;
mod postgres;
mod runbooks;
mod waiting;
