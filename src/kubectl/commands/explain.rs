//! `kubectl explain`: what the server's schema says of a kind and its fields.

use std::fmt::Write as _;

use api::{Lens, Value};

use crate::call::{BLANK, Call, Command};
use crate::discovery::Resource;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch, text};
use crate::out;

const OWN: &[Flag] = &[
    text("api-version", "", "Use given api-version (group/version) of the resource."),
    text(
        "output",
        "plaintext",
        "Format in which to render the schema. Valid values are: (plaintext, plaintext-openapiv2).",
    )
    .short('o'),
    switch(
        "recursive",
        "When true, print the name of all the fields recursively. Otherwise, print the available fields with their description.",
    ),
];

pub(crate) static COMMAND: Command = Command {
    name: "explain",
    about: "Describe fields and structure of various resources.",
    short: "Get documentation for a resource",
    usage: "TYPE [--recursive=FALSE|TRUE] [--api-version=api-version-group] [-o|--output=plaintext|plaintext-openapiv2]",
    flags: &[OWN],
    run: Some(run),
    ..BLANK
};

/// Schemas within schemas.
const DEPTH_MAX: usize = 64;
/// What is printed: a schema that names itself often grows without end.
const TEXT_MAX_BYTES: usize = 64 << 20;

fn run(call: &Call<'_>) -> Outcome {
    let [word] = call.args() else {
        return failed(match call.args().len() {
            0 => {
                "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources.\n"
            }
            _ => "We accept only this format: explain RESOURCE\n",
        });
    };
    let (mut resource, fields) = find(call, word)?;
    let form = call.text("output");
    let version = call.text("api-version");
    if !version.is_empty() {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        if version.contains('/') {
            return failed(format!("unexpected GroupVersion string: {}", call.text("api-version")));
        }
        group.clone_into(&mut resource.group);
        version.clone_into(&mut resource.version);
    }
    let path = match resource.group.as_str() {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    };
    let paths = call.rest()?.get("/openapi/v3")?;
    let shown = format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural);
    let Some(place) = paths.at("paths").get(&path) else {
        return failed(format!("couldn't find resource for {shown:?}"));
    };
    let document = call.rest()?.get(place.str("serverRelativeURL"))?;
    let is_old = match form {
        "plaintext" => false,
        "plaintext-openapiv2" => true,
        other => return failed(format!("unrecognized format: {other}")),
    };
    let schemas = document.at("components").at("schemas");
    let is_it = |schema: &&Value| {
        schema.list("x-kubernetes-group-version-kind").iter().any(|own| {
            own.str("kind") == resource.kind
                && own.str("group") == resource.group
                && own.str("version") == resource.version
        })
    };
    let Some(schema) = schemas.as_object().into_iter().flat_map(api::Map::values).find(is_it)
    else {
        return failed(match is_old {
            true => format!(
                "couldn't find resource for \"{}, Kind={}\"",
                resource.api_version(),
                resource.kind
            ),
            false => format!("GVR ({shown}) not found in OpenAPI schema"),
        });
    };
    let book = Book { schemas, is_recursive: call.is("recursive") };
    let mut text = String::new();
    if is_old {
        super::explain_v2::write(&mut text, &resource, &book, schema, &fields)?;
        out::print(&text);
        return Ok(());
    }
    if !resource.group.is_empty() {
        let _ = writeln!(text, "GROUP:      {}", resource.group);
    }
    let _ = write!(text, "KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version);
    let before = text.len();
    book.output(&mut text, schema, &fields, &mut Vec::new(), 0);
    if text.len() == before {
        out::print(&text);
        return failed(format!(
            "field {:?} does not exist",
            fields.last().map_or("", |field| field)
        ));
    }
    if text.len() > TEXT_MAX_BYTES {
        return failed(format!("the schema has more than {TEXT_MAX_BYTES} bytes of text"));
    }
    out::line(&text);
    Ok(())
}

/// The resource that `pods.spec` or `ingresses.networking.k8s.io.spec` begins with, and the fields after it.
fn find(call: &Call<'_>, word: &str) -> Outcome<(Resource, Vec<String>)> {
    let word = word.trim_end_matches('.');
    let (first, rest) = word.split_once('.').unwrap_or((word, ""));
    let is_named = call.text("api-version").is_empty();
    let found = call.mapper()?.find(call.rest()?, first);
    let found = found.map_err(|failure| Failure::Said(failure.text()))?;
    let fields =
        |text: &str| text.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect();
    if is_named && !rest.is_empty() {
        let all = call.mapper()?.all(call.rest()?)?;
        let called = all.iter().filter(|own| own.plural == found.plural && !own.group.is_empty());
        for own in called {
            if let Some(after) = word.strip_prefix(&own.qualified()) {
                return Ok(((**own).clone(), fields(after)));
            }
        }
    }
    Ok(((*found).clone(), fields(rest)))
}

