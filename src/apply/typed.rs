//! Trees as the schema sees them for server-side apply: what is owned as one, what by parts.
//!
//! Source: sigs.k8s.io/structured-merge-diff, typed.

use api::form::{Form, Types};
use api::patch::strategic;
use api::schema::{Field, Scalar, Shape, TypeId, schema};
use api::status::Status;
use api::structural::{At, ListType, Structural, TYPES, Type};
use serde_json::{Map, Value};
use stdx::OrdMap;

use super::fields::Fields;

/// How a value is owned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node<'a> {
    /// As one.
    Leaf,
    /// By fields that the schema names.
    Struct(Fielded<'a>),
    /// By keys.
    Map,
    /// By keys, and so is what is below.
    Free,
    /// By items that are known by some of their fields.
    Items(List<'a>),
    /// By values.
    Set,
}

/// What names fields: a type of the table, or a node of a structural schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fielded<'a> {
    Table(TypeId),
    /// The whole object of a kind with a structural schema: its metadata is of the table.
    Whole(&'a Structural),
    Structural(&'a Structural, At),
}

/// An associative list.
#[derive(Debug, Clone, Copy)]
pub(super) enum List<'a> {
    Table(&'static Field, TypeId),
    /// The list's node and its items'.
    Structural(&'a Structural, At, At),
}

/// What changed from one tree to another.
#[derive(Debug, Default)]
pub(super) struct Diff {
    pub added: Fields,
    pub modified: Fields,
    pub removed: Fields,
}

impl Diff {
    /// Adds what changed in one element.
    fn put(&mut self, element: impl Fn() -> String, inner: Diff) {
        let sets = [&mut self.added, &mut self.modified, &mut self.removed];
        for (set, inner) in sets.into_iter().zip([inner.added, inner.modified, inner.removed]) {
            if !inner.is_empty() {
                set.children.insert(element(), inner);
            }
        }
    }
}

impl<'a> Node<'a> {
    /// A whole object.
    pub(super) fn root(form: Form<'a>) -> Node<'a> {
        match form.types() {
            Types::Table(id) => Node::Struct(Fielded::Table(id)),
            Types::Structural(schema) => Node::Struct(Fielded::Whole(schema)),
            Types::Unknown => Node::Free,
        }
    }

    /// Whether an element is a field that the schema names: those are not owned beside what they hold.
    fn names(self, element: &str) -> bool {
        let key = element.strip_prefix("f:").unwrap_or(element);
        match self {
            Node::Struct(Fielded::Table(_)) => true,
            Node::Struct(Fielded::Whole(_)) if TYPES.contains(&key) => true,
            Node::Struct(Fielded::Whole(schema)) => schema.names(0, key),
            Node::Struct(Fielded::Structural(schema, at)) => schema.names(at, key),
            _ => false,
        }
    }

    pub(super) fn of(field: &'static Field) -> Node<'a> {
        let atomic_type = |id: TypeId| schema().of(id).atomic;
        match (field.shape, field.scalar) {
            _ if field.atomic() => Node::Leaf,
            (Shape::Single, Scalar::Message(id)) if schema().of(id).union => Node::Free,
            (Shape::Single, Scalar::Message(id)) if !atomic_type(id) || field.granular() => {
                Node::Struct(Fielded::Table(id))
            }
            (Shape::Map, _) => Node::Map,
            (Shape::List, Scalar::Message(id)) if !field.extra().map_keys.is_empty() => {
                Node::Items(List::Table(field, id))
            }
            (Shape::List, _) if field.set() => Node::Set,
            _ => Node::Leaf,
        }
    }

    fn at(schema: &'a Structural, at: At) -> Node<'a> {
        let Some(node) = schema.node(at) else { return Node::Free };
        match (&node.list, node.items) {
            _ if node.atomic => Node::Leaf,
            (ListType::Map(_), Some(items)) => Node::Items(List::Structural(schema, at, items)),
            (ListType::Set, _) => Node::Set,
            _ => match node.kind {
                Type::Object => Node::Struct(Fielded::Structural(schema, at)),
                // Nothing is known of it: its own shape says.
                Type::Any if node.preserve => Node::Free,
                _ => Node::Leaf,
            },
        }
    }

    fn below(self, key: &str) -> Node<'a> {
        match self {
            Node::Struct(Fielded::Table(id)) => {
                schema().by_json(id, key).map_or(Node::Leaf, Node::of)
            }
            Node::Struct(Fielded::Whole(_)) if key == "metadata" => {
                Node::Struct(Fielded::Table(schema().object_meta))
            }
            Node::Struct(Fielded::Whole(schema)) => Node::at(schema, 0).below(key),
            Node::Struct(Fielded::Structural(schema, at)) => {
                let Some(node) = schema.node(at) else { return Node::Free };
                match schema.below(node, key) {
                    Some(below) => Node::at(schema, below),
                    None if node.preserve => Node::Free,
                    None => Node::Leaf,
                }
            }
            Node::Free => Node::Free,
            _ => Node::Leaf,
        }
    }
}

impl<'a> List<'a> {
    fn item(self) -> Node<'a> {
        match self {
            List::Table(_, id) if schema().of(id).atomic => Node::Leaf,
            List::Table(_, id) => Node::Struct(Fielded::Table(id)),
            List::Structural(schema, _, items) => Node::at(schema, items),
        }
    }

    /// The keys that an item goes by, each with its value in the item, if there is one or a default.
    fn keys(self, item: &Value) -> Vec<(String, Option<Value>)> {
        let sent = |key: &str| item.get(key).filter(|value| !value.is_null()).cloned();
        match self {
            List::Table(list, item_type) => {
                let keys = list.extra().map_keys.split(',');
                keys.map(|key| {
                    let field = schema().by_json(item_type, key);
                    let default = || match field?.extra().default? {
                        literal if field?.scalar == Scalar::Str => {
                            Some(Value::from(literal.trim_matches('\'')))
                        }
                        literal => serde_json::from_str(literal).ok(),
                    };
                    // A key that Go always writes is there as its zero, and so is the name of this one type.
                    let named = schema().of(item_type).name == "LocalObjectReference";
                    let always = |field: &&Field| {
                        !field.pointer() && (field.required_of_clients() || field.always() || named)
                    };
                    let zero = || field.filter(always).map(api::codec::zero_of);
                    (key.to_owned(), sent(key).or_else(default).or_else(zero))
                })
                .collect()
            }
            List::Structural(schema, list, items) => {
                let list = schema.node(list).map(|node| &node.list);
                let Some(ListType::Map(keys)) = list else { return Vec::new() };
                keys.iter()
                    .map(|key| {
                        let default = || {
                            let below = schema.below(schema.node(items)?, key)?;
                            schema.node(below)?.default.as_deref().cloned()
                        };
                        (key.to_string(), sent(key).or_else(default))
                    })
                    .collect()
            }
        }
    }
}

/// The element of a list item: its keys, with the schema's defaults for those it leaves out.
///
/// # Errors
/// If a key without a default is missing, or it is no object.
pub(super) fn item_element(list: List<'_>, item: &Value) -> Result<String, String> {
    match item {
        Value::Object(_) => {}
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    }
    let mut keys = Map::new();
    for (key, value) in list.keys(item) {
        let value = value.ok_or_else(|| {
            format!("associative list with keys has an element that omits key field \"{key}\" (and doesn't have default value)")
        })?;
        keys.insert(key, value);
    }
    Ok(format!("k:{}", Value::Object(keys)))
}

/// The element of an item of a set.
///
/// # Errors
/// If it is no scalar.
pub(super) fn set_element(item: &Value) -> Result<String, String> {
    match item {
        Value::Null => {
            Err("associative list without keys has an element that's an explicit null".into())
        }
        Value::Object(_) => {
            Err("associative list without keys has an element that's a map type".into())
        }
        Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
        item => Ok(format!("v:{item}")),
    }
}

/// The items of an associative list with their elements; those without keys are left out.
fn elements<'a, 'v>(
    list: List<'a>,
    items: &'v [Value],
) -> impl Iterator<Item = (String, &'v Value)> + use<'a, 'v> {
    items.iter().filter_map(move |item| Some((item_element(list, item).ok()?, item)))
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// The children of a value by element.
fn children<'a, 'v>(
    node: Node<'a>,
    value: Option<&'v Value>,
) -> Vec<(String, Node<'a>, &'v Value)> {
    match (node, value) {
        (Node::Struct(_) | Node::Map | Node::Free, Some(Value::Object(map))) => {
            map.iter().map(|(key, value)| (format!("f:{key}"), node.below(key), value)).collect()
        }
        (Node::Items(list), Some(Value::Array(items))) => {
            elements(list, items).map(|(element, item)| (element, list.item(), item)).collect()
        }
        (Node::Set, Some(Value::Array(items))) => {
            items.iter().map(|item| (format!("v:{item}"), Node::Leaf, item)).collect()
        }
        _ => Vec::new(),
    }
}

/// Owned as one. Of what no schema describes, everything but maps is.
fn is_leaf(node: Node<'_>, value: &Value) -> bool {
    matches!(node, Node::Leaf) || matches!(node, Node::Free) && !value.is_object()
}

/// The fields that a tree sets.
pub(super) fn to_set(node: Node<'_>, value: &Value) -> Fields {
    let mut fields = Fields::default();
    if is_leaf(node, value) {
        return Fields::leaf();
    }
    for (element, below, child) in children(node, Some(value)) {
        // What is applied as nothing is owned all the same.
        if child.is_null() {
            fields.put(element, Fields::leaf());
            continue;
        }
        let mut set = to_set(below, child);
        // List items and map entries are owned themselves; so is what is empty.
        set.member |=
            !node.names(&element) || matches!(child, Value::Object(map) if map.is_empty());
        fields.put(element, set);
    }
    fields
}

fn by_element<'i>(items: &'i [(String, Node<'_>, &'i Value)]) -> OrdMap<&'i str, &'i Value> {
    items.iter().map(|(element, _, value)| (element.as_str(), *value)).collect()
}

/// What must change in `left` to become `right`.
pub(super) fn compare(node: Node<'_>, left: Option<&Value>, right: Option<&Value>) -> Diff {
    // A list that is always written is there as null: filling it adds items, not the list.
    let (left_absent, right_absent) = (left.is_none(), right.is_none());
    let (left, right) = (present(left), present(right));
    let mut diff = Diff::default();
    let leaf = [left, right].into_iter().flatten().any(|value| is_leaf(node, value));
    if leaf || matches!(node, Node::Leaf) || is_hollow(left) && is_hollow(right) {
        match (left, right) {
            (None, Some(_)) => diff.added.member = true,
            (Some(_), None) => diff.removed.member = true,
            (Some(left), Some(right)) if left != right => diff.modified.member = true,
            _ => {}
        }
        return diff;
    }
    if let (
        Node::Struct(_) | Node::Map | Node::Free,
        None | Some(Value::Object(_)),
        None | Some(Value::Object(_)),
    ) = (node, left, right)
    {
        let nothing = Map::new();
        let [old, new] =
            [left, right].map(|value| value.and_then(Value::as_object).unwrap_or(&nothing));
        let gone = old.keys().filter(|key| !new.contains_key(*key));
        for key in new.keys().chain(gone) {
            let inner = compare(node.below(key), old.get(key), new.get(key));
            diff.put(|| format!("f:{key}"), inner);
        }
    } else {
        let (olds, news) = (children(node, left), children(node, right));
        let (olds_by_element, news_by_element) = (by_element(&olds), by_element(&news));
        for (element, below, new) in &news {
            let old = olds_by_element.get(element.as_str()).copied();
            diff.put(|| element.clone(), compare(*below, old, Some(new)));
        }
        for (element, below, old) in &olds {
            if !news_by_element.contains_key(element.as_str()) {
                diff.put(|| element.clone(), compare(*below, Some(old), None));
            }
        }
    }
    if left_absent {
        diff.added.member = true;
    } else if right_absent {
        diff.removed.member = true;
    }
    diff
}

/// Puts what `applied` says over `live`.
///
/// # Errors
/// 400 if an item of an associative list lacks a key.
pub(super) fn merge(
    node: Node<'_>,
    live: &mut Value,
    applied: &Value,
    path: &str,
) -> Result<(), Status> {
    match (node, applied) {
        (_, Value::Null) => {}
        (Node::Struct(_) | Node::Map | Node::Free, Value::Object(applied)) => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            let Value::Object(map) = live else { return Ok(()) };
            for (key, value) in applied {
                if value.is_null() {
                    // What is owned as one goes; of what has parts, these stay. The server's own metadata does, too.
                    if matches!((node, node.below(key)), (Node::Struct(_), Node::Leaf))
                        && path != ".metadata"
                    {
                        map.insert(key.clone(), Value::Null);
                    }
                    continue;
                }
                let slot = map.entry(key.clone()).or_insert(Value::Null);
                merge(node.below(key), slot, value, &format!("{path}.{key}"))?;
            }
        }
        (Node::Items(list), Value::Array(applied)) => {
            let refuse = |idx: usize, why: String| {
                Status::bad_request(format!(
                    "failed to create typed patch object: {path}: element {idx}: {why}"
                ))
            };
            let n_items = applied.len() + live.as_array().map_or(0, Vec::len);
            if n_items > strategic::MERGED_ITEMS_MAX {
                return Err(strategic::too_many_items());
            }
            let mut wanted: Vec<(String, &Value)> = Vec::new();
            for (idx, item) in applied.iter().enumerate() {
                let element = item_element(list, item).map_err(|why| refuse(idx, why))?;
                if wanted.iter().any(|(other, _)| *other == element) {
                    return Err(refuse(
                        idx,
                        format!("duplicate entries for key {}", &element[2..]),
                    ));
                }
                wanted.push((element, item));
            }
            let mut items: Vec<(String, Value)> = match live.take() {
                Value::Array(items) => {
                    elements(list, &items).map(|(e, item)| (e, item.clone())).collect()
                }
                _ => Vec::new(),
            };
            let original: Vec<String> = items.iter().map(|(element, _)| element.clone()).collect();
            for (element, item) in &wanted {
                match items.iter_mut().find(|(other, _)| other == element) {
                    Some((_, target)) => merge(list.item(), target, item, path)?,
                    None => {
                        let mut target = Value::Null;
                        merge(list.item(), &mut target, item, path)?;
                        items.push((element.clone(), target));
                    }
                }
            }
            let order: Vec<&str> = wanted.iter().map(|(element, _)| element.as_str()).collect();
            *live = Value::Array(in_order(items, &order, &original));
        }
        (Node::Set, Value::Array(applied)) => {
            if applied.len() + live.as_array().map_or(0, Vec::len) > strategic::MERGED_ITEMS_MAX {
                return Err(strategic::too_many_items());
            }
            let named = |item: &Value| (item.to_string(), item.clone());
            let mut items: Vec<(String, Value)> = match live.take() {
                Value::Array(items) => items.iter().map(named).collect(),
                _ => Vec::new(),
            };
            let original: Vec<String> = items.iter().map(|(element, _)| element.clone()).collect();
            let order: Vec<String> = applied.iter().map(Value::to_string).collect();
            items.extend(applied.iter().map(named));
            let order: Vec<&str> = order.iter().map(String::as_str).collect();
            *live = Value::Array(in_order(items, &order, &original));
        }
        (_, applied) => *live = applied.clone(),
    }
    Ok(())
}

/// Applied items in their order; the others stay before the applied ones that they stood before,
/// and before those that are new.
fn in_order(items: Vec<(String, Value)>, order: &[&str], original: &[String]) -> Vec<Value> {
    let mut slots: OrdMap<String, Value> = items.into_iter().collect();
    let mut result = Vec::with_capacity(slots.len());
    let mut applied = order.iter();
    for element in original {
        if !order.contains(&element.as_str()) {
            result.extend(slots.remove(element));
            continue;
        }
        // Applied items up to and with this one, if it has not come yet.
        while slots.contains_key(element) {
            let Some(next) = applied.next() else { break };
            result.extend(slots.remove(*next));
        }
    }
    result.extend(applied.filter_map(|next| slots.remove(*next)));
    result
}

/// Removes what is in `doomed`, unless something at or below it is in `kept`.
pub(super) fn remove(node: Node<'_>, value: &mut Value, doomed: &Fields, kept: &Fields) {
    let nothing = Fields::default();
    if let (Node::Items(list), Value::Array(items)) = (node, &mut *value) {
        items.retain_mut(|item| {
            let Ok(element) = item_element(list, item) else { return true };
            let Some(doomed) = doomed.children.get(&element) else { return true };
            let kept = kept.children.get(&element).unwrap_or(&nothing);
            let stays = !doomed.member || !kept.is_empty();
            if stays {
                remove(list.item(), item, doomed, kept);
            }
            stays
        });
        return;
    }
    for (element, doomed) in &doomed.children {
        let kept = kept.children.get(element).unwrap_or(&nothing);
        let whole = doomed.member && kept.is_empty();
        match (node, &mut *value) {
            (Node::Struct(_) | Node::Map | Node::Free, Value::Object(map)) => {
                let key = &element[2..];
                if whole {
                    map.remove(key);
                } else if let Some(child) = map.get_mut(key) {
                    remove(node.below(key), child, doomed, kept);
                }
            }
            (Node::Set, Value::Array(items)) if whole => {
                items.retain(|item| format!("v:{item}") != *element);
            }
            _ => {}
        }
    }
}
