//! Every kind, as the real kubectl describes it: `cases/expected.json`, which `e2e/describe_cases.py` writes.

use api::{Lens, Value};
use stdx::time::Wall;

use super::*;

const NOW_SECS: i64 = 1_750_000_000;

#[test]
fn objects_are_described_as_kubectl_does() {
    let cases: Value = serde_json::from_str(include_str!("cases/expected.json")).unwrap();
    let mut different = Vec::new();
    for case in cases.list("") {
        let case = aged(case);
        let sort = Sort { group: case.str("group"), kind: case.str("kind") };
        let object = case.at("object");
        assert!(
            version(sort)
                .is_none_or(|version| version == case.at("version").as_str().unwrap_or("v1")),
            "{sort:?}"
        );
        let mut object = object.clone();
        if version(sort).is_none() {
            object["apiVersion"] = [sort.group, "/v1"].concat().into();
            object["kind"] = sort.kind.into();
        }
        let related = related(needs(sort, &object, true), case.at("store"));
        let zone = |_: i64| (0, "UTC".to_owned());
        let text = describe(sort, &object, &related, Wall::from_secs(NOW_SECS), &zone).unwrap();
        if text != case.str("expected") {
            different.push(format!(
                "{sort:?} {}\n{}",
                object.str("metadata.name"),
                first_difference(case.str("expected"), &text)
            ));
        }
    }
    assert!(different.is_empty(), "{} differ\n{}", different.len(), different.join("\n"));
}

/// What the fixtures' server answers, as `e2e/describe_cases.py` does.
fn related(needs: Vec<Need>, store: &Value) -> Related {
    let answers = needs.into_iter().map(|need| {
        let answer = match store.get(&need.path) {
            Some(Value::Array(items)) => {
                let selector = need.selector.as_ref().map_or("", |(_, text)| text);
                let is_meant = |item: &&Value| {
                    !item.has("involvedObject")
                        || selector.split(',').any(|term| {
                            term.strip_prefix("involvedObject.uid=")
                                == Some(item.str("involvedObject.uid"))
                        })
                };
                Ok(items.iter().filter(is_meant).cloned().collect())
            }
            Some(found) => Ok(found.clone()),
            None if need.part == Part::Events => Ok(Value::Array(Vec::new())),
            None => Err(Failure { code: 404, message: format!("no {}", need.path) }),
        };
        (need.part, answer)
    });
    answers.collect()
}

/// With `@SECONDS` as a time.
fn aged(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), aged(item))).collect(),
        Value::Array(items) => items.iter().map(aged).collect(),
        Value::String(text) => {
            match Some(text.trim_start_matches('@'))
                .filter(|secs| secs.len() < text.len())
                .and_then(|secs| secs.parse::<i64>().ok())
            {
                Some(secs) => api::time::format(Wall::from_secs(NOW_SECS - secs)).into(),
                None => value.clone(),
            }
        }
        other => other.clone(),
    }
}

fn first_difference(want: &str, have: &str) -> String {
    let mut lines = want.lines().zip(have.lines());
    match lines.find(|(want, have)| want != have) {
        Some((want, have)) => format!("  want {want:?}\n  have {have:?}"),
        None => format!("  want {} lines, have {}", want.lines().count(), have.lines().count()),
    }
}
