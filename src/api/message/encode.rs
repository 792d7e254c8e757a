//! Trees to Kubernetes protobuf, byte for byte as the generated Go code writes it:
//! fields by tag; scalars by value always, pointers when set; structs by value always; maps sorted.

use serde_json::{Map, Value};
use wire::protobuf as pb;

use super::{Mismatch, managed};
use crate::schema::{Field, Scalar, Shape, TypeId, schema};

static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

/// Appends the fields of a message. Unknown fields are left out.
pub(crate) fn message(
    id: TypeId,
    map: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    message_with(id, map, out, None)
}

/// As `message`, for storage: the resource version, which is the store's revision, is left empty. `compact` is for
/// managed fields.
pub(crate) fn stored(
    id: TypeId,
    map: &Map<String, Value>,
    compact: bool,
    out: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    message_with(id, map, out, Some(Rest { root: id, compact }))
}

/// How metadata is stored.
#[derive(Clone, Copy)]
struct Rest {
    root: TypeId,
    /// Managed fields are written in the form of `managed`, if they fit it.
    compact: bool,
}

fn message_with(
    id: TypeId,
    map: &Map<String, Value>,
    out: &mut Vec<u8>,
    rest: Option<Rest>,
) -> Result<(), Mismatch> {
    let strip = rest.is_some();
    for field in schema().fields(id) {
        if strip && field.name == "resourceVersion" {
            zero(field, out)?;
            continue;
        }
        if let (true, "metadata", Some(Value::Object(map))) =
            (strip, field.name, map.get(field.name))
        {
            let meta = schema().object_meta;
            pb::put_message(out, field.tag, |out| message_with(meta, map, out, rest))
                .map_err(|mismatch| mismatch.within("metadata"))?;
            continue;
        }
        if let (Some(rest), "managedFields", Some(Value::Array(entries))) =
            (rest.filter(|rest| rest.compact), field.name, map.get(field.name))
            && managed::put(rest.root, entries, out)
        {
            continue;
        }
        if let (true, Some(inner)) = (field.inline(), field.message()) {
            pb::put_message(out, field.tag, |out| message(inner, map, out))?;
            continue;
        }
        let value = map.get(field.name).filter(|value| !value.is_null());
        self::field(field, value, out).map_err(|mismatch| mismatch.within(field.name))?;
    }
    Ok(())
}

fn field(field: &Field, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    match (field.shape, value) {
        (Shape::Single, Some(value)) => single(field, value, out),
        (Shape::Single, None) if field.pointer() => Ok(()),
        (Shape::Single, None) => zero(field, out),
        (_, None) => Ok(()),
        (Shape::List, Some(Value::Array(items))) => {
            for (idx, item) in items.iter().enumerate() {
                let written = match item {
                    Value::Null => zero(field, out),
                    item => single(field, item, out),
                };
                written.map_err(|mismatch| mismatch.at_index(idx))?;
            }
            Ok(())
        }
        (Shape::Map, Some(Value::Object(map))) => {
            for (key, value) in map {
                pb::put_message(out, field.tag, |out| {
                    pb::put_bytes(out, 1, key.as_bytes());
                    let entry = Field { tag: 2, shape: Shape::Single, ..*field };
                    match value {
                        Value::Null => zero(&entry, out),
                        value => single(&entry, value, out),
                    }
                })
                .map_err(|mismatch: Mismatch| mismatch.within(key))?;
            }
            Ok(())
        }
        (_, Some(other)) => Err(Mismatch::new(other, field)),
    }
}

/// What Go writes for a value that is not set.
fn zero(field: &Field, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    match field.scalar {
        Scalar::Str => pb::put_bytes(out, field.tag, b""),
        Scalar::Bool | Scalar::I32 | Scalar::I64 => pb::put_int(out, field.tag, 0),
        Scalar::F64 => pb::put_double(out, field.tag, 0.0),
        // A nil byte slice is left out.
        Scalar::Bytes => {}
        Scalar::Time | Scalar::MicroTime | Scalar::Raw | Scalar::Strs | Scalar::Fields => {
            pb::put_bytes(out, field.tag, b"");
        }
        Scalar::Duration => pb::put_message::<Mismatch>(out, field.tag, |out| {
            pb::put_int(out, 1, 0);
            Ok(())
        })?,
        Scalar::Quantity => pb::put_bytes(out, field.tag, b"\x0a\x010"),
        Scalar::IntOrString => pb::put_bytes(out, field.tag, b"\x08\x00\x10\x00\x1a\x00"),
        Scalar::Message(id) => pb::put_message(out, field.tag, |out| message(id, &EMPTY, out))?,
    }
    Ok(())
}

