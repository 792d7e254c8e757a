//! Whether this node takes a pod it was given: upstream's kubelet admission, before anything is made.

use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::Arrange;

use super::state::Told;

/// What the node has and already holds.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// `status.allocatable` and `metadata.labels` of the Node, as a tree.
    pub node: Value,
    pub node_name: String,
    /// What the pods have that are admitted and stay.
    pub pods: Vec<Share>,
    /// What those have that are on their way out, and will give back by themselves.
    pub leaving: Vec<Share>,
}

/// What becomes of a pod that was given to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Taken,
    /// There is no room now, but there will be once others have gone.
    Waits(Told),
    /// There is no place for it here.
    Refused(Told),
}

/// What a pod takes of its node.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Amounts asked for, by resource; cpu in thousandths.
    requests: Box<[(Box<str>, i64)]>,
    host_ports: Box<[HostPort]>,
}

impl Share {
    pub fn of(pod: &Value) -> Share {
        let mut names: Vec<&str> = Vec::new();
        let lists = [pod.list("spec.containers"), pod.list("spec.initContainers")];
        let containers = lists.into_iter().flatten();
        let amounts =
            containers.flat_map(|c| [c.at("resources.requests"), c.at("resources.limits")]);
        for amounts in amounts.chain([pod.at("spec.overhead")]) {
            names.extend(amounts.as_object().into_iter().flat_map(|map| map.keys()).map(|k| &**k));
        }
        names.arrange();
        names.dedup();
        Share {
            requests: names
                .into_iter()
                .map(|name| (name.into(), amount(name, requests(pod, name))))
                .collect(),
            host_ports: host_ports(pod).into(),
        }
    }

    fn requested(&self, resource: &str) -> i64 {
        self.requests.iter().find(|(name, _)| **name == *resource).map_or(0, |(_, amount)| *amount)
    }
}

fn amount(resource: &str, quantity: Quantity) -> i64 {
    match resource {
        "cpu" => quantity.milli(),
        _ => quantity.units(),
    }
}

/// Address, protocol and number.
type HostPort = (String, String, i64);

/// Whether the node takes the pod. A shortage is an answer for good only where nothing that passes by
/// itself will mend it: the failed pod would be replaced at once, and meet the same shortage.
pub fn admit(pod: &Value, view: &NodeView) -> Admission {
    let everyone: Vec<&Share> = view.pods.iter().chain(&view.leaving).collect();
    let Some(told) = refusal(pod, view, &everyone) else { return Admission::Taken };
    let staying: Vec<&Share> = view.pods.iter().collect();
    match refusal(pod, view, &staying) {
        None => Admission::Waits(told),
        Some(told) => Admission::Refused(told),
    }
}

/// The reason to refuse `pod` beside `others`, if there is one.
fn refusal(pod: &Value, view: &NodeView, others: &[&Share]) -> Option<Told> {
    let refuse = |reason: &str, message: String| {
        Some(Told::new(reason, format!("Pod was rejected: {message}")))
    };
    if !matches!(pod.str("spec.os.name"), "" | "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return refuse("PodOSNotSupported", message.into());
    }
    if let Some((resource, message)) = shortage(pod, view, others) {
        return refuse(&format!("OutOf{resource}"), message);
    }
    if !node_selected(pod, view) {
        return refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                .into(),
        );
    }
    let taken = |port| others.iter().flat_map(|pod| &pod.host_ports).any(|it| collide(port, it));
    if host_ports(pod).iter().any(taken) {
        return refuse(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                .into(),
        );
    }
    if let Some(taint) = untolerated(pod, &view.node) {
        return refuse(
            "TaintToleration",
            format!("Predicate TaintToleration failed: node(s) had untolerated taint {{{taint}}}"),
        );
    }
    None
}

