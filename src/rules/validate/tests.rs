//! Validation as tables: an object, and the complaints it earns.

use api::codec::{FieldValidation, decode_json_strict};
use api::kinds::{self, KINDS};
use api::lens::LensMut;
use api::schema::{Scalar, Shape, TypeId};
use serde_json::{Value, json};

use super::*;
use crate::checks::JUDGED_ELSEWHERE;

mod jobs;
mod quotas;
mod words;

/// Decodes, defaults and prepares as the server does.
fn ready(kind: &'static api::Kind, tree: &Value) -> Value {
    let text = serde_json::to_vec(tree).unwrap();
    let mut tree = decode_json_strict(kind, &text, FieldValidation::Strict).unwrap().tree;
    if kind.namespaced() {
        tree.set_default("metadata.namespace", "default");
    }
    tree.set_default("metadata.uid", "u-1");
    crate::defaults::apply(kind, &mut tree);
    crate::strategy::create(kind, &mut tree);
    tree
}

fn message(result: Result<(), Status>) -> String {
    result.map_or_else(|status| status.message().to_owned(), |()| "ok".to_owned())
}

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut tree =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    change(&mut tree);
    ready(&kinds::POD, &tree)
}

fn deployment(change: impl FnOnce(&mut Value)) -> Value {
    let mut tree = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    change(&mut tree);
    ready(&kinds::DEPLOYMENT, &tree)
}

