//! Objects of which nothing is known but their fields.

use api::{Lens, Value};

use crate::page::Page;
use crate::{events, words};

/// Fields are written no deeper than this.
const DEPTH_MAX: usize = 64;

pub(crate) fn write(page: &mut Page<'_>, object: &Value) {
    page.line(&["Name:\t", object.str("metadata.name")]);
    page.line(&["Namespace:\t", object.str("metadata.namespace")]);
    page.labels("Labels", object.at("metadata.labels"));
    page.annotations("Annotations", object.at("metadata.annotations"));
    fields(page, 0, object, true);
    events::write(page);
}

/// The fields of a map in the order of their names. Of the object itself, what is told already is left out of the metadata.
fn fields(page: &mut Page<'_>, depth: usize, map: &Value, is_object: bool) {
    let space = "  ".repeat(depth);
    for (field, value) in map.as_object().into_iter().flatten() {
        let label = smart_label(field);
        match value {
            _ if depth >= DEPTH_MAX => page.line(&[&space, &label, ":\t…"]),
            Value::Object(inner) if is_object && field == "metadata" => {
                page.line(&[&space, &label, ":"]);
                let mut inner = inner.clone();
                inner.retain(|name, _| {
                    !matches!(
                        name.as_str(),
                        "managedFields" | "name" | "namespace" | "labels" | "annotations"
                    )
                });
                fields(page, depth + 1, &Value::Object(inner), false);
            }
            Value::Object(_) => {
                page.line(&[&space, &label, ":"]);
                fields(page, depth + 1, value, false);
            }
            Value::Array(items) => {
                page.line(&[&space, &label, ":"]);
                for item in items {
                    match item {
                        Value::Object(_) => fields(page, depth + 1, item, false),
                        other => page.line(&[&space, "  ", &words::plain(other)]),
                    }
                }
            }
            other => page.line(&[&space, &label, ":\t", &words::plain(other)]),
        }
    }
}

/// The name of a field as words: `apiVersion` is `API Version`.
pub(crate) fn smart_label(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_owned();
    }
    let mut out = String::new();
    for part in parts(field) {
        if !out.is_empty() {
            out.push(' ');
        }
        let upper = part.to_uppercase();
        if matches!(upper.as_str(), "API" | "URL" | "UID" | "OSB" | "GUID") {
            out.push_str(&upper);
        } else {
            let mut chars = part.chars();
            out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
            out.push_str(chars.as_str());
        }
    }
    out
}

/// Runs of small letters, of capitals and of others; the last capital before small letters belongs to them.
fn parts(field: &str) -> Vec<&str> {
    let sort = |c: char| match c {
        c if c.is_lowercase() => 0,
        c if c.is_uppercase() => 1,
        _ => 2,
    };
    let mut starts: Vec<usize> = Vec::new();
    let mut before: Option<(char, usize)> = None;
    for (at, c) in field.char_indices() {
        match before {
            Some((last, last_at)) if sort(last) != sort(c) => {
                let takes_capital = sort(last) == 1 && sort(c) == 0;
                let start = if takes_capital { last_at } else { at };
                if starts.last() != Some(&start) {
                    starts.push(start);
                }
            }
            None => starts.push(at),
            _ => {}
        }
        before = Some((c, at));
    }
    let ends = starts.iter().skip(1).copied().chain([field.len()]);
    starts.iter().zip(ends).map(|(start, end)| &field[*start..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_words() {
        for (field, want) in [
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("podIP", "Pod IP"),
            ("HTTPServer", "HTTP Server"),
            ("a", "A"),
            ("clusterIPs", "Cluster I Ps"),
            ("foo-bar", "Foo - Bar"),
            ("x1", "x1"),
            ("k8s.io/x", "k8s.io/x"),
            ("Kind", "Kind"),
            ("", ""),
        ] {
            assert_eq!(smart_label(field), want, "{field}");
        }
    }
}
