//! The point that a vault has reached in its history. Clients compare it to detect a rollback.

use serde::{Deserialize, Serialize};

/// A point in the vault's history. A client that has seen a later one knows that the vault was rolled back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Number of deliberate restores.
    pub epoch: u32,
    /// Random id of the epoch, hexadecimal.
    pub incarnation: String,
    /// Number of commits.
    pub generation: u64,
}

/// Request header with the mark that the client has seen: `epoch.incarnation.generation`. The request is rejected if the
/// vault does not continue that history.
pub const SEEN_HEADER: &str = "x-strongroom-seen";

impl Mark {
    /// Whether a vault at this mark continues the history in which `seen` was seen: in a later epoch, or in the same one and
    /// not before it. Otherwise it was rolled back, or two copies of it were written to.
    ///
    /// ```
    /// use strongroom::api::mark::Mark;
    ///
    /// let mark = |epoch, generation| Mark { epoch, incarnation: "0a".repeat(16), generation };
    /// assert!(mark(1, 8).continues(&mark(1, 7)) && mark(2, 1).continues(&mark(1, 7)));
    /// assert!(!mark(1, 6).continues(&mark(1, 7)) && !mark(1, 9).continues(&mark(2, 1)));
    /// ```
    #[must_use]
    pub fn continues(&self, seen: &Self) -> bool {
        let same_epoch = self.epoch == seen.epoch;
        self.epoch > seen.epoch
            || (same_epoch && self.incarnation == seen.incarnation && self.generation >= seen.generation)
    }

    /// Whether this mark is later than `other` in the same history.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        (self.epoch, self.generation) > (other.epoch, other.generation)
    }

    /// Parses the value of [`SEEN_HEADER`], which is what `to_string` writes. Never panics.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (epoch, incarnation, generation) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Self::of(epoch, incarnation, generation)
    }

    /// Parses its three parts; the incarnation is 32 hexadecimal digits.
    #[must_use]
    pub fn of(epoch: &str, incarnation: &str, generation: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let hex = incarnation.len() == 32 && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
        (hex && number(epoch) && number(generation)).then_some(())?;
        let (epoch, generation) = (epoch.parse().ok()?, generation.parse().ok()?);
        Some(Self { epoch, incarnation: incarnation.to_ascii_lowercase(), generation })
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.incarnation, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u32, letter: char, generation: u64) -> Mark {
        Mark { epoch, incarnation: letter.to_string().repeat(32), generation }
    }

    #[test]
    fn a_history_that_went_back_is_not_continued() {
        let seen = mark(2, 'a', 10);
        for fine in [mark(2, 'a', 10), mark(2, 'a', 11), mark(3, 'b', 1)] {
            assert!(fine.continues(&seen), "{fine:?}");
        }
        for bad in [mark(2, 'a', 9), mark(2, 'b', 10), mark(2, 'b', 99), mark(1, 'a', 99)] {
            assert!(!bad.continues(&seen), "{bad:?}");
        }
    }

    #[test]
    fn a_mark_in_one_line_is_read_as_it_was_written() {
        for mark in [mark(0, '0', 0), mark(u32::MAX, 'f', u64::MAX)] {
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
        assert_eq!(Mark::parse(&format!("1.{}.7", "A".repeat(32))), Some(mark(1, 'a', 7)));
        let hex = "a".repeat(32);
        for bad in ["", "1", "1.2", &format!("1.{hex}"), &format!("1.{hex}.7.8"), &format!("1.{hex}.-7"), "1.a.7"] {
            assert_eq!(Mark::parse(bad), None, "{bad}");
        }
        for bad in [format!("4294967296.{hex}.1"), format!("+1.{hex}.1"), format!("1.{hex}."), format!(".{hex}.1")] {
            assert_eq!(Mark::parse(&bad), None, "{bad}");
        }
    }
}
