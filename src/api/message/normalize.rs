//! JSON trees as Go's typed decoding would leave them: types checked, unknown fields taken out and
//! reported, quantities and times in canonical form, zero values dropped or filled in.

use serde_json::{Map, Value};

use super::{Mismatch, decode, encode};
use crate::quantity::Quantity;
use crate::schema::{Field, Scalar, Shape, TypeId, schema};
use crate::time::Stamp;

/// How many unknown fields are told.
const UNKNOWN_MAX: usize = 20;

/// Collects complaints while walking.
#[derive(Default)]
pub(crate) struct Walk {
    pub path: String,
    pub unknown: Vec<String>,
    /// Keep what was sent as it was, empty values too, and fill in nothing (apply patches).
    pub sparse: bool,
    /// Cut integers to what fits (apply and strategic patches, which Go converts from untyped values).
    pub cuts: bool,
}

impl Walk {
    /// Normalizes a root object; `apiVersion` and `kind` stay.
    pub(crate) fn root(&mut self, id: TypeId, tree: &mut Value) -> Result<(), Mismatch> {
        let Value::Object(map) = tree else {
            return Err(Mismatch::of_root(tree, schema().of(id).name));
        };
        let types = ["apiVersion", "kind"].map(|key| map.remove_entry(key));
        self.message(id, map)?;
        map.extend(types.into_iter().flatten());
        Ok(())
    }

    /// Normalizes the metadata of an object of any kind, and nothing else of it.
    pub(crate) fn metadata(&mut self, kind: &str, tree: &mut Value) -> Result<(), Mismatch> {
        let Value::Object(map) = tree else { return Err(Mismatch::of_root(tree, kind)) };
        match map.get_mut("metadata") {
            Some(Value::Object(metadata)) => {
                self.path.push_str("metadata");
                let walked = self.message(schema().object_meta, metadata);
                self.path.clear();
                walked.map_err(|mismatch| mismatch.in_struct("ObjectMeta").within("metadata"))
            }
            Some(Value::Null) | None if self.sparse => Ok(()),
            Some(Value::Null) | None => {
                map.insert("metadata".into(), Value::Object(Map::new()));
                self.metadata(kind, tree)
            }
            Some(other) => Err(Mismatch::of_root(other, "ObjectMeta").within("metadata")),
        }
    }

    fn message(&mut self, id: TypeId, map: &mut Map<String, Value>) -> Result<(), Mismatch> {
        let keys: Vec<String> = map.keys().cloned().collect();
        for key in keys {
            if schema().by_json(id, &key).is_none() {
                self.report_unknown(id, &key);
                map.remove(&key);
            }
        }
        self.known(id, map)
    }

