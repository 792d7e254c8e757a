//! Inside a room, modules know each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{none, sources};

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The first part of each path after `crate::`, also inside braces.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
            .collect()
    };
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let inside = list.split('}').next().unwrap_or("");
                for part in inside.split(',') {
                    if depth == 0 {
                        found.insert(word(part.trim()));
                    }
                    depth += part.matches('{').count();
                }
            }
            None => {
                found.insert(word(rest));
            }
        }
    }
    found
}

/// Whether a file holds tests alone. They may ask whatever stands above what they test.
fn is_tests(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("tests.rs")
}

/// Each room's modules, a folder being one, and which of them each imports.
fn rooms() -> BTreeMap<String, Arrows> {
    let mut rooms: BTreeMap<String, Arrows> = BTreeMap::new();
    for source in sources() {
        let mut path = source.path.split('/').skip_while(|part| *part != "src").skip(1);
        let (Some(room), Some(module)) = (path.next(), path.next()) else { continue };
        let module = module.trim_end_matches(".rs");
        // The server's checks are its tests.
        let is_check = (room, module) == ("server", "checks");
        if is_check || is_tests(&source.path) || matches!(module, "lib" | "main" | "examples") {
            continue;
        }
        let shipped = source.text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
        let arrows =
            rooms.entry(room.to_owned()).or_default().entry(module.to_owned()).or_default();
        arrows.extend(imports(shipped).into_iter().filter(|other| other != module));
    }
    rooms
}

/// The modules that are left when those who know no other of them are taken away again and again.
fn circle(mut arrows: Arrows) -> Vec<String> {
    loop {
        let known: BTreeSet<String> = arrows.keys().cloned().collect();
        let n = arrows.len();
        arrows.retain(|_, others| others.iter().any(|other| known.contains(other)));
        if arrows.len() == n {
            return arrows.into_keys().collect();
        }
    }
}

#[test]
fn modules_of_a_room_form_no_circle() {
    let complaints = rooms().into_iter().filter_map(|(room, arrows)| {
        let circle = circle(arrows);
        (!circle.is_empty()).then(|| format!("{room}: among {}", circle.join(", ")))
    });
    none("circles of modules", complaints.collect());
}

#[test]
fn circles_are_found() {
    let arrows = |all: &[(&str, &str)]| -> Arrows {
        let mut arrows = Arrows::new();
        for (from, to) in all {
            arrows.entry((*from).into()).or_default().insert((*to).into());
            arrows.entry((*to).into()).or_default();
        }
        arrows
    };
    assert!(circle(arrows(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(circle(arrows(&[("a", "b"), ("b", "a"), ("b", "c")])), ["a", "b"]);
    let names: Vec<String> =
        imports("use crate::core::Core;\nuse crate::{a, b::{c, d}};").into_iter().collect();
    assert_eq!(names, ["a", "b", "core"]);
}