#[test]
fn pods() {
    let check =
        |change: &dyn Fn(&mut Value)| message(create(&kinds::POD, &pod(|tree| change(tree))));
    assert_eq!(check(&|_| {}), "ok");
    assert_eq!(
        check(&|tree| {
            tree.remove("spec.containers");
        }),
        "Pod \"p\" is invalid: spec.containers: Required value"
    );
    assert_eq!(
        check(&|tree| tree.set("spec.restartPolicy", "Sometimes")),
        "Pod \"p\" is invalid: spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""
    );
    assert_eq!(
        check(&|tree| {
            tree.remove("spec.containers.0.image");
        }),
        "Pod \"p\" is invalid: spec.containers[0].image: Required value"
    );
    assert_eq!(
        check(&|tree| tree
            .set("spec.containers.0.volumeMounts", json!([{"name": "v", "mountPath": "/v"}]))),
        "Pod \"p\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"v\""
    );
    assert_eq!(
        check(&|tree| tree.set("spec.containers.0.ports", json!([{"containerPort": 70000}]))),
        "Pod \"p\" is invalid: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"
    );
    assert_eq!(
        check(&|tree| tree.set(
            "spec.containers.0.resources",
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
        )),
        "Pod \"p\" is invalid: spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"
    );
    let two = check(&|tree| {
        tree.set("metadata.labels", json!({"a b": "c"}));
        tree.set(
            "spec.volumes",
            json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
        );
    });
    assert!(two.starts_with("Pod \"p\" is invalid: [metadata.labels: Invalid value: \"a b\": name part must consist of"), "{two}");
    assert!(
        two.ends_with(
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type]"
        ),
        "{two}"
    );
    for (probe, want) in [
        (
            json!({"httpGet": {"port": 80}, "successThreshold": 2}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (json!({}), "livenessProbe: Required value: must specify a handler type"),
        (
            json!({"tcpSocket": {"port": "-x"}}),
            "livenessProbe.tcpSocket.port: Invalid value: \"-x\": must not begin or end with a hyphen",
        ),
    ] {
        let told = check(&|tree| tree.set("spec.containers.0.livenessProbe", probe.clone()));
        assert!(told.contains(want), "{told}");
    }
}

#[test]
fn pod_updates() {
    let old = pod(|_| {});
    let mut new = old.clone();
    new.set("spec.containers.0.image", "j");
    assert_eq!(message(update(&kinds::POD, &new, &old)), "ok");
    new.set("spec.nodeSelector", json!({"a": "b"}));
    let told = message(update(&kinds::POD, &new, &old));
    assert!(
        told.contains("spec: Forbidden: pod updates may not change fields other than"),
        "{told}"
    );
    let mut new = old.clone();
    new.set("spec.tolerations", json!([{"operator": "Exists"}]));
    assert_eq!(message(update(&kinds::POD, &new, &old)), "ok");
    assert!(message(update(&kinds::POD, &old, &new)).contains("spec.tolerations: Forbidden"));
    // What may change must still be right.
    let mut new = old.clone();
    new.set("spec.tolerations", json!([{"operator": "Equal"}]));
    let told = message(update(&kinds::POD, &new, &old));
    assert!(told.contains("spec.tolerations[0].operator: Invalid value: \"Equal\""), "{told}");
}

#[test]
fn pod_subresources() {
    let old = pod(|_| {});
    let mut new = old.clone();
    new.set("spec.containers.0.resources.limits", json!({"cpu": "1"}));
    assert_eq!(message(update_subresource(&kinds::POD, "resize", &new, &old)), "ok");
    assert!(message(update(&kinds::POD, &new, &old)).contains("Forbidden"));
    let mut new = old.clone();
    new.set(
        "spec.ephemeralContainers",
        json!([{"name": "e", "image": "i", "targetContainerName": "c"}]),
    );
    assert_eq!(message(update_subresource(&kinds::POD, "ephemeralcontainers", &new, &old)), "ok");
    let told = message(update_subresource(&kinds::POD, "ephemeralcontainers", &old, &new));
    assert!(told.contains("existing ephemeral containers \"e\" may not be removed"), "{told}");
}

#[test]
fn workloads() {
    let check = |change: &dyn Fn(&mut Value)| {
        message(create(&kinds::DEPLOYMENT, &deployment(|t| change(t))))
    };
    assert_eq!(check(&|_| {}), "ok");
    assert_eq!(
        check(&|tree| {
            tree.remove("spec.selector");
        }),
        "Deployment.apps \"d\" is invalid: [spec.selector: Required value, spec.template.metadata.labels: \
         Invalid value: map[string]string{\"a\":\"b\"}: `selector` does not match template `labels`]"
    );
    assert_eq!(
        check(&|tree| tree.set("spec.template.metadata.labels", json!({"a": "x"}))),
        "Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value: map[string]string{\"a\":\"x\"}: `selector` does not match template `labels`"
    );
    assert_eq!(
        check(&|tree| tree.set("spec.template.spec.restartPolicy", "Never")),
        "Deployment.apps \"d\" is invalid: spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
    );
    let old = deployment(|_| {});
    let new = deployment(|tree| {
        tree.set("spec.selector.matchLabels", json!({"a": "c"}));
        tree.set("spec.template.metadata.labels", json!({"a": "c"}));
    });
    assert_eq!(
        message(update(&kinds::DEPLOYMENT, &new, &old)),
        "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{\"a\":\"c\"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is immutable"
    );
    let job = ready(
        &kinds::JOB,
        &json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "containers": [{"name": "c", "image": "i"}]}}}}),
    );
    assert_eq!(
        message(create(&kinds::JOB, &job)),
        "Job.batch \"j\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
    );
}

#[test]
fn other_kinds() {
    for (kind, tree, want) in [
        (
            &kinds::SERVICE,
            json!({"metadata": {"name": "s"}, "spec": {}}),
            "Service \"s\" is invalid: spec.ports: Required value",
        ),
        (
            &kinds::SERVICE,
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
            "ok",
        ),
        (
            &kinds::SERVICE,
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}, {"port": 80, "name": "b"}]}}),
            "Service \"s\" is invalid: [spec.ports[0].name: Required value, spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}]",
        ),
        (
            &kinds::CONFIG_MAP,
            json!({"metadata": {"name": "Bad_Name"}}),
            "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            &kinds::SECRET,
            json!({"metadata": {"name": "s"}, "type": "kubernetes.io/ssh-auth"}),
            "Secret \"s\" is invalid: data[ssh-privatekey]: Required value",
        ),
        (
            &kinds::PERSISTENT_VOLUME_CLAIM,
            json!({"metadata": {"name": "c"}, "spec": {}}),
            "PersistentVolumeClaim \"c\" is invalid: [spec.accessModes: Required value: at least 1 access mode is required, spec.resources[storage]: Required value]",
        ),
        (
            &kinds::CRON_JOB,
            json!({"metadata": {"name": "c"}, "spec": {"schedule": "61 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
            "CronJob.batch \"c\" is invalid: spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61",
        ),
        (
            &kinds::ROLE_BINDING,
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "x"}]}),
            "RoleBinding.rbac.authorization.k8s.io \"b\" is invalid: subjects[0].namespace: Required value",
        ),
        (
            &kinds::NAMESPACE,
            json!({"metadata": {"name": "a.b"}}),
            "Namespace \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": must not contain dots",
        ),
        (&kinds::LEASE, json!({"metadata": {"name": "l"}, "spec": {}}), "ok"),
        (
            &kinds::ROLE,
            json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
            "ok",
        ),
    ] {
        assert_eq!(message(create(kind, &ready(kind, &tree))), want, "{tree}");
    }
}

