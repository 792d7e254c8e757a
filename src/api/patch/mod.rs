//! The three patch languages: JSON Patch (RFC 6902), merge patch (RFC 7386) and strategic merge.
//!
//! Each changes a tree in place. The caller then runs `codec::check_fields`, `defaults::apply`,
//! `strategy`, `validate` as for a replacement.

mod shown;
pub mod strategic;

pub use shown::{cut, shown};
pub use strategic::{converter_words, go_print};

use serde_json::{Map, Value};

use crate::form::Form;
use crate::message::json_type;
use crate::status::{Reason, Status};

/// Operations one JSON Patch may hold, as upstream.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Bytes that the `copy` operations of one JSON Patch may add up to: copies of copies double. Upstream counts
/// text; these are the bytes of the trees, which for small maps are a hundred times as many.
const JSON_PATCH_COPIED_BYTES_MAX: usize = 3 << 20;

/// Items of lists that the operations of one JSON Patch may move to make room or to close a gap: a second's work.
const JSON_PATCH_MOVED_ITEMS_MAX: usize = 50_000_000;

/// What the operations of a JSON Patch did so far that is not in proportion to its length.
#[derive(Default)]
struct Spent {
    n_copied_bytes: usize,
    n_moved_items: usize,
}

impl Spent {
    fn move_items(&mut self, n_items: usize) -> Result<(), Status> {
        self.n_moved_items += n_items;
        match self.n_moved_items > JSON_PATCH_MOVED_ITEMS_MAX {
            true => Err(Status::new(
                Reason::RequestEntityTooLarge,
                format!(
                    "the JSON patch moves more than {JSON_PATCH_MOVED_ITEMS_MAX} items of lists"
                ),
            )),
            false => Ok(()),
        }
    }
}

/// Levels that a patched tree may nest, as deep as the JSON parser lets a body.
pub const DEPTH_MAX: usize = 128;

/// How much memory the copies that a JSON Patch makes of parts of an object may take, in bytes.
pub fn copied_bytes_max(patch: &Value) -> usize {
    let operations = patch.as_array().map_or(&[][..], Vec::as_slice);
    match operations.iter().any(|operation| operation["op"] == "copy") {
        true => JSON_PATCH_COPIED_BYTES_MAX,
        false => 0,
    }
}

/// Applies a JSON Patch. A tree that it fails on is of no use any more.
///
/// # Errors
/// 400 for a malformed patch; 422 when an operation does not apply (upstream's codes).
pub fn json(tree: &mut Value, patch: &Value) -> Result<(), Status> {
    if patch.is_null() {
        return Ok(());
    }
    let Value::Array(operations) = patch else {
        let found = json_type(patch);
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!(
                "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {}",
                operations.len()
            ),
        ));
    }
    let mut spent = Spent::default();
    for operation in operations {
        one_operation(tree, operation, &mut spent)?;
    }
    Ok(())
}

/// Applies a JSON merge patch: null deletes, maps merge, everything else replaces.
pub fn merge(tree: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *tree = patch.clone();
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(map) = tree else { return };
    for (key, change) in patch {
        match change {
            Value::Null => {
                map.remove(key);
            }
            change => merge(map.entry(key.clone()).or_insert(Value::Null), change),
        }
    }
}

