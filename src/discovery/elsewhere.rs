//! Groups and versions that other servers serve, and what those say of their resources.

use std::sync::Arc;

use api::lens::{Lens, LensMut};
use serde_json::{Value, json};

/// A group and version that another server serves, as an APIService says.
#[derive(Debug)]
pub struct Elsewhere<'a> {
    pub group: &'a str,
    pub version: &'a str,
    /// What has more comes first.
    pub group_priority: i64,
    pub version_priority: i64,
    /// Its resources in the form of aggregated discovery, as JSON, if they are known.
    pub resources: Option<Arc<str>>,
    /// The other server answered when it was last asked.
    pub fresh: bool,
}

/// The most resources and subresources that another server may have in one version.
const ELSEWHERE_MAX: usize = 1000;

/// What another server says of its resources (an APIResourceList) in the form of aggregated discovery.
/// It may say anything: what has no place there is left out.
///
/// # Errors
/// If it is none, or too long.
pub fn of_resource_list(list: &Value, group: &str, version: &str) -> Result<Value, String> {
    if list.str("kind") != "APIResourceList" {
        return Err("the answer is no APIResourceList".into());
    }
    let said = list.list("resources");
    if said.len() > ELSEWHERE_MAX {
        return Err(format!("more than {ELSEWHERE_MAX} resources"));
    }
    let scope = |one: &Value| if one.flag("namespaced") { "Namespaced" } else { "Cluster" };
    let copy = |from: &Value, to: &mut Value, fields: &[(&str, &str)]| {
        for (field, own) in fields {
            let words = from.list(field).iter().filter(|word| word.is_string());
            let words: Vec<Value> = words.cloned().collect();
            if !words.is_empty() || *own == "verbs" {
                to[*own] = words.into();
            }
        }
    };
    let response_kind = |one: &Value| {
        let or = |field: &str, own: &str| match one.str(field) {
            "" => own.to_owned(),
            said => said.to_owned(),
        };
        match one.str("kind") {
            "" => json!({}),
            kind => {
                json!({"group": or("group", group), "version": or("version", version), "kind": kind})
            }
        }
    };
    let mut resources: Vec<Value> = Vec::new();
    let named = |name: &str| !name.is_empty() && !name.contains('/');
    let parents = said.iter().filter(|one| named(one.str("name")));
    for one in parents {
        let mut entry = json!({
            "resource": one.str("name"), "responseKind": response_kind(one), "scope": scope(one),
            "singularResource": one.str("singularName"),
        });
        let lists =
            [("verbs", "verbs"), ("shortNames", "shortNames"), ("categories", "categories")];
        copy(one, &mut entry, &lists);
        resources.push(entry);
    }
    for one in said {
        let parts = one.str("name").split_once('/').filter(|(parent, _)| named(parent));
        let Some((parent, sub)) = parts else { continue };
        let idx = resources.iter().position(|known| known.str("resource") == parent);
        let idx = idx.unwrap_or_else(|| {
            resources.push(json!({"resource": parent, "responseKind": {}, "scope": scope(one),
                "singularResource": "", "verbs": []}));
            resources.len() - 1
        });
        let mut entry = json!({"subresource": sub, "responseKind": response_kind(one)});
        copy(one, &mut entry, &[("verbs", "verbs")]);
        resources[idx].list_mut("subresources").push(entry);
    }
    Ok(resources.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_lists_of_others_become_aggregated_discovery() {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "flunders/status", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["list", 7], "shortNames": ["fl"], "odd": {}},
            {"name": "lone/scale", "group": "autoscaling", "version": "v1", "kind": "Scale"},
            {"name": 5}, null,
        ]});
        let found = of_resource_list(&list, "g", "v1").unwrap();
        let kind = json!({"group": "g", "version": "v1", "kind": "Flunder"});
        assert_eq!(
            found[0],
            json!({
            "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
            "verbs": ["list"], "shortNames": ["fl"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}]})
        );
        assert_eq!(found.list("").len(), 2, "what has no name is left out");
        let lone =
            found.as_array().unwrap().iter().find(|one| one.str("resource") == "lone").unwrap();
        assert_eq!(lone.str("subresources.0.responseKind.group"), "autoscaling");
        for wrong in [
            json!(null),
            json!([]),
            json!({"kind": "Status"}),
            json!({"kind": "APIResourceList", "resources": vec![json!({}); ELSEWHERE_MAX + 1]}),
        ] {
            of_resource_list(&wrong, "g", "v1").unwrap_err();
        }
    }
}
