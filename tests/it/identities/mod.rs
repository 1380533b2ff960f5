//! Identities from the first certificate to the last, with the real daemon and the real command.

mod addresses;
mod agreed;
mod authorities;
mod life;
mod lost;
mod outside;
mod own_root;
mod refused;
mod revoked;
mod strangers;
mod succession;
mod tokens;
mod town;
