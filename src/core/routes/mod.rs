//! The vault's own routes: each decodes a request, calls what it stands for, and encodes the answer.

pub(super) mod auth;
pub(super) mod sys;

use super::pipeline::route::Tables;

/// Every route of the vault itself.
pub(super) static TABLES: Tables = Tables { sys: sys::ROUTES, auth: auth::ROUTES };