/// The schemas of a document, and how they are told.
pub(super) struct Book<'a> {
    schemas: &'a Value,
    pub(super) is_recursive: bool,
}

impl<'a> Book<'a> {
    /// The schema that a reference leads to, or the schema itself.
    pub(super) fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema.str("$ref").strip_prefix("#/components/schemas/");
        name.and_then(|name| self.schemas.get(name)).unwrap_or(schema)
    }

    /// Follows the fields and tells of what they lead to; nothing if they lead nowhere.
    fn output(
        &self,
        text: &mut String,
        schema: &'a Value,
        fields: &[String],
        seen: &mut Vec<&'a str>,
        depth: usize,
    ) {
        let reference = schema.str("$ref");
        let resolved = self.resolve(schema);
        let Some((field, rest)) = fields.split_first() else {
            let mut about = String::new();
            self.description(&mut about, schema, 0);
            let about = if about.is_empty() { "<empty>".to_owned() } else { about };
            let _ = writeln!(text, "DESCRIPTION:\n{}", indented(&wrapped(&about, 76), 4));
            let mut list = String::new();
            self.field_list(&mut list, resolved, 1, &mut Vec::new());
            if !list.is_empty() {
                text.push_str("FIELDS:\n");
                text.push_str(&list);
            }
            return;
        };
        if depth > DEPTH_MAX || !reference.is_empty() && seen.contains(&reference) {
            return;
        }
        if let Some(inner) = resolved.at("properties").get(field) {
            if rest.is_empty() {
                let _ = writeln!(text, "FIELD: {field} <{}>", self.type_of(inner, 0));
                if !inner.list("enum").is_empty() {
                    text.push_str("ENUM:");
                    inner
                        .list("enum")
                        .iter()
                        .for_each(|one| text.push_str(&format!("\n    {}", value(one))));
                }
                text.push_str("\n\n");
            }
            return self.output(text, inner, rest, &mut Vec::new(), depth + 1);
        }
        seen.push(reference);
        if resolved.has("items") {
            self.output(text, resolved.at("items"), fields, seen, depth + 1);
        } else if resolved.at("additionalProperties").is_object() {
            self.output(text, resolved.at("additionalProperties"), fields, seen, depth + 1);
        } else {
            let before = text.len();
            for one in resolved.list("allOf") {
                self.output(text, one, fields, seen, depth + 1);
                if text.len() > before {
                    break;
                }
            }
        }
        seen.pop();
    }

    /// What a schema says of itself, and what those say that it is made of.
    pub(super) fn description(&self, text: &mut String, schema: &'a Value, depth: usize) {
        if depth > DEPTH_MAX || text.len() > TEXT_MAX_BYTES {
            return;
        }
        let schema = self.resolve(schema);
        if !schema.str("description").is_empty() {
            text.push_str(schema.str("description"));
            text.push('\n');
        }
        let inner = [schema.at("items"), schema.at("additionalProperties")];
        for one in
            schema.list("allOf").iter().chain(inner.into_iter().filter(|one| one.is_object()))
        {
            self.description(text, one, depth + 1);
        }
    }

    fn field_list(
        &self,
        text: &mut String,
        schema: &'a Value,
        level: usize,
        seen: &mut Vec<&'a str>,
    ) {
        let reference = schema.str("$ref");
        let is_seen = !reference.is_empty() && seen.contains(&reference);
        if is_seen || seen.len() > DEPTH_MAX || text.len() > TEXT_MAX_BYTES {
            return;
        }
        seen.push(reference);
        let resolved = self.resolve(schema);
        for (name, inner) in resolved.at("properties").as_object().into_iter().flatten() {
            let is_required = resolved.list("required").iter().any(|own| own == name);
            self.field(text, name, inner, is_required, level);
            if self.is_recursive {
                self.field_list(text, inner, level + 1, seen);
            }
        }
        let inner = [resolved.at("items"), resolved.at("additionalProperties")];
        for one in
            resolved.list("allOf").iter().chain(inner.into_iter().filter(|one| one.is_object()))
        {
            self.field_list(text, one, level, seen);
        }
        seen.pop();
    }

    fn field(
        &self,
        text: &mut String,
        name: &str,
        schema: &'a Value,
        is_required: bool,
        level: usize,
    ) {
        let space = level * 2;
        let required = if is_required { " -required-" } else { "" };
        let _ = write!(text, "{:space$}{name}\t<{}>{required}", "", self.type_of(schema, 0));
        let all = schema.list("enum");
        for (idx, one) in all.iter().take(ENUM_SHOWN + 1).enumerate() {
            match idx {
                0 => {
                    let _ = write!(text, "\n{:space$}enum: {}", "", value(one));
                }
                ENUM_SHOWN => text.push_str(", ...."),
                _ => text.push_str(&format!(", {}", value(one))),
            }
        }
        text.push('\n');
        if !self.is_recursive {
            let about = schema.str("description");
            let about = if about.is_empty() { "<no description>" } else { about };
            text.push_str(&indented(&wrapped(about, 78usize.saturating_sub(space)), space + 2));
            text.push_str("\n\n");
        }
    }

    /// A type as people call it: `[]Container`, `map[string]string`.
    pub(super) fn type_of(&self, schema: &'a Value, depth: usize) -> String {
        let named =
            |name: &str| if name.is_empty() { "Object".to_owned() } else { name.to_owned() };
        let reference = schema.str("$ref");
        if depth > DEPTH_MAX {
            return "Object".to_owned();
        }
        if schema.has("items") {
            return format!("[]{}", self.type_of(schema.at("items"), depth + 1));
        }
        if schema.at("additionalProperties").is_object() {
            return format!(
                "map[string]{}",
                self.type_of(schema.at("additionalProperties"), depth + 1)
            );
        }
        if let ([one], false) = (schema.list("allOf"), schema.has("properties")) {
            return self.type_of(one, depth + 1);
        }
        if !reference.is_empty() {
            let resolved = self.resolve(schema);
            let is_found = !std::ptr::eq(resolved, schema);
            return match resolved.str("type") {
                kind if is_found && !matches!(kind, "" | "object") => kind.to_owned(),
                _ => named(reference.rsplit(['/', '.']).next().unwrap_or("")),
            };
        }
        match schema.str("type") {
            "object" => "Object".to_owned(),
            kind => named(kind),
        }
    }
}

