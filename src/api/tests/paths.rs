//! Every path by which the product reads or changes a tree names fields that exist in some kind: a mistyped one would read as
//! absent for ever, and nothing would say so.

use std::path::Path;

use api::schema::{TypeId, schema};
use stdx::OrdSet;

/// What takes a path first.
const CALLS: &[&str] = &[
    ".at(", ".str(", ".int(", ".flag(", ".list(", ".pairs(", ".entry(", ".has(", ".set(", ".slot(",
    ".remove(",
];

/// Who reads kinds which are not in code: the definitions of an ingress and of charts.
const FOREIGN: &[&str] = &["routes/", "ingress/", "helm/", "addons/values.rs"];

/// Paths in calls, of those that begin at an object's root.
fn paths(text: &str) -> OrdSet<&str> {
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let mut found = OrdSet::new();
    for call in CALLS {
        for rest in shipped.split(call).skip(1) {
            let Some(literal) = rest.trim_start().strip_prefix('"') else { continue };
            let path = literal.split('"').next().unwrap_or("");
            let begins =
                ["spec.", "status.", "metadata."].iter().any(|root| path.starts_with(root));
            // What is put together, or holds a key with its own characters, is not read here.
            if begins && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_') {
                found.insert(path);
            }
        }
    }
    found
}

fn sources(dir: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            sources(&path, into);
        } else if name.ends_with(".rs") && !name.contains("tests") && !name.contains("/checks/") {
            into.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn they_name_fields_that_exist() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    sources(src, &mut all);
    let roots: Vec<TypeId> = schema().types().filter(|id| schema().of(*id).kind).collect();
    assert!(roots.len() > 50, "the kinds were not found");
    let (mut n_paths, mut complaints) = (0, Vec::new());
    for (name, text) in &all {
        let place = name[src.to_str().unwrap().len()..].trim_start_matches('/');
        if FOREIGN.iter().any(|foreign| place.starts_with(foreign)) {
            continue;
        }
        for path in paths(text) {
            n_paths += 1;
            if !roots.iter().any(|root| schema().leads(*root, path)) {
                complaints.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(n_paths > 500, "only {n_paths} paths were found");
    assert!(complaints.is_empty(), "no such field:\n{}", complaints.join("\n"));
}

#[test]
fn mistyped_paths_are_found() {
    let text =
        "let a = tree.str(\"spec.nodeName\"); tree.list(\"spec.container\"); other.str(\"name\");";
    let found: Vec<&str> = paths(text).into_iter().collect();
    assert_eq!(found, ["spec.container", "spec.nodeName"]);
    let pod = schema().types().find(|id| schema().of(*id).name == "Pod").unwrap();
    for (path, want) in [
        ("spec.nodeName", true),
        ("spec.container", false),
        ("spec.containers.0.resources.limits.cpu", true),
        ("spec.containers.first.name", false),
        ("metadata.labels.app", true),
        ("spec.nodeName.more", false),
    ] {
        assert_eq!(schema().leads(pod, path), want, "{path}");
    }
}
