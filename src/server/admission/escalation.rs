//! Roles grant no more than their author has, unless the author may escalate or bind.

use api::kinds::{CLUSTER_ROLE, ROLE};
use api::{Lens, LensMut, Status, Value};
use client::Verb;
use stdx::Arrange;

use super::Act;
use crate::auth::Attributes;
use crate::auth::rules::{Rule, words};
use crate::user::User;

/// What is compared with the rights of an author: simple rules, and the bytes of all comparisons. Both are products of what
/// stands in rules, so that a rule of two kilobytes can be millions.
const SIMPLE_RULES_MAX: usize = 100_000;
const COMPARED_BYTES_MAX: usize = 1 << 30;
/// How many of the simple rules that an author lacks are told.
const LACKING_TOLD_MAX: usize = 1000;

pub(super) async fn check(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let user: &User = &act.caller.user;
    if user.in_group("system:masters") || act.old.is_some_and(|old| only_collected(tree, old)) {
        return Ok(());
    }
    match act.kind.name {
        "Role" | "ClusterRole" => role(act, user, tree).await,
        _ => binding(act, user, tree).await,
    }
}

/// Whether nothing changes but what the garbage collector changes (upstream's `IsOnlyMutatingGCFields`).
/// Everything else is checked as if it were new, labels too: they are what aggregation selects by.
fn only_collected(new: &Value, old: &Value) -> bool {
    let rest = |tree: &Value| {
        let mut rest = tree.clone();
        for path in
            ["ownerReferences", "finalizers", "selfLink", "managedFields", "resourceVersion"]
        {
            rest.remove(&format!("metadata.{path}"));
        }
        rest
    };
    rest(new) == rest(old)
}

async fn role(act: &Act<'_>, user: &User, tree: &Value) -> Result<(), Status> {
    // The name in the path: of a creation the authorizer knows none.
    let name = if act.request.verb == Verb::Create { "" } else { act.request.name.as_str() };
    if may(act, user, "escalate", act.kind.plural, name).await {
        return Ok(());
    }
    held(act, user, &Rule::all_of(tree)).await.map_err(|why| act.forbidden(tree, why))?;
    // It can gather anything, and taking it away can keep what was gathered.
    let aggregates = |role: &Value| role.has("aggregationRule");
    if (aggregates(tree) || act.old.is_some_and(aggregates))
        && held(act, user, &Rule::everything()).await.is_err()
    {
        return Err(
            act.forbidden(tree, "must have cluster-admin privileges to use the aggregationRule")
        );
    }
    Ok(())
}

async fn binding(act: &Act<'_>, user: &User, tree: &Value) -> Result<(), Status> {
    let role = tree.str("roleRef.name");
    let (kind, namespace) = match tree.str("roleRef.kind") {
        "ClusterRole" => (&CLUSTER_ROLE, ""),
        _ => (&ROLE, act.request.namespace.as_str()),
    };
    if may(act, user, "bind", kind.plural, role).await {
        return Ok(());
    }
    let rbac = &act.core.authorizer.rbac;
    let Some(rules) = rbac.role(&act.core.store, namespace, role).await else {
        // Upstream answers that the role is missing.
        return Err(Status::not_found(kind, role));
    };
    held(act, user, &rules).await.map_err(|why| act.forbidden(tree, why))
}

async fn may(act: &Act<'_>, user: &User, verb: &str, plural: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb: verb.into(),
        group: act.kind.group.into(),
        version: act.kind.declared.version.into(),
        resource: plural.into(),
        namespace: act.request.namespace.clone(),
        name: name.into(),
        ..Attributes::default()
    };
    debug_assert_ne!(act.operation, super::Operation::Delete);
    act.core.authorizer.decide(&act.core.store, user, &attributes).await.allowed
}

/// Whether the user has all of this already.
async fn held(act: &Act<'_>, user: &User, wanted: &[Rule]) -> Result<(), String> {
    let rbac = &act.core.authorizer.rbac;
    let (own, missing) = rbac.rules(&act.core.store, user, &act.request.namespace).await;
    let n_simple = wanted.iter().fold(0_usize, |all, rule| all.saturating_add(rule.n_simple()));
    let n_bytes = own.iter().map(Rule::n_bytes).sum::<usize>();
    if n_simple > SIMPLE_RULES_MAX || n_simple.saturating_mul(n_bytes) > COMPARED_BYTES_MAX {
        return Err(format!(
            "the rules combine {n_simple} verbs and resources, which is too much to compare with those of user {:?}",
            user.name
        ));
    }
    let mut lacking = Vec::new();
    for rule in wanted {
        rule.split(&mut |one| {
            if !own.iter().any(|own| own.covers(&one)) {
                lacking.push(one);
            }
            lacking.len() < LACKING_TOLD_MAX
        });
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = compact(lacking.into_iter());
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

/// Simple rules as texts in order, those joined that differ in the verb only (upstream's `CompactRules`).
fn compact(rules: impl Iterator<Item = Rule>) -> Vec<String> {
    let mut joined: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |known: &&mut Rule| {
            known.groups == rule.groups
                && known.resources == rule.resources
                && known.names == rule.names
                && known.urls == rule.urls
        };
        match joined.iter_mut().find(same) {
            Some(known) => {
                let verbs = known.verbs.iter().chain(rule.verbs.iter());
                let mut all: Vec<&str> = Vec::new();
                for verb in verbs {
                    if !all.contains(&verb) {
                        all.push(verb);
                    }
                }
                known.verbs = words(all);
            }
            None => joined.push(rule),
        }
    }
    let mut texts: Vec<String> = joined.iter().map(Rule::text).collect();
    texts.arrange();
    texts.dedup();
    texts
}
