//! Rules that hold for every line of the table.

use super::KINDS;
use crate::kind::Sub;
use crate::names;
use crate::schema::{Scalar, Shape, TypeId, schema};

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
