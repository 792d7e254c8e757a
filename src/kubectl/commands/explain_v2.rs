//! `kubectl explain --output plaintext-openapiv2`: the older layout.

use api::{Lens, Value};

use super::explain::Book;
use crate::discovery::Resource;
use crate::failure::{Outcome, failed};

/// Characters of a line.
const WIDTH: usize = 80;
const DEPTH_MAX: usize = 64;
const TEXT_MAX_BYTES: usize = 64 << 20;

/// Writes what the fields lead to.
///
/// # Errors
/// If a field does not exist.
pub(super) fn write<'a>(
    text: &mut String,
    resource: &Resource,
    book: &Book<'a>,
    schema: &'a Value,
    fields: &[String],
) -> Outcome {
    let schema = lookup(book, schema, fields)?;
    text.push_str(&format!(
        "KIND:     {}\nVERSION:  {}\n\n",
        resource.kind,
        resource.api_version()
    ));
    // Through lists, maps and references to what has fields, with what each says of itself.
    let mut about = Vec::new();
    let mut last = schema;
    for _ in 0..DEPTH_MAX {
        about.push(last.str("description"));
        match step(book, last) {
            Some(next) => last = next,
            None => break,
        }
    }
    let name = fields.last().map_or("", |field| field);
    let kind = type_of(book, schema, 0);
    let is_kind = last.has("properties");
    if !name.is_empty() {
        let title = if is_kind { "RESOURCE: " } else { "FIELD:    " };
        text.push_str(&format!("{title}{name} <{kind}>\n\n"));
    }
    text.push_str("DESCRIPTION:\n");
    let mut is_empty = true;
    for (idx, one) in about.iter().enumerate().filter(|(_, one)| !one.is_empty()) {
        is_empty = false;
        if idx > 0 {
            text.push('\n');
        }
        lines(text, one, 5);
    }
    if is_empty {
        lines(text, "<empty>", 5);
    }
    if is_kind {
        text.push_str("\nFIELDS:\n");
        list(text, book, last, 3, &mut Vec::new());
    }
    Ok(())
}

/// What a list, a map or a reference is of.
fn step<'a>(book: &Book<'a>, schema: &'a Value) -> Option<&'a Value> {
    let resolved = book.resolve(schema);
    if !std::ptr::eq(resolved, schema) {
        return Some(resolved);
    }
    if let [one] = schema.list("allOf") {
        return Some(one);
    }
    let inner = [schema.at("items"), schema.at("additionalProperties")];
    inner.into_iter().find(|inner| inner.is_object())
}

fn lookup<'a>(book: &Book<'a>, schema: &'a Value, fields: &[String]) -> Outcome<&'a Value> {
    let mut schema = schema;
    for field in fields {
        for _ in 0..DEPTH_MAX {
            match step(book, schema) {
                Some(next) if !schema.has("properties") => schema = next,
                _ => break,
            }
        }
        match schema.at("properties").get(field) {
            Some(inner) => schema = inner,
            None if schema.has("properties") => {
                return failed(format!("field {field:?} does not exist"));
            }
            None => return Ok(schema),
        }
    }
    Ok(schema)
}

fn type_of<'a>(book: &Book<'a>, schema: &'a Value, depth: usize) -> String {
    let schema = book.resolve(schema);
    if let ([one], true) = (schema.list("allOf"), depth < DEPTH_MAX) {
        return type_of(book, one, depth + 1);
    }
    if depth < DEPTH_MAX && schema.has("items") {
        return format!("[]{}", type_of(book, schema.at("items"), depth + 1));
    }
    if depth < DEPTH_MAX && schema.at("additionalProperties").is_object() {
        return format!(
            "map[string]{}",
            type_of(book, schema.at("additionalProperties"), depth + 1)
        );
    }
    match schema.str("type") {
        "object" if schema.has("properties") => "Object".to_owned(),
        "object" => "map[string]".to_owned(),
        // What may be a number or a text counts as a text.
        "" if schema.has("oneOf") => "string".to_owned(),
        "" => String::new(),
        other => other.to_owned(),
    }
}

fn list<'a>(
    text: &mut String,
    book: &Book<'a>,
    schema: &'a Value,
    indent: usize,
    seen: &mut Vec<&'a str>,
) {
    for (name, inner) in schema.at("properties").as_object().into_iter().flatten() {
        if text.len() > TEXT_MAX_BYTES {
            return;
        }
        let is_required = schema.list("required").iter().any(|own| own == name);
        let required = if is_required && !book.is_recursive { " -required-" } else { "" };
        let kind = type_of(book, inner, 0);
        text.push_str(&format!("{:indent$}{name}\t<{kind}>{required}\n", ""));
        if !book.is_recursive {
            let about = match inner.str("description") {
                "" => book.resolve(inner).str("description"),
                about => about,
            };
            lines(text, about, indent + 2);
            text.push('\n');
            continue;
        }
        let mut last = inner;
        let mut names = Vec::new();
        for _ in 0..DEPTH_MAX {
            names.extend(last.get("$ref").and_then(Value::as_str));
            match step(book, last) {
                Some(next) => last = next,
                None => break,
            }
        }
        if names.iter().any(|name| seen.contains(name)) || seen.len() > DEPTH_MAX {
            continue;
        }
        let before = seen.len();
        seen.extend(names);
        list(text, book, last, indent + 3, seen);
        seen.truncate(before);
    }
}

/// Words on lines; what looks like a list, a block of code or a paragraph keeps its lines.
fn lines(text: &mut String, about: &str, indent: usize) {
    let width = WIDTH - indent.min(WIDTH);
    let space = " ".repeat(indent);
    let mut line = String::new();
    let mut has_any = false;
    let put = |text: &mut String, line: &mut String, has_any: &mut bool| {
        if !line.is_empty() {
            text.push_str(&format!("{space}{line}\n"));
            line.clear();
            *has_any = true;
        }
    };
    for own in about.split('\n') {
        if own.starts_with("    ") {
            put(text, &mut line, &mut has_any);
            text.push_str(&format!("{space}{own}\n"));
            has_any = true;
            continue;
        }
        let trimmed = own.trim();
        if trimmed.is_empty() && has_any {
            put(text, &mut line, &mut has_any);
            text.push('\n');
            continue;
        }
        if line.ends_with(':') || trimmed.is_empty() || is_bullet(trimmed) {
            put(text, &mut line, &mut has_any);
        }
        for word in own.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                put(text, &mut line, &mut has_any);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    put(text, &mut line, &mut has_any);
}

/// `1. x`, `- x`, `* x`
fn is_bullet(line: &str) -> bool {
    let Some((word, _)) = line.split_once(char::is_whitespace) else { return false };
    let digits = word.strip_suffix('.').unwrap_or(word);
    matches!(word, "-" | "*") || !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
