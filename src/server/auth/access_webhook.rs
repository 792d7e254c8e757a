//! An administrator's server that decides who may do what: it is asked by `SubjectAccessReview`.
//!
//! Source: k8s.io/apiserver/plugin/pkg/authorizer/webhook, pkg/authorization/cel.

use std::time::Duration;

use api::selector::{Requirement, Selector};
use api::{Lens, Value, json};
use cel::Val;
use serde_json::Map;

use super::asked::{self, Asked};
use super::expressions::Expression;
use super::{Attributes, Decision};
use crate::user::User;

/// What is asked about is not kept if the caller made it longer than this.
const KEPT_QUESTION_MAX_BYTES: usize = 10_000;

/// One such server.
#[derive(Debug)]
pub(crate) struct AccessWebhook {
    pub(super) asked: Asked,
    pub(super) authorized_ttl: Duration,
    pub(super) unauthorized_ttl: Duration,
    /// Where it cannot be asked, it is as if it had refused.
    pub(super) denies_on_failure: bool,
    /// It speaks the version that calls groups otherwise.
    pub(super) is_beta: bool,
    /// It is asked only where all hold.
    pub(super) conditions: Vec<Expression>,
}

impl AccessWebhook {
    pub(super) async fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        let failed = |why: String| Decision {
            denied: self.denies_on_failure,
            error: why,
            ..Decision::default()
        };
        match self.wants(user, attributes) {
            Ok(true) => {}
            Ok(false) => return Decision::default(),
            Err(why) => return failed(why),
        }
        let spec = || spec(user, attributes, self.is_beta);
        let is_kept = attributes.n_bytes() < KEPT_QUESTION_MAX_BYTES
            && !(self.authorized_ttl.is_zero() && self.unauthorized_ttl.is_zero());
        let key = is_kept.then(|| asked::key([spec().to_string().as_str()].into_iter()));
        let judge = |status: &Value| {
            let is_yes = status.flag("allowed");
            Ok((if is_yes { self.authorized_ttl } else { self.unauthorized_ttl }, is_yes))
        };
        match self.asked.answer(key, &spec, &judge).await {
            Ok(status) => read(&status),
            Err(why) => failed(why.to_string()),
        }
    }

    /// Whether it is to be asked.
    fn wants(&self, user: &User, attributes: &Attributes) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let seen = seen(user, attributes);
        let mut failed = Vec::new();
        for condition in &self.conditions {
            match condition.value(&seen) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => failed.push(format!(
                    "cel evaluation error: expression '{}' eval result type should be bool",
                    condition.text
                )),
                Err(why) => failed.push(format!("cel evaluation error: {why}")),
            }
        }
        match failed.is_empty() {
            true => Ok(true),
            false => Err(rules::pod::security::configuration::aggregate(&failed)),
        }
    }
}

fn read(status: &Value) -> Decision {
    let (allowed, denied) = (status.flag("allowed"), status.flag("denied"));
    let error = match allowed && denied {
        true => "webhook subject access review returned both allow and deny response",
        false => "",
    };
    Decision {
        allowed: allowed && !denied,
        denied,
        reason: status.str("reason").to_owned(),
        error: error.to_owned(),
    }
}