    fn known(&mut self, id: TypeId, map: &mut Map<String, Value>) -> Result<(), Mismatch> {
        for field in schema().fields(id) {
            if let (true, Some(inner)) = (field.inline(), field.message()) {
                let walked = self.known(inner, map);
                walked.map_err(|mismatch| mismatch.embedded_in(schema().of(id).name))?;
                continue;
            }
            let keep = match map.get_mut(field.name) {
                None => None,
                Some(Value::Null) => Some(false),
                Some(value) => {
                    let len = self.path.len();
                    if len > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(field.name);
                    let checked = self
                        .field(field, value)
                        .map_err(|m| m.in_struct(schema().of(id).name).within(field.name));
                    self.path.truncate(len);
                    checked?;
                    // Pointers, and lists and maps that hold something, are kept.
                    let pointer = field.pointer();
                    Some(
                        pointer
                            || !decode::is_zero(value)
                            || (field.always() && field.shape == Shape::Single),
                    )
                }
            };
            match keep {
                Some(true) => {}
                _ if self.sparse => {}
                _ if field.always() => {
                    map.insert(field.name.into(), decode::zero(field));
                }
                Some(false) => {
                    map.remove(field.name);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn report_unknown(&mut self, id: TypeId, key: &str) {
        // Embedded kinds may carry their types; only roots keep them.
        if schema().of(id).kind && matches!(key, "apiVersion" | "kind") {
            return;
        }
        if self.unknown.len() < UNKNOWN_MAX {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.unknown.push(format!("{}{dot}{key}", self.path));
        }
    }

    fn field(&mut self, field: &Field, value: &mut Value) -> Result<(), Mismatch> {
        match (field.shape, value) {
            (Shape::Single, value) => self.single(field, value),
            (Shape::List, Value::Array(items)) => {
                for (idx, item) in items.iter_mut().enumerate() {
                    let len = self.path.len();
                    self.path.push_str(&format!("[{idx}]"));
                    let checked = self.element(field, item);
                    self.path.truncate(len);
                    checked?;
                }
                Ok(())
            }
            (Shape::Map, Value::Object(map)) => {
                for (key, item) in map.iter_mut() {
                    let len = self.path.len();
                    self.path.push('.');
                    self.path.push_str(key);
                    let checked = self.element(field, item);
                    self.path.truncate(len);
                    checked?;
                }
                Ok(())
            }
            (_, other) => Err(Mismatch::new(other, field)),
        }
    }

    fn element(&mut self, field: &Field, item: &mut Value) -> Result<(), Mismatch> {
        let element = Field { shape: Shape::Single, ..*field };
        match item {
            Value::Null => {
                *item = decode::zero(&element);
                Ok(())
            }
            item => self.single(&element, item),
        }
    }

    fn single(&mut self, field: &Field, value: &mut Value) -> Result<(), Mismatch> {
        let canonical: Value = match (field.scalar, &mut *value) {
            (Scalar::Message(id), value) if schema().of(id).union => {
                let field = schema().alternative(id, value);
                let field = field.ok_or_else(|| Mismatch::said(encode::NO_UNION))?;
                return self.field(field, value);
            }
            (Scalar::Message(id), Value::Object(map)) => {
                self.message(id, map)?;
                if field.typed() {
                    map.insert("apiVersion".into(), "v1".into());
                    map.insert("kind".into(), schema().of(id).name.into());
                }
                return Ok(());
            }
            (Scalar::Str, Value::String(_)) | (Scalar::Bool, Value::Bool(_)) => return Ok(()),
            // Where Go converts an untyped number, it cuts off what does not fit.
            #[expect(clippy::cast_possible_truncation, reason = "as Go converts it")]
            (Scalar::I32, Value::Number(number)) if self.cuts && number.is_i64() => {
                (number.as_i64().unwrap_or(0) as i32).into()
            }
            (Scalar::I32, Value::Number(number)) => {
                match number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                    true => return Ok(()),
                    false => return Err(Mismatch::number(number, field)),
                }
            }
            (Scalar::I64, Value::Number(number)) => match number.is_i64() {
                true => return Ok(()),
                false => return Err(Mismatch::number(number, field)),
            },
            (Scalar::F64, Value::Number(number)) => match number.as_f64() {
                Some(float) => decode::number(float),
                None => return Ok(()),
            },
            // Both hold whatever JSON comes.
            (Scalar::Raw | Scalar::Fields, _) => {
                return Ok(());
            }
            (Scalar::IntOrString, Value::Number(number)) => {
                match number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                    true => return Ok(()),
                    false => return Err(Mismatch::number(number, field)),
                }
            }
            (Scalar::IntOrString, Value::String(_)) => return Ok(()),
            (Scalar::Strs, Value::Array(items))
                if items.iter().all(|item| item.is_string() || item.is_null()) =>
            {
                let empty = items.iter_mut().filter(|item| item.is_null());
                empty.for_each(|item| *item = "".into());
                return Ok(());
            }
            (Scalar::Bytes, Value::String(text)) => {
                let bytes = wire::base64::decode(text).ok_or_else(|| Mismatch::base64(text))?;
                wire::base64::encode(&bytes).into()
            }
            (Scalar::Quantity, value @ (Value::String(_) | Value::Number(_))) => {
                Quantity::from_tree(value)
                    .ok_or_else(|| Mismatch::said(crate::quantity::ParseError.to_string()))?
                    .to_string()
                    .into()
            }
            (Scalar::Time, Value::String(text)) => {
                match Stamp::parse(text).ok_or_else(|| Mismatch::time(text, ""))? {
                    zero if zero.is_zero() => Value::Null,
                    time => time.format().into(),
                }
            }
            (Scalar::MicroTime, Value::String(text)) => {
                let stamp = Stamp::parse(text).ok_or_else(|| Mismatch::time(text, ".000000"))?;
                six_digits(text)?;
                match stamp {
                    zero if zero.is_zero() => Value::Null,
                    time => time.format_micro().into(),
                }
            }
            (Scalar::Duration, Value::String(text)) => {
                let nanos = stdx::duration::parse(text)
                    .ok_or_else(|| Mismatch::said(format!("time: invalid duration \"{text}\"")))?;
                stdx::duration::format(nanos).into()
            }
            (_, other) => return Err(Mismatch::new(other, field)),
        };
        *value = canonical;
        Ok(())
    }
}

/// Times in microseconds have exactly six digits behind the second, as Go's layout wants them.
fn six_digits(text: &str) -> Result<(), Mismatch> {
    let rest = text.get("2006-01-02T15:04:05".len()..).unwrap_or("");
    let digits = rest.strip_prefix('.').unwrap_or("").bytes().take_while(u8::is_ascii_digit);
    let (from, wanted) = match digits.count() {
        6 => return Ok(()),
        more if more > 6 => (&rest[7..], "Z07:00"),
        _ => (rest, ".000000"),
    };
    Err(Mismatch::said(format!(
        "parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{from}\" as \"{wanted}\""
    )))
}
