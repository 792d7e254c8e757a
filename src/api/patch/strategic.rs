//! Strategic merge: lists merge by the keys that the schema names, and directives steer.
//!
//! Source: k8s.io/apimachinery/pkg/util/strategicpatch. Directives: `$patch: replace|delete|merge`,
//! `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

use serde_json::{Map, Value};
use stdx::Arrange;

use crate::message::aliases;
use crate::schema::{Field, Shape, TypeId, schema};
use crate::status::{Reason, Status};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const SET_ORDER_NAME: &str = "$setElementOrder";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
/// How deep patches may nest.
const DEPTH_MAX: u32 = 100;
/// Items of a list that merges by key: finding them takes time that grows with the square.
pub const MERGED_ITEMS_MAX: usize = 10_000;

/// Merges `patch` into `map`, an object of type `id` (`None`: no schema known below here).
pub(super) fn merge_map(
    id: Option<TypeId>,
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    depth: u32,
) -> Result<(), Status> {
    if depth > DEPTH_MAX {
        return Err(Status::bad_request("the patch nests too deep"));
    }
    if let Some(directive) = patch.get(PATCH) {
        match directive.as_str() {
            Some("replace") => {
                map.clear();
                for (key, value) in patch.iter().filter(|(key, _)| *key != PATCH) {
                    map.insert(key.clone(), value.clone());
                }
            }
            Some("delete") => map.clear(),
            _ => return Err(unknown_directive(directive, patch)),
        }
        return Ok(());
    }
    if let Some(kept) = patch.get(RETAIN_KEYS) {
        let Value::Array(kept) = kept else {
            return Err(Status::bad_request("invalid patch format of retainKeys"));
        };
        let unkept = |(key, value): (&String, &Value)| {
            !value.is_null() && !key.starts_with('$') && !kept.iter().any(|k| k == key)
        };
        if patch.iter().any(unkept) {
            return Err(Status::bad_request("invalid patch format of retainKeys"));
        }
        map.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, change) in patch {
        if let Some(name) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(map, name, change);
        }
    }
    for (key, change) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let field = id.and_then(|id| schema().by_json(id, key));
        let order = patch.get(&format!("{SET_ORDER}{key}"));
        if let (Some(order), Value::Array(change)) = (order, change) {
            check_order(change, order, field.map_or("", |field| field.extra().merge_key))?;
        }
        merge_field(field, map, key, change, order, depth)?;
    }
    // An order may come without changes to the list itself.
    for (key, order) in patch {
        if let Some(name) = key.strip_prefix(SET_ORDER)
            && !patch.contains_key(name)
            && let Some(Value::Array(items)) = map.get_mut(name)
        {
            let merge_key =
                id.and_then(|id| schema().by_json(id, name)).map_or("", |f| f.extra().merge_key);
            let original = items.clone();
            reorder(items, order_list(order)?, &original, merge_key);
        }
    }
    Ok(())
}

fn merge_field(
    field: Option<&Field>,
    map: &mut Map<String, Value>,
    key: &str,
    change: &Value,
    order: Option<&Value>,
    depth: u32,
) -> Result<(), Status> {
    // Below maps from strings (labels, quantities) there is nothing that merges specially.
    let inner = field.filter(|field| field.shape != Shape::Map).and_then(Field::message);
    match change {
        Value::Null => {
            map.remove(key);
        }
        // What the object lacks, or has of another type, is taken from the patch whole.
        Value::Object(change)
            if map.get(key).is_some_and(Value::is_object)
                && !field.is_some_and(Field::replaces) =>
        {
            if let Some(Value::Object(target)) = map.get_mut(key) {
                merge_map(inner, target, change, depth + 1)?;
            }
        }
        Value::Array(change)
            if field.is_some_and(Field::merge) && map.get(key).is_some_and(Value::is_array) =>
        {
            let merge_key = field.map_or("", |field| field.extra().merge_key);
            if let Some(Value::Array(items)) = map.get_mut(key) {
                merge_list(inner, items, change, merge_key, order, depth + 1)?;
            }
        }
        other => {
            match taken(other) {
                Some(value) => map.insert(key.to_owned(), value),
                None => map.remove(key),
            };
        }
    }
    Ok(())
}

