//! Types as JSON schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::kind::Form;
use crate::schema::{Field, Scalar, Shape, TypeId, schema};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// One named definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Type(TypeId),
    /// The list of a form: by its index in the forms' table is not needed, the root type names it.
    List(TypeId),
    /// A type that is no table of fields: `(package, name)`.
    Special(&'static str),
}

const SPECIAL: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// Everything that the forms' types refer to, each once, in a fixed order.
pub(super) fn reachable(forms: &[Form]) -> Vec<Item> {
    let mut found: BTreeSet<Item> = SPECIAL.iter().map(|name| Item::Special(name)).collect();
    let mut open: Vec<TypeId> = ["ListMeta", "Status", "DeleteOptions"]
        .into_iter()
        .filter_map(|name| schema().meta(name))
        .collect();
    for form in forms {
        let root = schema().root(*form);
        open.push(root);
        if form.kind.stored() {
            found.insert(Item::List(root));
        }
        for sub in crate::discovery::subresources(*form) {
            if let Some(kind) = crate::kinds::by_name(sub.group, sub.kind) {
                open.push(schema().root(kind));
            }
        }
    }
    while let Some(id) = open.pop() {
        if found.insert(Item::Type(id)) {
            open.extend(schema().fields(id).iter().filter_map(Field::message));
        }
    }
    found.into_iter().collect()
}

/// `io.k8s.api.core.v1.Pod`
pub(super) fn type_name(id: TypeId) -> String {
    let ty = schema().of(id);
    format!("{}.{}", ty.package, ty.name)
}

