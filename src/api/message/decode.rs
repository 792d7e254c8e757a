//! Kubernetes protobuf to trees, with what Go's JSON encoder would show: zero values left out
//! unless always written, structs by value always there, empty times null.

use serde_json::{Map, Value};
use stdx::Arrange;
use wire::protobuf::{Error, Reader, Wire};

use crate::schema::{Field, Scalar, Shape, TypeId, schema};
use crate::time::Stamp;

/// How deep messages may nest.
pub(crate) const DEPTH_MAX: u32 = 112;

/// Reads a message's fields into `map`.
pub(crate) fn message(
    id: TypeId,
    bytes: &[u8],
    depth: u32,
    map: &mut Map<String, Value>,
) -> Result<(), Error> {
    message_but(None, id, bytes, depth, map)
}

/// Reads an object without `metadata.managedFields`, which may be the larger part of it.
pub(crate) fn content(
    root: TypeId,
    bytes: &[u8],
    map: &mut Map<String, Value>,
) -> Result<(), Error> {
    const METADATA: u32 = 1;
    const MANAGED_FIELDS: u32 = 17;
    let metadata = schema().by_tag(root, METADATA);
    let Some(metadata) = metadata.filter(|it| it.message() == Some(schema().object_meta)) else {
        return message(root, bytes, 0, map);
    };
    message_but(Some(METADATA), root, bytes, 0, map)?;
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == METADATA {
            let mut inner = Map::new();
            let but = Some(MANAGED_FIELDS);
            message_but(but, schema().object_meta, wire.bytes()?, 1, &mut inner)?;
            map.insert(metadata.name.into(), Value::Object(inner));
        }
    }
    Ok(())
}

/// `message`, as if the field `but` were not there.
fn message_but(
    but: Option<u32>,
    id: TypeId,
    bytes: &[u8],
    depth: u32,
    map: &mut Map<String, Value>,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::BadTag);
    }
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if but == Some(tag) {
            continue;
        }
        let Some(field) = schema().by_tag(id, tag) else { continue };
        match (field.message(), field.shape) {
            (Some(inner), _) if field.inline() => message(inner, wire.bytes()?, depth + 1, map)?,
            (_, Shape::Single) => {
                let value = single(field, wire, depth)?;
                if field.pointer() || field.always() || !is_zero(&value) {
                    map.insert(field.name.into(), value);
                }
            }
            (_, Shape::List) => {
                let value = single(field, wire, depth)?;
                match map.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(items) => items.push(value),
                    other => *other = Value::Array(vec![value]),
                }
            }
            (_, Shape::Map) => {
                let (key, value) = entry(field, wire.bytes()?, depth)?;
                match map.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    Value::Object(entries) => {
                        entries.insert(key, value);
                    }
                    other => *other = Value::Object(std::iter::once((key, value)).collect()),
                }
            }
        }
    }
    fill(id, map);
    Ok(())
}

/// How much memory `message` takes for a message, about; what it will refuse counts as far as it is read.
pub(crate) fn tree_bytes(id: TypeId, bytes: &[u8], depth: u32) -> usize {
    use wire::json::{ENTRY_BYTES, MAP_BYTES, TEXT_BYTES};
    // Some fields are always written, with maps of their own at times.
    let mut total = 2 * MAP_BYTES;
    if depth > DEPTH_MAX {
        return total;
    }
    let mut reader = Reader::new(bytes);
    while let Ok(Some((tag, wire))) = reader.next() {
        let Some(field) = schema().by_tag(id, tag) else { continue };
        let content = wire.bytes().unwrap_or_default();
        total += ENTRY_BYTES;
        total += match (field.scalar, field.shape) {
            (Scalar::Message(inner), Shape::Map) => {
                let mut entry = Reader::new(content);
                let mut inside = TEXT_BYTES;
                while let Ok(Some((_, wire))) = entry.next() {
                    let content = wire.bytes().unwrap_or_default();
                    inside += content.len() + tree_bytes(inner, content, depth + 1);
                }
                inside
            }
            (Scalar::Message(inner), _) => tree_bytes(inner, content, depth + 1),
            (Scalar::Fields, _) => wire::json::tree_bytes(content),
            // Keys and values of maps are two texts; bytes become base64.
            _ => 2 * TEXT_BYTES + content.len() / 3 * 4 + 4,
        };
    }
    total
}