/// Each change of a valid object, and what is said of it. The words are those of a stock kube-apiserver.
#[test]
fn rules_of_one_field() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let slice = json!({"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    let endpoints = json!({"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]});
    let budget = json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1}});
    let class = json!({"metadata": {"name": "x"}, "value": 5});
    let revision = json!({"metadata": {"name": "x"}, "data": {"a": "b"}, "revision": 1});
    let node = json!({"metadata": {"name": "x"}, "spec": {"podCIDR": "10.0.0.0/24"}});
    let service = json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}});
    let volume = json!({"metadata": {"name": "x"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    let cases: &[(&'static api::Kind, &Value, &str, Value, String)] = &[
        (&kinds::ENDPOINT_SLICE, &slice, "endpoints.0.addresses", json!([]), "endpoints[0].addresses: Required value: must contain at least 1 address".into()),
        (&kinds::ENDPOINT_SLICE, &slice, "endpoints.0.addresses", json!(["a"]), "[endpoints[0].addresses[0]: Invalid value: \"a\": must be a valid IPv4 address, endpoints[0].addresses[0]: Invalid value: \"a\": must be a valid IP address]".into()),
        (&kinds::ENDPOINT_SLICE, &slice, "endpoints.0.hostname", json!("A"), format!("endpoints[0].hostname: Invalid value: \"A\": {label}")),
        (&kinds::ENDPOINT_SLICE, &slice, "endpoints.0.hints", json!({"forZones": [{"name": "z"}, {"name": "z"}]}), "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"".into()),
        (&kinds::ENDPOINT_SLICE, &slice, "ports.0.name", json!("a/b"), format!("ports[0].name: Invalid value: \"a/b\": {label}")),
        (&kinds::ENDPOINT_SLICE, &slice, "addressType", json!("IP"), "addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"".into()),
        (&kinds::ENDPOINTS, &endpoints, "subsets.0.addresses.0.ip", json!(""), "[subsets[0].addresses[0].ip: Invalid value: \"\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), subsets[0].addresses[0].ip: Invalid value: \"\": must be a valid IP address]".into()),
        (&kinds::ENDPOINTS, &endpoints, "subsets.0.ports.0.name", json!("a/b"), format!("subsets[0].ports[0].name: Invalid value: \"a/b\": {label}")),
        (&kinds::POD_DISRUPTION_BUDGET, &budget, "spec.unhealthyPodEvictionPolicy", json!(""), "spec.unhealthyPodEvictionPolicy: Unsupported value: \"\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"".into()),
        (&kinds::POD_DISRUPTION_BUDGET, &budget, "spec.minAvailable", json!("101%"), "spec.minAvailable: Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:\"101%\"}: must not be greater than 100%".into()),
        (&kinds::PRIORITY_CLASS, &class, "preemptionPolicy", json!("Maybe"), "preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\"".into()),
        (&kinds::CONTROLLER_REVISION, &revision, "data", json!(5), "data: Required value: data must be a valid JSON object".into()),
        (&kinds::NODE, &node, "spec.podCIDR", json!("a"), "spec.podCIDRs[0]: Invalid value: \"a\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()),
        (&kinds::NODE, &node, "spec.podCIDRs", json!(["10.0.0.0/24", "10.0.1.0/24"]), "spec.podCIDRs: Invalid value: []string{\"10.0.0.0/24\", \"10.0.1.0/24\"}: may specify no more than one CIDR for each IP family".into()),
        (&kinds::NODE, &node, "spec.taints", json!([{"key": "k"}]), "metadata.taints[0].effect: Required value".into()),
        (&kinds::SERVICE, &service, "spec.trafficDistribution", json!("a/b"), "spec.trafficDistribution: Unsupported value: \"a/b\": supported values: \"PreferClose\"".into()),
        (&kinds::SERVICE, &service, "spec.loadBalancerSourceRanges", json!(["10.0.0.0/8", "x"]), "[spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer', spec.LoadBalancerSourceRanges[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)]".into()),
        (&kinds::SERVICE, &service, "metadata.annotations", json!({"service.beta.kubernetes.io/load-balancer-source-ranges": " 10.0.0.0/8, x"}), "[metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer', metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)]".into()),
        (&kinds::PERSISTENT_VOLUME, &volume, "spec.capacity", json!({}), "[spec.capacity: Required value, spec.capacity: Unsupported value: core.ResourceList(nil): supported values: \"storage\"]".into()),
    ];
    for (kind, base, path, value, wanted) in cases {
        assert_eq!(message(create(*kind, &ready(kind, base))), "ok", "{kind:?}");
        let mut tree = (*base).clone();
        tree.set(path, value.clone());
        let told = message(create(*kind, &ready(kind, &tree)));
        let told = told.split_once("\"x\" is invalid: ").map_or(told.as_str(), |(_, why)| why);
        assert_eq!(told, wanted, "{kind:?} {path}");
    }
}

#[test]
fn what_must_not_change_and_what_does_not_count() {
    let class = ready(&kinds::PRIORITY_CLASS, &json!({"metadata": {"name": "x"}, "value": 5}));
    let mut new = class.clone();
    new.set("description", "d");
    crate::strategy::update(&kinds::PRIORITY_CLASS, &mut new, &class);
    assert_eq!(new.int("metadata.generation"), Some(1));
    let binding = ready(
        &kinds::ROLE_BINDING,
        &json!({"metadata": {"name": "x"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}}),
    );
    let mut new = binding.clone();
    new.set("roleRef.name", "edit");
    assert_eq!(
        message(update(&kinds::ROLE_BINDING, &new, &binding)),
        "RoleBinding.rbac.authorization.k8s.io \"x\" is invalid: roleRef: Invalid value: rbac.RoleRef{APIGroup:\"rbac.authorization.k8s.io\", Kind:\"ClusterRole\", Name:\"edit\"}: cannot change roleRef"
    );
    // The one range of a node that both fields name.
    let node = json!({"metadata": {"name": "x"}, "spec": {"podCIDR": "10.0.0.0/24"}});
    let node = ready(&kinds::NODE, &node);
    assert_eq!(node.at("spec.podCIDRs"), &json!(["10.0.0.0/24"]));
    let mut new = node.clone();
    new.set("spec.podCIDRs", json!(["10.9.0.0/24"]));
    crate::defaults::apply(&kinds::NODE, &mut new);
    assert_eq!(message(update(&kinds::NODE, &new, &node)), "ok");
    // A budget's name is checked as little as upstream does.
    let budget = json!({"metadata": {"name": "A_b"}, "spec": {"minAvailable": 1}});
    let budget = ready(&kinds::POD_DISRUPTION_BUDGET, &budget);
    assert_eq!(message(create(&kinds::POD_DISRUPTION_BUDGET, &budget)), "ok");
    // Six digits, as Go's layout for times in microseconds wants them.
    for (time, wanted) in [
        ("2025-06-01T00:00:00.000000Z", "ok"),
        ("2025-06-01T00:00:00.000001+02:00", "ok"),
        ("2025-06-01T00:00:00Z", "cannot parse \"Z\" as \".000000\""),
        ("2025-06-01T00:00:00.123Z", "cannot parse \".123Z\" as \".000000\""),
        ("2025-06-01T00:00:00.1234567Z", "cannot parse \"7Z\" as \"Z07:00\""),
    ] {
        let text = json!({"metadata": {"name": "x"}, "spec": {"renewTime": time}}).to_string();
        let told = decode_json_strict(&kinds::LEASE, text.as_bytes(), FieldValidation::Strict)
            .map_or_else(|status| status.message().to_owned(), |_| "ok".into());
        assert!(told.ends_with(wanted), "{time}: {told}");
    }
}

#[test]
fn metadata_rules_hold_for_every_stored_kind() {
    for kind in KINDS.iter().filter(|kind| kind.stored()) {
        let nameless = ready(kind, &json!({}));
        let told = message(create(*kind, &nameless));
        // A LimitRange gets a name.
        assert!(
            *kind == &kinds::LIMIT_RANGE
                || told.contains("metadata.name: Required value: name or generateName is required"),
            "{told}"
        );
        let labelled = ready(kind, &json!({"metadata": {"name": "x", "labels": {"a": "-"}}}));
        assert!(
            message(create(*kind, &labelled)).contains("metadata.labels: Invalid value: \"-\"")
        );
    }
}

/// The paths of all required fields of a tree, list items by their first.
fn required_paths(id: TypeId, tree: &Value, prefix: &str, found: &mut Vec<(String, String)>) {
    if JUDGED_ELSEWHERE.contains(&schema().of(id).name) {
        return;
    }
    for field in schema().fields(id) {
        if let (true, Some(inner)) = (field.inline(), field.message()) {
            required_paths(inner, tree, prefix, found);
            continue;
        }
        let value = tree.at(field.name);
        let root = prefix.is_empty();
        if field.name == "metadata" || root && field.name == "status" || value.is_null() {
            continue;
        }
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}", field.name);
        let can_miss = field.pointer()
            || field.shape == Shape::List
            || field.shape == Shape::Single && field.scalar == Scalar::Str;
        if field.required() && can_miss {
            found.push((path.clone(), path.clone()));
        }
        match (field.message(), field.shape) {
            (Some(inner), Shape::Single) => required_paths(inner, value, &path, found),
            (Some(inner), Shape::List) => {
                let mut below = Vec::new();
                required_paths(inner, value.at("0"), "", &mut below);
                // A root of its own would skip metadata; embedded templates do not need theirs.
                found.extend(
                    below
                        .into_iter()
                        .map(|(at, told)| (format!("{path}.0.{at}"), format!("{path}[0].{told}"))),
                );
            }
            _ => {}
        }
    }
}

#[test]
fn each_missing_required_field_is_told_with_its_path() {
    let mut prng = stdx::prng::Prng::new(9);
    let mut n_checked = 0;
    for kind in KINDS.iter().filter(|kind| kind.stored()) {
        let root = schema().root(*kind);
        let tree = api::codec::sample::full(root, &mut prng, 0);
        let mut paths = Vec::new();
        required_paths(root, &tree, "", &mut paths);
        // The pods of stateful sets are checked when they are made.
        let unchecked = format!("status {}", rules::of(kind).unchecked);
        let is_below = |path: &str, part: &str| path.starts_with(&format!("{part}."));
        paths.retain(|(path, _)| !unchecked.trim_end().split(' ').any(|it| is_below(path, it)));
        for (path, told) in paths.iter().take(120) {
            let mut tree = tree.clone();
            tree.remove(path);
            let message = message(create(*kind, &tree));
            assert!(
                message.contains(&format!("{told}: Required value")),
                "{kind:?} without {path}: {message}"
            );
            n_checked += 1;
        }
    }
    assert!(n_checked > 120, "{n_checked}");
}

#[test]
fn what_upstream_says_of_whole_values() {
    let deployment = |selector: Value| {
        json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"selector": selector, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    let odd = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "x", "values": ["v"]}]});
    let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["x"]}});
    let claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}, "dataSource": {"apiGroup": "a_b", "kind": "k", "name": "n"},
        "dataSourceRef": {"kind": "x", "name": "n"}}});
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c", "image": "i",
        "env": [{"name": "E", "valueFrom": {"secretKeyRef": {}}}], "envFrom": [{}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 31}}},
        "livenessProbe": {"httpGet": {"port": "TCP"}}}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "", "whenUnsatisfiable": "x"}],
        "dnsConfig": {"options": [{}]}, "runtimeClassName": "A"}});
    for (kind, tree, wanted) in [
        (
            &kinds::DEPLOYMENT,
            deployment(odd),
            &[
                "spec.selector.matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator",
                "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{\"a\":\"b\"}, MatchExpressions:[]v1.LabelSelectorRequirement{v1.LabelSelectorRequirement{Key:\"a\", Operator:\"x\", Values:[]string{\"v\"}}}}: invalid label selector",
            ][..],
        ),
        (
            &kinds::DEPLOYMENT,
            deployment(json!({})),
            &[
                "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for deployment",
            ],
        ),
        (
            &kinds::NAMESPACE,
            namespace,
            &[
                "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        ),
        (
            &kinds::PERSISTENT_VOLUME_CLAIM,
            claim,
            &[
                "spec.dataSource.apiGroup: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain",
                "spec.dataSourceRef: Invalid value: \"x\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec: Invalid value: must match dataSourceRef",
            ],
        ),
        (
            &kinds::POD,
            pod,
            &[
                "spec.containers[0].env[0].valueFrom.secretKeyRef.name: Invalid value: \"\": a lowercase RFC 1123 subdomain",
                "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"TCP\": must contain only alpha-numeric",
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"TCP\": must contain at least one letter",
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be greater than 0 and less than terminationGracePeriodSeconds (30).",
                "spec.runtimeClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
    ] {
        let mut tree = tree;
        crate::defaults::apply(Form::from(kind), &mut tree);
        let told = create(kind, &tree).unwrap_err().to_tree();
        let told: Vec<String> = told
            .list("details.causes")
            .iter()
            .map(|cause| format!("{}: {}", cause.str("field"), cause.str("message")))
            .collect();
        assert_eq!(told.len(), wanted.len(), "{told:#?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.starts_with(wanted), "{told}\nis not\n{wanted}");
        }
    }
}

/// A claim whose source had a group may have any, also where an update is looked at as a new object.
#[test]
fn claims_keep_what_they_were_let_in_with() {
    let claim = |group: &str| {
        let source = json!({"apiGroup": group, "kind": "k", "name": "n"});
        let mut tree = json!({"metadata": {"name": "c", "namespace": "n", "resourceVersion": "1"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "dataSource": source}});
        crate::defaults::apply(Form::from(&kinds::PERSISTENT_VOLUME_CLAIM), &mut tree);
        tree
    };
    let told = |new, old| message(update(&kinds::PERSISTENT_VOLUME_CLAIM, &new, &old));
    let said = told(claim("a/b"), claim("a.b"));
    assert!(said.contains("spec: Forbidden") && !said.contains("apiGroup"), "{said}");
}

#[test]
fn what_no_list_of_names_may_have() {
    let told = |spec: Value| {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
        crate::defaults::apply(Form::from(&kinds::POD), &mut pod);
        let told = create(&kinds::POD, &pod).unwrap_err().to_tree();
        let causes = told.list("details.causes").iter();
        causes
            .map(|cause| format!("{} {}", cause.str("field"), cause.str("reason")))
            .collect::<Vec<_>>()
    };
    let container = json!([{"name": "c", "image": "i"}]);
    let told_of =
        told(json!({"containers": container, "dnsConfig": {"searches": ["a.b.", ".", "a_b", ""]}}));
    let path = "spec.dnsConfig.searches";
    assert_eq!(told_of, [1, 2, 3].map(|idx| format!("{path}[{idx}] FieldValueInvalid")));
    let long = "a.".repeat(100) + "a";
    let told_of = told(json!({"containers": container, "dnsConfig": {"searches": vec![long; 11]}}));
    assert_eq!(told_of, [format!("{path} FieldValueInvalid")]);
    // Of two that have no name, the one of the later list has another's.
    let told_of = told(json!({
        "containers": [{"image": "i"}], "initContainers": [{"image": "i"}, {"image": "i"}],
        "runtimeClassName": "",
    }));
    assert_eq!(
        told_of,
        [
            "spec.containers[0].name FieldValueRequired",
            "spec.initContainers[0].name FieldValueRequired",
            "spec.initContainers[1].name FieldValueRequired",
            "spec.initContainers[0].name FieldValueDuplicate",
            "spec.initContainers[1].name FieldValueDuplicate",
            "spec.runtimeClassName FieldValueInvalid",
        ]
    );
}
