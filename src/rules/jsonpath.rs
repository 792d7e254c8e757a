//! The JSON paths of printed columns: `.spec.size`, `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Source: k8s.io/client-go/util/jsonpath, as far as single values go.

use serde_json::Value;

/// The longest path, and with it how often one step is tried.
const PATH_BYTES_MAX: usize = 1024;

/// The first value that `path` finds.
pub(crate) fn first<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let mut at = tree;
    let mut rest = path.trim();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = end_of_brackets(inside)?;
            at = index(at, inside[..end].trim())?;
            rest = &inside[end + 1..];
            continue;
        }
        let name = rest.strip_prefix('.').unwrap_or(rest);
        let (key, after) = key(name);
        if key.is_empty() {
            return None;
        }
        at = at.get(&key)?;
        rest = after;
    }
    Some(at)
}

/// Where the brackets close; those inside quotes do not.
fn end_of_brackets(text: &str) -> Option<usize> {
    let mut quote = None;
    for (idx, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(idx),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// A key up to the next dot or bracket; a backslash takes the meaning from either.
fn key(text: &str) -> (String, &str) {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((idx, c)) = chars.next() {
        match c {
            '.' | '[' => return (key, &text[idx..]),
            '\\' => key.extend(chars.next().map(|(_, c)| c)),
            c => key.push(c),
        }
    }
    (key, "")
}

fn index<'a>(at: &'a Value, inside: &str) -> Option<&'a Value> {
    if let Some(name) = quoted(inside) {
        return at.get(name);
    }
    let items = at.as_array()?;
    if inside == "*" {
        return items.first();
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (left, right) = filter.split_once("==")?;
        let left = left.trim().strip_prefix('@')?;
        let right = right.trim();
        return items.iter().find(|item| match (first(item, left), quoted(right)) {
            (Some(Value::String(text)), Some(wanted)) => text == wanted,
            (Some(value), None) => {
                serde_json::from_str::<Value>(right).is_ok_and(|it| it == *value)
            }
            _ => false,
        });
    }
    let number: i64 = inside.parse().ok()?;
    let from_end = usize::try_from(number.unsigned_abs()).ok()?;
    match number < 0 {
        true => items.get(items.len().checked_sub(from_end)?),
        false => items.get(from_end),
    }
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_the_first_value() {
        let tree = json!({"a": {"b": [{"t": "x", "s": 1}, {"t": "y", "s": 2}], "c.d": true}});
        for (path, want) in [
            (".a.b[0].s", json!(1)),
            (".a.b[-1].s", json!(2)),
            (".a.b[*].t", json!("x")),
            (r#".a.b[?(@.t=="y")].s"#, json!(2)),
            (".a.b[?(@.s==2)].t", json!("y")),
            (r".a.c\.d", json!(true)),
            (".a['c.d']", json!(true)),
            (".a.b[7]", Value::Null),
            (".a.b[", Value::Null),
            (".a..b", Value::Null),
            (".nope", Value::Null),
            (".a.b[?(@.t]", Value::Null),
        ] {
            assert_eq!(first(&tree, path).cloned().unwrap_or_default(), want, "{path}");
        }
    }
}
