//! What all functions do with their arguments: to texts, and to the types that their signatures promise.

use std::borrow::Cow;
use std::rc::Rc;
use stdx::OrdMap;

use template::{Heap, Int, List, Map, Value};

/// A string argument, with what is not UTF-8 replaced.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => String::from_utf8_lossy(bytes),
        _ => Cow::Borrowed(""),
    }
}

/// A string argument.
pub(super) fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// An int argument.
pub(super) fn int(value: &Value) -> i64 {
    match value {
        Value::Int(n, _) => *n,
        _ => 0,
    }
}

/// A string that is made, counted.
pub(super) fn made(heap: &Heap, text: impl AsRef<[u8]>) -> Result<Value, String> {
    heap.charge(text.as_ref().len())?;
    Ok(Value::text(text))
}

/// sprig's form of anything as a string.
pub(super) fn shown(heap: &Heap, value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => Ok(bytes.to_vec()),
        Value::Object(object) => Ok(object.show().into_bytes()),
        value => Ok(template::show(value, heap)?),
    }
}

/// The elements of a slice; `None` if it is none.
pub(super) fn elements(value: &Value) -> Option<Rc<List>> {
    match value {
        Value::List(list) => Some(list.clone()),
        Value::Bytes(bytes) => Some(Rc::new(List {
            type_name: "[]uint8",
            items: bytes.iter().map(|byte| Value::Int(i64::from(*byte), Int::Uint8)).collect(),
        })),
        Value::Object(object) if object.kind() == "slice" => elements(&object.plain()),
        _ => None,
    }
}

/// A map argument; an empty one where it is nil.
pub(super) fn map(value: &Value) -> Rc<Map> {
    match value {
        Value::Map(map) => map.clone(),
        _ => Map::new("map[string]interface {}", OrdMap::default()),
    }
}

/// sprig's list of strings: nils are left out, what is no list is one element.
pub(super) fn strings(heap: &Heap, value: &Value) -> Result<Vec<Vec<u8>>, String> {
    if value.is_nil() {
        return Ok(Vec::new());
    }
    match elements(value) {
        None => Ok(vec![shown(heap, value)?]),
        Some(list) => {
            heap.charge(list.items.len() * 24)?;
            let items = list.items.iter().filter(|item| !item.is_nil());
            items.map(|item| shown(heap, item)).collect()
        }
    }
}

/// Go's panic where a list is no list.
pub(super) fn not_a_list(verb: &str, value: &Value) -> String {
    match value.is_nil() {
        true => "runtime error: invalid memory address or nil pointer dereference".to_owned(),
        false => format!("Cannot {verb} on type {}", value.kind()),
    }
}

/// spf13/cast's `ToInt64`: what cannot be read is 0.
#[expect(clippy::cast_possible_truncation)] // as Go converts
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(n, _) => *n,
        Value::Float(n) => *n as i64,
        Value::Bool(truth) => i64::from(*truth),
        Value::Text(_) => {
            let whole = text(value);
            let whole = match whole.split_once('.') {
                Some((before, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => {
                    before.to_owned()
                }
                _ => whole.into_owned(),
            };
            parse_int(&whole).unwrap_or(0)
        }
        _ => 0,
    }
}

/// Go's `ParseInt` with base 0.
fn parse_int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let has_prefix = digits.len() < lower.len();
    let digits = if has_prefix { digits.replace('_', "") } else { digits.to_owned() };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// spf13/cast's `ToFloat64`.
#[expect(clippy::cast_precision_loss)] // as Go converts
pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(n, _) => *n as f64,
        Value::Float(n) => *n,
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Text(_) => text(value).parse().unwrap_or(0.0),
        _ => 0.0,
    }
}
