//! Types as JSON schemas.

use api::form::Form;
use api::schema::{Field, Scalar, Shape, TypeId, schema};
use api::structural::{is_open, published};
use serde_json::{Map, Value, json};
use stdx::{Arrange, OrdMap, OrdSet};

use super::Dialect;
use crate::Subresource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What clients show of every object's metadata.
const METADATA: &str = "Standard object's metadata: its name, labels, owners and history.";

/// One named definition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    Type(TypeId),
    /// The list of a form.
    List(Form<'a>),
    /// A type that is no table of fields.
    Special(&'static str),
    /// A whole object of a kind that is defined at run time.
    Custom(Form<'a>),
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
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
];

/// Everything that the forms' types refer to, each once, in a fixed order.
pub(super) fn reachable<'a>(forms: &[Form<'a>]) -> Vec<Item<'a>> {
    let mut types: OrdSet<TypeId> = OrdSet::new();
    let mut others: Vec<Item<'a>> = Vec::new();
    let mut open: Vec<TypeId> =
        ["ListMeta", "Status", "DeleteOptions", "APIResourceList", "WatchEvent"]
            .into_iter()
            .filter_map(|name| schema().meta(name))
            .collect();
    let mut lists: OrdMap<String, Form<'a>> = OrdMap::new();
    for form in forms {
        match form.table() {
            Some(root) => open.push(root),
            None => others.push(Item::Custom(*form)),
        }
        if form.kind.stored() || form.kind.declared.computed {
            lists.insert(form_name(*form), *form);
        }
        let bodies = crate::subresources(*form);
        open.extend(bodies.iter().filter_map(|sub| body_of(*form, sub)?.table()));
        if !form.kind.is_built_in() {
            open.push(schema().object_meta);
        }
    }
    while let Some(id) = open.pop() {
        if types.insert(id) {
            open.extend(schema().fields(id).iter().filter_map(Field::message));
        }
    }
    let types = types.into_iter().map(Item::Type);
    let specials = SPECIAL.iter().map(|name| Item::Special(name));
    types.chain(lists.into_values().map(Item::List)).chain(specials).chain(others).collect()
}

/// The form of a subresource's bodies: the object itself, or another kind of those in code.
pub(super) fn body_of<'a>(form: Form<'a>, sub: &Subresource<'_>) -> Option<Form<'a>> {
    match (sub.group, sub.kind) == (form.group(), form.kind.name) {
        true => Some(form),
        false => api::kinds::by_name(sub.group, sub.kind).map(Form::from),
    }
}

/// `io.k8s.api.core.v1.Pod`
pub(super) fn type_name(id: TypeId) -> String {
    let ty = schema().of(id);
    format!("{}.{}", ty.package, ty.name)
}

/// The name of a form's definition: its type's, or, as upstream calls custom resources,
/// `com.example.v1.Gadget`.
pub(super) fn form_name(form: Form<'_>) -> String {
    match form.table() {
        Some(id) => type_name(id),
        None => {
            let mut parts: Vec<&str> = form.group().split('.').collect();
            parts.reverse();
            format!("{}.{}.{}", parts.join("."), form.version(), form.kind.name)
        }
    }
}

/// The name of the definition of a form's list.
pub(super) fn list_name(form: Form<'_>) -> String {
    let name = form_name(form);
    match form.definition() {
        None => format!("{name}List"),
        Some(_) => {
            let package = name.strip_suffix(form.kind.name).unwrap_or(&name);
            format!("{package}{}", form.list_kind())
        }
    }
}

/// A reference to a definition.
pub(super) fn reference(name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

impl Item<'_> {
    pub(super) fn name(self) -> String {
        match self {
            Item::Type(id) => type_name(id),
            Item::List(form) => list_name(form),
            Item::Special(name) => name.to_owned(),
            Item::Custom(form) => form_name(form),
        }
    }

    pub(super) fn definition(self, dialect: Dialect) -> Value {
        match self {
            Item::Type(id) => of_type(id, dialect),
            Item::List(form) => of_list(form, dialect),
            Item::Special(name) => special(name, dialect),
            Item::Custom(form) => of_custom(form, dialect),
        }
    }
}

