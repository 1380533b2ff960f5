//! One page of a list: the fields `after` and `limit`, as in OpenBao.

use super::fields::FieldError;
use super::json::Value;
use super::request::Body;

/// The requested part of a sorted list.
///
/// ```
/// use strongroom::api::page::Page;
///
/// let names = ["a", "b", "c", "d"].map(String::from);
/// let page = Page { after: "a".to_owned(), limit: Some(2) };
/// assert_eq!(page.cut(&names), ["b", "c"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Names up to and including this one are skipped. It need not exist. Empty means from the beginning.
    pub after: String,
    /// Largest number of names; `None` means all.
    pub limit: Option<usize>,
}

impl Page {
    /// Reads `after` and `limit` of a request. A limit of 0 or less means no limit.
    ///
    /// # Errors
    /// [`FieldError::Must`] for an `after` that is not a string or a `limit` that is not a whole number.
    pub fn of(body: &Body) -> Result<Self, FieldError> {
        let fields = body.fields();
        let limit = match fields.value("limit").map(Value::raw) {
            None | Some("\"\"") => 0,
            Some(_) => fields.integer("limit")?.unwrap_or(0),
        };
        let after = fields.text("after")?.unwrap_or_default();
        Ok(Self { after, limit: usize::try_from(limit).ok().filter(|limit| *limit > 0) })
    }

    /// The names of this page out of all names, which must be sorted by their bytes.
    #[must_use]
    pub fn cut<'n>(&self, sorted: &'n [String]) -> &'n [String] {
        let first = match self.after.as_str() {
            "" => 0,
            after => sorted.partition_point(|name| name.as_str() <= after),
        };
        let left = sorted.get(first..).unwrap_or_default();
        left.get(..self.limit.unwrap_or(left.len())).unwrap_or(left)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::api::json::Limits;

    fn page(body: &str) -> Result<Page, FieldError> {
        Page::of(&Body::from_json(Zeroizing::new(body.as_bytes().to_vec()), &Limits::default()).expect("an object"))
    }

    #[test]
    fn pages_are_cut_as_openbao_cuts_them() {
        // The table of OpenBao's own description of the feature.
        let names = ["abcd", "efgh", "ijkl", "mnop", "qrst", "uwxy"].map(str::to_owned);
        let cut = |body: &str| page(body).expect("legal").cut(&names).join(" ");
        let all = names.join(" ");
        for whole in [
            "{}",
            r#"{"limit":"-1"}"#,
            r#"{"limit":0}"#,
            r#"{"limit":"6"}"#,
            r#"{"limit":1000}"#,
            r#"{"after":"a","limit":-1}"#,
            r#"{"after":"","limit":""}"#,
            r#"{"after":null,"limit":null}"#,
        ] {
            assert_eq!(cut(whole), all, "{whole}");
        }
        assert_eq!(cut(r#"{"after":"b","limit":"-1"}"#), "efgh ijkl mnop qrst uwxy");
        assert_eq!(cut(r#"{"after":"b","limit":"2"}"#), "efgh ijkl");
        assert_eq!(cut(r#"{"after":"ijkl","limit":1}"#), "mnop");
        assert_eq!(cut(r#"{"after":"z"}"#), "");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for bad in [r#"{"limit":"x"}"#, r#"{"limit":1.5}"#, r#"{"limit":true}"#, r#"{"after":3}"#, r#"{"limit":[1]}"#] {
            assert!(matches!(page(bad), Err(FieldError::Must(..))), "{bad}");
        }
        assert!(page(r#"{"limit":"99999999999999999999"}"#).is_err());
    }
}
