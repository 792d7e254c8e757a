//! Trees as YAML: maps in the order of their keys, texts bare where nobody can take them for something else.

use api::Value;
use stdx::Arrange;

/// What is deeper than this is written as JSON, which is YAML, too.
const DEPTH_MAX: usize = 8;

/// A document.
pub(crate) fn text(tree: &Value) -> String {
    let mut out = String::new();
    match tree {
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut out),
        Value::Object(map) if !map.is_empty() => entries(tree, 0, &mut out),
        other => out.push_str(&format!("{}\n", scalar(other))),
    }
    out
}

/// A text that reads as nothing else is written bare; every other value as JSON has it.
fn scalar(value: &Value) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let is_bare = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-:".contains(c))
            && !text.ends_with(':')
            && text.len() > 1
            && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
    };
    match value.as_str().filter(|text| is_bare(text)) {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn list(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        out.push_str(&"  ".repeat(depth));
        out.push_str("- ");
        let mut lines = String::new();
        match item {
            Value::Object(map) if !map.is_empty() && depth < DEPTH_MAX => {
                entries(item, depth + 1, &mut lines);
            }
            other => lines.push_str(&format!("{}\n", scalar(other))),
        }
        out.push_str(lines.trim_start());
    }
}

fn entries(map: &Value, depth: usize, out: &mut String) {
    let mut entries: Vec<_> = map.as_object().into_iter().flatten().collect();
    entries.arrange_by(|a, b| a.0.cmp(b.0));
    for (key, value) in entries {
        out.push_str(&"  ".repeat(depth));
        out.push_str(&match key.contains(['/', ':', ' ']) {
            true => format!("{}:", Value::from(key.as_str())),
            false => format!("{key}:"),
        });
        match value {
            Value::Object(inner) if !inner.is_empty() && depth < DEPTH_MAX => {
                out.push('\n');
                self::entries(value, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() && depth < DEPTH_MAX => {
                out.push('\n');
                list(items, depth, out);
            }
            value => out.push_str(&format!(" {}\n", scalar(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_reads_as_what_was_written() {
        let tree = api::json!({
            "a/b": {"c": "x: y", "d": []}, "items": [{"k": 1, "l": ["m", "no"]}, "two"], "n": null, "e": {},
        });
        let text = super::text(&tree);
        assert_eq!(
            text,
            "\"a/b\":\n  c: \"x: y\"\n  d: []\ne: {}\nitems:\n- k: 1\n  l:\n  - \"m\"\n  - \"no\"\n- two\nn: null\n"
        );
        assert_eq!(super::text(&api::json!([])), "[]\n");
    }
}