/// Reads a message as `message` does and keeps nothing: whether later readers may trust the bytes.
pub(crate) fn check(id: TypeId, bytes: &[u8], depth: u32) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::BadTag);
    }
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        let Some(field) = schema().by_tag(id, tag) else { continue };
        if field.shape != Shape::Map {
            check_single(field, wire, depth)?;
            continue;
        }
        let mut entry = Reader::new(wire.bytes()?);
        while let Some((tag, wire)) = entry.next()? {
            match tag {
                1 => drop(wire.str()?),
                2 => check_single(field, wire, depth)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_single(field: &Field, wire: Wire<'_>, depth: u32) -> Result<(), Error> {
    match field.scalar {
        Scalar::Str => wire.str().map(drop),
        Scalar::Bool | Scalar::I32 | Scalar::I64 => wire.varint().map(drop),
        Scalar::Bytes => wire.bytes().map(drop),
        Scalar::Message(id) => check(id, wire.bytes()?, depth + 1),
        // Managed fields are large: their syntax is looked at without making anything of it.
        Scalar::Fields => match first_bytes(wire.bytes()?)? {
            b"" => Ok(()),
            json if wire::json::is_valid(json) => Ok(()),
            _ => Err(Error::WrongType),
        },
        // Small, and rare enough to read in full.
        _ => single(field, wire, depth).map(drop),
    }
}

/// Adds what Go always writes and the bytes did not hold.
fn fill(id: TypeId, map: &mut Map<String, Value>) {
    for field in schema().fields(id) {
        match field.message() {
            Some(inner) if field.inline() => fill(inner, map),
            _ if field.always() && !map.contains_key(field.name) => {
                map.insert(field.name.into(), zero(field));
            }
            _ => {}
        }
    }
}

/// What Go's JSON shows for a field that is always written and not set.
pub(crate) fn zero(field: &Field) -> Value {
    if field.pointer() || field.shape != Shape::Single {
        return Value::Null;
    }
    match field.scalar {
        Scalar::Str => "".into(),
        Scalar::Bool => false.into(),
        Scalar::I32 | Scalar::I64 | Scalar::IntOrString => 0.into(),
        Scalar::F64 => 0.0.into(),
        Scalar::Quantity => "0".into(),
        Scalar::Duration => "0s".into(),
        Scalar::Message(inner) => {
            let mut map = Map::new();
            fill(inner, &mut map);
            Value::Object(map)
        }
        _ => Value::Null,
    }
}

/// Zero as `omitempty` sees it, for fields that are no pointers.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn entry(field: &Field, bytes: &[u8], depth: u32) -> Result<(String, Value), Error> {
    let mut reader = Reader::new(bytes);
    let (mut key, mut value) = (String::new(), None);
    let field = Field { shape: Shape::Single, ..*field };
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => wire.str()?.clone_into(&mut key),
            2 => value = Some(single(&field, wire, depth)?),
            _ => {}
        }
    }
    Ok((key, value.unwrap_or_else(|| zero(&field))))
}

