//! Roles grant no more than their author has, unless the author may escalate or bind.

use api::kinds::CLUSTER_ROLE;
use api::{Lens, Status, Value};
use client::Verb;

use super::Act;
use crate::auth::rules::{Rule, words};
use crate::auth::{Attributes, User};

pub(super) async fn check(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let user: &User = &act.caller.user;
    if user.in_group("system:masters") {
        return Ok(());
    }
    match act.kind.name {
        "Role" | "ClusterRole" => role(act, user, tree).await,
        _ => binding(act, user, tree).await,
    }
}

async fn role(act: &Act<'_>, user: &User, tree: &Value) -> Result<(), Status> {
    let unchanged = act.old.is_some_and(|old| {
        old.at("rules") == tree.at("rules")
            && old.at("aggregationRule") == tree.at("aggregationRule")
    });
    if unchanged || may(act, user, "escalate", act.kind.plural, tree.str("metadata.name")).await {
        return Ok(());
    }
    if tree.has("aggregationRule") {
        let everything = Rule {
            verbs: words(["*"]),
            groups: words(["*"]),
            resources: words(["*"]),
            urls: words(["*"]),
            ..Rule::default()
        };
        if held(act, user, &[everything]).await.is_err() {
            return Err(act
                .forbidden(tree, "must have cluster-admin privileges to use the aggregationRule"));
        }
    }
    held(act, user, &Rule::all_of(tree)).await.map_err(|why| act.forbidden(tree, why))
}

async fn binding(act: &Act<'_>, user: &User, tree: &Value) -> Result<(), Status> {
    let same = act.old.is_some_and(|old| {
        old.at("roleRef") == tree.at("roleRef") && old.at("subjects") == tree.at("subjects")
    });
    let role = tree.str("roleRef.name");
    let cluster = tree.str("roleRef.kind") == CLUSTER_ROLE.name;
    let plural = if cluster { "clusterroles" } else { "roles" };
    if same || may(act, user, "bind", plural, role).await {
        return Ok(());
    }
    let namespace = if cluster { "" } else { act.request.namespace.as_str() };
    let rbac = &act.core.authorizer.rbac;
    let Some(rules) = rbac.role(&act.core.store, namespace, role).await else {
        // Upstream answers that the role is missing.
        let kind = if cluster { &CLUSTER_ROLE } else { &api::kinds::ROLE };
        return Err(Status::not_found(kind, role));
    };
    held(act, user, &rules).await.map_err(|why| act.forbidden(tree, why))
}

async fn may(act: &Act<'_>, user: &User, verb: &str, plural: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb: verb.into(),
        group: act.kind.group.into(),
        version: act.kind.version.into(),
        resource: plural.into(),
        namespace: act.request.namespace.clone(),
        name: name.into(),
        ..Attributes::default()
    };
    debug_assert_ne!(act.verb, Verb::Delete);
    act.core.authorizer.decide(act.core, user, &attributes).await.allowed
}

/// Whether the user has all of this already.
async fn held(act: &Act<'_>, user: &User, wanted: &[Rule]) -> Result<(), String> {
    let rbac = &act.core.authorizer.rbac;
    let (own, missing) = rbac.rules(&act.core.store, user, &act.request.namespace).await;
    let lacking: Vec<String> = wanted
        .iter()
        .filter(|rule| !rule.split().iter().all(|one| own.iter().any(|own| own.covers(one))))
        .map(Rule::text)
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let mut why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lacking.join("\n")
    );
    if !missing.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", missing.join(", ")));
    }
    Err(why)
}
