//! Secret.

use serde_json::Value;

use crate::kind::*;
use crate::lens::LensMut;
use crate::print::count;

pub static SECRET: Kind = Kind {
    version: "v1",
    name: "Secret",
    plural: "secrets",
    generation: false,
    fields: &["type"],
    schema: SCHEMA,
    columns: COLUMNS,
    default,
    ..Kind::BASE
};

/// What is written as text is stored as bytes.
fn default(tree: &mut Value) {
    let Some(Value::Object(texts)) = tree.remove("stringData") else { return };
    let data = tree.map_mut("data");
    for (key, text) in texts {
        data.insert(key, wire::base64::encode(text.as_str().unwrap_or("").as_bytes()).into());
    }
}

const COLUMNS: &[Column] = &[
    Column::path("Type", "type"),
    Column::with("Data", |tree, _| count(tree, "data").into()).integer(),
    Column::AGE,
];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Secret kind
   1 metadata   ObjectMeta
   2 data       {}bytes
   3 type       str        = Opaque immutable
   4 stringData {}str
   5 immutable  bool?
";
