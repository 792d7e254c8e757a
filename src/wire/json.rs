//! JSON text to trees with duplicate keys found and depth bounded, and JSON strings written to bytes.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many duplicates are told; more are only the client's problem.
const DUPLICATES_MAX: usize = 20;

/// A parsed text and the paths (`spec.containers[0].name`) of keys that came twice; the last one won.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub tree: Value,
    pub duplicates: Vec<String>,
}

/// Parses one JSON value. Nesting is bounded at 128 levels by serde_json.
///
/// # Errors
/// With line and column, if the text is not JSON, or something but space follows it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let state = RefCell::new(State::default());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let tree = Seed(&state).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed { tree, duplicates: state.into_inner().duplicates })
}

/// What a map costs before its first entry: the node of a B-tree, made for eleven.
pub const MAP_BYTES: usize = 640;
/// What an entry of a map or a list costs beside what is in it; nodes and vectors are half empty at worst.
pub const ENTRY_BYTES: usize = 112;
/// What a text costs beside its bytes.
pub const TEXT_BYTES: usize = 32;

/// How many bytes of memory the tree of a text takes, about; more rather than less. The text need
/// not be well-formed.
pub fn tree_bytes(text: &[u8]) -> usize {
    let mut total = ENTRY_BYTES;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        total += match byte {
            // An empty one has no node.
            b'{' if bytes.as_slice().first() == Some(&b'}') => 0,
            b'{' => MAP_BYTES,
            b',' | b'[' => ENTRY_BYTES,
            b'"' => {
                let before = bytes.len();
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
                TEXT_BYTES + before - bytes.len()
            }
            _ => 0,
        };
    }
    total
}

/// How many bytes of memory a tree takes, about; more rather than less.
pub fn memory_of(tree: &Value) -> usize {
    let inside = match tree {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(memory_of).sum(),
        Value::Object(map) if !map.is_empty() => {
            let entry = |(key, value): (&String, &Value)| TEXT_BYTES + key.len() + memory_of(value);
            MAP_BYTES + map.iter().map(entry).sum::<usize>()
        }
        _ => 0,
    };
    ENTRY_BYTES + inside
}

/// Whether the bytes are one JSON value, without making anything of it.
pub fn is_valid(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// Appends `text` as a JSON string. As Go's encoder does, `<`, `>`, `&` and U+2028/9 are escaped,
/// so that answers may stand inside HTML.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (idx, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x00..=0x1f | b'<' | b'>' | b'&' => {
                out.extend_from_slice(&bytes[start..idx]);
                start = idx + 1;
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..idx]);
        start = idx + 1;
        out.extend_from_slice(escape);
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

#[derive(Default)]
struct State {
    path: String,
    duplicates: Vec<String>,
}

impl State {
    /// Adds a step to the path and returns the length to cut back to.
    fn enter(&mut self, step: fmt::Arguments<'_>) -> usize {
        use fmt::Write;
        let len = self.path.len();
        // Writing to a String does not fail.
        let _ = self.path.write_fmt(step);
        len
    }
}

struct Seed<'a>(&'a RefCell<State>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let len = self.0.borrow_mut().enter(format_args!("[{}]", items.len()));
            let item = seq.next_element_seed(Seed(self.0))?;
            self.0.borrow_mut().path.truncate(len);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let dot = if self.0.borrow().path.is_empty() { "" } else { "." };
            let len = self.0.borrow_mut().enter(format_args!("{dot}{key}"));
            if map.contains_key(&key) {
                let mut state = self.0.borrow_mut();
                if state.duplicates.len() < DUPLICATES_MAX {
                    let path = state.path.clone();
                    state.duplicates.push(path);
                }
            }
            if len > 65_536 {
                return Err(A::Error::custom("field names nest too long"));
            }
            let value = access.next_value_seed(Seed(self.0))?;
            self.0.borrow_mut().path.truncate(len);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_found_and_the_last_wins() {
        let parsed = parse(br#"{"a":{"b":[{"c":1,"c":2}]},"d":1.5,"a2":"x","d":null}"#).unwrap();
        assert_eq!(parsed.tree, json!({"a": {"b": [{"c": 2}]}, "d": null, "a2": "x"}));
        assert_eq!(parsed.duplicates, ["a.b[0].c", "d"]);
    }

    #[test]
    fn bad_text_is_an_error() {
        for bad in ["", "{", "{} x", "[1,]", "{\"a\":01}", "nul", "\"\u{1}\""] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse("[".repeat(1000).as_bytes()).is_err());
        assert!(parse(&[b'"', 0xff, b'"']).is_err());
    }

    #[test]
    fn strings_are_escaped() {
        let text = "a\"\\\n\u{1}<&>é\u{7f}";
        let mut out = Vec::new();
        put_string(&mut out, text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert!(out.windows(6).any(|w| w == b"\\u003c"));
    }

    #[test]
    fn trees_cost_at_least_what_they_take() {
        for (text, least) in [
            ("0", 32),
            (r#""a\"b{[,""#, 40),
            ("[0,0,0,0]", 4 * 32),
            (r#"{"a":{"b":{}}}"#, 2 * 632),
            (r#"{"a":1,"b":2}"#, 632 + 2 * 24),
        ] {
            let cost = tree_bytes(text.as_bytes());
            assert!((least..least * 8 + 300).contains(&cost), "{text}: {cost}");
            let cost = memory_of(&serde_json::from_str(text).unwrap());
            assert!((least..least * 8 + 300).contains(&cost), "{text}: {cost}");
        }
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        assert!(tree_bytes(long.as_bytes()) < (1 << 20) + 1000);
        for broken in ["\"abc", "\"a\\", "{{{{[,", ""] {
            tree_bytes(broken.as_bytes());
        }
    }
}