/// The attributes that a resource is asked about with, each by its name in a review.
fn of_resource(attributes: &Attributes) -> [(&'static str, &str); 7] {
    [
        ("namespace", &attributes.namespace),
        ("verb", &attributes.verb),
        ("group", &attributes.group),
        ("version", &attributes.version),
        ("resource", &attributes.resource),
        ("subresource", &attributes.subresource),
        ("name", &attributes.name),
    ]
}

/// What a server is asked.
fn spec(user: &User, attributes: &Attributes, is_beta: bool) -> Value {
    let mut spec = seen(user, attributes);
    let Value::Object(map) = &mut spec else { return spec };
    if is_beta && let Some(groups) = map.remove("groups") {
        map.insert("group".into(), groups);
    }
    // What is empty is not said.
    for part in ["resourceAttributes", "nonResourceAttributes"] {
        if let Some(Value::Object(part)) = map.get_mut(part) {
            part.retain(|_, value| !is_empty(value));
        }
    }
    map.retain(|_, value| !is_empty(value));
    spec
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// What conditions see: the same, with what is empty.
fn seen(user: &User, attributes: &Attributes) -> Value {
    let mut spec = json!({
        "user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
    });
    if !attributes.is_resource() {
        spec["nonResourceAttributes"] = json!({"path": attributes.path, "verb": attributes.verb});
        return spec;
    }
    let texts = of_resource(attributes).into_iter();
    let mut about: Map<String, Value> =
        texts.map(|(name, text)| (name.to_owned(), text.into())).collect();
    for (field, requirements) in [
        ("fieldSelector", fields(&attributes.field_selector)),
        ("labelSelector", labels(&attributes.label_selector)),
    ] {
        if !requirements.is_empty() {
            about.insert(field.to_owned(), json!({"requirements": requirements}));
        }
    }
    spec["resourceAttributes"] = about.into();
    spec
}

fn requirement(key: &str, operator: &str, values: &[String]) -> Value {
    let mut tree = json!({"key": key, "operator": operator});
    if !values.is_empty() {
        tree["values"] = values.into();
    }
    tree
}

/// A selector that cannot be read narrows nothing.
fn fields(text: &str) -> Vec<Value> {
    let terms = api::selector::parse_fields(text).unwrap_or_default().into_iter();
    let told = terms.map(|term| {
        let operator = if term.equal { "In" } else { "NotIn" };
        requirement(&term.path, operator, &[term.value])
    });
    told.collect()
}

fn labels(text: &str) -> Vec<Value> {
    let selector = Selector::parse(text).unwrap_or_default();
    let told = selector.requirements.iter().filter_map(|one| match one {
        Requirement::In(key, values) => Some(requirement(key, "In", values)),
        Requirement::NotIn(key, values) => Some(requirement(key, "NotIn", values)),
        Requirement::Exists(key) => Some(requirement(key, "Exists", &[])),
        Requirement::NotExists(key) => Some(requirement(key, "DoesNotExist", &[])),
        // Upstream's reviews cannot say it.
        Requirement::Greater(..) | Requirement::Less(..) => None,
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_upstreams() {
        let mut user = User::new("jane", &["devs"]);
        let asked = Attributes {
            verb: "list".into(),
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "x".into(),
            field_selector: "spec.nodeName=a,status.phase!=b".into(),
            label_selector: "a in (b,c),!d,e!=f,g>1".into(),
            ..Attributes::default()
        };
        let resource = json!({
            "namespace": "x", "verb": "list", "version": "v1", "resource": "pods",
            "fieldSelector": {"requirements": [
                {"key": "spec.nodeName", "operator": "In", "values": ["a"]},
                {"key": "status.phase", "operator": "NotIn", "values": ["b"]},
            ]},
            "labelSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["b", "c"]},
                {"key": "d", "operator": "DoesNotExist"},
                {"key": "e", "operator": "NotIn", "values": ["f"]},
            ]},
        });
        let groups = json!(["devs", "system:authenticated"]);
        let wanted = json!({"user": "jane", "group": groups, "resourceAttributes": resource});
        assert_eq!(spec(&user, &asked, true), wanted);
        user.extra.insert("k".into(), vec!["v".into()]);
        user.uid = "7".into();
        let wanted = json!({
            "user": "jane", "groups": groups, "uid": "7", "extra": {"k": ["v"]},
            "nonResourceAttributes": {"path": "/x", "verb": "get"},
        });
        assert_eq!(spec(&user, &Attributes::path("get", "/x"), false), wanted);
        let bad = Attributes { label_selector: "((".into(), field_selector: "x".into(), ..asked };
        assert!(spec(&user, &bad, false).at("resourceAttributes.labelSelector").is_null());
    }

    #[test]
    fn answers_are_read_as_upstream_reads_them() {
        let yes = read(&json!({"allowed": true, "reason": "r"}));
        assert_eq!(yes, Decision::allowed("r".into()));
        let no = read(&json!({"allowed": false, "reason": "r"}));
        assert_eq!(no, Decision::no_opinion("r".into()));
        let never = read(&json!({"denied": true}));
        assert!(never.denied && !never.allowed && never.error.is_empty());
        let both = read(&json!({"allowed": true, "denied": true}));
        assert!(both.denied && !both.allowed);
        assert!(both.error.contains("both allow and deny"));
    }
}
