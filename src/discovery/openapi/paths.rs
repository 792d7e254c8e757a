//! The paths of a kind with their operations.

use api::form::Form;
use serde_json::{Map, Value, json};

use super::{Dialect, schemas};
use crate::Subresource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// One operation before it is written in a dialect.
struct Operation<'a> {
    verb: &'static str,
    /// `x-kubernetes-action`
    action: &'static str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    /// Of a kind that is defined at run time, of which nothing says how its lists merge.
    custom: bool,
    /// The type of the body that is sent and of the answer, if they are objects we define.
    body: Option<String>,
    answer: Option<String>,
    query: &'static [(&'static str, &'static str)],
}

const LIST_QUERY: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_QUERY: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_QUERY: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE_QUERY: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// The bodies of patches; the last one only where code says how lists merge.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Every path of a form with its path item.
pub(super) fn of_form(form: Form<'_>, dialect: Dialect) -> Vec<(String, Value)> {
    let kind = form.kind;
    let prefix = match form.group() {
        "" => format!("/api/{}", form.version()),
        group => format!("/apis/{group}/{}", form.version()),
    };
    let collection = match kind.namespaced() {
        true => format!("{prefix}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{prefix}/{}", kind.plural),
    };
    let root = schemas::form_name(form);
    let verbs = crate::verbs(kind);
    let named = |verb, action, body: Option<&str>, answer: Option<String>, query| Operation {
        verb,
        action,
        group: form.group(),
        version: form.version(),
        kind: kind.name,
        custom: !kind.is_built_in(),
        body: body.map(str::to_owned),
        answer,
        query,
    };
    let operation = |verb: &str| {
        let one = Some(root.clone());
        let status = Some(format!("{META}.Status"));
        let patch = format!("{META}.Patch");
        let delete = format!("{META}.DeleteOptions");
        Some(match verb {
            "list" => named("get", "list", None, Some(schemas::list_name(form)), LIST_QUERY),
            "create" => named("post", "post", Some(&root), one, WRITE_QUERY),
            "deletecollection" => {
                named("delete", "deletecollection", Some(&delete), status, DELETE_QUERY)
            }
            "get" => named("get", "get", None, one, &[]),
            "update" => named("put", "put", Some(&root), one, WRITE_QUERY),
            "patch" => named("patch", "patch", Some(&patch), one, PATCH_QUERY),
            "delete" => named("delete", "delete", Some(&delete), status, DELETE_QUERY),
            _ => return None,
        })
    };
    let pick = |wanted: &[&str]| -> Vec<Operation<'_>> {
        wanted
            .iter()
            .filter(|verb| verbs.contains(verb))
            .filter_map(|verb| operation(verb))
            .collect()
    };
    let mut items = vec![(
        collection.clone(),
        path_item(&pick(&["list", "create", "deletecollection"]), &collection, dialect),
    )];
    if kind.namespaced() && verbs.contains(&"list") {
        let everywhere = format!("{prefix}/{}", kind.plural);
        items.push((everywhere.clone(), path_item(&pick(&["list"]), &everywhere, dialect)));
    }
    if verbs.contains(&"get") {
        let one = format!("{collection}/{{name}}");
        items.push((
            one.clone(),
            path_item(&pick(&["get", "update", "patch", "delete"]), &one, dialect),
        ));
    }
    for sub in crate::subresources(form) {
        let path = format!("{collection}/{{name}}/{}", sub.name);
        items.push((path.clone(), path_item(&sub_operations(form, &sub), &path, dialect)));
    }
    items
}

fn sub_operations<'a>(form: Form<'_>, sub: &Subresource<'a>) -> Vec<Operation<'a>> {
    let root = schemas::body_of(form, sub).filter(|_| sub.name != "log").map(schemas::form_name);
    let (group, version, kind) = (sub.group, sub.version, sub.kind);
    let make = |verb, action, body: Option<String>, query| Operation {
        verb,
        action,
        group,
        version,
        kind,
        custom: !form.kind.is_built_in(),
        body,
        answer: root.clone(),
        query,
    };
    let operation = |verb: &&str| match *verb {
        "get" => Some(make("get", "get", None, &[])),
        "create" => Some(make("post", "post", root.clone(), WRITE_QUERY)),
        "update" => Some(make("put", "put", root.clone(), WRITE_QUERY)),
        "patch" => Some(make("patch", "patch", Some(format!("{META}.Patch")), PATCH_QUERY)),
        "delete" => Some(make("delete", "delete", None, &[])),
        _ => None,
    };
    sub.verbs.iter().filter_map(operation).collect()
}

fn path_item(operations: &[Operation<'_>], path: &str, dialect: Dialect) -> Value {
    let mut item = Map::new();
    for operation in operations {
        item.insert(operation.verb.into(), operation.written(dialect));
    }
    let parameters: Vec<Value> = ["name", "namespace"]
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| parameter(name, "path", "string", dialect))
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.into());
    }
    Value::Object(item)
}

fn parameter(name: &str, place: &str, kind: &str, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": place});
    if place == "path" {
        parameter["required"] = true.into();
    }
    match dialect {
        Dialect::V2 => parameter["type"] = kind.into(),
        Dialect::V3 => parameter["schema"] = json!({"type": kind}),
    }
    parameter
}

impl Operation<'_> {
    fn written(&self, dialect: Dialect) -> Value {
        let mut parameters: Vec<Value> =
            self.query.iter().map(|(name, kind)| parameter(name, "query", kind, dialect)).collect();
        let answer = self.answer.as_ref().map(|name| schemas::reference(name, dialect));
        let body = self.body.as_ref().map(|name| schemas::reference(name, dialect));
        let mut written = json!({
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": self.group, "kind": self.kind, "version": self.version},
        });
        match dialect {
            Dialect::V2 => {
                if let Some(body) = body {
                    parameters.push(json!({"name": "body", "in": "body", "required": self.verb != "delete", "schema": body}));
                }
                if let Some(answer) = answer {
                    written["responses"]["200"]["schema"] = answer;
                }
            }
            Dialect::V3 => {
                if let Some(body) = body {
                    let types: &[&str] = match self.verb {
                        "patch" if self.custom => &PATCHES[..3],
                        "patch" => &PATCHES,
                        _ => &["*/*"],
                    };
                    written["requestBody"]["content"] = content(types, &body);
                }
                if let Some(answer) = answer {
                    let types = &[
                        "application/json",
                        "application/vnd.kubernetes.protobuf",
                        "application/yaml",
                    ];
                    written["responses"]["200"]["content"] = content(types, &answer);
                }
            }
        }
        if !parameters.is_empty() {
            written["parameters"] = parameters.into();
        }
        written
    }
}

fn content(types: &[&str], body: &Value) -> Value {
    types
        .iter()
        .map(|kind| ((*kind).to_owned(), json!({"schema": body})))
        .collect::<Map<_, _>>()
        .into()
}
