//! Pods: binding to a node, and the parts of a running pod that may change.

use api::kinds::{BINDING, POD};
use api::status::Cause;
use api::{Lens, LensMut, Status, Value, json};
use client::{Body, Verb};

use super::success;
use crate::admission::{self, Act, Notes};
use crate::core::{Call, Outcome, tree_of};
use crate::registry::update;

/// `pods/binding`: gives a pod its node, once.
pub(crate) async fn bind(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let request = call.request;
    let mut notes = Notes::default();
    let binding = admission::admit(&Act::create(call), tree_of(body)?, &mut notes).await?;
    check_target(&binding)?;
    let name = match request.name.as_str() {
        "" => binding.str("metadata.name"),
        name => name,
    };
    let named = binding.str("metadata.name");
    if !named.is_empty() && named != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut inner = request.clone();
    inner.kind = &POD;
    inner.verb = Verb::Update;
    inner.group_version = String::new();
    inner.name = name.to_owned();
    inner.subresource = "binding".into();
    let now = api::time::format(rt::now().wall);
    let inner = Call { admitted: true, ..call.with(&POD, &inner) };
    update::change(&inner, false, |pod| assign(pod, &binding, name, &now)).await?;
    Ok(Outcome::created(success(201)).with_warnings(notes.warnings))
}

fn check_target(binding: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    let kind = binding.str("target.kind");
    if !matches!(kind, "" | "Node") {
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""
            ),
            field: "target.kind".into(),
        });
    }
    if binding.str("target.name").is_empty() {
        causes.push(Cause {
            reason: "FieldValueRequired",
            message: "Required value".into(),
            field: "target.name".into(),
        });
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&BINDING, binding.str("metadata.name"), causes)),
    }
}

/// Upstream's `setPodHostAndAnnotations`.
fn assign(pod: &mut Value, binding: &Value, name: &str, now: &str) -> Result<(), Status> {
    let conflict = |why: String| Status::conflict(&BINDING, name, why);
    let uid = binding.str("metadata.uid");
    if !uid.is_empty() && uid != pod.str("metadata.uid") {
        return Err(conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod.str("metadata.uid")
        )));
    }
    let revision = binding.str("metadata.resourceVersion");
    if !revision.is_empty() && revision != pod.str("metadata.resourceVersion") {
        return Err(conflict("the object has been modified".into()));
    }
    if pod.has("metadata.deletionTimestamp") {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let node = pod.str("spec.nodeName");
    if !node.is_empty() {
        return Err(conflict(format!("pod {name} is already assigned to node {node:?}")));
    }
    if !pod.list("spec.schedulingGates").is_empty() {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    pod.set("spec.nodeName", binding.str("target.name"));
    for (key, value) in binding.pairs("metadata.annotations") {
        pod.map_mut("metadata.annotations").insert(key.to_owned(), value.into());
    }
    let conditions = pod.list_mut("status.conditions");
    let before = conditions.iter().position(|c| c.str("type") == "PodScheduled");
    let since = match before.map(|idx| &conditions[idx]) {
        Some(condition) if condition.str("status") == "True" => {
            condition.str("lastTransitionTime").to_owned()
        }
        _ => now.to_owned(),
    };
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": since,
    });
    match before {
        Some(idx) => conditions[idx] = condition,
        None => conditions.push(condition),
    }
    Ok(())
}

/// `pods/ephemeralcontainers` changes those and nothing else.
pub(super) fn ephemeral_containers(new: &mut Value, old: &Value) {
    let wanted = new.at("spec.ephemeralContainers").clone();
    *new = old.clone();
    if !wanted.is_null() {
        new.set("spec.ephemeralContainers", wanted);
    }
}

/// `pods/resize` changes what containers may use and nothing else.
pub(super) fn resize(new: &mut Value, old: &Value) {
    let wanted = std::mem::replace(new, old.clone());
    for path in ["spec.containers", "spec.initContainers"] {
        let Some(Value::Array(containers)) = new.at_mut(path) else { continue };
        for container in containers {
            let name = container.str("name").to_owned();
            let Some(asked) = wanted.list(path).iter().find(|c| c.str("name") == name) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                match asked.at(field) {
                    Value::Null => {
                        container.remove(field);
                    }
                    value => container.set(field, value.clone()),
                }
            }
        }
    }
}
