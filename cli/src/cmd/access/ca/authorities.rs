//! The authorities of a vault: as a table, and finding one by the beginning of its identifier.

use strongroom::api::identities::{AuthorityInfo, AuthorityList};

use crate::exit::{Code, Failure};
use crate::table;

/// The only authority whose identifier starts with this.
///
/// # Errors
/// No authority matches (exit code 4), or several do (2).
pub fn pick<'a>(authorities: &'a [AuthorityInfo], typed: &str) -> Result<&'a AuthorityInfo, Failure> {
    let wanted = typed.to_ascii_lowercase();
    let mut found = authorities.iter().filter(|facts| !wanted.is_empty() && facts.id.starts_with(&wanted));
    let hint = "list them: strongroom ca list";
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Code::NotFound, format!("there is no authority {typed:?}"), hint)),
        (Some(_), Some(_)) => Err(Failure::usage(format!("{typed:?} matches several authorities"), hint)),
    }
}

/// The authorities as a table.
pub fn shown(list: &AuthorityList, now_ms: u64) -> String {
    let row = |facts: &AuthorityInfo| {
        let state = if facts.tainted { format!("{}, tainted", facts.state) } else { facts.state.clone() };
        [
            facts.id.clone(),
            state,
            table::since(Some(&facts.changed), now_ms),
            facts.created.clone(),
            table::until(Some(&facts.not_after), now_ms),
        ]
    };
    let rows: Vec<_> = list.authorities.iter().map(row).collect();
    table::text(["authority", "state", "changed", "created", "expires in"], &rows, "no authorities")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(id: &str, state: &str) -> AuthorityInfo {
        AuthorityInfo { id: id.into(), state: state.into(), ..AuthorityInfo::default() }
    }

    #[test]
    fn a_beginning_names_one_authority() {
        let all = [authority("aa01", "active"), authority("aa02", "retiring")];
        assert_eq!(pick(&all, "AA02").unwrap().id, "aa02");
        assert_eq!(pick(&all, "aa").unwrap_err().code, Code::Usage);
        assert_eq!(pick(&all, "b").unwrap_err().code, Code::NotFound);
        assert_eq!(pick(&all, "").unwrap_err().code, Code::NotFound);
    }
}
