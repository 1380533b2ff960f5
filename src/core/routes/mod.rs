//! The vault's own routes: each decodes a request, calls what it stands for, and encodes the answer.

pub(super) mod auth;
pub(super) mod sys;