fn merge_list(
    inner: Option<TypeId>,
    items: &mut Vec<Value>,
    change: &[Value],
    merge_key: &str,
    order: Option<&Value>,
    depth: u32,
) -> Result<(), Status> {
    if items.len() + change.len() > MERGED_ITEMS_MAX {
        return Err(too_many_items());
    }
    let original = items.clone();
    let kind = |item: &Value| std::mem::discriminant(item);
    let mut kinds = items.iter().chain(change).map(kind);
    let first = kinds.next();
    if merge_key.is_empty() && !kinds.all(|kind| Some(kind) == first) {
        return Err(not_identical(items, change));
    }
    if merge_key.is_empty() {
        for item in change {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        reorder(items, order.map(order_list).transpose()?.unwrap_or(change), &original, merge_key);
        return Ok(());
    }
    if !items.iter().chain(change).all(Value::is_object) {
        return Err(not_identical(items, change));
    }
    let mut patched = Vec::new();
    let mut replaces = false;
    for item in change {
        let Value::Object(item_map) = item else { continue };
        match item.get(PATCH).map(|directive| (directive, directive.as_str())) {
            None => patched.push(item.clone()),
            Some((_, Some("replace"))) => replaces = true,
            Some((_, Some("delete"))) => {
                let wanted = wanted_key(item, merge_key)?;
                items.retain(|found| found.get(merge_key) != Some(wanted));
            }
            Some((_, Some("merge"))) => {
                return Err(internal("merging lists cannot yet be specified in the patch".into()));
            }
            Some((directive, _)) => return Err(unknown_directive(directive, item_map)),
        }
    }
    if replaces {
        *items = patched.iter().filter_map(taken).collect();
        return Ok(());
    }
    for item in &patched {
        let Value::Object(item_map) = item else { continue };
        let wanted = wanted_key(item, merge_key)?;
        match items.iter_mut().find(|found| found.get(merge_key) == Some(wanted)) {
            Some(Value::Object(target)) => merge_map(inner, target, item_map, depth)?,
            _ => items.extend(taken(item)),
        }
    }
    reorder(items, order.map(order_list).transpose()?.unwrap_or(&patched), &original, merge_key);
    Ok(())
}

fn wanted_key<'a>(item: &'a Value, merge_key: &str) -> Result<&'a Value, Status> {
    item.get(merge_key).ok_or_else(|| {
        let item = go_print(item);
        internal(format!("map: {item} does not contain declared merge key: {merge_key}"))
    })
}

/// What is merged must come in the order that is asked for: a client that says both differently made a mistake.
fn check_order(change: &[Value], order: &Value, merge_key: &str) -> Result<(), Status> {
    let order = order_list(order)?;
    let mut places = order.iter();
    let same = |a: &Value, b: &Value| match merge_key {
        "" => a == b,
        key => a.get(key) == b.get(key),
    };
    let mut merged = change.iter().filter(|item| item.get(PATCH).is_none());
    if order.is_empty() || merged.all(|item| places.any(|place| same(place, item))) {
        return Ok(());
    }
    let both = [change, order].map(|list| go_print(&Value::Array(list.to_vec())));
    let [change, order] = both;
    Err(internal(format!(
        "The order in patch list:\n{change}\n doesn't match {SET_ORDER_NAME} list:\n{order}\n"
    )))
}

fn not_identical(items: &[Value], change: &[Value]) -> Status {
    let both = [items, change].map(|list| go_print(&Value::Array(list.to_vec()))).join(" ");
    internal(format!("list element types are not identical: [{both}]"))
}

pub fn too_many_items() -> Status {
    Status::bad_request(format!("lists that merge may hold at most {MERGED_ITEMS_MAX} items"))
}

