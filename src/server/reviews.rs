//! Reviews: requests that ask what somebody may do, or who somebody is.

use api::selector::Selector;
use api::status::Cause;
use api::{Kind, Lens, LensMut, Status, Value, json};
use client::{Answer, Body};

use crate::admission::{self, Act, Notes};
use crate::auth::access_config::Mode;
use crate::auth::rules::Rule;
use crate::auth::tokens::user_tree;
use crate::auth::{Attributes, Decision};
use crate::authenticate;
use crate::core::{Call, Core, Outcome, not_found, tree_of};
use crate::user::User;

/// Answers a review.
///
/// # Errors
/// 422 for a review that says too little or too much.
pub(crate) async fn create(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let Call { core, caller, request, .. } = *call;
    let kind = call.kind();
    let mut notes = Notes::default();
    let mut tree = admission::admit(&Act::create(call), tree_of(body)?, &mut notes).await?;
    match kind.name {
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let user = subject(kind, &tree)?;
            if kind.name == "LocalSubjectAccessReview" {
                let namespace = tree.str("spec.resourceAttributes.namespace");
                if namespace != request.namespace {
                    return Err(Status::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {}",
                        request.namespace
                    )));
                }
            }
            let decision = access(core, kind, &user, &tree).await?;
            tree.set("status", access_status(&decision));
        }
        "SelfSubjectAccessReview" => {
            let decision = access(core, kind, &caller.user, &tree).await?;
            tree.set("status", access_status(&decision));
        }
        "SelfSubjectRulesReview" => {
            let namespace = tree.str("spec.namespace");
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            let status = rules_status(core, &caller.user, namespace).await;
            tree.set("status", status);
        }
        "TokenReview" => {
            let status = token_status(core, &tree).await;
            tree.set("status", status?);
        }
        "SelfSubjectReview" => tree.set("status", json!({"userInfo": user_tree(&caller.user)})),
        _ => return Err(not_found()),
    }
    tree.set("apiVersion", kind.api_version());
    tree.set("kind", kind.name);
    if kind.namespaced() {
        tree.set("metadata.namespace", request.namespace.as_str());
    }
    tree.set_default("metadata.creationTimestamp", Value::Null);
    Ok(Outcome::created(Answer::Tree(tree)).with_warnings(notes.warnings))
}

async fn access(core: &Core, kind: &Kind, user: &User, tree: &Value) -> Result<Decision, Status> {
    let attributes = attributes(kind, tree)?;
    Ok(core.authorizer.decide(&core.store, user, &attributes).await)
}

fn access_status(decision: &Decision) -> Value {
    let mut status = json!({"allowed": decision.allowed});
    if decision.denied {
        status["denied"] = true.into();
    }
    for (field, text) in [("reason", &decision.reason), ("evaluationError", &decision.error)] {
        if !text.is_empty() {
            status[field] = text.as_str().into();
        }
    }
    status
}

