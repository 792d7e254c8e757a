//! Rules that hold for every line of the table.

use api::kind::Kind;
use api::kinds::{
    DAEMON_SET, DEPLOYMENT, KINDS, NAMESPACE, POD_DISRUPTION_BUDGET, REPLICA_SET, STATEFUL_SET,
};
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

#[test]
fn counts_in_a_status_fit_each_other() {
    let check = |kind: &'static Kind, status: Value| {
        let mut causes = Vec::new();
        (super::of(kind).validate_status)(&json!({"status": status}), &mut causes);
        let told = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message));
        told.collect::<Vec<_>>().join("; ")
    };
    let whole =
        json!({"replicas": 2, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 1});
    assert_eq!(check(&DEPLOYMENT, whole.clone()), "");
    assert_eq!(check(&STATEFUL_SET, whole), "");
    let ready = json!({"replicas": 1, "availableReplicas": 1});
    let more = "status.availableReplicas: Invalid value: 1: cannot be greater than";
    assert_eq!(check(&DEPLOYMENT, ready.clone()), format!("{more} readyReplicas"));
    assert_eq!(check(&REPLICA_SET, ready.clone()), format!("{more} readyReplicas"));
    assert_eq!(check(&STATEFUL_SET, ready), format!("{more} status.readyReplicas"));
    let updated =
        "status.updatedReplicas: Invalid value: 1: cannot be greater than status.replicas";
    assert_eq!(check(&DEPLOYMENT, json!({"updatedReplicas": 1})), updated);
    let negative = "Invalid value: -1: must be greater than or equal to 0";
    for (kind, field) in [
        (&DEPLOYMENT, "unavailableReplicas"),
        (&STATEFUL_SET, "collisionCount"),
        (&DAEMON_SET, "numberReady"),
        (&POD_DISRUPTION_BUDGET, "expectedPods"),
    ] {
        let status = json!({"conditions": [], field: -1});
        assert_eq!(check(kind, status), format!("status.{field}: {negative}"));
    }
    let active = "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty";
    assert_eq!(check(&NAMESPACE, json!({"phase": "Terminating"})), active);
    assert_eq!(check(&NAMESPACE, json!({"phase": "Active"})), "");
}