/// Requests of the whole pod: the sum of apps and sidecars, or the largest init step if that is
/// larger, plus overhead.
pub fn requests(pod: &Value, resource: &str) -> Quantity {
    let of = |container: &Value| {
        container
            .at("resources.requests")
            .get(resource)
            .or_else(|| container.at("resources.limits").get(resource))
            .and_then(Quantity::from_tree)
            .unwrap_or(Quantity::ZERO)
    };
    let mut sum = pod.list("spec.containers").iter().map(of).fold(Quantity::ZERO, |a, b| a + b);
    let mut sidecars = Quantity::ZERO;
    let mut peak = Quantity::ZERO;
    for init in pod.list("spec.initContainers") {
        if init.str("restartPolicy") == "Always" {
            sidecars = sidecars + of(init);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(init));
        }
    }
    sum = (sum + sidecars).max(peak);
    match pod.at("spec.overhead").get(resource).and_then(Quantity::from_tree) {
        Some(overhead) => sum + overhead,
        None => sum,
    }
}

fn shortage(pod: &Value, view: &NodeView, others: &[&Share]) -> Option<(String, String)> {
    let allocatable = view.node.at("status.allocatable").as_object()?;
    for (resource, capacity) in allocatable {
        let capacity = amount(resource, Quantity::from_tree(capacity)?);
        let (wanted, used) = match &**resource {
            "pods" => (1, i64::try_from(others.len()).unwrap_or(i64::MAX)),
            _ => {
                let used =
                    others.iter().map(|pod| pod.requested(resource)).fold(0, i64::saturating_add);
                (amount(resource, requests(pod, resource)), used)
            }
        };
        if wanted > 0 && used.saturating_add(wanted) > capacity {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Some((resource.clone(), message));
        }
    }
    None
}

/// `spec.nodeSelector` and the required part of node affinity.
fn node_selected(pod: &Value, view: &NodeView) -> bool {
    let labels = view.node.at("metadata.labels");
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    if !pod.pairs("spec.nodeSelector").all(|(key, value)| label(key) == Some(value)) {
        return false;
    }
    let required =
        pod.at("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_null() {
        return true;
    }
    required.list("nodeSelectorTerms").iter().any(|term| {
        let expressions = term.list("matchExpressions");
        let fields = term.list("matchFields");
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|e| holds(e, label(e.str("key"))))
            && fields
                .iter()
                .all(|e| e.str("key") == "metadata.name" && holds(e, Some(&view.node_name)))
    })
}

fn holds(expression: &Value, actual: Option<&str>) -> bool {
    let values = expression.list("values");
    let listed = |actual: &str| values.iter().any(|value| value.as_str() == Some(actual));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    match expression.str("operator") {
        "In" => actual.is_some_and(listed),
        "NotIn" => !actual.is_some_and(listed),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => matches!((number(actual), bound), (Some(a), Some(b)) if a > b),
        "Lt" => matches!((number(actual), bound), (Some(a), Some(b)) if a < b),
        _ => false,
    }
}

/// The host ports of containers that stay.
fn host_ports(pod: &Value) -> Vec<HostPort> {
    let mut ports = Vec::new();
    let sidecars =
        pod.list("spec.initContainers").iter().filter(|c| c.str("restartPolicy") == "Always");
    for container in pod.list("spec.containers").iter().chain(sidecars) {
        for port in container.list("ports") {
            let number = port.int("hostPort").unwrap_or(0);
            if number > 0 {
                let protocol = match port.str("protocol") {
                    "" => "TCP",
                    protocol => protocol,
                };
                ports.push((port.str("hostIP").to_owned(), protocol.to_owned(), number));
            }
        }
    }
    ports
}

fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    a.1 == b.1 && a.2 == b.2 && (any(&a.0) || any(&b.0) || a.0 == b.0)
}