fn single(field: &Field, wire: Wire<'_>, depth: u32) -> Result<Value, Error> {
    Ok(match field.scalar {
        Scalar::Str => wire.str()?.into(),
        Scalar::Bool => (wire.varint()? != 0).into(),
        // int32 travels as a sign-extended 64-bit varint; the low half is the value.
        #[allow(clippy::cast_possible_truncation)]
        Scalar::I32 => (wire.int()? as i32).into(),
        Scalar::I64 => wire.int()?.into(),
        Scalar::F64 => match wire {
            Wire::Fixed64(bits) => number(f64::from_bits(bits)),
            _ => return Err(Error::WrongType),
        },
        Scalar::Bytes => wire::base64::encode(wire.bytes()?).into(),
        Scalar::Time => time(wire.bytes()?)?.map_or(Value::Null, |t| t.format().into()),
        Scalar::MicroTime => time(wire.bytes()?)?.map_or(Value::Null, |t| t.format_micro().into()),
        Scalar::Duration => stdx::duration::format(first_int(wire.bytes()?)?).into(),
        Scalar::Quantity => quantity(wire.bytes()?)?.into(),
        Scalar::IntOrString => int_or_string(wire.bytes()?)?.map_or_else(Value::from, Value::from),
        Scalar::Raw | Scalar::Fields => raw(first_bytes(wire.bytes()?)?, depth)?,
        Scalar::Strs => {
            let mut items = Vec::new();
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((tag, wire)) = reader.next()? {
                if tag == 1 {
                    items.push(wire.str()?.into());
                }
            }
            Value::Array(items)
        }
        Scalar::Message(id) => {
            let mut map = Map::new();
            message(id, wire.bytes()?, depth + 1, &mut map)?;
            if schema().of(id).union {
                return Ok(alternative(id, map));
            }
            if field.typed() {
                map.insert("apiVersion".into(), "v1".into());
                map.insert("kind".into(), schema().of(id).name.into());
            }
            Value::Object(map)
        }
    })
}

/// A number as Go writes it: without a fraction where it has none.
pub(crate) fn number(number: f64) -> Value {
    /// Beyond, not every integer is a float.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    // The bound says that it fits.
    #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
    match number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        true => (number as i64).into(),
        false => number.into(),
    }
}

/// What JSON shows of a union: the list or object that is set, else the boolean, if it has one.
fn alternative(id: TypeId, mut map: Map<String, Value>) -> Value {
    let fields = schema().fields(id).iter();
    let rank = |field: &&Field| match (field.shape, field.scalar) {
        (Shape::List, _) => 0,
        (_, Scalar::Bool) => 2,
        _ => 1,
    };
    let mut fields: Vec<&Field> = fields.collect();
    fields.arrange_by_key(rank);
    let set = fields.iter().find_map(|field| map.remove(field.name).filter(|it| !it.is_null()));
    let is_flag = fields.iter().any(|field| field.scalar == Scalar::Bool);
    set.unwrap_or(if is_flag { Value::Bool(false) } else { Value::Null })
}

/// Embedded bytes: JSON, or a protobuf envelope of a kind we know.
fn raw(bytes: &[u8], depth: u32) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    match super::envelope::open(bytes)? {
        Some(envelope) => super::envelope::tree(&envelope, depth + 1),
        None => serde_json::from_slice(bytes).map_err(|_| Error::WrongType),
    }
}

/// A `Timestamp`; `None` when empty, Go's zero time.
pub(crate) fn time(bytes: &[u8]) -> Result<Option<Stamp>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut secs, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => secs = wire.int()?,
            2 => nanos = wire.int()?,
            _ => {}
        }
    }
    Ok(Some(Stamp::new(secs, nanos)).filter(|stamp| !stamp.is_zero()))
}

pub(crate) fn quantity(bytes: &[u8]) -> Result<&str, Error> {
    let text = first_bytes(bytes)?;
    // Go reads an absent string as zero.
    if text.is_empty() { Ok("0") } else { Wire::Bytes(text).str() }
}

/// The number, or the string as error.
pub(crate) fn int_or_string(bytes: &[u8]) -> Result<Result<i64, &str>, Error> {
    let (mut is_string, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => is_string = wire.varint()? == 1,
            2 => number = wire.int()?,
            3 => text = wire.str()?,
            _ => {}
        }
    }
    Ok(if is_string { Err(text) } else { Ok(number) })
}

pub(crate) fn first_bytes(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut found: &[u8] = b"";
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            found = wire.bytes()?;
        }
    }
    Ok(found)
}

pub(crate) fn first_int(bytes: &[u8]) -> Result<i64, Error> {
    let mut found = 0;
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            found = wire.int()?;
        }
    }
    Ok(found)
}
