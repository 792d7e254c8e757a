//! Who makes a policy look at parameters may read these.
//!
//! Source: k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy{,binding}/authz.go.

use api::kinds::VALIDATING_ADMISSION_POLICY;
use api::status::Cause;
use api::{Lens, Status, Value};

use super::find;
use crate::admission::Act;
use crate::auth::Attributes;
use crate::storage;
use crate::user::{MASTERS, User};

/// Checks a policy or a binding that is created or changed.
pub(in crate::admission) async fn check(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let is_policy = *act.kind == VALIDATING_ADMISSION_POLICY;
    let field = if is_policy { "paramKind" } else { "paramRef" };
    let path = format!("spec.{field}");
    let same = |old: &Value| {
        old.at(&path) == tree.at(&path)
            && (is_policy || old.str("spec.policyName") == tree.str("spec.policyName"))
    };
    let user: &User = &act.caller.user;
    if !tree.has(&path) || act.old.is_some_and(same) || user.in_group(MASTERS) {
        return Ok(());
    }
    let why = match is_policy {
        true => policy(act, user, tree.at(&path)).await,
        false => binding(act, user, tree).await?,
    };
    let Some(why) = why else { return Ok(()) };
    let message = format!("Forbidden: {why}");
    let cause = Cause { reason: "FieldValueForbidden", message, field: path };
    Err(Status::invalid(act.kind, tree.str("metadata.name"), vec![cause]))
}

async fn policy(act: &Act<'_>, user: &User, kind: &Value) -> Option<String> {
    let (resource, _) = resource(act, kind);
    let asked =
        Attributes { verb: "get".into(), name: "*".into(), namespace: "*".into(), ..resource };
    if act.core.authorizer.decide(&act.core.store, user, &asked).await.allowed {
        return None;
    }
    let (kind, version) = (kind.str("kind"), kind.str("apiVersion"));
    Some(format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={kind}, apiVersion={version})",
        shown(user)
    ))
}

async fn binding(act: &Act<'_>, user: &User, tree: &Value) -> Result<Option<String>, Status> {
    let name = tree.str("spec.policyName");
    let store = &act.core.store;
    let found = storage::find(store, &VALIDATING_ADMISSION_POLICY, "", name).await?;
    let policy = found.map(|policy| policy.tree());
    let kind = policy.as_ref().map(|policy| policy.at("spec.paramKind"));
    let (resource, is_known) = match kind {
        Some(kind) if !kind.is_null() => resource(act, kind),
        _ => (everything(), true),
    };
    let param = tree.at("spec.paramRef");
    let verb = if param.str("name").is_empty() { "list" } else { "get" };
    let asked = Attributes {
        verb: verb.into(),
        name: param.str("name").into(),
        namespace: param.str("namespace").into(),
        ..resource
    };
    if act.core.authorizer.decide(store, user, &asked).await.allowed {
        return Ok(None);
    }
    let user = shown(user);
    let lacks = format!(
        "to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
    );
    Ok(Some(match kind {
        None => format!("unable to get policy {name} {lacks}"),
        Some(kind) if !is_known => format!(
            "unable to resolve paramKind &ParamKind{{APIVersion:{},Kind:{},}} {lacks}",
            kind.str("apiVersion"),
            kind.str("kind")
        ),
        Some(_) => format!(
            "user {user} does not have \"{verb}\" permission on the object referenced by paramRef"
        ),
    }))
}

fn everything() -> Attributes {
    let all = || "*".to_owned();
    Attributes { group: all(), version: all(), resource: all(), ..Attributes::default() }
}

/// The resource that is to be read, and whether it is known: otherwise it is any of the group's.
fn resource(act: &Act<'_>, kind: &Value) -> (Attributes, bool) {
    let api_version = kind.str("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let found = find(act, api_version, kind.str("kind")).ok();
    let plural = found.as_ref().map_or("*", |found| found.kind.plural);
    let (group, version, resource) = (group.into(), version.into(), plural.into());
    (Attributes { group, version, resource, ..Attributes::default() }, found.is_some())
}

/// As Go prints a user.
fn shown(user: &User) -> String {
    let extra = user.extra.iter();
    let extra: Vec<String> =
        extra.map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
}