/// The kubelet minds only NoExecute; the scheduler minds the rest.
fn untolerated(pod: &Value, node: &Value) -> Option<String> {
    let tolerations = pod.list("spec.tolerations");
    node.list("spec.taints")
        .iter()
        .filter(|taint| taint.str("effect") == "NoExecute")
        .find(|taint| {
            !tolerations.iter().any(|t| {
                (t.str("effect").is_empty() || t.str("effect") == taint.str("effect"))
                    && (t.str("key").is_empty() || t.str("key") == taint.str("key"))
                    && match t.str("operator") {
                        "Exists" => true,
                        _ => !t.str("key").is_empty() && t.str("value") == taint.str("value"),
                    }
            })
        })
        .map(|taint| format!("{}: {}", taint.str("key"), taint.str("value")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn check(pod: Value, want: &str) {
        let view = NodeView {
            node: json!({
                "metadata": {"labels": {"disk": "ssd", "cores": "4"}},
                "spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]},
                "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "3"}}}),
            node_name: "n1".into(),
            pods: vec![Share::of(&json!({"spec": {"containers": [
                {"resources": {"requests": {"cpu": "500m"}}, "ports": [{"hostPort": 80}]}]}}))],
            leaving: vec![Share::of(&json!({"spec": {"containers": [
                {"resources": {"requests": {"cpu": "400m", "memory": "1Gi"}}, "ports": [{"hostPort": 81}]}]}}))],
        };
        let mut pod = pod;
        let spec = pod.as_object_mut().unwrap();
        spec.entry("tolerations").or_insert(json!([{"operator": "Exists"}]));
        let text = match admit(&json!({"spec": pod}), &view) {
            Admission::Taken => String::new(),
            Admission::Waits(told) => format!("waits {}", told.reason),
            Admission::Refused(told) => format!("{}|{}", told.reason, told.message),
        };
        assert_eq!(text, want);
    }

    #[test]
    fn refusals_read_like_upstreams() {
        check(json!({"containers": [{}]}), "");
        check(
            json!({"containers": [{"resources": {"requests": {"cpu": "600m"}}}]}),
            "OutOfcpu|Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000",
        );
        check(
            json!({"containers": [{}], "nodeSelector": {"disk": "hdd"}}),
            "NodeAffinity|Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
        // What is used already makes it no smaller.
        check(
            json!({"containers": [{"resources": {"requests": {"cpu": "9223372036854775"}}}]}),
            "OutOfcpu|Pod was rejected: Node didn't have enough resource: cpu, requested: 9223372036854775000, used: 500, capacity: 1000",
        );
        check(
            json!({"containers": [{"resources": {"requests": {"cpu": "9223372036854776"}}}]}),
            "OutOfcpu|Pod was rejected: Node didn't have enough resource: cpu, requested: 9223372036854775807, used: 500, capacity: 1000",
        );
        check(
            json!({"containers": [{}], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["3"]}]}]}}}}),
            "",
        );
        check(
            json!({"containers": [{"ports": [{"hostPort": 80, "hostIP": "127.0.0.1"}]}]}),
            "NodePorts|Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
        check(json!({"containers": [{"ports": [{"hostPort": 80, "protocol": "UDP"}]}]}), "");
        check(json!({"containers": [{}], "os": {"name": "linux"}}), "");
        check(
            json!({"containers": [{}], "os": {"name": "windows"}}),
            "PodOSNotSupported|Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
        );
        check(
            json!({"containers": [{}], "tolerations": []}),
            "TaintToleration|Pod was rejected: Predicate TaintToleration failed: node(s) had untolerated taint {gone: }",
        );
    }

    #[test]
    fn what_passes_is_waited_for() {
        let asks = |cpu: &str| json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]});
        check(asks("100m"), "");
        check(asks("500m"), "waits OutOfcpu");
        check(
            json!({"containers": [{"resources": {"requests": {"memory": "1Mi"}}}]}),
            "waits OutOfmemory",
        );
        check(json!({"containers": [{"ports": [{"hostPort": 81}]}]}), "waits NodePorts");
        // Not what no going will mend: too big, or in the wrong place as well.
        check(
            asks("501m"),
            "OutOfcpu|Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 500, capacity: 1000",
        );
        check(
            json!({"containers": [{"ports": [{"hostPort": 81}]}], "nodeSelector": {"disk": "hdd"}}),
            "NodeAffinity|Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }

    #[test]
    fn init_containers_count_by_their_peak() {
        let pod = json!({"spec": {
            "initContainers": [
                {"resources": {"requests": {"cpu": "2"}}},
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "1500m"}}}],
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        assert_eq!(requests(&pod, "cpu").milli(), 2500);
    }
}
