//! What the language knows of the objects that expressions look at: the seam to whoever has their schemas.

use crate::words::{KEYWORDS, RESERVED};

/// What a value is, as its schema says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Anything; what it is, is seen when it is there.
    Dyn,
    Bool,
    Int,
    Double,
    Str,
    /// A text in base64.
    Bytes,
    /// A text in RFC 3339, or with a date only.
    Time,
    Date,
    Duration,
    /// A number or a text.
    IntOrString,
    List,
    /// An object whose values have one schema.
    Map,
    /// An object with declared fields.
    Object,
    /// Not visible to expressions.
    Hidden,
}

/// What makes two elements of a list the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// Nothing but where it is.
    Place,
    /// All of it: the list is a set.
    Value,
    /// The values of these fields: the list is a map.
    Keys(&'a [Box<str>]),
}

/// Schemas of one kind, each at a place that the implementer numbers.
pub trait Schemas: Sync {
    /// What is at a place.
    fn shape(&self, at: usize) -> Shape;
    /// The schema of a field of an object, by the name that it has in JSON.
    fn field(&self, at: usize, name: &str) -> Option<usize>;
    /// The schema of a list's elements or a map's values.
    fn inner(&self, at: usize) -> Option<usize>;
    /// What an object's type is called in messages.
    fn name(&self, _at: usize) -> String {
        "object".into()
    }
    /// `maxLength`, `maxItems` or `maxProperties`.
    fn limit(&self, _at: usize) -> Option<u64> {
        None
    }
    /// The longest text of an `enum` of texts, in bytes.
    fn longest(&self, _at: usize) -> Option<u64> {
        None
    }
    /// Fields that each object has although no default fills them in.
    fn required(&self, _at: usize, _see: &mut dyn FnMut(&str, usize)) {}
    /// What makes two elements of the list at a place the same.
    fn identity(&self, _at: usize) -> Identity<'_> {
        Identity::Place
    }
}

/// A schema and its place among its like.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub of: &'a dyn Schemas,
    pub at: usize,
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "schema {}", self.at)
    }
}

impl<'a> Place<'a> {
    pub(crate) fn shape(self) -> Shape {
        self.of.shape(self.at)
    }

    fn visible(self, at: Option<usize>) -> Option<Place<'a>> {
        let place = Place { of: self.of, at: at? };
        let hidden = match place.shape() {
            Shape::Hidden => true,
            Shape::List | Shape::Map => place.inner().is_none(),
            _ => false,
        };
        (!hidden).then_some(place)
    }

    /// The field that an expression calls `name`, and how JSON calls it.
    pub(crate) fn field(self, name: &str) -> Option<Place<'a>> {
        self.visible(self.of.field(self.at, &unescaped(name)))
    }

    pub(crate) fn inner(self) -> Option<Place<'a>> {
        self.visible(self.of.inner(self.at))
    }

    pub(crate) fn is(self, other: Place<'_>) -> bool {
        let here: *const dyn Schemas = self.of;
        std::ptr::addr_eq(here, other.of as *const dyn Schemas) && self.at == other.at
    }
}

/// What may not be an identifier is escaped by these.
const ESCAPES: [(&str, &str); 4] =
    [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name) || RESERVED.contains(&name)
}

/// Whether an expression may say `name` as it is.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !is_keyword(name)
}

/// The name in JSON of the field that an expression calls `name`.
pub(crate) fn unescaped(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains("__") {
        // A keyword is no field's name unless it is escaped.
        return name.into();
    }
    let keyword = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(keyword) = keyword.filter(|keyword| is_keyword(keyword)) {
        return keyword.into();
    }
    let (mut out, mut rest) = (String::with_capacity(name.len()), name);
    'next: while let Some(first) = rest.chars().next() {
        for (escape, meaning) in ESCAPES {
            if let Some(after) = rest.strip_prefix(escape) {
                out.push_str(meaning);
                rest = after;
                continue 'next;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out.into()
}

/// How an expression writes the name `name` that a field has in JSON.
pub(crate) fn escaped(name: &str) -> std::borrow::Cow<'_, str> {
    if is_keyword(name) {
        return format!("__{name}__").into();
    }
    let mut out = std::borrow::Cow::from(name);
    for (escape, meaning) in ESCAPES {
        if out.contains(meaning) && (meaning == "__" || !out.is_empty()) {
            out = out.replace(meaning, escape).into();
        }
    }
    out
}

/// The largest request, in bytes: what says nothing of its size may fill it.
const REQUEST_MAX: u64 = 3 * 1024 * 1024;
/// How deep schemas are looked at for the least size of what they describe.
const DEPTH_MAX: usize = 64;

impl Place<'_> {
    /// How long a value at most is, as `size()` says; a text's length in bytes.
    pub(crate) fn longest(self) -> Option<u64> {
        let limit = self.of.limit(self.at);
        Some(match self.shape() {
            Shape::Str => match (limit, self.of.longest(self.at)) {
                // A character has up to four bytes.
                (Some(limit), _) => limit.saturating_mul(4),
                (None, Some(longest)) => longest,
                (None, None) => REQUEST_MAX - 2,
            },
            Shape::Bytes => limit.unwrap_or(REQUEST_MAX - 2),
            Shape::IntOrString => REQUEST_MAX - 2,
            Shape::Duration | Shape::Time => 32,
            Shape::Date => 12,
            Shape::List => {
                let least = self.inner().map_or(0, |inner| inner.least(0));
                limit.unwrap_or((REQUEST_MAX - 2) / (least + 1))
            }
            Shape::Map => {
                let least = self.inner().map_or(0, |inner| inner.least(0));
                limit.unwrap_or((REQUEST_MAX - 2) / (least + 6))
            }
            _ => return None,
        })
    }

    /// How many bytes a value at least has in JSON: what tells how often it fits into a request.
    pub fn least_size(self) -> u64 {
        self.least(0)
    }

    /// The same, below `depth` others.
    fn least(self, depth: usize) -> u64 {
        match self.shape() {
            Shape::Str | Shape::Bytes | Shape::List | Shape::Map => 2,
            Shape::Duration => 3,
            Shape::Date => 12,
            Shape::Time => 21,
            Shape::Bool => 4,
            Shape::Object if depth < DEPTH_MAX => {
                let mut sum = 2;
                self.of.required(self.at, &mut |name, at| {
                    if let Some(field) = self.visible(Some(at)) {
                        sum += name.len() as u64 + field.least(depth + 1) + 4;
                    }
                });
                sum
            }
            Shape::Object => 2,
            _ => 1,
        }
    }
}
