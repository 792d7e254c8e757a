//! `pods/eviction`: a delete that disruption budgets may refuse for now.

use api::kinds::{POD, POD_DISRUPTION_BUDGET};
use api::selector::Selector;
use api::status::Reason;
use api::{Lens, LensMut, Object, Status, Value, json};
use client::{Body, DeleteOptions, ListOptions, Request, Verb};

use super::success;
use crate::admission::{self, Act, Notes};
use crate::core::{Call, Core, Outcome, tree_of};
use crate::options::check_dry_run;
use crate::registry::{delete, update};
use crate::storage::{self, list};

/// Pods that one budget remembers as being evicted, as upstream bounds them.
const DISRUPTED_PODS_MAX: usize = 2000;

/// Retries when a budget changes between being read and being used.
const CONFLICT_TRIES_MAX: usize = 5;

pub(super) async fn evict(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let (core, request) = (call.core, call.request);
    let mut notes = Notes::default();
    // Before the budget counts it.
    let eviction = admission::admit(&Act::create(call), tree_of(body)?, &mut notes).await?;
    let named = eviction.str("metadata.name");
    if !named.is_empty() && named != request.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = eviction.at("deleteOptions");
    let mut inner = Request::new(Verb::Delete, &POD, &request.namespace, &request.name);
    inner.dry_run = request.dry_run
        || check_dry_run("DeleteOptions", options.list("dryRun").iter().filter_map(Value::as_str))?;
    let text = |path: &str| Some(options.str(path).to_owned()).filter(|text| !text.is_empty());
    inner.delete = DeleteOptions {
        grace_secs: options.int("gracePeriodSeconds"),
        uid: text("preconditions.uid"),
        resource_version: text("preconditions.resourceVersion"),
        propagation: options.str("propagationPolicy").to_owned(),
    };
    let pod = storage::get(&core.store, &POD, &request.namespace, &request.name).await?;
    if !is_free(&pod) {
        let budget = budget_of(core, &pod).await?;
        if let Some(budget) = budget {
            take(call, &budget, &pod, inner.dry_run).await?;
        }
    }
    let admitted = Call { admitted: true, ..*call };
    // The very pod that the budget was asked about.
    inner.delete.uid.get_or_insert_with(|| pod.uid().to_owned());
    if !inner.dry_run {
        mark(&admitted, &pod, inner.delete.uid.as_deref()).await?;
    }
    delete::delete(&admitted.with(&POD, &inner)).await?;
    Ok(Outcome::created(success(201)).with_warnings(notes.warnings))
}

/// Says in the pod's status why it goes, before it does, so that a Job can tell a disruption from a failure.
async fn mark(call: &Call<'_>, pod: &Object, uid: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(Verb::Update, &POD, pod.namespace(), pod.name());
    request.subresource = "status".into();
    let now = api::time::format(rt::now().wall);
    let change = |tree: &mut Value| {
        // The delete that follows says what is wrong with another pod of the name.
        if uid.is_some_and(|uid| tree.str("metadata.uid") != uid) {
            return Ok(());
        }
        let list = tree.list_mut("status.conditions");
        let known = list.iter().position(|c| c.str("type") == "DisruptionTarget");
        let since = known.filter(|idx| list[*idx].str("status") == "True");
        let since = since.map(|idx| list[idx].str("lastTransitionTime").to_owned());
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": since.unwrap_or_else(|| now.clone()),
        });
        match known {
            Some(idx) => list[idx] = condition,
            None => list.push(condition),
        }
        Ok(())
    };
    for _ in 0..CONFLICT_TRIES_MAX {
        match update::change(&call.with(pod.kind(), &request), false, change).await {
            Err(status) if status.is_conflict() => continue,
            Err(status) if status.is_not_found() => return Ok(()),
            result => return result.map(drop),
        }
    }
    Err(Status::conflict(&POD, pod.name(), "the pod changed too often"))
}

/// A pod whose going disturbs nothing.
fn is_free(pod: &Object) -> bool {
    pod.deleting()
        || matches!(pod.tree().str("status.phase"), "Succeeded" | "Failed" | "Pending" | "")
}

