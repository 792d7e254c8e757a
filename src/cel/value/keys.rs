//! Keys of maps and lists.

use super::{Out, Val, fail, go, scalar_equal};

/// Whether a value may be looked up.
pub(crate) fn is_key(key: &Val<'_>) -> bool {
    let simple = matches!(key, Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_));
    simple || key.as_str().is_some()
}

pub(crate) fn not_a_key<T>(key: &Val<'_>) -> Out<T> {
    fail(format!("invalid qualifier type: {}", go::go_kind(key)))
}

/// Puts a value into a map in the place of what was under its key.
pub(crate) fn put<'a>(map: &mut Vec<(Val<'a>, Val<'a>)>, key: Val<'a>, value: Val<'a>) {
    match map.iter_mut().find(|(known, _)| same_key(known, &key)) {
        Some((_, known)) => *known = value,
        None => map.push((key, value)),
    }
}

/// Keys are the same only within one type.
pub(crate) fn same_key(one: &Val<'_>, other: &Val<'_>) -> bool {
    one.kind() == other.kind() && scalar_equal(one, other)
}
