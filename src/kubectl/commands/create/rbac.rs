//! Roles and their bindings.

use api::{LensMut, Value, json};

use super::{GENERATOR, finish, name, object};
use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Outcome, failed};
use crate::flags::{Flag, array, list, pairs, text};
use crate::out;

const VERBS: &[Flag] = &[
    list("resource", "Resources, as name.group/subresource"),
    array("resource-name", "Names of objects"),
    list("verb", "What may be done"),
];
const SUBJECTS: &[Flag] = &[
    text("clusterrole", "", "The cluster role"),
    array("group", "Groups that get the role"),
    array("serviceaccount", "Accounts that get the role, as namespace:name"),
    array("user", "Users that get the role"),
];

pub(super) static ROLE: Command = Command {
    name: "role",
    about: "Create a role with single rule.",
    usage: "NAME --verb=verb --resource=resource.group/subresource [--resource-name=resourcename] [--dry-run=server|client|none]",
    flags: &[GENERATOR[0], GENERATOR[1], GENERATOR[2], GENERATOR[3], GENERATOR[4], VERBS],
    run: Some(|call| role(call, "Role")),
    ..BLANK
};

pub(super) static CLUSTER_ROLE: Command = Command {
    name: "clusterrole",
    about: "Create a cluster role.",
    usage: "NAME --verb=verb --resource=resource.group [--resource-name=resourcename] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        VERBS,
        &[
            pairs("aggregation-rule", "Labels of roles that are put together"),
            list("non-resource-url", "Paths"),
        ],
    ],
    run: Some(|call| role(call, "ClusterRole")),
    ..BLANK
};

pub(super) static ROLE_BINDING: Command = Command {
    name: "rolebinding",
    about: "Create a role binding for a particular role or cluster role.",
    usage: "NAME --clusterrole=NAME|--role=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        SUBJECTS,
        &[text("role", "", "The role")],
    ],
    run: Some(|call| binding(call, "RoleBinding")),
    ..BLANK
};

pub(super) static CLUSTER_ROLE_BINDING: Command = Command {
    name: "clusterrolebinding",
    about: "Create a cluster role binding for a particular cluster role.",
    usage: "NAME --clusterrole=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[GENERATOR[0], GENERATOR[1], GENERATOR[2], GENERATOR[3], GENERATOR[4], SUBJECTS],
    required: &["clusterrole"],
    run: Some(|call| binding(call, "ClusterRoleBinding")),
    ..BLANK
};

/// What can be done with paths.
const URL_VERBS: &[&str] = &["get", "put", "post", "head", "options", "delete", "patch", "*"];
const KNOWN_VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
    "*",
    "approve",
    "sign",
    "attest",
];

fn role(call: &Call<'_>, kind: &str) -> Outcome {
    let own = name(call)?;
    let mut tree = object("rbac.authorization.k8s.io/v1", kind, own);
    let aggregation = call.pairs("aggregation-rule");
    let mut verbs: Vec<String> = Vec::new();
    for verb in call.list("verb") {
        if !verbs.contains(&verb) {
            verbs.push(verb);
        }
    }
    if verbs.iter().any(|verb| verb == "*") {
        verbs = vec!["*".to_owned()];
    }
    let (resources, urls) = (call.list("resource"), call.list("non-resource-url"));
    if !aggregation.is_empty() {
        if !verbs.is_empty() || !resources.is_empty() || !urls.is_empty() {
            return failed(
                "aggregation rule must be specified without nonResourceURLs, verbs, resources or resourceNames",
            );
        }
        let labels: api::Map<String, Value> =
            aggregation.into_iter().map(|(key, value)| (key, value.into())).collect();
        tree["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        tree["rules"] = Value::Null;
        return finish(call, tree);
    }
    if verbs.is_empty() {
        return failed("at least one verb must be specified");
    }
    if resources.is_empty() && urls.is_empty() {
        return failed(match kind {
            "Role" => "at least one resource must be specified",
            _ => "one of resource or nonResourceURL must be specified",
        });
    }
    if !urls.is_empty() {
        if let Some(verb) = verbs.iter().find(|verb| !URL_VERBS.contains(&verb.as_str())) {
            return failed(format!("invalid verb: '{verb}' for nonResourceURL"));
        }
        if urls.iter().any(|url| url != "*" && !url.starts_with('/')) {
            return failed("nonResourceURL should start with /");
        }
    }
    for verb in verbs.iter().filter(|verb| !KNOWN_VERBS.contains(&verb.as_str())) {
        out::tell(&format!("Warning: '{verb}' is not a standard resource verb"));
    }
    let mut rules = by_group(call, &resources, &verbs)?;
    if !urls.is_empty() {
        rules.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    tree.set("rules", rules);
    finish(call, tree)
}

/// One rule for each group, in the groups' order.
fn by_group(call: &Call<'_>, resources: &[String], verbs: &[String]) -> Outcome<Vec<Value>> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for text in resources {
        let (name, sub) = match text.split_once('/') {
            Some((name, sub)) => (name, format!("/{sub}")),
            None => (text.as_str(), String::new()),
        };
        let (group, plural) = match name {
            "*" => (String::new(), "*".to_owned()),
            name => {
                let resource = call.mapper()?.find(call.rest()?, name);
                match resource {
                    Ok(resource) => (resource.group.clone(), resource.plural.clone()),
                    Err(_) if call.dry_run()? == DryRun::Client && call.rest().is_err() => {
                        (String::new(), name.to_owned())
                    }
                    Err(failure) => return Err(failure.bare()),
                }
            }
        };
        let whole = format!("{plural}{sub}");
        match groups.iter_mut().find(|(own, _)| *own == group) {
            Some((_, all)) if all.contains(&whole) => {}
            Some((_, all)) => all.push(whole),
            None => groups.push((group, vec![whole])),
        }
    }
    stdx::Arrange::arrange_by(groups.as_mut_slice(), |a, b| a.0.cmp(&b.0));
    let names = call.array("resource-name");
    Ok(groups
        .into_iter()
        .map(|(group, resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        })
        .collect())
}

fn binding(call: &Call<'_>, kind: &str) -> Outcome {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let own = name(call)?;
    let (role, cluster_role) = (call.text("role"), call.text("clusterrole"));
    if kind == "RoleBinding" && role.is_empty() == cluster_role.is_empty() {
        return failed("exactly one of clusterrole or role must be specified");
    }
    let (role_kind, role_name) = match role {
        "" => ("ClusterRole", cluster_role),
        role => ("Role", role),
    };
    let mut subjects: Vec<Value> = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        for name in call.array(flag) {
            subjects.push(json!({"apiGroup": GROUP, "kind": kind, "name": name}));
        }
    }
    for text in call.array("serviceaccount") {
        let Some((namespace, name)) = text
            .split_once(':')
            .filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(':'))
        else {
            return failed("serviceaccount must be <namespace>:<name>");
        };
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let mut tree = object("rbac.authorization.k8s.io/v1", kind, own);
    tree["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": role_name});
    if !subjects.is_empty() {
        tree.set("subjects", subjects);
    }
    finish(call, tree)
}
