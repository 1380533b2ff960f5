//! Ways back from damage: finding every record that cannot be used, deciding what is kept, and the declared step into a
//! new epoch.

pub(super) mod findings;
pub(super) mod loss;
pub(super) mod salvage;
pub(super) mod summing;
pub(super) mod sweep;