/// A whole object: what every object has beside what its schema says.
fn of_custom(form: Form<'_>, dialect: Dialect) -> Value {
    let meta = |properties: &mut Map<String, Value>| {
        type_fields(properties);
        let metadata = described_reference(&format!("{META}.ObjectMeta"), METADATA, dialect);
        properties.insert("metadata".into(), metadata);
    };
    let v2 = dialect == Dialect::V2;
    let tree = form.definition().and_then(|(_, version)| version.schema.tree());
    // Of what may hold anything nothing is said: kubectl would refuse what it is not told of.
    let mut definition = match tree.filter(|schema| !(v2 && is_open(schema))) {
        None => json!({"type": "object"}),
        Some(mut schema) => {
            published(&mut schema, v2, &meta);
            if let Value::Object(map) = &mut schema {
                let properties = map.entry("properties").or_insert_with(|| json!({}));
                properties.as_object_mut().into_iter().for_each(meta);
            }
            schema
        }
    };
    definition["x-kubernetes-group-version-kind"] = form_kind(form, form.kind.name);
    selectable(form, &mut definition);
    definition
}

/// What field selectors may name of a kind that is defined at run time.
fn selectable(form: Form<'_>, definition: &mut Value) {
    if let Some((_, version)) = form.definition() {
        let fields = version.selectable.iter();
        definition["x-kubernetes-selectable-fields"] =
            fields.map(|field| json!({"fieldPath": field})).collect();
    }
}

fn form_kind(form: Form<'_>, kind: &str) -> Value {
    json!([{"group": form.group(), "kind": kind, "version": form.version()}])
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
        "JSON" => described(json!({}), "Any JSON value."),
        "FieldsV1" => described(json!({"type": "object"}), "A set of fields, as nested keys."),
        _ => described(json!({"type": "object"}), "Any object."),
    }
}

/// The group, version and kind of a root type, as the extension tells them.
fn group_version_kind(id: TypeId) -> Option<Value> {
    let ty = schema().of(id);
    if ty.package == META {
        return Some(json!([{"group": "", "kind": ty.name, "version": "v1"}]));
    }
    let mut forms = api::kinds::KINDS.iter().flat_map(|kind| kind.forms());
    let form = forms.find(|form| form.table() == Some(id))?;
    Some(form_kind(form, form.kind.name))
}

fn type_fields(properties: &mut Map<String, Value>) {
    for (name, description) in [
        (
            "apiVersion",
            "APIVersion defines the versioned schema of this representation of an object: its group and version.",
        ),
        (
            "kind",
            "Kind is a string value representing the REST resource this object represents, in CamelCase.",
        ),
    ] {
        properties.insert(name.into(), json!({"type": "string", "description": description}));
    }
}

fn of_type(id: TypeId, dialect: Dialect) -> Value {
    let ty = schema().of(id);
    if ty.union {
        // Any of several shapes, as JSON shows them.
        return json!({});
    }
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
    required.arrange();
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    if ty.atomic {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    if ty.kind
        && let Some(kinds) = group_version_kind(id)
    {
        definition["x-kubernetes-group-version-kind"] = kinds;
        if let Some(kind) = api::kinds::KINDS.iter().find(|kind| schema().root(**kind) == id)
            && !kind.declared.doc.is_empty()
        {
            definition["description"] = kind.declared.doc.into();
        }
    }
    definition
}

fn of_list(form: Form<'_>, dialect: Dialect) -> Value {
    let mut properties = Map::new();
    type_fields(&mut properties);
    let (kind, list_kind) = (form.kind.name, form.list_kind());
    let (items_doc, doc) = match form.kind.is_built_in() {
        true => ("The objects.".to_owned(), format!("A list of {kind}.")),
        false => {
            (format!("List of {}.", form.kind.plural), format!("{list_kind} is a list of {kind}"))
        }
    };
    let items = json!({"type": "array", "items": reference(&form_name(form), dialect), "description": items_doc});
    properties.insert("items".into(), items);
    properties
        .insert("metadata".into(), described_reference(&format!("{META}.ListMeta"), "", dialect));
    let mut definition = json!({
        "type": "object", "required": ["items"], "properties": properties, "description": doc,
    });
    definition["x-kubernetes-group-version-kind"] = form_kind(form, &list_kind);
    selectable(form, &mut definition);
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
        ("", "metadata") => METADATA,
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
            // Of schemas in definitions.
            Scalar::Raw if matches!(field.name, "default" | "example" | "enum") => {
                return special_reference(8, description, dialect);
            }
            Scalar::Raw => return special_reference(7, description, dialect),
        };
        let mut values = field.published_values();
        if !values.is_empty() {
            values.arrange();
            // Programs that explain fields and are older than enumerations show the words only.
            if !description.is_empty() {
                value["description"] =
                    format!("{description} One of {}.", values.join(", ")).into();
            }
            value["enum"] = values.into();
        } else if !description.is_empty() {
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
    if field.atomic() && field.scalar == Scalar::Bytes {
        value["x-kubernetes-list-type"] = "atomic".into();
    } else if field.atomic() {
        value["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some((extension, is)) = field.published_extension() {
        value[extension] = is.into();
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
