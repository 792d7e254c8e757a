//! Quotas: which resources a kind's objects use, how much of them, and whether a quota has room for more.

use serde_json::Value;
use stdx::{OrdSet, time::Wall};

use crate::kind::Kind;
use crate::kinds::{
    CONFIG_MAP, EVENT, PERSISTENT_VOLUME_CLAIM, POD, REPLICATION_CONTROLLER, RESOURCE_QUOTA,
    SECRET, SERVICE,
};
use crate::lens::Lens;
use crate::names;
use crate::pod::qos_class;
use crate::pod::resources::{self, Amounts, add, amounts};
use crate::quantity::Quantity;
use crate::selector::Selector;

/// What a pod's quota counts beside its number; requests also count without the prefix.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Kinds that quotas also count by their plural alone.
static COUNTED_BY_PLURAL: [&Kind; 4] =
    [&CONFIG_MAP, &RESOURCE_QUOTA, &REPLICATION_CONTROLLER, &SECRET];

/// Whether quotas count objects of a kind.
pub fn is_counted(kind: &Kind) -> bool {
    kind.stored() && kind.namespaced() && *kind != EVENT
}

/// Whether objects of a kind may use a resource of a quota.
pub fn tracks(kind: &Kind, resource: &str) -> bool {
    if let Some(counted) = resource.strip_prefix("count/") {
        return counted == kind.qualified_plural();
    }
    if *kind == POD {
        return is_pod_resource(resource);
    }
    if *kind == PERSISTENT_VOLUME_CLAIM {
        let of_class = resource.split_once(BY_CLASS).map_or(resource, |(_, what)| what);
        return ["persistentvolumeclaims", "requests.storage"].contains(&of_class);
    }
    if *kind == SERVICE {
        return ["services", "services.nodeports", "services.loadbalancers"].contains(&resource);
    }
    COUNTED_BY_PLURAL.contains(&kind) && resource == kind.plural
}

fn is_pod_resource(resource: &str) -> bool {
    let requested = resource.strip_prefix("requests.").unwrap_or(resource);
    resource == "pods"
        || COMPUTE.contains(&requested)
        || resource.strip_prefix("limits.").is_some_and(|name| COMPUTE.contains(&name))
        || requested.starts_with("hugepages-")
        || (!is_native(resource) && resource.starts_with("requests."))
}

/// Whether a resource is Kubernetes' own.
pub fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// Whether a resource of nodes is somebody else's (`example.com/gpu`).
pub fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && names::qualified(&format!("requests.{resource}")).is_ok()
}

/// Whether what an object uses depends on more than that it is there.
pub fn looks_into(kind: &Kind) -> bool {
    [&POD, &SERVICE, &PERSISTENT_VOLUME_CLAIM].iter().any(|it| **it == *kind)
}

/// What one object of a kind uses of any quota.
pub fn usage(kind: &Kind, object: &Value, now: Wall) -> Amounts {
    let one = Quantity::from_units(1);
    let mut usage = Amounts::from([(format!("count/{}", kind.qualified_plural()), one)]);
    if COUNTED_BY_PLURAL.contains(&kind) {
        usage.insert(kind.plural.into(), one);
    }
    if *kind == POD && is_charged(object, now) {
        pod(object.at("spec"), &mut usage);
    } else if *kind == SERVICE {
        service(object.at("spec"), &mut usage);
    } else if *kind == PERSISTENT_VOLUME_CLAIM {
        claim(object, &mut usage);
    }
    usage
}

/// False of a pod that has ended, or that should have.
fn is_charged(pod: &Value, now: Wall) -> bool {
    !matches!(pod.str("status.phase"), "Succeeded" | "Failed")
        && charged_until(pod).is_none_or(|until| now <= until)
}