/// What a review asks about.
fn attributes(kind: &Kind, tree: &Value) -> Result<Attributes, Status> {
    let (resource, path) =
        (tree.at("spec.resourceAttributes"), tree.at("spec.nonResourceAttributes"));
    match (resource.is_object(), path.is_object()) {
        (true, false) => Ok(Attributes {
            verb: resource.str("verb").into(),
            group: resource.str("group").into(),
            version: resource.str("version").into(),
            resource: resource.str("resource").into(),
            subresource: resource.str("subresource").into(),
            namespace: resource.str("namespace").into(),
            name: resource.str("name").into(),
            field_selector: field_selector(resource),
            label_selector: label_selector(resource),
            path: String::new(),
        }),
        (false, true) => {
            let asked = path.str("path");
            // An empty path is no resource either.
            let asked = if asked.is_empty() { "/" } else { asked };
            Ok(Attributes::path(path.str("verb"), asked))
        }
        (true, true) => Err(invalid(
            kind,
            "spec.nonResourceAttributes",
            "FieldValueInvalid",
            "Invalid value: \"nonResourceAttributes\": cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => Err(invalid(
            kind,
            "spec.resourceAttributes",
            "FieldValueInvalid",
            "Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

fn field_selector(resource: &Value) -> String {
    let raw = resource.str("fieldSelector.rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = resource.list("fieldSelector.requirements").iter().filter_map(|requirement| {
        let value = requirement.list("values").first()?.as_str()?;
        (requirement.str("operator") == "In").then(|| format!("{}={value}", requirement.str("key")))
    });
    terms.collect::<Vec<_>>().join(",")
}

fn label_selector(resource: &Value) -> String {
    match resource.str("labelSelector.rawSelector") {
        "" => {
            let requirements = resource.at("labelSelector.requirements");
            Selector::text(&json!({"matchExpressions": requirements}))
        }
        raw => raw.to_owned(),
    }
}

fn subject(kind: &Kind, tree: &Value) -> Result<User, Status> {
    let texts = |path: &str| -> Vec<String> {
        tree.list(path).iter().filter_map(|t| t.as_str().map(str::to_owned)).collect()
    };
    let mut user = User {
        name: tree.str("spec.user").to_owned(),
        uid: tree.str("spec.uid").to_owned(),
        groups: texts("spec.groups"),
        ..User::default()
    };
    for (key, values) in tree.at("spec.extra").as_object().into_iter().flatten() {
        let values = values.list("").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        user.extra.insert(key.clone(), values);
    }
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(invalid(
            kind,
            "spec.user",
            "FieldValueRequired",
            "Required value: at least one of user or group must be specified",
        ));
    }
    Ok(user)
}

fn invalid(kind: &Kind, field: &str, reason: &'static str, message: &str) -> Status {
    Status::invalid(kind, "", vec![Cause { reason, message: message.into(), field: field.into() }])
}

async fn rules_status(core: &Core, user: &User, namespace: &str) -> Value {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for mode in core.authorizer.modes().iter() {
        match mode {
            Mode::Rbac => {
                let (own, missing) = core.authorizer.rbac.rules(&core.store, user, namespace).await;
                rules.extend(own);
                errors.extend(missing);
            }
            Mode::AlwaysAllow => rules.extend(Rule::everything()),
            Mode::AlwaysDeny => {}
            Mode::Node => errors.extend(
                user.node_name()
                    .map(|_| "node authorizer does not support user rule resolution".into()),
            ),
            Mode::Webhook(_) => {
                errors.push("webhook authorizer does not support user rule resolution".into());
            }
        }
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            resources.push(Rule { urls: Default::default(), ..rule.clone() }.to_tree());
        }
        if !rule.urls.is_empty() {
            paths.push(
                json!({"verbs": rule.verbs.to_tree(), "nonResourceURLs": rule.urls.to_tree()}),
            );
        }
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if !errors.is_empty() {
        status["incomplete"] = true.into();
        status["evaluationError"] = errors.join(", ").into();
    }
    status
}

async fn token_status(core: &Core, tree: &Value) -> Result<Value, Status> {
    let token = tree.str("spec.token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted: Vec<String> =
        tree.list("spec.audiences").iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let refused = |why: &str| json!({"authenticated": false, "user": {}, "error": why});
    match core.tokens.authenticate(&core.store, token, &wanted).await {
        Ok(Some((user, audiences))) => {
            Ok(json!({"authenticated": true, "user": user_tree(&user), "audiences": audiences}))
        }
        other => {
            if let Some(user) = authenticate::known_user(core, token).await? {
                return Ok(
                    json!({"authenticated": true, "user": user_tree(&user), "audiences": core.tokens.audiences()}),
                );
            }
            let told = authenticate::others_user(core, token, &wanted).await;
            Ok(match (told, other) {
                (Ok(Some((user, audiences))), _) => {
                    json!({"authenticated": true, "user": user_tree(&user), "audiences": audiences})
                }
                (Err(why), _) | (_, Err(why)) => refused(&format!("[invalid bearer token, {why}]")),
                (Ok(None), Ok(_)) => refused("invalid bearer token"),
            })
        }
    }
}