async fn budget_of(core: &Core, pod: &Object) -> Result<Option<Object>, Status> {
    let all =
        list::list(&core.store, &POD_DISRUPTION_BUDGET, pod.namespace(), &ListOptions::default())
            .await?;
    let mut matching = all.items.into_iter().filter(|budget| {
        Selector::from_label_selector(budget.tree().at("spec.selector")).matches(pod.labels())
    });
    match (matching.next(), matching.next()) {
        (_, Some(_)) => Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
        (found, None) => Ok(found),
    }
}

/// Uses one of the disruptions that the budget allows.
async fn take(call: &Call<'_>, budget: &Object, pod: &Object, dry_run: bool) -> Result<(), Status> {
    let now = api::time::format(rt::now().wall);
    let mut request =
        Request::new(Verb::Update, &POD_DISRUPTION_BUDGET, budget.namespace(), budget.name());
    request.subresource = "status".into();
    request.dry_run = dry_run;
    for _ in 0..CONFLICT_TRIES_MAX {
        let change = |tree: &mut Value| match decide(tree, pod)? {
            Allowed::Free => Ok(()),
            Allowed::Counted => {
                let left = tree.int("status.disruptionsAllowed").unwrap_or(0) - 1;
                tree.set("status.disruptionsAllowed", left);
                tree.map_mut("status.disruptedPods")
                    .insert(pod.name().to_owned(), now.as_str().into());
                Ok(())
            }
        };
        match update::change(&call.with(budget.kind(), &request), false, change).await {
            Err(status) if status.is_conflict() => continue,
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) => return Err(status),
            Ok(_) => return Ok(()),
        }
    }
    Err(Status::too_many_requests("couldn't update PodDisruptionBudget: it changed too often", 10))
}

enum Allowed {
    /// The pod is not one that the budget counts on.
    Free,
    Counted,
}

/// Whether the budget lets the pod go (upstream's `checkAndDecrement`).
fn decide(budget: &Value, pod: &Object) -> Result<Allowed, Status> {
    let name = budget.str("metadata.name");
    let number = |path: &str| budget.int(path).unwrap_or(0);
    let (healthy, desired) = (number("status.currentHealthy"), number("status.desiredHealthy"));
    if !is_ready(pod) {
        let always = budget.str("spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(Allowed::Free);
        }
    }
    let refuse = |message: String, retry_secs: Option<u32>| {
        let mut status = Status::new(
            Reason::TooManyRequests,
            "Cannot evict pod as it would violate the pod's disruption budget.",
        )
        .detail("causes", json!([{"reason": "DisruptionBudget", "message": message}]));
        if let Some(secs) = retry_secs {
            status = status.detail("retryAfterSeconds", secs);
        }
        Err(status)
    };
    if number("status.observedGeneration") < number("metadata.generation") {
        return refuse(
            format!("The disruption budget {name} is still being processed by the server."),
            Some(10),
        );
    }
    if number("status.disruptionsAllowed") < 0 {
        return Err(Status::forbidden(
            &POD_DISRUPTION_BUDGET,
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    let n_disrupted = budget.at("status.disruptedPods").as_object().map_or(0, |map| map.len());
    if n_disrupted > DISRUPTED_PODS_MAX {
        return Err(Status::forbidden(
            &POD_DISRUPTION_BUDGET,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if number("status.disruptionsAllowed") == 0 {
        let mut message = format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        );
        for condition in budget.list("status.conditions") {
            if condition.str("type") == "DisruptionAllowed"
                && condition.str("status") == "False"
                && condition.str("reason") == "SyncFailed"
            {
                message = format!(
                    "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                    condition.str("message")
                );
            }
        }
        return refuse(message, None);
    }
    Ok(Allowed::Counted)
}

fn is_ready(pod: &Object) -> bool {
    pod.tree()
        .list("status.conditions")
        .iter()
        .any(|condition| condition.str("type") == "Ready" && condition.str("status") == "True")
}
