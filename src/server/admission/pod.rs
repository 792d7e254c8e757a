//! Priority, DefaultTolerationSeconds and TaintNodesByCondition.

use api::kinds::{POD, PRIORITY_CLASS};
use api::{Lens, LensMut, Status, Value, json};
use client::ListOptions;

use super::Act;
use crate::storage::{self, list};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const TOLERATION_SECS: i64 = 300;

/// Turns a priority class's name into its number; says whether the pod changed.
pub(super) async fn priority(act: &Act<'_>, pod: &mut Value) -> Result<bool, Status> {
    if *act.kind != POD {
        return Ok(false);
    }
    let name = pod.str("spec.priorityClassName").to_owned();
    let class = match name.as_str() {
        "" => default_class(act).await?,
        name => match storage::find(&act.core.store, &PRIORITY_CLASS, "", name).await? {
            Some(class) => Some(class.tree()),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(act.forbidden(pod, why));
            }
        },
    };
    let (value, policy) = match &class {
        Some(class) => {
            pod.set("spec.priorityClassName", class.str("metadata.name"));
            let policy = match class.str("preemptionPolicy") {
                "" => "PreemptLowerPriority",
                policy => policy,
            };
            (class.int("value").unwrap_or(0), policy)
        }
        None => (0, "PreemptLowerPriority"),
    };
    if let Some(given) = pod.int("spec.priority").filter(|given| *given != value) {
        return Err(act.forbidden(pod, format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let given = pod.str("spec.preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(act.forbidden(pod, format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    pod.set("spec.priority", value);
    pod.set("spec.preemptionPolicy", policy);
    Ok(true)
}

/// The global default; the lowest if there are several, as upstream.
async fn default_class(act: &Act<'_>) -> Result<Option<Value>, Status> {
    let classes = list::list(&act.core.store, &PRIORITY_CLASS, "", &ListOptions::default()).await?;
    Ok(classes
        .items
        .iter()
        .map(|class| class.tree())
        .filter(|class| class.flag("globalDefault"))
        .min_by_key(|class| class.int("value").unwrap_or(0)))
}

/// At most one class is the default.
pub(super) async fn one_default_priority(act: &Act<'_>, class: &Value) -> Result<(), Status> {
    if *act.kind != PRIORITY_CLASS || !class.flag("globalDefault") {
        return Ok(());
    }
    let Some(other) = default_class(act).await? else { return Ok(()) };
    let other = other.str("metadata.name");
    match other == class.str("metadata.name") {
        true => Ok(()),
        false => Err(act.forbidden(
            class,
            format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            ),
        )),
    }
}

/// A pod stays on a node that is gone for five minutes, unless it says otherwise; says whether the pod changed.
pub(super) fn default_tolerations(pod: &mut Value) -> bool {
    let mut changed = false;
    for key in [NOT_READY, UNREACHABLE] {
        let tolerated = pod.list("spec.tolerations").iter().any(|toleration| {
            matches!(toleration.str("key"), "" | NOT_READY | UNREACHABLE)
                && (toleration.str("key").is_empty() || toleration.str("key") == key)
                && matches!(toleration.str("effect"), "" | "NoExecute")
        });
        if !tolerated {
            pod.list_mut("spec.tolerations").push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECS,
            }));
            changed = true;
        }
    }
    changed
}

/// Nothing is scheduled to a node before it says that it is ready; says whether the node changed.
pub(super) fn taint_new_node(node: &mut Value) -> bool {
    let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
    let tainted = node
        .list("spec.taints")
        .iter()
        .any(|own| own.str("key") == NOT_READY && own.str("effect") == "NoSchedule");
    if !tainted {
        node.list_mut("spec.taints").push(taint);
    }
    !tainted
}