/// Puts the items named in `order` into that order, and the others between them where the original
/// list had them.
fn reorder(items: &mut Vec<Value>, order: &[Value], original: &[Value], merge_key: &str) {
    // A null key is taken out when the item is merged.
    let is_null = |key: Option<&Value>| key.is_none_or(Value::is_null);
    let same = |a: &Value, b: &Value| match merge_key {
        "" => a == b,
        key => a.get(key) == b.get(key) || is_null(a.get(key)) && is_null(b.get(key)),
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut ordered, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(items).into_iter().partition(|item| place(order, item).is_some());
    ordered.arrange_by_key(|item| place(order, item));
    let (mut ordered, mut others) = (ordered.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(next), Some(other)) = (ordered.peek(), others.peek()) {
        let other_first = match (place(original, other), place(original, next)) {
            (Some(other), Some(next)) => other < next,
            _ => false,
        };
        items.extend(if other_first { others.next() } else { ordered.next() });
    }
    items.extend(ordered);
    items.extend(others);
}

fn order_list(order: &Value) -> Result<&[Value], Status> {
    order.as_array().map(Vec::as_slice).ok_or_else(|| {
        let kind = match order {
            Value::Null => "<nil>",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "float64",
            Value::Number(_) => "int64",
            Value::String(_) => "string",
            _ => "map[string]interface {}",
        };
        internal(format!("expected a []interface {{}}, but received a {kind}"))
    })
}

fn delete_primitives(map: &mut Map<String, Value>, name: &str, doomed: &Value) {
    match (doomed, map.get_mut(name)) {
        (Value::Array(doomed), Some(Value::Array(items))) => {
            items.retain(|item| !doomed.contains(item));
        }
        (Value::Null, _) => drop(map.remove(name)),
        // Of another type than what is there, or with nothing there, it says nothing.
        _ => {}
    }
}

/// What upstream's library calls an error of its own, without a reason.
fn internal(message: String) -> Status {
    Status::new(Reason::Unknown, message).with_code(500)
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> Status {
    let directive = go_print(directive);
    let map = go_print(&Value::Object(patch.clone()));
    internal(format!("unknown patch type: {directive} in map: {map}"))
}

/// A value as Go's `%v` prints it. Patches were parsed with a bound on how deep they nest.
pub fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.arrange_by_key(|(key, _)| *key);
            let pairs = pairs.into_iter().map(|(key, value)| format!("{key}:{}", go_print(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// What the JSON decoder says of a mismatch in the words of the converter that upstream sends the result
/// of a strategic merge through (k8s.io/apimachinery/pkg/runtime/converter.go).
pub fn converter_words(why: &str) -> String {
    let parts = why.strip_prefix("json: cannot unmarshal ").and_then(|rest| {
        let (found, rest) = rest.split_once(" into Go struct field ")?;
        Some((found, rest.rsplit_once(" of type ")?.1))
    });
    let Some((found, wanted)) = parts else {
        let decoding =
            why.starts_with("illegal base64 data").then_some("error decoding from json: ");
        return format!("{}{why}", decoding.unwrap_or_default());
    };
    let kind = match found {
        "array" => "slice",
        "object" => "map",
        "number" => "int64",
        found if found.starts_with("number ") => "float64",
        found => found,
    };
    let base = match wanted {
        "v1.ResourceList" => "map[string]resource.Quantity",
        wanted if aliases::is_one(wanted) => "string",
        wanted => wanted,
    };
    match (base, kind) {
        ("string", "int64") | ("int32" | "int64", "float64") => {
            format!("cannot convert {kind} to {wanted}")
        }
        ("string" | "bool" | "int32" | "int64" | "float64", _) => {
            format!("unrecognized type: {base}")
        }
        // These read themselves, from a text.
        ("v1.Time" | "v1.MicroTime" | "v1.Duration", _) => {
            let found = found.split(' ').next().unwrap_or("");
            format!("json: cannot unmarshal {found} into Go value of type string")
        }
        ("resource.Quantity", _) => why.to_owned(),
        (base, kind) if base.starts_with("map[") => {
            format!("cannot restore map from {kind}")
        }
        (base, kind) if base.starts_with("[]") => format!("cannot restore slice from {kind}"),
        (_, kind) => format!("cannot restore struct from: {kind}"),
    }
}

/// What becomes of a value that has nothing to be merged with: `None` for a map that is a directive itself. Nulls ask for
/// nothing there, either.
fn taken(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) if map.contains_key(PATCH) => return None,
        Value::Object(map) => {
            let said = map.iter().filter(|(_, value)| !value.is_null());
            let said = said.filter_map(|(key, value)| Some((key.clone(), taken(value)?)));
            Value::Object(said.collect())
        }
        Value::Array(items) => Value::Array(items.iter().filter_map(taken).collect()),
        other => other.clone(),
    })
}