/// Applies a strategic merge patch: lists merge by the keys that the schema of `form` names. A tree that it fails on is
/// of no use any more.
///
/// # Errors
/// 400 when the patch does not fit.
pub fn strategic<'f>(
    form: impl Into<Form<'f>>,
    tree: &mut Value,
    patch: &Value,
) -> Result<(), Status> {
    if patch.is_null() {
        return Ok(());
    }
    let Value::Object(patch) = patch else {
        let found = json_type(patch);
        return Err(Status::bad_request(format!(
            "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    match tree {
        Value::Object(map) => strategic::merge_map(form.into().table(), map, patch, 0),
        _ => Ok(()),
    }
}

fn one_operation(tree: &mut Value, operation: &Value, spent: &mut Spent) -> Result<(), Status> {
    let field = |name: &str| -> Result<&str, Status> {
        operation.get(name).and_then(Value::as_str).ok_or_else(|| {
            Status::bad_request(format!(
                "error decoding patch: an operation has no string \"{name}\""
            ))
        })
    };
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    // What no operation can be is found when it is carried out, upstream.
    if operation.is_object() && (operation.get("op").is_none() || operation.get("path").is_none()) {
        return Err(unprocessable());
    }
    let (op, path) = (field("op")?, field("path")?);
    match op {
        "add" => add(tree, path, value(), spent),
        "remove" => remove(tree, path, spent).map(drop),
        "replace" => {
            let value = value();
            if path.matches('/').count() + depth(&value) > DEPTH_MAX {
                return Err(unprocessable());
            }
            match find(tree, path) {
                Some(found) => *found = value,
                // Upstream's library finds every key of an object, with nothing there.
                None => match path.rsplit_once('/').and_then(|(parent, last)| {
                    find(tree, parent)?.as_object_mut()?.insert(token(last), value);
                    Some(())
                }) {
                    Some(()) => {}
                    None => return Err(unprocessable()),
                },
            }
            Ok(())
        }
        "move" => {
            let from = field("from")?;
            if path.len() > from.len()
                && path.starts_with(from)
                && path[from.len()..].starts_with('/')
            {
                return Err(unprocessable());
            }
            let value = remove(tree, from, spent)?;
            add(tree, path, value, spent)
        }
        "copy" => {
            let from = field("from")?;
            let found = find(tree, from).ok_or_else(unprocessable)?;
            spent.n_copied_bytes += wire::json::memory_of(found);
            let n_copied_bytes = spent.n_copied_bytes;
            if n_copied_bytes > JSON_PATCH_COPIED_BYTES_MAX {
                return Err(Status::new(
                    Reason::RequestEntityTooLarge,
                    format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {n_copied_bytes}, \
                         exceeding the limit {JSON_PATCH_COPIED_BYTES_MAX}"
                    ),
                ));
            }
            let value = found.clone();
            add(tree, path, value, spent)
        }
        "test" => {
            let wanted = value();
            let holds = match find(tree, path).map(|found| *found == wanted) {
                Some(equal) => equal,
                // Upstream's library takes a missing value of an object as null.
                None => {
                    let parent = path.rsplit_once('/').and_then(|(parent, _)| find(tree, parent));
                    wanted.is_null() && parent.is_some_and(|parent| parent.is_object())
                }
            };
            if holds { Ok(()) } else { Err(unprocessable()) }
        }
        _ => Err(unprocessable()),
    }
}

/// An operation that does not apply, in all the words that upstream has for it.
fn unprocessable() -> Status {
    Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
}

/// A reference token of RFC 6901: `~1` is a slash, `~0` a tilde.
fn token(raw: &str) -> String {
    raw.replace("~1", "/").replace("~0", "~")
}

/// The place of an item, from the end where the number is negative, as upstream's library counts.
fn index(raw: &str, below: usize) -> Option<usize> {
    let idx = raw.parse::<isize>().ok()?;
    match usize::try_from(idx) {
        Ok(idx) => (idx < below).then_some(idx),
        Err(_) => below.checked_sub(idx.unsigned_abs()),
    }
}

fn find<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut value = tree;
    if path.is_empty() {
        return Some(value);
    }
    for raw in path.strip_prefix('/')?.split('/') {
        value = match value {
            Value::Object(map) => map.get_mut(&token(raw))?,
            Value::Array(items) => {
                let idx = index(raw, items.len())?;
                &mut items[idx]
            }
            _ => return None,
        };
    }
    Some(value)
}

/// How deep a value nests. Every value here was checked when it was put in, so this does not recurse far.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn add(tree: &mut Value, path: &str, value: Value, spent: &mut Spent) -> Result<(), Status> {
    if path.matches('/').count() + depth(&value) > DEPTH_MAX {
        return Err(unprocessable());
    }
    let Some((parent, last)) = path.rsplit_once('/') else {
        return Err(unprocessable());
    };
    match find(tree, parent) {
        Some(Value::Object(map)) => {
            map.insert(token(last), value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let idx = if last == "-" { Some(items.len()) } else { index(last, items.len() + 1) };
            let idx = idx.ok_or_else(unprocessable)?;
            spent.move_items(items.len() - idx)?;
            items.insert(idx, value);
            Ok(())
        }
        _ => Err(unprocessable()),
    }
}

fn remove(tree: &mut Value, path: &str, spent: &mut Spent) -> Result<Value, Status> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(unprocessable)?;
    match find(tree, parent) {
        Some(Value::Object(map)) => map.remove(&token(last)),
        Some(Value::Array(items)) => match index(last, items.len()) {
            Some(idx) => {
                spent.move_items(items.len() - idx)?;
                Some(items.remove(idx))
            }
            None => None,
        },
        _ => None,
    }
    .ok_or_else(unprocessable)
}

#[cfg(test)]
mod tests;
