//! Looks up the fields of an object at the places that the check of its text found.

use super::check::{Layout, Place, scan, utf8};
use super::{JsonCode, JsonError, Limits};

/// A checked text with the places of its fields.
pub struct Parsed<'a> {
    text: &'a str,
    layout: Layout,
}

impl<'a> Parsed<'a> {
    /// Checks a text of any size, depth and number of keys, and records where its fields are.
    ///
    /// # Errors
    /// [`JsonError`] when the text is malformed; `NotAnObject` for any other value.
    pub fn of(text: &'a [u8]) -> Result<Self, JsonError> {
        const ANY: Limits = Limits {
            max_bytes: u32::MAX as usize,
            max_depth: usize::MAX,
            max_keys: usize::MAX,
            max_string_bytes: usize::MAX,
        };
        let text = utf8(text)?;
        must_be_object(text)?;
        Ok(Self { text, layout: scan(text, &ANY)? })
    }

    /// Checks a value of any kind.
    ///
    /// # Errors
    /// As [`super::check`].
    pub(super) fn any(text: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let text = utf8(text)?;
        Ok(Self { text, layout: scan(text, limits)? })
    }

    /// The value as it was written, without blanks around it.
    pub(super) fn raw(&self) -> &'a str {
        self.text.trim_ascii()
    }

    /// The fields, if the value is an object.
    pub(super) fn if_object(&self) -> Option<Object<'_>> {
        self.raw().starts_with('{').then(|| self.object())
    }

    /// Length of the text in bytes.
    pub(in crate::api) fn len(&self) -> usize {
        self.text.len()
    }

    /// Where the fields are in the text.
    pub(in crate::api) fn into_layout(self) -> Layout {
        self.layout
    }

    /// The fields.
    #[must_use]
    pub fn object(&self) -> Object<'_> {
        Object::new(self.text, &self.layout)
    }
}

/// Checks a text as [`super::check`] does and returns the places of its fields. The text must be an object.
///
/// # Errors
/// As [`super::check`]; `NotAnObject` for any other value.
pub(in crate::api) fn scan_object(text: &str, limits: &Limits) -> Result<Layout, JsonError> {
    let layout = scan(text, limits)?;
    must_be_object(text)?;
    Ok(layout)
}

fn must_be_object(text: &str) -> Result<(), JsonError> {
    let start = text.bytes().position(|byte| !b" \t\r\n".contains(&byte)).unwrap_or(text.len());
    let object = text.as_bytes().get(start) == Some(&b'{');
    if object { Ok(()) } else { Err(JsonError { code: JsonCode::NotAnObject, at: start }) }
}

/// The fields of a JSON object as raw text, in their original order.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    text: &'a str,
    places: &'a [Place],
    decoded: &'a [Box<str>],
}

impl<'a> Object<'a> {
    /// The object in `text`. `layout` was made from this text.
    pub(in crate::api) fn new(text: &'a str, layout: &'a Layout) -> Self {
        Self { text, places: &layout.places, decoded: &layout.decoded }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.entries().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The names of the fields.
    pub fn keys(self) -> impl Iterator<Item = &'a str> {
        self.entries().map(|(name, _)| name)
    }

    /// Names and values.
    pub fn entries(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let place = self.places.get(at)?;
            let inner = at + 1..at + 1 + place.inner();
            at = inner.end;
            let fields = Self { places: self.places.get(inner).unwrap_or_default(), ..self };
            let raw = self.text.get(place.value()).unwrap_or_default();
            Some((self.name(place), Value { raw, fields }))
        })
    }

    fn name(self, place: &Place) -> &'a str {
        match place.decoded() {
            Some(at) => self.decoded.get(at).map(|name| &**name),
            None => self.text.get(place.name()),
        }
        .unwrap_or_default()
    }

    /// Number of fields.
    #[must_use]
    pub fn len(self) -> usize {
        self.entries().count()
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.places.is_empty()
    }
}

/// The value of a field.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    raw: &'a str,
    /// The fields inside it. For an array these are the fields of all objects in it, and [`Value::object`] does not
    /// return them.
    fields: Object<'a>,
}

impl<'a> Value<'a> {
    /// Its JSON text, without blanks around it.
    #[must_use]
    pub fn raw(self) -> &'a str {
        self.raw
    }

    /// Its fields, when it is an object.
    #[must_use]
    pub fn object(self) -> Option<Object<'a>> {
        self.raw.starts_with('{').then_some(self.fields)
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.raw == "null"
    }
}
