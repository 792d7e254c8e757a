//! `meta.k8s.io/v1` Tables: what `kubectl get` prints, from each kind's columns.

use api::form::Form;
use api::lens::Lens;
use api::time;
use serde_json::{Value, json};
use stdx::time::Wall;

use crate::ages::{age, human_duration};
use crate::column::{Cell, Column};
use crate::jsonpath;
use crate::kinds;

/// `includeObject` of a table request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

/// What the columns of kinds in code say of themselves, as upstream's do; packed by `build.rs`.
static DESCRIPTIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/columns.lzma"));

/// What `column` of `kind` says of itself in `texts`, where the columns of all kinds stand first; empty if nothing.
fn description(texts: &str, kind: &str, column: &str) -> String {
    let own = texts.split("\n=").find_map(|part| part.strip_prefix(kind)?.strip_prefix('\n'));
    let common = texts.split("\n=").next();
    let found = own.into_iter().chain(common).flat_map(str::lines).find_map(|line| {
        let (name, text) = line.split_once('\t')?;
        (name == column).then(|| text.replace("\\n", "\n"))
    });
    found.unwrap_or_default()
}

/// What is shown, in every version alike for kinds in code.
fn columns_of(form: Form<'_>) -> Vec<Column<'_>> {
    match form.definition() {
        Some((_, version)) => version.columns.iter().map(Column::printed).collect(),
        None => kinds::of(form.kind).columns.to_vec(),
    }
}

/// The table's `columnDefinitions`.
pub fn columns<'f>(form: impl Into<Form<'f>>) -> Value {
    let form = form.into();
    let declared = columns_of(form);
    let texts = wire::lzma::text(DESCRIPTIONS).unwrap_or_default();
    let texts = std::str::from_utf8(&texts).unwrap_or_default();
    let kind = if form.kind.is_built_in() { form.kind.name } else { "" };
    let define = |c: &Column<'_>| {
        let description = match (c.description, &c.cell) {
            ("", Cell::JsonPath(path)) => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            ("", _) => description(texts, kind, c.name),
            (description, _) => description.to_owned(),
        };
        json!({
            "name": c.name, "type": c.kind, "format": c.format, "description": description, "priority": c.priority,
        })
    };
    let mut columns = Vec::with_capacity(declared.len() + 2);
    if !names_itself(&declared) {
        columns.push(json!({
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": description(texts, kind, "Name"),
        }));
    }
    columns.extend(declared.iter().map(define));
    if declared.is_empty() {
        columns.push(json!({
            "name": "Age", "type": "string", "format": "", "priority": 0,
            "description": description(texts, kind, "Age"),
        }));
    }
    Value::Array(columns)
}

/// One row: the cells of `tree` and what the request wants beside them.
pub fn row<'f>(
    form: impl Into<Form<'f>>,
    tree: &Value,
    now: Wall,
    include: IncludeObject,
) -> Value {
    let columns = columns_of(form.into());
    let cell = |c: &Column<'_>| match c.cell {
        Cell::Path(path) => match tree.at(path) {
            Value::Null => "".into(),
            value => value.clone(),
        },
        Cell::Number(path) => tree.int(path).unwrap_or(0).into(),
        Cell::With(make) => make(tree, now),
        Cell::JsonPath(path) => {
            jsonpath::first(tree, path).map_or(Value::Null, |value| typed(c.kind, value, now))
        }
        Cell::Age => age(tree, now),
    };
    let mut cells = Vec::with_capacity(columns.len() + 2);
    if !names_itself(&columns) {
        cells.push(tree.str("metadata.name").into());
    }
    cells.extend(columns.iter().map(cell));
    if columns.is_empty() {
        cells.push(age(tree, now));
    }
    let object = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": tree.at("metadata"),
        }),
        IncludeObject::Object => tree.clone(),
    };
    json!({"cells": cells, "object": object})
}

/// A value as a column of its type shows it; null if it is of another.
fn typed(kind: &str, value: &Value, now: Wall) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("date", Value::String(text)) => match time::parse(text) {
            Some(then) => human_duration(now.since(then)).into(),
            None => "<invalid>".into(),
        },
        #[expect(clippy::cast_possible_truncation, reason = "as Go converts it")]
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => (number.as_f64().unwrap_or_default() as i64).into(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        _ => Value::Null,
    }
}

/// True for kinds that put their name elsewhere, or print it in their own way.
fn names_itself(columns: &[Column<'_>]) -> bool {
    columns.iter().any(|column| column.name == "Name")
}

/// A whole table answer; `columnDefinitions` may be left out of later watch events.
pub fn table<'f>(
    form: impl Into<Form<'f>>,
    rows: Vec<Value>,
    metadata: Value,
    with_columns: bool,
) -> Value {
    let columns = if with_columns { columns(form) } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is packed is of kinds and columns that there are.
    #[test]
    fn every_description_has_its_column() {
        let texts = include_str!("columns.txt");
        for part in texts.split("\n=").skip(1) {
            let mut lines = part.lines();
            let name = lines.next().unwrap();
            let kind = *api::kinds::KINDS.iter().find(|kind| kind.name == name).unwrap();
            let columns = columns_of(Form::from(kind));
            for line in lines {
                let (column, text) = line.split_once('\t').unwrap();
                assert!(columns.iter().any(|c| c.name == column), "{name}: {column}");
                assert_eq!(description(texts, name, column), text.replace("\\n", "\n"));
            }
        }
        let shown = columns(&api::kinds::DAEMON_SET);
        let says = |idx: usize| shown[idx].str("description");
        assert!(says(0).starts_with("Name must be unique within a namespace. Is required when"));
        assert!(says(1).starts_with("The total number of nodes that should be running"));
        assert!(says(8).starts_with("Names of each container"), "{shown}");
        assert_eq!(description(texts, "Daemon", "Desired"), "");
    }
}
