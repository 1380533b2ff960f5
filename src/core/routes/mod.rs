//! The vault's own routes. Each decodes a request, calls the code behind it, and encodes the reply.

pub(super) mod auth;
mod rows;
pub(super) mod sys;

use super::pipeline::route::Tables;

/// All routes of the vault itself.
pub(super) static TABLES: Tables = Tables { sys: sys::ROUTES, auth: auth::ROUTES };
