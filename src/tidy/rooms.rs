//! Which room may know which: the arrows of ARCHITECTURE.md, checked against the manifests.

use std::collections::BTreeSet;

use crate::files::{none, root};

/// Left may import right; everyone may import `stdx`.
const EDGES: &[(&str, &[&str])] = &[
    ("stdx", &[]),
    ("wire", &[]),
    ("sys", &[]),
    ("tidy", &[]),
    ("rt", &["sys"]),
    ("cel", &["wire"]),
    ("api", &["cel", "wire"]),
    ("apply", &["api", "wire"]),
    ("discovery", &["api", "wire"]),
    ("rules", &["api", "cel", "wire"]),
    ("http", &["rt", "wire"]),
    ("shim", &["sys", "wire"]),
    ("boot", &["rt", "sys", "wire"]),
    ("store", &["rt"]),
    ("datastore", &["store", "http", "rt", "wire"]),
    ("kine", &["store", "http", "rt", "wire"]),
    ("client", &["api", "http", "rt", "wire"]),
    ("control", &["api"]),
    ("sched", &["api"]),
    ("netplan", &["api"]),
    ("podplan", &["api"]),
    ("routes", &["api", "wire"]),
    ("template", &[]),
    ("charts", &["template", "wire"]),
    ("describe", &["api", "wire"]),
    ("helm", &["charts", "client", "api", "http", "rt", "wire"]),
    ("kubectl", &["describe", "template", "apply", "client", "api", "http", "rt", "wire"]),
    ("cri", &["runtime", "http", "rt", "wire"]),
    ("ingress", &["routes", "client", "api", "http", "rt", "wire"]),
    ("runtime", &["http", "rt", "sys", "wire"]),
    ("net", &["netplan", "client", "api", "http", "rt", "sys", "wire"]),
    ("kubelet", &["podplan", "runtime", "client", "rules", "api", "http", "rt", "sys", "wire"]),
    (
        "server",
        &["store", "client", "apply", "discovery", "rules", "api", "cel", "http", "rt", "wire"],
    ),
    ("cluster", &["client", "api", "rt", "wire"]),
    ("addons", &["client", "api", "rt", "wire"]),
    ("cli", &["client", "api", "http"]),
    ("k3rs", &["*"]),
    ("sim", &["*"]),
    ("fuzz", &["*"]),
];

/// The tables of a manifest that this test looks at: `(table, lines)`.
fn tables(text: &str) -> Vec<(String, Vec<String>)> {
    let mut tables: Vec<(String, Vec<String>)> = vec![(String::new(), Vec::new())];
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix('[') {
            Some(rest) => tables.push((rest.trim_end_matches(']').to_owned(), Vec::new())),
            None => {
                if let Some((_, lines)) = tables.last_mut() {
                    lines.push(line.to_owned());
                }
            }
        }
    }
    tables
}

fn dependencies(room: &str) -> BTreeSet<String> {
    let manifest =
        std::fs::read_to_string(root().join("src").join(room).join("Cargo.toml")).unwrap();
    let tables = tables(&manifest);
    let lines =
        tables.iter().filter(|(table, _)| table == "dependencies").flat_map(|(_, lines)| lines);
    lines.filter_map(|line| Some(line.split(['.', '=', ' ']).next()?.to_owned())).collect()
}

fn rooms() -> Vec<String> {
    let mut rooms: Vec<String> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    rooms.sort();
    rooms
}

#[test]
fn rooms_know_only_whom_they_may() {
    let rooms = rooms();
    let mut complaints = Vec::new();
    for room in &rooms {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| name == room) else {
            complaints.push(format!("src/{room} is not in the table of rooms"));
            continue;
        };
        for dependency in dependencies(room).iter().filter(|dependency| rooms.contains(dependency))
        {
            if dependency != "stdx"
                && !allowed.contains(&"*")
                && !allowed.contains(&dependency.as_str())
            {
                complaints.push(format!("{room} -> {dependency}"));
            }
        }
    }
    none("arrows that ARCHITECTURE.md does not have", complaints);
}

#[test]
fn every_external_dependency_has_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let tables = tables(&manifest);
    let rooms = rooms();
    let lines = tables
        .iter()
        .filter(|(table, _)| table == "workspace.dependencies")
        .flat_map(|(_, lines)| lines);
    let silent = lines.filter(|line| {
        let name = line.split([' ', '=']).next().unwrap_or("");
        !rooms.iter().any(|room| room == name) && !line.contains(" # ")
    });
    none("dependencies without a reason in Cargo.toml", silent.cloned().collect());
}

#[test]
fn nothing_brings_in_a_heavy_runtime() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let heavy = ["tokio", "hyper", "openssl-sys", "async-std"];
    let found = heavy.iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n")));
    none(
        "crates that must not be here (cargo tree -i NAME tells who brings them)",
        found.map(ToString::to_string).collect(),
    );
}
