//! Objects with everything in them, from a seed: what tests of engines over all kinds begin with, here and in
//! the rooms above. Nothing that is shipped calls it.

use serde_json::{Map, Value, json};
use stdx::prng::Prng;

use super::normalize;
use crate::lens::LensMut;
use crate::schema::{Scalar, Shape, TypeId, schema};

/// A tree with every field of a type set; at depth 4 and below some are left out.
pub fn full(id: TypeId, prng: &mut Prng, depth: u32) -> Value {
    // Skipped fields that are always written come back.
    let mut tree = Value::Object(full_fields(id, prng, depth));
    // What does not fit its own type is for the test to find.
    let _ = normalize::Walk::default().root(id, &mut tree);
    tree
}

fn full_fields(id: TypeId, prng: &mut Prng, depth: u32) -> Map<String, Value> {
    let mut map = Map::new();
    for field in schema().flat_fields(id) {
        // Types that hold themselves would grow without end.
        if depth > 3 && prng.chance((55 + 5 * u64::from(depth)).min(100)) {
            continue;
        }
        let mut one = || match field.scalar {
            Scalar::Str => json!(format!("s{}\"<é", prng.below(100))),
            Scalar::Bool => json!(true),
            Scalar::I32 => json!(-5),
            Scalar::I64 => json!(i64::MAX),
            Scalar::F64 => json!(1.5),
            Scalar::Bytes => json!("AQID"),
            Scalar::Time => json!("2024-01-02T03:04:05Z"),
            Scalar::MicroTime => json!("2024-01-02T03:04:05.000006Z"),
            Scalar::Duration => json!("1m30s"),
            Scalar::Quantity => json!("1500m"),
            Scalar::IntOrString => {
                if prng.chance(50) {
                    json!(80)
                } else {
                    json!("http")
                }
            }
            Scalar::Raw | Scalar::Fields => json!({"a": [1, "b"]}),
            Scalar::Strs => json!(["x", "y"]),
            Scalar::Message(inner) if schema().of(inner).union => {
                let all = full_fields(inner, prng, depth + 1);
                let values: Vec<&Value> = all.values().collect();
                match values.len() {
                    0 => json!({}),
                    n => values[prng.below(n as u64) as usize].clone(),
                }
            }
            Scalar::Message(inner) => full(inner, prng, depth + 1),
        };
        let mut value = match field.shape {
            Shape::Single => one(),
            // Two items of an associative list might get the same keys.
            Shape::List if !field.extra().map_keys.is_empty() => json!([one()]),
            Shape::List => json!([one(), one()]),
            Shape::Map => json!({"k1": one(), "k2/x.y": one()}),
        };
        if field.typed() {
            for item in value.as_array_mut().into_iter().flatten() {
                item.set("apiVersion", "v1");
                item.set("kind", "PersistentVolumeClaim");
            }
        }
        map.insert(field.name.into(), value);
    }
    map
}
