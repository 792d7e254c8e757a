//! The storage and wire envelope: `k8s\0` and a `runtime.Unknown` around a message.

use serde_json::{Map, Value};
use wire::protobuf::{self as pb, Error, Reader};

use super::{Mismatch, decode, encode};
use crate::kinds;
use crate::lens::{Lens, LensMut};
use crate::schema::{TypeId, schema};

pub const MAGIC: &[u8; 4] = b"k8s\0";

/// What follows the message: fields 3 and 4, the encoding and type of its content, empty.
pub(crate) const END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// An opened envelope.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
    pub content_type: &'a str,
}

/// Opens an envelope; `None` if the bytes do not begin with the magic.
pub fn open(bytes: &[u8]) -> Result<Option<Envelope<'_>>, Error> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return Ok(None) };
    let mut envelope = Envelope { api_version: "", kind: "", raw: b"", content_type: "" };
    let mut reader = Reader::new(rest);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => {
                let mut reader = Reader::new(wire.bytes()?);
                while let Some((tag, wire)) = reader.next()? {
                    match tag {
                        1 => envelope.api_version = wire.str()?,
                        2 => envelope.kind = wire.str()?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = wire.bytes()?,
            4 => envelope.content_type = wire.str()?,
            _ => {}
        }
    }
    Ok(Some(envelope))
}

/// The tree of an envelope whose kind we know.
pub(crate) fn tree(envelope: &Envelope<'_>, depth: u32) -> Result<Value, Error> {
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw).map_err(|_| Error::WrongType);
    }
    let id = type_of(envelope.api_version, envelope.kind).ok_or(Error::BadTag)?;
    let mut map = Map::new();
    decode::message(id, envelope.raw, depth, &mut map)?;
    let mut tree = Value::Object(map);
    tree.set("apiVersion", envelope.api_version);
    tree.set("kind", envelope.kind);
    Ok(tree)
}

/// Appends an envelope around a message that `body` writes.
pub fn seal(
    api_version: &str,
    kind: &str,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), Mismatch>,
) -> Result<(), Mismatch> {
    put_types(api_version, kind, out);
    pb::put_message(out, 2, body)?;
    out.extend_from_slice(END);
    Ok(())
}

/// Appends what stands before the message.
pub(crate) fn put_types(api_version: &str, kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    let mut types = Vec::new();
    pb::put_bytes(&mut types, 1, api_version.as_bytes());
    pb::put_bytes(&mut types, 2, kind.as_bytes());
    pb::put_bytes(out, 1, &types);
}

/// Appends a tree of a known kind in its envelope.
pub(crate) fn seal_tree(tree: &Value, out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let (api_version, kind) = (tree.str("apiVersion"), tree.str("kind"));
    let id = type_of(api_version, kind).ok_or_else(|| Mismatch::unknown_kind(api_version, kind))?;
    let Value::Object(map) = tree else { return Err(Mismatch::unknown_kind(api_version, kind)) };
    seal(api_version, kind, out, |out| encode::message(id, map, out))
}

/// The root type of an apiVersion and kind: a served kind in any of its forms, or a meta kind,
/// which any group may carry (`DeleteOptions` of `policy/v1`).
pub(crate) fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some(found) = kinds::by_name(group, kind)
        && let Some((_, _, served)) =
            found.versions().find(|(its, of, _)| *its == group && *of == version)
    {
        return Some(schema().root_of(found, served));
    }
    schema().meta(kind)
}
