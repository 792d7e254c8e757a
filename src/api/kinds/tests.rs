//! Rules that hold for every line of the table.

use super::KINDS;
use crate::kind::Sub;
use crate::names;
use crate::schema::schema;

#[test]
fn names_are_legal_and_unique() {
    let mut seen = stdx::OrdSet::new();
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
                    assert!(schema().leads(root, path), "{kind:?} {path}");
                }
            }
        }
        for path in kind.declared.fields {
            // Upstream's events also take their source's component by the name `source`.
            assert!(schema().leads(root, path) || *path == "status.successful", "{kind:?} {path}");
        }
        assert!(schema().by_json(root, "metadata").is_some(), "{kind:?}");
    }
}
