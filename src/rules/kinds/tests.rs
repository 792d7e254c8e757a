//! Rules that hold for every line of the table.

use api::kinds::KINDS;
use api::schema::schema;
use serde_json::{Value, json};
use stdx::time::Wall;

use super::RULES;
use crate::column::Cell;
use crate::table::{self, IncludeObject};

#[test]
fn paths_of_columns_exist() {
    for rules in RULES {
        let root = schema().root(rules.kind);
        for column in rules.columns {
            if let Cell::Path(path) | Cell::Number(path) = column.cell {
                assert!(schema().leads(root, path), "{rules:?} {path}");
            }
        }
    }
}

#[test]
fn each_kind_has_its_rules_once() {
    let mut seen = stdx::OrdSet::new();
    for rules in RULES {
        assert!(KINDS.contains(&rules.kind) && seen.insert(rules.kind), "{rules:?}");
        assert!(std::ptr::eq(super::of(rules.kind), *rules), "{rules:?}");
        for version in rules.versions {
            assert!(rules.kind.form(version.group, version.version).is_some(), "{rules:?}");
        }
    }
    for kind in KINDS {
        assert_eq!(super::of(kind).versions.len(), kind.declared.also.len(), "{kind:?}");
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
