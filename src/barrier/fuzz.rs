//! What must hold for records, the state and the anchor, whatever the bytes (feature `testing`).

pub(crate) mod anchor;
pub(crate) mod record;
pub(crate) mod state;

use crate::crypto::envelope::{Kind, MAX_BODY};

/// `body` is what was written, and then zeros up to the least bucket or nothing.
fn padded(kind: Kind, body: &[u8], written: &[u8]) {
    let padding = body.strip_prefix(written).expect("what is accepted is written again as it was");
    assert!(padding.iter().all(|byte| *byte == 0));
    assert!(padding.is_empty() || kind.bucket(written.len()) == Ok(body.len()), "padding up to the least bucket only");
    assert!(body.len() <= MAX_BODY);
}