fn single(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let mismatch = || Mismatch::new(value, field);
    let tag = field.tag;
    match (field.scalar, value) {
        (Scalar::Str, Value::String(text)) => pb::put_bytes(out, tag, text.as_bytes()),
        (Scalar::Bool, Value::Bool(flag)) => pb::put_int(out, tag, i64::from(*flag)),
        (Scalar::I32, Value::Number(number)) => {
            let fits = number.as_i64().and_then(|n| i32::try_from(n).ok());
            pb::put_int(out, tag, fits.ok_or_else(mismatch)?.into());
        }
        (Scalar::I64, Value::Number(number)) => {
            pb::put_int(out, tag, number.as_i64().ok_or_else(mismatch)?);
        }
        (Scalar::F64, Value::Number(number)) => {
            pb::put_double(out, tag, number.as_f64().ok_or_else(mismatch)?);
        }
        (Scalar::Bytes, Value::String(text)) => {
            pb::put_bytes(out, tag, &wire::base64::decode(text).ok_or_else(mismatch)?);
        }
        (Scalar::Time, Value::String(text)) => {
            let time = crate::time::Stamp::parse(text).ok_or_else(mismatch)?;
            timestamp(out, tag, time.secs(), 0);
        }
        (Scalar::MicroTime, Value::String(text)) => {
            let time = crate::time::Stamp::parse(text).ok_or_else(mismatch)?;
            timestamp(out, tag, time.secs(), i64::from(time.subsec_nanos() / 1000 * 1000));
        }
        (Scalar::Quantity, Value::String(text)) => {
            pb::put_len(out, tag, 1 + pb::varint_len(text.len() as u64) + text.len());
            pb::put_bytes(out, 1, text.as_bytes());
        }
        (Scalar::Quantity, Value::Number(number)) => {
            let text = number.to_string();
            pb::put_len(out, tag, 1 + pb::varint_len(text.len() as u64) + text.len());
            pb::put_bytes(out, 1, text.as_bytes());
        }
        (Scalar::IntOrString, value @ (Value::String(_) | Value::Number(_))) => {
            let number = match value {
                Value::Number(n) => {
                    n.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(mismatch)?
                }
                _ => 0,
            };
            pb::put_message::<Mismatch>(out, tag, |out| {
                pb::put_int(out, 1, i64::from(value.is_string()));
                pb::put_int(out, 2, number.into());
                pb::put_bytes(out, 3, value.as_str().unwrap_or("").as_bytes());
                Ok(())
            })?;
        }
        (Scalar::Raw | Scalar::Fields, value) => {
            let json = serde_json::to_vec(value).map_err(|_| mismatch())?;
            pb::put_len(out, tag, 1 + pb::varint_len(json.len() as u64) + json.len());
            pb::put_bytes(out, 1, &json);
        }
        (Scalar::Strs, Value::Array(items)) => pb::put_message(out, tag, |out| {
            for item in items {
                pb::put_bytes(out, 1, item.as_str().ok_or_else(mismatch)?.as_bytes());
            }
            Ok(())
        })?,
        (Scalar::Duration, Value::String(text)) => {
            let nanos = stdx::duration::parse(text).ok_or_else(mismatch)?;
            pb::put_message::<Mismatch>(out, tag, |out| {
                pb::put_int(out, 1, nanos);
                Ok(())
            })?;
        }
        (Scalar::Message(id), value) if schema().of(id).union => {
            pb::put_message(out, tag, |out| union(id, value, out))?;
        }
        (Scalar::Message(id), Value::Object(map)) => {
            pb::put_message(out, tag, |out| message(id, map, out))?;
        }
        _ => return Err(mismatch()),
    }
    Ok(())
}

/// The one field that the value is, and the boolean beside it, which Go always writes.
fn union(id: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let chosen = schema().alternative(id, value).ok_or_else(|| Mismatch::said(NO_UNION))?;
    for field in schema().fields(id) {
        match field.tag == chosen.tag {
            true => self::field(field, Some(value), out)?,
            // A schema allows what it describes.
            false if field.scalar == Scalar::Bool => pb::put_int(out, field.tag, 1),
            false => {}
        }
    }
    Ok(())
}

/// Go's words for a union that is none of what it may be.
pub(crate) const NO_UNION: &str = "boolean or JSON schema expected";

pub(super) fn timestamp(out: &mut Vec<u8>, tag: u32, secs: i64, nanos: i64) {
    // The closure cannot fail.
    let _ = pb::put_message::<Mismatch>(out, tag, |out| {
        pb::put_int(out, 1, secs);
        pb::put_int(out, 2, nanos);
        Ok(())
    });
}