/// Values of an enumeration that are told beside a field.
const ENUM_SHOWN: usize = 4;

fn value(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn indented(text: &str, amount: usize) -> String {
    let space = " ".repeat(amount);
    format!("{space}{}", text.replace('\n', &format!("\n{space}")))
}

/// Words on lines of no more than `width_max` characters, as Go's wordwrap has them: spaces at a break are dropped.
pub(super) fn wrapped(text: &str, width_max: usize) -> String {
    let (mut out, mut word, mut space) = (String::new(), String::new(), String::new());
    let (mut width, mut word_width, mut space_width) = (0, 0, 0);
    for c in text.chars() {
        if c == '\n' {
            if word.is_empty() && width + space_width > width_max {
                space.clear();
            }
            out.push_str(&space);
            out.push_str(&word);
            out.push('\n');
            space.clear();
            word.clear();
            (width, word_width, space_width) = (0, 0, 0);
        } else if c.is_whitespace() && c != '\u{a0}' {
            if space.is_empty() || !word.is_empty() {
                out.push_str(&space);
                out.push_str(&word);
                width += space_width + word_width;
                space.clear();
                word.clear();
                (word_width, space_width) = (0, 0);
            }
            space.push(c);
            space_width += 1;
        } else {
            word.push(c);
            word_width += 1;
            if width + word_width + space_width > width_max && word_width < width_max {
                out.push('\n');
                width = 0;
                space.clear();
                space_width = 0;
            }
        }
    }
    if !word.is_empty() || width + space_width <= width_max {
        out.push_str(&space);
        out.push_str(&word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_words() {
        for (text, want) in [
            ("a bb ccc", "a bb\nccc"),
            ("a\nbb ccc", "a\nbb\nccc"),
            ("abcdefgh", "abcdefgh"),
            ("a  b\n", "a  b\n"),
            ("", ""),
        ] {
            assert_eq!(wrapped(text, 5), want, "{text:?}");
        }
    }
}