/// Up to when a pod that is being deleted counts.
pub fn charged_until(pod: &Value) -> Option<Wall> {
    let deleted = crate::time::parse(pod.str("metadata.deletionTimestamp"))?;
    let grace_secs = pod.int("metadata.deletionGracePeriodSeconds")?;
    Some(deleted + std::time::Duration::from_secs(u64::try_from(grace_secs).unwrap_or(0)))
}

fn pod(spec: &Value, usage: &mut Amounts) {
    usage.insert("pods".into(), Quantity::from_units(1));
    compute(
        &resources::total_with_overhead(spec, "requests"),
        &resources::total_with_overhead(spec, "limits"),
        usage,
    );
}

fn compute(requests: &Amounts, limits: &Amounts, usage: &mut Amounts) {
    for (name, amount) in requests {
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if plain {
            usage.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        usage.insert(format!("limits.{name}"), *amount);
    }
}

fn service(spec: &Value, usage: &mut Amounts) {
    let ports = spec.list("ports");
    let balances = spec.str("type") == "LoadBalancer";
    let has_number = |port: &&Value| port.int("nodePort").is_some_and(|number| number != 0);
    let n_ports = match spec.str("type") {
        "LoadBalancer" if spec.at("allocateLoadBalancerNodePorts") == false => {
            ports.iter().filter(has_number).count()
        }
        "NodePort" | "LoadBalancer" => ports.len(),
        _ => 0,
    };
    let n_ports = i64::try_from(n_ports).unwrap_or(i64::MAX);
    for (name, n) in [("", 1), (".nodeports", n_ports), (".loadbalancers", i64::from(balances))] {
        usage.insert(format!("services{name}"), Quantity::from_units(n));
    }
}

fn claim(claim: &Value, usage: &mut Amounts) {
    let beta = claim.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class");
    let class = beta.unwrap_or(claim.str("spec.storageClassName"));
    let mut put = |name: &str, amount: Quantity| {
        usage.insert(name.into(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{BY_CLASS}{name}"), amount);
        }
    };
    put("persistentvolumeclaims", Quantity::from_units(1));
    let size = |path: &str| Quantity::from_tree(claim.at(path));
    if let Some(asked) = size("spec.resources.requests.storage") {
        let given = size("status.allocatedResources.storage");
        put("requests.storage", given.map_or(asked, |given| given.max(asked)).rounded_up());
    }
}

/// Whether an object is in the scopes of a quota's spec. Only pods are in any.
pub fn is_in_scopes(kind: &Kind, object: &Value, spec: &Value) -> bool {
    let scopes = spec.list("scopes").iter().filter_map(Value::as_str);
    let mut all = scopes.map(|scope| (scope, "Exists", &[][..])).chain(
        spec.list("scopeSelector.matchExpressions")
            .iter()
            .map(|one| (one.str("scopeName"), one.str("operator"), one.list("values"))),
    );
    all.all(|(scope, operator, values)| {
        *kind == POD && is_in_scope(object, scope, operator, values)
    })
}

fn is_in_scope(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let spec = pod.at("spec");
    let has_deadline = spec.int("activeDeadlineSeconds").is_some_and(|secs| secs >= 0);
    let is_best_effort = || match pod.str("status.qosClass") {
        "" => qos_class(spec) == "BestEffort",
        class => class == "BestEffort",
    };
    match scope {
        "Terminating" => has_deadline,
        "NotTerminating" => !has_deadline,
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "PriorityClass" => {
            let class = spec.str("priorityClassName");
            let labels = (!class.is_empty()).then_some(("PriorityClass", class));
            let expression = serde_json::json!({"matchExpressions": [
                {"key": "PriorityClass", "operator": operator, "values": values},
            ]});
            Selector::from_label_selector(&expression).matches(labels)
        }
        "CrossNamespacePodAffinity" => {
            let looks_away =
                |term: &Value| !term.list("namespaces").is_empty() || term.has("namespaceSelector");
            ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
                let rules = spec.at("affinity").at(kind);
                let hard = "requiredDuringSchedulingIgnoredDuringExecution";
                let soft = "preferredDuringSchedulingIgnoredDuringExecution";
                rules.list(hard).iter().any(looks_away)
                    || rules.list(soft).iter().any(|soft| looks_away(soft.at("podAffinityTerm")))
            })
        }
        _ => false,
    }
}

