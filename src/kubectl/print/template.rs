//! `-o go-template`: Go's templates over an object, with kubectl's functions.

use std::rc::Rc;

use api::Value as Json;
use template::{Bounds, Functions, Heap, MissingKey, Names, Run, Set, Signature, Value};

use crate::failure::{Failure, Outcome, failed};
use crate::out;

/// What errors call the template.
const NAME: &str = "output";

pub(crate) struct Template {
    set: Rc<Set>,
    text: String,
}

impl Template {
    pub(crate) fn parse(text: String) -> Outcome<Template> {
        let mut set = Set::new();
        set.parse(NAME, &text, &Own)
            .map_err(|why| Failure::Message(format!("error parsing template {text}, {why}\n")))?;
        Ok(Template { set: Rc::new(set), text })
    }

    /// Prints what it makes of an object; `fills` lets it name what is missing.
    pub(crate) fn print(&self, object: &Json, fills: bool) -> Outcome {
        let heap = Heap::new(Bounds::default());
        let data = Value::from_json(object);
        let missing = if fills { MissingKey::Default } else { MissingKey::Error };
        match Run::new(self.set.clone(), &Own, missing, &heap).execute(NAME, &data) {
            Ok(bytes) => {
                out::bytes(&bytes);
                Ok(())
            }
            Err(why) => {
                let text = &self.text;
                // As upstream: beside the results.
                out::print(&format!(
                    "Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{text}\n\traw data was:\n\t\t{}\n\tobject given to template engine was:\n\t\t{}\n\n",
                    super::jsonpath::compact(object),
                    template::sprint(&data, &heap).unwrap_or_default()
                ));
                failed(format!(
                    "error executing template {}: {why}",
                    template::quote(text.as_bytes())
                ))
            }
        }
    }
}

/// `exists` and `base64decode`.
struct Own;

impl Names for Own {
    fn find(&self, name: &str) -> Option<(u16, Signature)> {
        match name {
            "exists" => Some((0, "aa*")),
            "base64decode" => Some((1, "s")),
            _ => None,
        }
    }
}

impl Functions for Own {
    fn call(&self, run: &mut Run<'_>, function: u16, args: &[Value]) -> Result<Value, String> {
        match (function, args) {
            (0, [item, path @ ..]) => Ok(Value::Bool(exists(item, path))),
            (_, [Value::Text(text)]) => {
                run.heap.charge(text.len())?;
                decode(text).map(Value::text)
            }
            _ => Err("wrong arguments".to_owned()),
        }
    }
}

/// Whether keys and indexes lead to something.
fn exists(item: &Value, path: &[Value]) -> bool {
    let mut at = item.clone();
    for step in path {
        at = match (&at, step) {
            (Value::List(list), Value::Int(idx, _)) => {
                match usize::try_from(*idx).ok().and_then(|idx| list.items.get(idx)) {
                    Some(item) => item.clone(),
                    None => return false,
                }
            }
            (Value::Text(text), Value::Int(idx, _)) => {
                return path.len() == 1 && usize::try_from(*idx).is_ok_and(|idx| idx < text.len());
            }
            (Value::Map(map), Value::Text(key)) => match map.get(&String::from_utf8_lossy(key)) {
                Some(value) => value,
                None => return false,
            },
            _ => return false,
        };
    }
    !at.is_nil()
}

fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    // As in Go, line ends do not count.
    let kept: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let decoded = std::str::from_utf8(&kept).ok().and_then(wire::base64::decode);
    decoded.filter(|_| kept.len().is_multiple_of(4)).ok_or_else(|| {
        let is_digit =
            |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'\r' | b'\n');
        let at = text.iter().position(|b| !is_digit(b)).unwrap_or(kept.len() / 4 * 4);
        format!("base64 decode failed: illegal base64 data at input byte {at}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_finds() {
        assert_eq!(decode(b"aGVs\nbG8=").unwrap(), b"hello");
        assert!(decode(b"aGVsbG8").unwrap_err().ends_with("input byte 4"));
        assert!(decode(b"a!").unwrap_err().ends_with("input byte 1"));
        let tree = Value::from_json(&api::json!({"a": [{"b": 1}], "n": null}));
        let (a, zero, b) = (Value::text("a"), Value::int(0), Value::text("b"));
        assert!(exists(&tree, &[a.clone(), zero.clone(), b]));
        assert!(!exists(&tree, &[a.clone(), Value::int(1)]));
        assert!(!exists(&tree, &[a, zero, Value::text("c")]));
        assert!(!exists(&tree, &[Value::text("n")]));
    }
}