/// A reference to a definition.
pub(super) fn reference(name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

impl Item {
    pub(super) fn name(self) -> String {
        match self {
            Item::Type(id) => type_name(id),
            Item::List(id) => format!("{}List", type_name(id)),
            Item::Special(name) => name.to_owned(),
        }
    }

    pub(super) fn definition(self, dialect: Dialect) -> Value {
        match self {
            Item::Type(id) => of_type(id, dialect),
            Item::List(id) => of_list(id, dialect),
            Item::Special(name) => special(name, dialect),
        }
    }
}

fn special(name: &str, dialect: Dialect) -> Value {
    let described = |mut value: Value, description: &str| {
        value["description"] = description.into();
        value
    };
    match name.rsplit('.').next().unwrap_or(name) {
        "Time" => described(
            json!({"type": "string", "format": "date-time"}),
            "A moment in RFC 3339, in whole seconds.",
        ),
        "MicroTime" => described(
            json!({"type": "string", "format": "date-time"}),
            "A moment in RFC 3339, in microseconds.",
        ),
        "Duration" => described(json!({"type": "string"}), "A span such as 1h30m."),
        "Quantity" => described(
            match dialect {
                Dialect::V2 => json!({"type": "string"}),
                Dialect::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            },
            "An amount: a number with an optional suffix of thousands (m, k, M, G, ...) or of 1024 (Ki, Mi, Gi, ...).",
        ),
        "IntOrString" => described(
            match dialect {
                Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
                Dialect::V3 => {
                    json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
                }
            },
            "A number, or a string such as a port's name or a percentage.",
        ),
        "FieldsV1" => described(json!({"type": "object"}), "A set of fields, as nested keys."),
        _ => described(json!({"type": "object"}), "Any object."),
    }
}

/// The group, version and kind of a root type, as the extension tells them.
fn group_version_kind(id: TypeId, suffix: &str) -> Option<Value> {
    let ty = schema().of(id);
    if ty.package == META {
        return Some(
            json!([{"group": "", "kind": format!("{}{suffix}", ty.name), "version": "v1"}]),
        );
    }
    let form = crate::kinds::KINDS
        .iter()
        .flat_map(|kind| kind.forms())
        .find(|form| schema().root(*form) == id)?;
    let kind = format!("{}{suffix}", form.kind.name);
    Some(json!([{"group": form.group(), "kind": kind, "version": form.version()}]))
}

fn type_fields(properties: &mut Map<String, Value>) {
    for (name, description) in [
        ("apiVersion", "The group and version that this object's fields follow."),
        ("kind", "The kind of this object."),
    ] {
        properties.insert(name.into(), json!({"type": "string", "description": description}));
    }
}

fn of_type(id: TypeId, dialect: Dialect) -> Value {
    let ty = schema().of(id);
    let mut properties = Map::new();
    if ty.kind {
        type_fields(&mut properties);
    }
    let fields = schema().flat_fields(id);
    for field in &fields {
        properties.insert(field.name.into(), of_field(field, dialect));
    }
    let mut definition = json!({"type": "object"});
    if !ty.doc.is_empty() {
        definition["description"] = ty.doc.into();
    }
    if !properties.is_empty() {
        definition["properties"] = Value::Object(properties);
    }
    let mut required: Vec<&str> =
        fields.iter().filter(|field| field.required_of_clients()).map(|field| field.name).collect();
    required.sort_unstable();
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    if ty.atomic {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    if ty.kind
        && let Some(kinds) = group_version_kind(id, "")
    {
        definition["x-kubernetes-group-version-kind"] = kinds;
        if let Some(kind) = crate::kinds::KINDS.iter().find(|kind| schema().root(**kind) == id)
            && !kind.doc.is_empty()
        {
            definition["description"] = kind.doc.into();
        }
    }
    definition
}

fn of_list(id: TypeId, dialect: Dialect) -> Value {
    let mut properties = Map::new();
    type_fields(&mut properties);
    let items = json!({"type": "array", "items": reference(&type_name(id), dialect), "description": "The objects."});
    properties.insert("items".into(), items);
    properties
        .insert("metadata".into(), described_reference(&format!("{META}.ListMeta"), "", dialect));
    let mut definition = json!({
        "type": "object", "required": ["items"], "properties": properties,
        "description": format!("A list of {}.", schema().of(id).name),
    });
    if let Some(kinds) = group_version_kind(id, "List") {
        definition["x-kubernetes-group-version-kind"] = kinds;
    }
    definition
}

/// v3 allows nothing beside a `$ref`, so a description wraps it.
fn described_reference(name: &str, description: &str, dialect: Dialect) -> Value {
    match (description, dialect) {
        ("", Dialect::V2) => reference(name, dialect),
        ("", Dialect::V3) => json!({"allOf": [reference(name, dialect)], "default": {}}),
        (text, Dialect::V2) => {
            let mut value = reference(name, dialect);
            value["description"] = text.into();
            value
        }
        (text, Dialect::V3) => json!({"allOf": [reference(name, dialect)], "description": text}),
    }
}

/// The field's own sentence, or what fields of its name mean everywhere.
fn doc_of(field: &Field) -> &'static str {
    match (field.doc, field.name) {
        ("", "metadata") => "The object's name, labels, owners and history.",
        ("", "spec") => "What is wanted.",
        ("", "status") => "What was last seen; written by the system.",
        ("", "observedGeneration") => "The generation that this status is about.",
        ("", "conditions") => "What is true of the object, and since when.",
        ("", "lastTransitionTime") => "When the condition last changed.",
        ("", "reason") => "Why, in one word for programs.",
        ("", "message") => "Why, in words for people.",
        ("", "optional") => "It need not exist.",
        ("", "defaultMode" | "mode") => "The file permissions.",
        ("", "items") => "The entries to take, and their paths.",
        (doc, _) => doc,
    }
}

fn of_field(field: &Field, dialect: Dialect) -> Value {
    let single = |description: &str| -> Value {
        let mut value = match field.scalar {
            Scalar::Str => json!({"type": "string"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::I32 => json!({"type": "integer", "format": "int32"}),
            Scalar::I64 => json!({"type": "integer", "format": "int64"}),
            Scalar::F64 => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Strs => json!({"type": "array", "items": {"type": "string"}}),
            Scalar::Message(id) => {
                return described_reference(&type_name(id), description, dialect);
            }
            Scalar::Time => return special_reference(0, description, dialect),
            Scalar::MicroTime => return special_reference(1, description, dialect),
            Scalar::Duration => return special_reference(2, description, dialect),
            Scalar::Fields => return special_reference(3, description, dialect),
            Scalar::Quantity => return special_reference(5, description, dialect),
            Scalar::IntOrString => return special_reference(6, description, dialect),
            Scalar::Raw => return special_reference(7, description, dialect),
        };
        let extra = field.extra();
        if !extra.values.is_empty() {
            value["enum"] = extra.values.split('|').collect();
        }
        if !description.is_empty() {
            value["description"] = description.into();
        }
        value
    };
    let mut value = match field.shape {
        Shape::Single => single(doc_of(field)),
        Shape::List => json!({"type": "array", "items": single("")}),
        Shape::Map => json!({"type": "object", "additionalProperties": single("")}),
    };
    if field.shape != Shape::Single && !doc_of(field).is_empty() {
        value["description"] = doc_of(field).into();
    }
    let extra = field.extra();
    if let (Shape::Single, Some(literal)) = (field.shape, extra.default) {
        value["default"] = match field.scalar {
            Scalar::Str => literal.trim_matches('\'').into(),
            _ => serde_json::from_str(literal).unwrap_or_default(),
        };
    }
    if let Some(min) = extra.min {
        value["minimum"] = min.into();
    }
    if let Some(max) = extra.max {
        value["maximum"] = max.into();
    }
    extensions(field, &mut value);
    value
}

fn special_reference(idx: usize, description: &str, dialect: Dialect) -> Value {
    described_reference_bare(SPECIAL[idx], description, dialect)
}

/// As `described_reference`, without the empty default that only objects have.
fn described_reference_bare(name: &str, description: &str, dialect: Dialect) -> Value {
    match description {
        "" => reference(name, dialect),
        text => described_reference(name, text, dialect),
    }
}

fn extensions(field: &Field, value: &mut Value) {
    let extra = field.extra();
    if field.shape == Shape::List {
        let list_type = match () {
            () if !extra.map_keys.is_empty() => "map",
            () if field.set() => "set",
            () => "atomic",
        };
        value["x-kubernetes-list-type"] = list_type.into();
        if list_type == "map" {
            value["x-kubernetes-list-map-keys"] = extra.map_keys.split(',').collect();
        }
    }
    if field.atomic() {
        value["x-kubernetes-map-type"] = "atomic".into();
    }
    let strategy = match (field.merge(), field.retain_keys()) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => return,
    };
    value["x-kubernetes-patch-strategy"] = strategy.into();
    if !extra.merge_key.is_empty() {
        value["x-kubernetes-patch-merge-key"] = extra.merge_key.into();
    }
}
