//! Go's own functions: comparison, indexing, length, logic, printing, escaping.

use std::rc::Rc;

use crate::format;
use crate::value::{Heap, Int, List, Signature, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    And,
    Or,
    Not,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    Urlquery,
    Call,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

const ALL: &[(&str, Builtin, Signature)] = &[
    ("and", Builtin::And, "aa*"),
    ("or", Builtin::Or, "aa*"),
    ("not", Builtin::Not, "a"),
    ("len", Builtin::Len, "a"),
    ("index", Builtin::Index, "aa*"),
    ("slice", Builtin::Slice, "aa*"),
    ("print", Builtin::Print, "a*"),
    ("printf", Builtin::Printf, "sa*"),
    ("println", Builtin::Println, "a*"),
    ("html", Builtin::Html, "a*"),
    ("js", Builtin::Js, "a*"),
    ("urlquery", Builtin::Urlquery, "a*"),
    ("call", Builtin::Call, "aa*"),
    ("eq", Builtin::Eq, "aa*"),
    ("ne", Builtin::Ne, "aa"),
    ("lt", Builtin::Lt, "aa"),
    ("le", Builtin::Le, "aa"),
    ("gt", Builtin::Gt, "aa"),
    ("ge", Builtin::Ge, "aa"),
];

pub(crate) fn find(name: &str) -> Option<Builtin> {
    ALL.iter().find(|one| one.0 == name).map(|one| one.1)
}

impl Builtin {
    pub(crate) fn signature(self) -> Signature {
        ALL.iter().find(|one| one.1 == self).map_or("", |one| one.2)
    }
}

pub(crate) fn call(
    builtin: Builtin,
    heap: &Heap,
    name: &str,
    args: &[Value],
) -> Result<Value, String> {
    let text = |bytes: Vec<u8>| Value::Text(Rc::from(bytes));
    Ok(match builtin {
        // The executor does these, for they need not look at all their arguments.
        Builtin::And | Builtin::Or => Value::Nil,
        Builtin::Not => Value::Bool(!args[0].truth()),
        Builtin::Len => Value::int(length(&args[0])?),
        Builtin::Index => index(&args[0], &args[1..])?,
        Builtin::Slice => slice(&args[0], &args[1..])?,
        Builtin::Print => text(format::print(args, heap)?),
        Builtin::Println => text(format::println(args, heap)?),
        Builtin::Printf => match &args[0] {
            Value::Text(pattern) => text(format::sprintf(pattern, &args[1..], heap)?),
            _ => Value::Nil,
        },
        Builtin::Html => text(html(&joined(args, heap)?)),
        Builtin::Js => text(js(&joined(args, heap)?)),
        Builtin::Urlquery => text(urlquery(&joined(args, heap)?)),
        Builtin::Call => {
            return Err(match args[0] {
                Value::Nil => "call of nil".to_owned(),
                _ => format!("non-function {name} of type {}", args[0].type_name()),
            });
        }
        Builtin::Eq => Value::Bool(equal(&args[0], &args[1..], heap)?),
        Builtin::Ne => Value::Bool(!equal(&args[0], &args[1..], heap)?),
        Builtin::Lt => Value::Bool(less(&args[0], &args[1])?),
        Builtin::Le => Value::Bool(less(&args[0], &args[1])? || equal(&args[0], &args[1..], heap)?),
        Builtin::Gt => {
            Value::Bool(!(less(&args[0], &args[1])? || equal(&args[0], &args[1..], heap)?))
        }
        Builtin::Ge => Value::Bool(!less(&args[0], &args[1])?),
    })
}

fn joined(args: &[Value], heap: &Heap) -> Result<Vec<u8>, String> {
    match args {
        [Value::Text(text)] => Ok(text.to_vec()),
        _ => format::print(args, heap),
    }
}

#[expect(clippy::cast_possible_wrap)] // lengths of what is in memory
fn length(value: &Value) -> Result<i64, String> {
    Ok(match value {
        Value::Nil | Value::Invalid => return Err("len of nil pointer".to_owned()),
        Value::Text(bytes) | Value::Bytes(bytes) => bytes.len() as i64,
        Value::List(list) => list.items.len() as i64,
        Value::Map(map) => map.entries.borrow().len() as i64,
        Value::Object(object) if matches!(object.kind(), "map" | "slice") => {
            return length(&object.plain());
        }
        other => return Err(format!("len of type {}", other.type_name())),
    })
}

fn position(index: &Value, end: usize) -> Result<usize, String> {
    match index {
        Value::Int(n, _) => match usize::try_from(*n) {
            Ok(idx) if idx <= end => Ok(idx),
            _ => Err(format!("index out of range: {n}")),
        },
        Value::Nil | Value::Invalid => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if item.is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    let mut item = item.clone();
    for index in indexes {
        if let Value::Object(object) = &item
            && matches!(object.kind(), "map" | "slice")
        {
            item = object.plain();
        }
        item = match &item {
            Value::Nil | Value::Invalid => return Err("index of nil pointer".to_owned()),
            Value::List(list) => {
                let idx = position(index, list.items.len())?;
                let found = list.items.get(idx).cloned();
                found.ok_or_else(|| {
                    format!("error calling index: reflect: slice index out of range: {idx}")
                })?
            }
            Value::Text(bytes) | Value::Bytes(bytes) => {
                let idx = position(index, bytes.len())?;
                let byte = bytes.get(idx);
                let byte = byte.ok_or("reflect: string index out of range")?;
                Value::Int(i64::from(*byte), Int::Uint8)
            }
            Value::Map(map) => match index {
                Value::Text(key) => {
                    let key = String::from_utf8_lossy(key);
                    map.get(&key).unwrap_or_else(|| map.zero())
                }
                Value::Nil | Value::Invalid => {
                    return Err("value is nil; should be of type string".to_owned());
                }
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()));
                }
            },
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let length = match item {
        Value::Nil | Value::Invalid => return Err("slice of untyped nil".to_owned()),
        Value::Text(_) if indexes.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Text(bytes) | Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut range = [0, length, length];
    for (at, index) in range.iter_mut().zip(indexes) {
        *at = position(index, length)?;
    }
    for (low, high) in [(range[0], range[1]), (range[1], range[2])] {
        if low > high {
            return Err(format!("invalid slice index: {low} > {high}"));
        }
    }
    let range = range[0]..range[1];
    Ok(match item {
        Value::Text(bytes) => Value::text(&bytes[range]),
        Value::Bytes(bytes) => Value::Bytes(Rc::from(&bytes[range])),
        Value::List(list) => Value::List(Rc::new(List {
            type_name: list.type_name,
            items: list.items[range].to_vec(),
        })),
        _ => Value::Nil,
    })
}

fn mismatch(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

/// Go's `==` between the first and any of the others.
fn equal(first: &Value, others: &[Value], heap: &Heap) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        let is_equal = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a, _), Value::Int(b, _)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Nil | Value::Invalid, _) => other.is_nil(),
            (_, Value::Nil | Value::Invalid) => false,
            (Value::List(_) | Value::Map(_) | Value::Bytes(_), _)
                if first.kind() == other.kind() =>
            {
                let shown = format::sprint(other, heap)?;
                return Err(format!("non-comparable type {shown}: {}", other.type_name()));
            }
            (Value::Object(_), Value::Object(_)) => first.deep_equal(other, heap)?,
            _ => return Err(mismatch(first, other)),
        };
        if is_equal {
            return Ok(true);
        }
    }
    Ok(false)
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(a, _), Value::Int(b, _)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".to_owned()),
        _ => {
            let is_basic = |value: &Value| {
                matches!(value, Value::Bool(_) | Value::Int(..) | Value::Float(_) | Value::Text(_))
            };
            match is_basic(a) && is_basic(b) {
                true => Err(mismatch(a, b)),
                false => Err("invalid type for comparison".to_owned()),
            }
        }
    }
}

fn html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => out.push(*byte),
        }
    }
    out
}

fn js(text: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.into_bytes()
}

fn urlquery(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(*byte);
            }
            b' ' => out.push(b'+'),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}