/// A quota over cpu or memory wants each container to say how much.
fn check_pod_says(resources: &OrdSet<&str>, spec: &Value) -> Result<(), String> {
    let mut missing: Vec<String> = Vec::new();
    for resource in resources {
        let name = resource.rsplit('.').next().unwrap_or(resource);
        if name != "cpu" && name != "memory" {
            continue;
        }
        let what = if resource.starts_with("limits.") { "limits" } else { "requests" };
        let containers = spec.list("containers").iter().chain(spec.list("initContainers"));
        let silent = containers.filter(|one| one.at("resources").at(what).get(name).is_none());
        let silent: OrdSet<&str> = silent.map(|one| one.str("name")).collect();
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.into_iter().collect();
            missing.push(format!("{resource} for: {}", silent.join(",")));
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("must specify {}", missing.join("; "))),
    }
}

/// What writing `new` in the place of `old` makes of the quotas of its namespace: for those that
/// change, their place in `quotas` and the new `status.used`.
///
/// # Errors
/// Why a quota has no room for it, in upstream's words.
pub fn admit(
    quotas: &[Value],
    kind: &Kind,
    new: &Value,
    old: Option<&Value>,
    now: Wall,
) -> Result<Vec<(usize, Amounts)>, String> {
    let mut concerned = Vec::new();
    for (idx, quota) in quotas.iter().enumerate() {
        let hard = quota.at("status.hard").as_object();
        let names = hard.into_iter().flatten().map(|(name, _)| name.as_str());
        let tracked: OrdSet<&str> = names.filter(|name| tracks(kind, name)).collect();
        if tracked.is_empty() || !is_in_scopes(kind, new, quota.at("spec")) {
            continue;
        }
        let name = quota.str("metadata.name");
        if *kind == POD {
            check_pod_says(&tracked, new.at("spec"))
                .map_err(|why| format!("failed quota: {name}: {why}"))?;
        }
        if tracked.iter().any(|resource| quota.at("status.used").get(resource).is_none()) {
            let tracked: Vec<&str> = tracked.into_iter().collect();
            let tracked = tracked.join(",");
            return Err(format!("status unknown for quota: {name}, resources: {tracked}"));
        }
        concerned.push((idx, quota));
    }
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = usage(kind, new, now);
    let negative: Vec<&str> =
        wanted.iter().filter(|(_, n)| n.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let negative = negative.join(",");
        return Err(format!("quota usage is negative for resource(s): {negative}"));
    }
    if let Some(old) = old {
        for (name, had) in usage(kind, old, now) {
            if let Some(wants) = wanted.get_mut(&name) {
                *wants = (*wants - had).max(Quantity::ZERO);
            }
        }
    }
    wanted.retain(|_, amount| !amount.is_zero());
    let mut changed = Vec::new();
    for (idx, quota) in concerned {
        let hard = amounts(quota.at("status.hard"));
        let mut asked = wanted.clone();
        asked.retain(|name, _| hard.contains_key(name));
        if asked.is_empty() {
            continue;
        }
        let before = amounts(quota.at("status.used"));
        let mut used = before.clone();
        add(&mut used, &asked);
        let is_exceeded = |name: &String| used.get(name) > hard.get(name);
        let exceeded: OrdSet<&String> = asked.keys().filter(|name| is_exceeded(name)).collect();
        if !exceeded.is_empty() {
            let show = |all: &Amounts| {
                let part = all.iter().filter(|(name, _)| exceeded.contains(name));
                part.map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(",")
            };
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.str("metadata.name"),
                show(&asked),
                show(&before),
                show(&hard)
            ));
        }
        changed.push((idx, used));
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::{DEPLOYMENT, REPLICA_SET};

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": spec})
    }

    fn container(name: &str, requests: Value, limits: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn what_objects_use() {
        let asking = pod(json!({"containers": [
            container("c", json!({"cpu": "500m", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}), json!({"cpu": "1", "memory": "1Gi"})),
        ]}));
        let mut ended = asking.clone();
        ended["status"] = json!({"phase": "Failed"});
        let mut stuck = asking.clone();
        stuck["metadata"] =
            json!({"deletionTimestamp": "1970-01-01T00:00:50Z", "deletionGracePeriodSeconds": 30});
        let mut leaving = stuck.clone();
        leaving["metadata"]["deletionGracePeriodSeconds"] = json!(60);
        let all = json!({
            "count/pods": "1", "pods": "1", "cpu": "500m", "requests.cpu": "500m", "limits.cpu": "1",
            "limits.memory": "1Gi", "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi",
        });
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30_000}]);
        let service = |spec: Value| json!({"spec": spec});
        let services = |ports: &str, balancers: &str| json!({"count/services": "1", "services": "1", "services.nodeports": ports, "services.loadbalancers": balancers});
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}}});
        for (kind, object, wanted) in [
            (&POD, asking, all.clone()),
            (&POD, ended, json!({"count/pods": "1"})),
            (&POD, stuck, json!({"count/pods": "1"})),
            (&POD, leaving, all),
            (&SERVICE, service(json!({"type": "ClusterIP", "ports": ports})), services("0", "0")),
            (&SERVICE, service(json!({"type": "NodePort", "ports": ports})), services("2", "0")),
            (
                &SERVICE,
                service(json!({"type": "LoadBalancer", "ports": ports})),
                services("2", "1"),
            ),
            (
                &SERVICE,
                service(
                    json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}),
                ),
                services("1", "1"),
            ),
            (
                &PERSISTENT_VOLUME_CLAIM,
                claim,
                json!({
                    "count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2",
                    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                    "gold.storageclass.storage.k8s.io/requests.storage": "2",
                }),
            ),
            (&SECRET, json!({}), json!({"count/secrets": "1", "secrets": "1"})),
            (&DEPLOYMENT, json!({}), json!({"count/deployments.apps": "1"})),
        ] {
            let used = usage(kind, &object, Wall::from_secs(90));
            assert_eq!(resources::tree(&used), wanted, "{object}");
            for name in used.keys() {
                assert!(tracks(kind, name), "{name} of {}", kind.name);
            }
        }
        assert!(!tracks(&POD, "services") && !tracks(&POD, "requests.kubernetes.io/x"));
        assert!(
            !tracks(&REPLICA_SET, "count/deployments.apps") && !tracks(&REPLICA_SET, "replicasets")
        );
    }

    #[test]
    fn scopes() {
        let best_effort = json!({"containers": [{"name": "c"}]});
        let away = |what: &str, term: Value| json!({"affinity": {what: {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}}, "containers": []});
        let of_class = |name: &str| json!({"priorityClassName": name});
        let priority = |operator: &str| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}});
        let exists = json!({"scopes": ["PriorityClass"]});
        let scope = |scope: &str| json!({"scopes": [scope]});
        for (spec, quota, wanted) in [
            (json!({}), json!({}), true),
            (json!({"activeDeadlineSeconds": 5}), scope("Terminating"), true),
            (json!({}), scope("Terminating"), false),
            (json!({}), scope("NotTerminating"), true),
            (best_effort.clone(), scope("BestEffort"), true),
            (best_effort.clone(), scope("NotBestEffort"), false),
            (best_effort.clone(), json!({"scopes": ["BestEffort", "Terminating"]}), false),
            (
                json!({"containers": [container("c", json!({"cpu": "1"}), json!({}))]}),
                scope("NotBestEffort"),
                true,
            ),
            (of_class("high"), priority("In"), true),
            (of_class("low"), priority("In"), false),
            (of_class("low"), priority("NotIn"), true),
            (json!({}), priority("NotIn"), true),
            (of_class("low"), exists.clone(), true),
            (json!({}), exists, false),
            (
                away("podAffinity", json!({"namespaces": ["x"]})),
                scope("CrossNamespacePodAffinity"),
                true,
            ),
            (
                away("podAntiAffinity", json!({"namespaceSelector": {}})),
                scope("CrossNamespacePodAffinity"),
                true,
            ),
            (away("podAffinity", json!({})), scope("CrossNamespacePodAffinity"), false),
        ] {
            assert_eq!(is_in_scopes(&POD, &pod(spec.clone()), &quota), wanted, "{spec} {quota}");
        }
        assert!(!is_in_scopes(&SECRET, &json!({}), &scope("NotTerminating")), "pods only");
    }

    #[test]
    fn room_and_refusals() {
        let quota = |hard: Value, used: Value| json!({"metadata": {"name": "q"}, "spec": {}, "status": {"hard": hard, "used": used}});
        let small = || {
            pod(
                json!({"containers": [container("c", json!({"cpu": "1"}), json!({}))], "initContainers": [{"name": "i"}]}),
            )
        };
        let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}]}});
        let told = |quotas: &[Value], kind: &Kind, new: &Value, old: Option<&Value>| match admit(
            quotas,
            kind,
            new,
            old,
            Wall::from_secs(0),
        ) {
            Err(why) => why,
            Ok(changed) => changed
                .iter()
                .map(|(idx, used)| format!("{idx}{} ", resources::tree(used)))
                .collect(),
        };
        for (quotas, kind, new, old, wanted) in [
            (vec![], &POD, small(), None, ""),
            (vec![quota(json!({}), json!({}))], &POD, small(), None, ""),
            (
                vec![
                    quota(json!({"secrets": "1"}), json!({"secrets": "1"})),
                    quota(
                        json!({"pods": "2", "services": "0"}),
                        json!({"pods": "1", "services": "0"}),
                    ),
                ],
                &POD,
                small(),
                None,
                r#"1{"pods":"2","services":"0"} "#,
            ),
            (
                vec![quota(
                    json!({"pods": "2", "count/pods": "5"}),
                    json!({"pods": "2", "count/pods": "2"}),
                )],
                &POD,
                small(),
                None,
                "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
            ),
            (
                vec![quota(json!({"pods": "2"}), json!({}))],
                &POD,
                small(),
                None,
                "status unknown for quota: q, resources: pods",
            ),
            (
                vec![quota(
                    json!({"cpu": "2", "limits.memory": "1Gi"}),
                    json!({"cpu": "0", "limits.memory": "0"}),
                )],
                &POD,
                small(),
                None,
                "failed quota: q: must specify cpu for: i; limits.memory for: c,i",
            ),
            (
                vec![quota(json!({"services.nodeports": "1"}), json!({"services.nodeports": "1"}))],
                &SERVICE,
                service("NodePort"),
                Some(service("ClusterIP")),
                "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1",
            ),
            // What becomes less is given back by the controller.
            (
                vec![quota(json!({"services.nodeports": "1"}), json!({"services.nodeports": "1"}))],
                &SERVICE,
                service("ClusterIP"),
                Some(service("NodePort")),
                "",
            ),
            // A quota that was lowered below what is used stops only what wants more.
            (
                vec![quota(
                    json!({"secrets": "1", "count/secrets": "9"}),
                    json!({"secrets": "3", "count/secrets": "3"}),
                )],
                &SECRET,
                json!({}),
                None,
                "exceeded quota: q, requested: secrets=1, used: secrets=3, limited: secrets=1",
            ),
        ] {
            assert_eq!(told(&quotas, kind, &new, old.as_ref()), wanted);
        }
    }
}
