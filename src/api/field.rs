//! One scalar field of a stored object, read without a tree: what field selectors ask for.

use wire::protobuf::Reader;

use crate::lens::Lens;
use crate::object::Object;
use crate::schema::{Scalar, Shape, schema};

/// The text of the scalar at `path` (`spec.nodeName`); "" if it is absent. Numbers and booleans
/// read as JSON writes them. Paths through lists and maps read as absent.
pub fn text(object: &Object, path: &str) -> String {
    let Some(message) = object.message() else {
        return match object.tree().at(path) {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        };
    };
    find(object, message, path).unwrap_or_default()
}

fn find(object: &Object, message: &[u8], path: &str) -> Option<String> {
    let schema = schema();
    let mut message = message;
    let mut id = schema.root(object.kind());
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = schema.by_json(id, part)?;
        if field.shape != Shape::Single {
            return None;
        }
        let mut reader = Reader::new(message);
        let mut found = None;
        // The last of several is the one that counts.
        while let Ok(Some((tag, value))) = reader.next() {
            if tag == field.tag {
                found = Some(value);
            }
        }
        let value = found?;
        match (field.scalar, parts.peek()) {
            (Scalar::Message(inner), Some(_)) => {
                message = value.bytes().ok()?;
                id = inner;
            }
            (Scalar::Str, None) => return Some(value.str().ok()?.to_owned()),
            (Scalar::Bool, None) => return Some((value.varint().ok()? != 0).to_string()),
            (Scalar::I32 | Scalar::I64, None) => return Some(value.int().ok()?.to_string()),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::POD;
    use serde_json::json;

    #[test]
    fn scalars_are_found_by_path() {
        let tree = json!({
            "metadata": {"name": "a", "namespace": "b"},
            "spec": {"nodeName": "n", "hostNetwork": true, "terminationGracePeriodSeconds": 30, "containers": []},
            "status": {"phase": "Running"},
        });
        let pod = Object::from_tree(&POD, &tree).unwrap();
        for (path, want) in [
            ("spec.nodeName", "n"),
            ("spec.hostNetwork", "true"),
            ("spec.terminationGracePeriodSeconds", "30"),
            ("status.phase", "Running"),
            ("status.podIP", ""),
            ("spec.containers.0.name", ""),
            ("spec", ""),
            ("nothing.here", ""),
        ] {
            assert_eq!(text(&pod, path), want, "{path}");
        }
    }
}
