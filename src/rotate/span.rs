//! [`Ttl`] in JSON: whole seconds or a text such as `"30d"`. Written as Go prints it.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

use crate::api::duration::Ttl;

struct Span;

impl Visitor<'_> for Span {
    type Value = Ttl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30d\", \"24h\" or a number of seconds")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Ttl, E> {
        // Uses the common parser, so that its upper limit applies here too.
        Ttl::parse(&seconds.to_string()).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ttl, E> {
        // `Ttl` parses the empty text as zero. In a stored policy it is more likely a forgotten value.
        if text.is_empty() {
            return Err(E::custom("a duration is empty: write \"30d\", \"24h\" or a number of seconds"));
        }
        Ttl::parse(text).map_err(E::custom)
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ttl, D::Error> {
    from.deserialize_any(Span)
}

// Serde's `with` prescribes the signature.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn serialize<S: Serializer>(span: &Ttl, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&span.go_text())
}

/// The same for an optional duration. `null` does not count as absent.
pub(super) mod optional {
    use super::{Deserializer, Serializer, Ttl};

    pub(in crate::rotate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Ttl>, D::Error> {
        super::deserialize(from).map(Some)
    }

    // Serde's `with` prescribes the signature.
    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
    pub(in crate::rotate) fn serialize<S: Serializer>(span: &Option<Ttl>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, to),
            None => to.serialize_none(),
        }
    }
}
