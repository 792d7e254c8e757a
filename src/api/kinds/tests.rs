//! Rules that hold for every line of the table.

use serde_json::{Value, json};
use stdx::time::Wall;

use super::KINDS;
use crate::kind::{Cell, Sub};
use crate::names;
use crate::schema::{Scalar, Shape, TypeId, schema};
use crate::table::{self, IncludeObject};

/// The type at a dotted path of JSON names; list indexes and map keys are stepped over.
fn exists(root: TypeId, path: &str) -> bool {
    let mut at = Some(root);
    for step in path.split('.') {
        if step.parse::<usize>().is_ok() {
            continue;
        }
        let Some(id) = at else { return false };
        let Some(field) = schema().by_json(id, step) else { return false };
        at = field.message();
        if field.shape == Shape::Map || matches!(field.scalar, Scalar::Raw) {
            return true;
        }
    }
    true
}

#[test]
fn names_are_legal_and_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in KINDS {
        assert!(names::label(kind.plural).is_ok(), "{kind:?}");
        assert!(kind.group.is_empty() || names::subdomain(kind.group).is_ok(), "{kind:?}");
        assert_eq!(kind.plural, kind.plural.to_ascii_lowercase(), "{kind:?}");
        assert!(seen.insert((kind.group, kind.plural)), "{kind:?}");
        for short in kind.declared.short {
            assert!(seen.insert(("short", short)), "{short}");
        }
    }
}

#[test]
fn paths_exist() {
    for kind in KINDS {
        let root = schema().root(*kind);
        for column in kind.declared.columns {
            if let Cell::Path(path) | Cell::Number(path) = column.cell {
                assert!(exists(root, path), "{kind:?} {path}");
            }
        }
        for sub in kind.declared.subresources {
            if let Sub::Scale { spec, status, selector } = sub {
                for path in [spec, status, selector] {
                    assert!(exists(root, path), "{kind:?} {path}");
                }
            }
        }
        for path in kind.declared.fields {
            // Upstream's events also take their source's component by the name `source`.
            assert!(exists(root, path) || *path == "status.successful", "{kind:?} {path}");
        }
        assert!(schema().by_json(root, "metadata").is_some(), "{kind:?}");
    }
}

#[test]
fn rows_have_a_cell_for_each_column() {
    for kind in KINDS {
        let empty = json!({"metadata": {"name": "x"}});
        let columns = table::columns(*kind);
        let row = table::row(*kind, &empty, Wall(0), IncludeObject::Metadata);
        assert_eq!(
            row["cells"].as_array().map(Vec::len),
            columns.as_array().map(Vec::len),
            "{kind:?}"
        );
        let is_integer = |column: &Value| column["type"] == "integer";
        for (cell, column) in
            row["cells"].as_array().unwrap().iter().zip(columns.as_array().unwrap())
        {
            // Upstream shows numbers in a few columns of strings, never the other way round.
            assert!(
                !is_integer(column) || cell.is_i64() || cell.is_u64(),
                "{kind:?} {column} {cell}"
            );
        }
    }
}
