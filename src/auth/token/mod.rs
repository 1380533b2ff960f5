//! Tokens, which are presented in addition to a certificate, never instead of one.
//!
//! A token works only for the identity that it was made for, over a connection of that identity. The store holds a hash
//! of its text as the key and a [`TokenRecord`] as the value. The text exists only in one reply and with the client.
//! There is no root token.

mod body;
mod create;
mod life;
mod record;
mod text;
mod view;

use super::names::NameError;
use crate::api::fields::FieldError;

pub use body::{AccessorBody, CreateBody, RenewBody, TokenBody};
pub use create::{Creator, Issued, create, login};
pub use life::{Limits, Peer, Renewed, Unusable, family, renew, spend, ttl_s, usable};
pub use record::TokenRecord;
pub use text::{TokenId, accessor, generate};
pub use view::{auth_json, lookup_json};

/// Why a request about a token is rejected. Each text can be sent with a 400 and repeats nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A field of the body is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// One of the policies is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A policy that the creator does not have.
    #[error("child policies must be subset of parent")]
    NotSubset,
    /// An orphan without the `sudo` right.
    #[error("root or sudo privileges required to create orphan token")]
    Orphan,
    /// A periodic token without the `sudo` right.
    #[error("root or sudo privileges required to create periodic token")]
    Periodic,
    /// A token with limited uses cannot create others.
    #[error("restricted use token cannot generate child tokens")]
    Restricted,
    /// The token was created as not renewable.
    #[error("lease is not renewable")]
    NotRenewable,
    /// The maximum life has ended.
    #[error("past the max TTL, cannot renew")]
    PastMax,
    /// This program cannot read a stored record.
    #[error("stored token is damaged or of a newer version")]
    Record,
}

#[cfg(test)]
mod tests;
