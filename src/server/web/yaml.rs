//! Trees as YAML text, for clients that ask for it.

use api::Value;

/// Writes a document in block style; every string that could be read as something else is quoted.
pub(crate) fn write(tree: &Value) -> String {
    let mut out = String::new();
    match tree {
        Value::Object(map) if !map.is_empty() => block(tree, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(tree, 0, &mut out),
        scalar => {
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
    out
}

/// A map or list that is not empty, each entry on its own line.
fn block(tree: &Value, depth: usize, out: &mut String) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                indent(depth, out);
                out.push_str(&text(key));
                out.push(':');
                after(value, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, out);
                out.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        // The first key stands behind the dash.
                        out.push(' ');
                        out.push_str(inner.trim_start());
                    }
                    _ => after(item, depth + 1, out),
                }
            }
        }
        _ => {}
    }
}

fn after(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        scalar => {
            out.push(' ');
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        // JSON's scalars, `{}` and `[]` are YAML's.
        other => other.to_string(),
    }
}

fn text(string: &str) -> String {
    let plain = string.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && string.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(
            string.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    match plain {
        true => string.to_owned(),
        // A JSON string is a double-quoted YAML scalar.
        false => Value::from(string).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn what_is_written_reads_as_the_same() {
        for tree in [
            json!({"a": 1, "b": {"c": [1, {"d": "e", "f": []}, [2, 3], "x: y"], "g": {}}, "h": "yes", "i": null}),
            json!([]),
            json!("plain"),
            json!({"k:": "- a\nb", "n": "1", "t": true, "list": [[{"a": 1}], {"b": [1]}]}),
        ] {
            let text = write(&tree);
            let read = wire::yaml::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read, [tree], "{text}");
        }
    }
}
