//! Messages and trees by the schema: protobuf to trees and back, to JSON text without a tree, and trees in the one
//! form that Go would give them. What a request or an answer is, in which version, is `codec`'s.

pub mod aliases;
pub(crate) mod decode;
pub(crate) mod encode;
pub mod envelope;
pub(crate) mod managed;
mod mismatch;
pub(crate) mod normalize;
pub mod sample;
pub(crate) mod stream;

use serde_json::{Map, Value};
use wire::protobuf as pb;

use crate::kind::Kind;
use crate::lens::LensMut;
use crate::schema::{Field, TypeId, schema};

pub use mismatch::{Mismatch, json_type};

/// Appends any tree as JSON.
pub fn write_tree_json(tree: &Value, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail, and trees have string keys only.
    let _ = serde_json::to_writer(out, tree);
}

/// Encodes a tree of a kind for storage: protobuf for Kubernetes' own kinds, JSON for others.
/// The resource version is left out.
pub(crate) fn encode_stored(kind: &Kind, tree: &Value) -> Result<Vec<u8>, Mismatch> {
    let Value::Object(map) = tree else {
        return Err(Mismatch::of_root(tree, kind.name));
    };
    let mut out = Vec::with_capacity(1024);
    let root = schema().stored(kind).filter(|_| !kind.declared.json);
    let Some(root) = root else {
        let mut stored = tree.clone();
        stored.remove("metadata.resourceVersion");
        write_tree_json(&stored, &mut out);
        out.shrink_to_fit();
        return Ok(out);
    };
    let compact = managed::is_for(kind, tree);
    envelope::seal(&kind.api_version(), kind.name, &mut out, |out| {
        encode::stored(root, map, compact, out)
    })?;
    out.shrink_to_fit();
    Ok(out)
}

/// What Go writes for a field that is not set.
pub fn zero_of(field: &Field) -> Value {
    decode::zero(field)
}

/// Decodes a bare message of a kind.
pub(crate) fn decode_message(root: TypeId, raw: &[u8]) -> Result<Map<String, Value>, pb::Error> {
    let mut map = Map::new();
    decode::message(root, raw, 0, &mut map)?;
    Ok(map)
}

/// Reads a bare message of a kind, but for who manages which field.
pub(crate) fn decode_content(root: TypeId, raw: &[u8]) -> Result<Map<String, Value>, pb::Error> {
    let mut map = Map::new();
    decode::content(root, raw, &mut map)?;
    Ok(map)
}

/// Whether a bare message of a kind decodes.
pub(crate) fn check_message(root: TypeId, raw: &[u8]) -> Result<(), pb::Error> {
    decode::check(root, raw, 0)
}

/// Whether the managed fields in a bare message of a kind can be read, where they are in the form of `managed`.
pub(crate) fn check_managed(root: TypeId, raw: &[u8]) -> Result<(), pb::Error> {
    let mut reader = pb::Reader::new(raw);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1
            && let Some(bytes) = wire.bytes().ok().and_then(managed::find)
        {
            managed::check(root, bytes)?;
        }
    }
    Ok(())
}
