//! What a LimitRange makes of pods and claims: defaults for containers, and what is refused.

use api::kind::Kind;
use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD};
use api::lens::{Lens, LensMut};
use api::pod::resources::{Amounts, amounts, total};
use api::quantity::Quantity;
use serde_json::Value;
use stdx::Arrange;

const NOTE: &str = "kubernetes.io/limit-ranger";

/// Gives a pod's containers what they do not say; tells whether the pod changed.
pub fn apply_defaults(range: &Value, pod: &mut Value) -> bool {
    let limits = range.list("spec.limits").iter();
    let limits: Vec<&Value> = limits.filter(|limit| limit.str("type") == "Container").collect();
    let mut told = Vec::new();
    for (field, called) in [("containers", "container"), ("initContainers", "init container")] {
        let path = format!("spec.{field}");
        let Some(Value::Array(containers)) = pod.at_mut(&path) else { continue };
        for container in containers.iter_mut().filter(|container| container.is_object()) {
            for (what, from) in [("requests", "defaultRequest"), ("limits", "default")] {
                let given = limits.iter().flat_map(|limit| limit.at(from).as_object());
                let mut set = Vec::new();
                for (name, amount) in given.flatten() {
                    let path = format!("resources.{what}");
                    if container.at(&path).get(name).is_none() {
                        container.map_mut(&path).insert(name.clone(), amount.clone());
                        set.push(name.as_str());
                    }
                }
                if !set.is_empty() {
                    set.arrange();
                    let (set, what) = (set.join(", "), &what[..what.len() - 1]);
                    told.push(format!("{set} {what} for {called} {}", container.str("name")));
                }
            }
        }
    }
    if told.is_empty() {
        return false;
    }
    let text = format!("LimitRanger plugin set: {}", told.join("; "));
    pod.map_mut("metadata.annotations").insert(NOTE.into(), text.into());
    true
}

