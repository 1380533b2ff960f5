//! Rules for the marks in replies (epoch, incarnation, generation).
//!
//! A reply is compared with the mark at the time when its request was *sent*, because replies of parallel requests
//! overtake each other. After a rollback the generation grows past the mark again, so the mark must be checked at every
//! reply.

use ::http::HeaderMap;

use super::error::ClientError;
use crate::api::error::{ErrorCode, ErrorInfo};
use crate::api::mark::Mark;

/// Number of restores.
const EPOCH: &str = "x-strongroom-epoch";
/// Id of a restore.
const INCARNATION: &str = "x-strongroom-incarnation";
/// Number of commits.
const GENERATION: &str = "x-strongroom-generation";

/// Reads the mark of a reply; `None` if it has none of the three headers.
///
/// # Errors
/// [`ClientError::Malformed`] when a header is missing or invalid.
pub(super) fn from_headers(headers: &HeaderMap) -> Result<Option<Mark>, ClientError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (epoch, incarnation, generation) = match (text(EPOCH), text(INCARNATION), text(GENERATION)) {
        (None, None, None) => return Ok(None),
        (Some(epoch), Some(incarnation), Some(generation)) => (epoch, incarnation, generation),
        _ => return Err(ClientError::Malformed("the reply carries an incomplete mark")),
    };
    let mark = Mark::of(epoch, incarnation, generation);
    mark.map(Some).ok_or(ClientError::Malformed("the reply carries an invalid mark"))
}

/// Compares a reply's mark with the one at the time when the request was sent.
///
/// # Errors
/// [`ClientError::RolledBack`] when the reply's mark does not continue that history.
pub(super) fn check(held: Option<&Mark>, seen: &Mark) -> Result<(), ClientError> {
    match held {
        Some(held) if !seen.continues(held) => Err(ClientError::RolledBack { held: held.clone(), seen: seen.clone() }),
        _ => Ok(()),
    }
}

/// The mark of a vault that rejected a request because this client has seen a later state. `None` for any other reply.
pub(super) fn refused_at(line: Option<&str>, headers: Option<&Mark>) -> Option<Mark> {
    let info = ErrorInfo::parse(line?).filter(|info| info.code() == ErrorCode::RolledBack)?;
    let fact = |key| info.fact(key).unwrap_or_default();
    // The vault may have changed between its decision and the headers, which could hide the reason.
    Mark::of(fact("epoch"), fact("incarnation"), fact("generation")).or_else(|| headers.cloned())
}

/// Keeps the later of two marks.
pub(super) fn raise(held: &mut Option<Mark>, seen: Mark) {
    let later = held.as_ref().is_none_or(|held| seen.is_later_than(held));
    if later {
        *held = Some(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u32, letter: char, generation: u64) -> Mark {
        Mark { epoch, incarnation: letter.to_string().repeat(32), generation }
    }

    #[test]
    fn names_a_history_that_went_back() {
        let held = mark(2, 'a', 10);
        assert!(check(Some(&held), &mark(2, 'a', 11)).is_ok() && check(None, &mark(0, 'a', 0)).is_ok());
        assert!(matches!(check(Some(&held), &mark(2, 'a', 9)), Err(ClientError::RolledBack { .. })));
    }

    #[test]
    fn a_refusal_says_where_the_vault_stood_when_it_refused() {
        let (stood, later) = (mark(2, 'a', 10), mark(2, 'a', 99));
        let line = format!("rolled-back; epoch=2; incarnation={}; generation=10", stood.incarnation);
        assert_eq!(refused_at(Some(&line), Some(&later)), Some(stood));
        assert_eq!(refused_at(Some("rolled-back"), Some(&later)), Some(later.clone()));
        assert_eq!((refused_at(Some("denied"), Some(&later)), refused_at(None, Some(&later))), (None, None));
    }

    #[test]
    fn keeps_the_maximum() {
        let mut held = None;
        raise(&mut held, mark(1, 'a', 5));
        raise(&mut held, mark(1, 'a', 4));
        assert_eq!(held, Some(mark(1, 'a', 5)));
        raise(&mut held, mark(2, 'b', 1));
        assert_eq!(held, Some(mark(2, 'b', 1)));
    }

    #[test]
    fn reads_all_three_headers_or_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(from_headers(&headers).expect("none"), None);
        headers.insert(EPOCH, "1".parse().expect("legal"));
        assert!(from_headers(&headers).is_err());
        headers.insert(INCARNATION, "AB".repeat(16).parse().expect("legal"));
        headers.insert(GENERATION, "7".parse().expect("legal"));
        let mark = from_headers(&headers).expect("whole").expect("present");
        assert_eq!((mark.epoch, mark.generation, mark.incarnation), (1, 7, "ab".repeat(16)));
        headers.insert(GENERATION, "-7".parse().expect("legal"));
        assert!(from_headers(&headers).is_err());
    }
}
