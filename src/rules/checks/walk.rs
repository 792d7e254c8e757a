//! What the schema text says: required, allowed values, bounds, immutable.

use api::complain::{Complain, IMMUTABLE};
use api::schema::{Field, Scalar, Shape, TypeId, schema};
use api::status::Cause;
use serde_json::{Map, Value};

/// What the schema says of `field` of a core type, with `value` at `path`: for what [`JUDGED_ELSEWHERE`] keeps from the
/// walk, where the rules of its kind find that it counts.
pub(crate) fn part_at(
    type_name: &str,
    field: &str,
    value: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let schema = schema();
    let found = schema.find("io.k8s.api.core.v1", type_name);
    if let Some(field) = found.and_then(|id| schema.by_json(id, field)) {
        Walk { causes, path: path.to_owned(), unchecked: "" }.field(field, value, None);
    }
}

/// Core types of which upstream checks only a part, or says other words than the schema's; their kinds' rules have it all.
pub(crate) const JUDGED_ELSEWHERE: [&str; 15] = [
    "SeccompProfile",
    "AppArmorProfile",
    "Volume",
    "VolumeSource",
    "PersistentVolumeSource",
    "VolumeProjection",
    "DownwardAPIVolumeFile",
    "PersistentVolumeClaimTemplate",
    "EnvVarSource",
    "Probe",
    "Lifecycle",
    "PodAffinityTerm",
    "TopologySpreadConstraint",
    "NodeSelector",
    "Toleration",
];

/// What the schema text says: required, allowed values, bounds, immutable.
pub(crate) struct Walk<'a> {
    pub(crate) causes: &'a mut Vec<Cause>,
    pub(crate) path: String,
    /// What is not looked into.
    pub(crate) unchecked: &'static str,
}

impl Walk<'_> {
    pub(crate) fn message(
        &mut self,
        id: TypeId,
        new: &Map<String, Value>,
        old: Option<&Map<String, Value>>,
    ) {
        let at_root = self.path.is_empty();
        if JUDGED_ELSEWHERE.contains(&schema().of(id).name) {
            return;
        }
        for field in schema().fields(id) {
            if let (true, Some(inner)) = (field.inline(), field.message()) {
                self.message(inner, new, old);
                continue;
            }
            // Metadata has its own rules, and statuses are written by components. Of a template's
            // metadata only labels and annotations count.
            if field.name == "metadata" || at_root && field.name == "status" {
                continue;
            }
            let len = self.path.len();
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(field.name);
            let value = new.get(field.name).unwrap_or(&Value::Null);
            let before = old.map(|old| old.get(field.name).unwrap_or(&Value::Null));
            self.field(field, value, before);
            self.path.truncate(len);
        }
    }

    fn field(&mut self, field: &Field, value: &Value, before: Option<&Value>) {
        if !self.unchecked.is_empty() && self.unchecked.split(' ').any(|path| path == self.path) {
            return;
        }
        if field.immutable() && before.is_some_and(|before| before != value) {
            if field.required() && is_missing(field, value) {
                self.causes.required(&self.path, "");
            }
            let path = self.path.clone();
            self.causes.invalid(&path, value, IMMUTABLE);
            return;
        }
        if is_missing(field, value) {
            if field.required() {
                self.causes.required(&self.path, "");
            }
            return;
        }
        match (field.shape, value) {
            (Shape::List, Value::Array(items)) if field.name == "accessModes" => {
                items.iter().for_each(|item| self.item(field, item));
            }
            (Shape::List, Value::Array(items)) => {
                for (idx, item) in items.iter().enumerate() {
                    let len = self.path.len();
                    self.path.push_str(&format!("[{idx}]"));
                    self.item(field, item);
                    self.path.truncate(len);
                }
            }
            (Shape::Single, value) => self.one(field, value, before),
            _ => {}
        }
    }

    /// An item of a list; an empty text is one like any other.
    fn item(&mut self, field: &Field, item: &Value) {
        match item {
            Value::String(text) if text.is_empty() && !field.allows(text) => {
                self.unsupported(field, text);
            }
            item => self.one(field, item, None),
        }
    }

    fn unsupported(&mut self, field: &Field, text: &str) {
        let supported = field.extra().values();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        self.causes.not_supported_in_order(&self.path, text, &supported);
    }

    fn one(&mut self, field: &Field, value: &Value, before: Option<&Value>) {
        let extra = field.extra();
        match (field.scalar, value) {
            (Scalar::Message(id), Value::Object(map)) => {
                self.message(id, map, before.and_then(Value::as_object));
            }
            (Scalar::Str, Value::String(text))
                if is_checked(field, text) && !field.allows(text) =>
            {
                self.unsupported(field, text);
            }
            (Scalar::I32 | Scalar::I64, Value::Number(number)) => {
                let number = number.as_i64().unwrap_or(0);
                let below = extra.min.is_some_and(|min| number < min);
                let above = extra.max.is_some_and(|max| number > max);
                if below || above {
                    let detail = match (extra.min, extra.max) {
                        // Zero is what an absent number is.
                        (Some(0), Some(65_535)) => "must be between 1 and 65535, inclusive".into(),
                        (Some(min), Some(max)) => {
                            format!("must be between {min} and {max}, inclusive")
                        }
                        (Some(min), None) => format!("must be greater than or equal to {min}"),
                        (_, max) => format!("must be less than or equal to {}", max.unwrap_or(0)),
                    };
                    let path = self.path.clone();
                    self.causes.invalid(&path, value, &detail);
                }
            }
            _ => {}
        }
    }
}

/// Whether a text is to be one of the allowed values: what Go points to is there even when it is empty.
fn is_checked(field: &Field, text: &str) -> bool {
    !text.is_empty() || field.pointer() && !may_be_empty(field) || field.checks_empty()
}

/// Enums behind pointers whose empty value upstream takes, by its default.
fn may_be_empty(field: &Field) -> bool {
    field.extra().default == Some("''")
}

/// What Go calls empty, where empty is not a legal value of a required field.
fn is_missing(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !field.pointer() && !field.checks_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => field.shape == Shape::Map && map.is_empty(),
        _ => false,
    }
}