/// Why a pod or a claim does not fit into a range, in upstream's words; empty if it does.
pub fn violations(range: &Value, kind: &Kind, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for limit in range.list("spec.limits") {
        match limit.str("type") {
            "Container" if *kind == POD => {
                let spec = object.at("spec");
                for one in spec.list("containers").iter().chain(spec.list("initContainers")) {
                    let of = |what: &str| amounts(one.at("resources").at(what));
                    check(limit, &of("requests"), Some(&of("limits")), &mut found);
                }
            }
            "Pod" if *kind == POD => {
                let of = |what: &str| total(object.at("spec"), what);
                check(limit, &of("requests"), Some(&of("limits")), &mut found);
            }
            "PersistentVolumeClaim" if *kind == PERSISTENT_VOLUME_CLAIM => {
                let requests = amounts(object.at("spec.resources.requests"));
                check(limit, &requests, None, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Claims have no limits that count: the most there may be is about what they request.
fn check(limit: &Value, requests: &Amounts, limits: Option<&Amounts>, found: &mut Vec<String>) {
    let none = Amounts::new();
    let kind = limit.str("type");
    for (name, least) in amounts(limit.at("min")) {
        let about = format!("minimum {name} usage per {kind} is {least}");
        let most = limits.unwrap_or(&none).get(&name);
        match (requests.get(&name), most) {
            (None, _) => found.push(format!("{about}.  No request is specified")),
            (Some(asked), _) if *asked < least => {
                found.push(format!("{about}, but request is {asked}"));
            }
            (_, Some(most)) if *most < least => found.push(format!("{about}, but limit is {most}")),
            _ => {}
        }
    }
    for (name, bound) in amounts(limit.at("max")) {
        let about = format!("maximum {name} usage per {kind} is {bound}");
        let (asked, most) = (requests.get(&name), limits.map(|limits| limits.get(&name)));
        match (most, asked) {
            (Some(None), _) => found.push(format!("{about}.  No limit is specified")),
            (None, None) => found.push(format!("{about}.  No request is specified")),
            (Some(Some(most)), _) if *most > bound => {
                found.push(format!("{about}, but limit is {most}"));
            }
            (_, Some(asked)) if *asked > bound => {
                found.push(format!("{about}, but request is {asked}"));
            }
            _ => {}
        }
    }
    let Some(limits) = limits else { return };
    for (name, most) in amounts(limit.at("maxLimitRequestRatio")) {
        let about = format!("{name} max limit to request ratio per {kind} is {most}");
        let of =
            |amounts: &Amounts| amounts.get(&name).copied().filter(|n: &Quantity| !n.is_zero());
        match (of(requests), of(limits)) {
            (None, _) => {
                found.push(format!("{about}, but no request is specified or request is 0"))
            }
            (_, None) => found.push(format!("{about}, but no limit is specified or limit is 0")),
            (Some(asked), Some(limit)) => {
                let ratio = limit.as_f64() / asked.as_f64();
                if ratio > most.as_f64() {
                    found.push(format!("{about}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(limits: Value) -> Value {
        json!({"spec": {"limits": [limits]}})
    }

    #[test]
    fn what_containers_do_not_say() {
        let range = range(json!({
            "type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"},
        }));
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"memory": "2Gi", "cpu": "2"}, "requests": {"cpu": "0"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}],
        }});
        assert!(apply_defaults(&range, &mut pod));
        assert_eq!(
            pod.entry("metadata.annotations", NOTE),
            Some(
                "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for init container i"
            )
        );
        let resources = |path: &str| pod.at(path).at("resources").clone();
        assert_eq!(
            resources("spec.containers.0"),
            json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}})
        );
        assert_eq!(resources("spec.containers.1").at("requests"), &json!({"cpu": "0"}));
        let mut again = pod.clone();
        assert!(!apply_defaults(&range, &mut again) && again == pod);
    }

    #[test]
    fn what_does_not_fit() {
        let pod = |requests: Value, limits: Value| {
            let one = json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
            json!({"spec": {"containers": [one.clone(), one]}})
        };
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let cpu = |amount: &str| json!({"cpu": amount});
        for (limit, kind, object, wanted) in [
            (
                json!({"type": "Container", "min": cpu("100m"), "max": cpu("1")}),
                &POD,
                pod(cpu("100m"), cpu("1")),
                "",
            ),
            (
                json!({"type": "Pod", "min": cpu("1"), "max": cpu("2")}),
                &POD,
                pod(cpu("400m"), cpu("1500m")),
                "minimum cpu usage per Pod is 1, but request is 800m|maximum cpu usage per Pod is 2, but limit is 3",
            ),
            (
                json!({"type": "Pod", "min": cpu("1"), "max": {"memory": "1Gi"}}),
                &POD,
                pod(json!({}), json!({})),
                "minimum cpu usage per Pod is 1.  No request is specified|maximum memory usage per Pod is 1Gi.  No limit is specified",
            ),
            (
                json!({"type": "Pod", "max": cpu("1")}),
                &POD,
                pod(cpu("1"), cpu("500m")),
                "maximum cpu usage per Pod is 1, but request is 2",
            ),
            (
                json!({"type": "Pod", "min": cpu("1")}),
                &POD,
                pod(cpu("1"), cpu("400m")),
                "minimum cpu usage per Pod is 1, but limit is 800m",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": cpu("1500m")}),
                &POD,
                pod(cpu("500m"), cpu("1")),
                "cpu max limit to request ratio per Pod is 1500m, but provided ratio is 2.000000",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": cpu("2")}),
                &POD,
                pod(cpu("500m"), cpu("1")),
                "",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": cpu("2")}),
                &POD,
                pod(cpu("0"), cpu("1")),
                "cpu max limit to request ratio per Pod is 2, but no request is specified or request is 0",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": cpu("2")}),
                &POD,
                pod(cpu("1"), json!({})),
                "cpu max limit to request ratio per Pod is 2, but no limit is specified or limit is 0",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}),
                &PERSISTENT_VOLUME_CLAIM,
                claim("3Gi"),
                "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}}),
                &PERSISTENT_VOLUME_CLAIM,
                claim("1Mi"),
                "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}),
                &POD,
                pod(cpu("1"), cpu("1")),
                "",
            ),
        ] {
            assert_eq!(violations(&range(limit), kind, &object).join("|"), wanted);
        }
    }
}
