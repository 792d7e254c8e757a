//! What one wrong value earns, in upstream's very words: those that differ from kind to kind.

use api::codec::{FieldValidation, check_converted, decode_json_strict};
use api::kinds::*;
use api::lens::{Lens, LensMut};
use api::status::Status;
use api::{Form, Kind};
use serde_json::{Value, json};

use super::ready;
use crate::kinds::certificate_signing_request::tests::NODE as REQUEST;
use crate::kinds::check_service_addresses;
use crate::validate::{create, update};

/// `field: message` of each complaint, sorted.
fn told(result: Result<(), Status>) -> Vec<String> {
    let Err(status) = result else { return Vec::new() };
    let details = status.details();
    let causes = details.get("causes").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.str("field"), cause.str("message")))
        .collect();
    out.sort();
    out
}

fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut tree = base.clone();
    match value {
        Value::Null => drop(tree.remove(path)),
        value => tree.set(path, value),
    }
    tree
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn new_objects() {
    let pods = json!({"metadata": {"name": "p"}, "template": template()});
    let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}}});
    let slice = json!({"metadata": {"name": "s"}, "addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]});
    let role = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}});
    let cases: &[(&'static Kind, &Value, &str, Value, &[&str])] = &[
        (&POD_TEMPLATE, &pods, "metadata.name", json!("p"), &[]),
        // A volume's name is asked for once.
        (
            &POD_TEMPLATE,
            &pods,
            "template.spec.volumes",
            json!([{"emptyDir": {}}]),
            &["template.spec.volumes[0].name: Required value"],
        ),
        // Upstream shows names of resources without quotes.
        (
            &POD_TEMPLATE,
            &pods,
            "template.spec.containers.0.resources.limits",
            json!({"k": "1"}),
            &[
                "template.spec.containers[0].resources.limits[k]: Invalid value: k: must be a standard resource for containers",
                "template.spec.containers[0].resources.limits[k]: Invalid value: k: must be a standard resource type or fully qualified",
            ],
        ),
        (
            &POD_TEMPLATE,
            &pods,
            "template.spec.hostAliases",
            json!([{"ip": ""}]),
            &[
                "template.spec.hostAliases[0].ip: Invalid value: \"\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            &STATEFUL_SET,
            &set,
            "spec.persistentVolumeClaimRetentionPolicy",
            json!({"whenScaled": "x"}),
            &[
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"x\": supported values: \"Retain\", \"Delete\"",
            ],
        ),
        (
            &STATEFUL_SET,
            &set,
            "metadata.name",
            json!("a.b"),
            &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
        ),
        (
            &DAEMON_SET,
            &set,
            "spec.updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}),
            &[
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ],
        ),
        (
            &DEPLOYMENT,
            &set,
            "spec.strategy",
            json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: intstr.IntOrString{Type:0, IntVal:0, StrVal:\"\"}: may not be 0 when `maxSurge` is 0",
            ],
        ),
        // An empty item of a list is a value like any other.
        (
            &PERSISTENT_VOLUME,
            &volume,
            "spec.accessModes",
            json!([null]),
            &[
                "spec.accessModes: Unsupported value: \"\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ],
        ),
        (
            &ENDPOINT_SLICE,
            &slice,
            "endpoints.0.addresses",
            json!(["a", "", "."]),
            &[
                "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
                "endpoints[0].addresses[1]: Required value",
                "endpoints[0].addresses[2]: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            &CLUSTER_ROLE,
            &role,
            "aggregationRule.clusterRoleSelectors.0",
            json!({"matchExpressions": [{"key": "a", "operator": "x"}]}),
            &[
                "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator",
                "aggregationRule.clusterRoleSelectors[0]: Invalid value: \"null\": invalid label selector.",
            ],
        ),
        (
            &SERVICE,
            &service,
            "spec.loadBalancerClass",
            json!("a"),
            &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        (
            &NODE,
            &node,
            "spec.podCIDRs",
            json!(["10.0.0.0/24", "x"]),
            &[
                "spec.podCIDRs: Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[1]: <nil> (invalid CIDR address: x)",
                "spec.podCIDRs: Invalid value: []string{\"10.0.0.0/24\", \"x\"}: may specify no more than one CIDR for each IP family",
                "spec.podCIDRs[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (
            &POD_TEMPLATE,
            &pods,
            "template.spec.os",
            json!({"name": "x"}),
            &[
                "template.spec.os: Unsupported value: \"x\": supported values: \"linux\", \"windows\"",
            ],
        ),
        (
            &POD_TEMPLATE,
            &pods,
            "template.spec.securityContext.seccompProfile",
            json!({"localhostProfile": "x"}),
            &[
                "template.spec.securityContext.seccompProfile.localhostProfile: Invalid value: \"x\": can only be set when seccomp type is Localhost",
                "template.spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
            ],
        ),
        (
            &STATEFUL_SET,
            &set,
            "spec.podManagementPolicy",
            json!("x"),
            &[
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            ],
        ),
        // What starts a name may be dots.
        (&CONFIG_MAP, &json!({"metadata": {"name": "c"}}), "data", json!({"a": "b"}), &[]),
    ];
    for (kind, base, path, value, words) in cases {
        let tree = ready(kind, &with(base, path, value.clone()));
        assert_eq!(told(create(*kind, &tree)), *words, "{} {path} {value}", kind.name);
    }
}

#[test]
fn services_before_anything_is_allocated() {
    for (spec, words) in [
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}),
            &[][..],
        ),
        (json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv6"]}), &[]),
        (
            json!({"clusterIPs": ["10.0.0.1"]}),
            &[
                "spec.clusterIPs: Invalid value: []string{\"10.0.0.1\"}: must be empty when `clusterIP` is not specified",
            ],
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["None"]}),
            &[
                "spec.clusterIPs: Invalid value: []string{\"None\"}: first value must match `clusterIP`",
            ],
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
        (
            json!({"ipFamilies": [""]}),
            &["spec.ipFamilies[0]: Unsupported value: \"\": supported values: \"IPv4\", \"IPv6\""],
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
        ),
        (
            json!({"ipFamilyPolicy": "x"}),
            &[
                "spec.ipFamilyPolicy: Unsupported value: \"x\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ],
        ),
    ] {
        let service = json!({"metadata": {"name": "s"}, "spec": spec});
        assert_eq!(told(check_service_addresses(&service)), words, "{service}");
    }
}

#[test]
fn balanced_services_keep_their_class_and_port() {
    let base = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}],
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_001, "loadBalancerClass": "a.b/c"}});
    let old = ready(&SERVICE, &base);
    for (path, value, words) in [
        ("spec.healthCheckNodePort", json!(30_001), &[][..]),
        (
            "spec.healthCheckNodePort",
            json!(30_002),
            &["spec.healthCheckNodePort: Forbidden: field is immutable"],
        ),
        (
            "spec.loadBalancerClass",
            json!("a"),
            &["spec.loadBalancerClass: Invalid value: \"a\": may not change once set"],
        ),
    ] {
        let new = with(&old, path, value.clone());
        assert_eq!(told(update(&SERVICE, &new, &old)), words, "{path} {value}");
    }
}

#[test]
fn events_in_the_newer_version_are_strict() {
    let base = json!({"metadata": {"name": "e", "namespace": "n", "uid": "u"}, "involvedObject": {"namespace": "n"}, "reason": "R",
        "action": "A", "type": "Normal", "eventTime": "2025-01-01T00:00:00.000000Z", "reportingComponent": "a.b/c",
        "reportingInstance": "i", "message": "m"});
    let strict = Form { kind: &EVENT, served: EVENT.declared.also.first(), defined: None };
    let stored = Form::from(&EVENT);
    for (path, value, of_stored, of_strict) in [
        ("reason", json!("R"), &[][..], &[][..]),
        ("eventTime", Value::Null, &[], &["eventTime: Required value"]),
        ("type", json!("x"), &[], &["type: Invalid value: \"\": has invalid value: x"]),
        ("count", json!(2), &[], &["count: Invalid value: \"\": needs to be unset"]),
        ("action", Value::Null, &["action: Required value"], &["action: Required value"]),
        (
            "action",
            json!("x".repeat(129)),
            &["action: Invalid value: \"\": can have at most 128 characters"],
            &["action: Invalid value: \"\": can have at most 128 characters"],
        ),
        (
            "reportingComponent",
            json!("-a"),
            &[
                "reportingComponent: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
            &[
                "reportingController: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            "series",
            json!({"count": 1}),
            &[],
            &[
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
            ],
        ),
    ] {
        let event = with(&base, path, value.clone());
        assert_eq!(told(create(stored, &event)), of_stored, "{path} {value}");
        assert_eq!(told(create(strict, &event)), of_strict, "{path} {value}");
    }
    for (path, value, words) in [
        ("series", json!({"count": 2, "lastObservedTime": "2025-01-01T00:00:00.000000Z"}), &[][..]),
        ("message", json!("other"), &["message: Invalid value: \"other\": field is immutable"]),
        (
            "reportingComponent",
            json!("b"),
            &["reportingController: Invalid value: \"b\": field is immutable"],
        ),
    ] {
        let new = with(&base, path, value.clone());
        assert_eq!(told(update(stored, &new, &base)), Vec::<String>::new(), "{path} {value}");
        assert_eq!(told(update(strict, &new, &base)), words, "{path} {value}");
    }
    // An event of old may be about another namespace's object only where it says when it happened.
    let other = with(&base, "involvedObject.namespace", json!("other"));
    assert_eq!(told(create(stored, &other)), Vec::<String>::new());
    let old = with(&other, "eventTime", Value::Null);
    assert_eq!(
        told(create(stored, &old)),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
}

#[test]
fn names_without_a_rule_of_their_kind_are_still_segments_of_paths() {
    let request = |pem: &str| json!({"metadata": {"name": "a/b", "uid": "u"}, "spec": {"signerName": "a.b/c", "usages": ["client auth"], "request": pem}});
    // What is wrong with the request comes first.
    let first = told(create(&CERTIFICATE_SIGNING_REQUEST, &request("eA==")));
    assert!(first.len() == 1 && first[0].starts_with("spec.request: "), "{first:?}");
    assert_eq!(
        told(create(&CERTIFICATE_SIGNING_REQUEST, &request(REQUEST))),
        ["metadata.name: Invalid value: \"a/b\": may not contain '/'"]
    );
}

#[test]
fn converted_patches_cut_integers() {
    let tree = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2_147_483_648_i64, "minReadySeconds": -2_147_483_649_i64}});
    let mut cut = tree.clone();
    check_converted(Form::from(&DEPLOYMENT), &mut cut, FieldValidation::Strict).unwrap();
    assert_eq!(cut.int("spec.replicas"), Some(-2_147_483_648));
    assert_eq!(cut.int("spec.minReadySeconds"), Some(2_147_483_647));
    let text = tree.to_string();
    assert!(decode_json_strict(&DEPLOYMENT, text.as_bytes(), FieldValidation::Strict).is_err());
    let mut fraction = json!({"spec": {"replicas": 1.5}});
    assert!(
        check_converted(Form::from(&DEPLOYMENT), &mut fraction, FieldValidation::Strict).is_err()
    );
}

#[test]
fn lists_whose_emptiness_counts_stay() {
    let rules = |policies: Value| {
        let tree = json!({"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "K", "name": "n"}, "maxReplicas": 2,
            "behavior": {"scaleUp": {"policies": policies}}}});
        told(create(&HORIZONTAL_POD_AUTOSCALER, &ready(&HORIZONTAL_POD_AUTOSCALER, &tree)))
    };
    let words =
        ["spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"];
    assert_eq!(rules(json!([])), words);
    assert_eq!(rules(Value::Null), Vec::<String>::new());
}

#[test]
fn who_names_a_strategy_gets_no_more_of_it() {
    let strategy = |given: Value| {
        let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template(), "updateStrategy": given});
        ready(&STATEFUL_SET, &json!({"metadata": {"name": "s"}, "spec": spec}))
            .at("spec.updateStrategy")
            .clone()
    };
    assert_eq!(
        strategy(json!({})),
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(strategy(json!({"type": "RollingUpdate"})), json!({"type": "RollingUpdate"}));
    assert_eq!(
        strategy(json!({"type": "RollingUpdate", "rollingUpdate": {}})),
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(strategy(json!({"type": "OnDelete"})), json!({"type": "OnDelete"}));
}

#[test]
fn jobs_without_labels_get_their_templates() {
    let job = |labels: Value| {
        let tree = json!({"metadata": {"name": "j", "labels": labels}, "spec": {"template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        ready(&JOB, &tree)
    };
    let made = job(Value::Null);
    assert_eq!(made.at("metadata.labels"), made.at("spec.template.metadata.labels"));
    assert_eq!(made.entry("metadata.labels", "batch.kubernetes.io/job-name"), Some("j"));
    assert_eq!(job(json!({"x": "y"})).at("metadata.labels"), &json!({"x": "y"}));
}

#[test]
fn the_data_of_a_revision_is_an_object() {
    for (data, words) in [
        (json!({}), &[][..]),
        (json!({"a": "b"}), &[]),
        (Value::Null, &["data: Required value: data is mandatory"]),
        (json!([]), &["data: Required value: data must be a valid JSON object"]),
    ] {
        let tree = json!({"metadata": {"name": "r"}, "revision": 1, "data": data});
        let tree = ready(&CONTROLLER_REVISION, &tree);
        assert_eq!(told(create(&CONTROLLER_REVISION, &tree)), words, "{tree}");
        let kept = api::Object::from_tree(&CONTROLLER_REVISION, &tree).unwrap().whole_tree();
        assert_eq!(kept.at("data"), tree.at("data"));
    }
}

#[test]
fn versions_are_shown_as_go_holds_them() {
    const MUST: &str = "must have exactly one version marked as storage version";
    const REST: &str = "DeprecationWarning:(*string)(nil), Schema:(*apiextensions.CustomResourceValidation)(nil), \
        Subresources:(*apiextensions.CustomResourceSubresources)(nil), AdditionalPrinterColumns:[]apiextensions.CustomResourceColumnDefinition(nil), \
        SelectableFields:[]apiextensions.SelectableField(nil)";
    let one = |name: &str, more: &str| {
        format!("apiextensions.CustomResourceDefinitionVersion{{Name:\"{name}\", {more}, {REST}}}")
    };
    let schema = |kind: &str| json!({"openAPIV3Schema": {"type": kind}});
    for (versions, shown) in [
        (json!([]), "[]apiextensions.CustomResourceDefinitionVersion(nil): ".to_owned()),
        (
            json!([{"name": "v1", "served": true, "schema": schema("object")}]),
            format!(
                "[]apiextensions.CustomResourceDefinitionVersion{{{}}}: ",
                one("v1", "Served:true, Storage:false, Deprecated:false")
            ),
        ),
        // Places in memory.
        (
            json!([{"name": "v1", "schema": schema("object")}, {"name": "v2", "schema": schema("string")}]),
            String::new(),
        ),
        (
            json!([{"name": "v1", "deprecationWarning": "w", "schema": schema("object")}]),
            String::new(),
        ),
    ] {
        let tree = json!({"metadata": {"name": "d.example.com"}, "spec": {"versions": versions}});
        let tree = ready(&CUSTOM_RESOURCE_DEFINITION, &tree);
        let wanted = format!("spec.versions: Invalid value: {shown}{MUST}");
        let told = told(create(&CUSTOM_RESOURCE_DEFINITION, &tree));
        assert!(told.contains(&wanted), "{told:#?}");
    }
}

#[test]
fn strategies_of_updates_that_do_not_exist() {
    let tree = |strategy: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template(), "updateStrategy": strategy}});
    let told =
        |kind: &'static Kind, strategy: Value| told(create(kind, &ready(kind, &tree(strategy))));
    assert_eq!(
        told(&STATEFUL_SET, json!({"type": "X"})),
        [
            "spec.updateStrategy: Invalid value: apps.StatefulSetUpdateStrategy{Type:\"X\", RollingUpdate:(*apps.RollingUpdateStatefulSetStrategy)(nil)}: must be 'RollingUpdate' or 'OnDelete'"
        ]
    );
    assert_eq!(
        told(&DAEMON_SET, json!({"type": "X"})),
        [
            "spec.updateStrategy: Unsupported value: apps.DaemonSetUpdateStrategy{Type:\"X\", RollingUpdate:(*apps.RollingUpdateDaemonSet)(nil)}: supported values: \"RollingUpdate\", \"OnDelete\""
        ]
    );
    assert_eq!(
        told(&DAEMON_SET, json!({"type": "X", "rollingUpdate": {"maxSurge": 0}})),
        [
            "spec.updateStrategy: Unsupported value: \"X\": supported values: \"RollingUpdate\", \"OnDelete\""
        ]
    );
    for right in ["OnDelete", "RollingUpdate"] {
        assert_eq!(told(&DAEMON_SET, json!({"type": right})), Vec::<String>::new());
        assert_eq!(told(&STATEFUL_SET, json!({"type": right})), Vec::<String>::new());
    }
    let mut deployment = tree(Value::Null);
    deployment.remove("spec.updateStrategy");
    for right in ["Recreate", "RollingUpdate"] {
        deployment.set("spec.strategy.type", right);
        assert_eq!(create(&DEPLOYMENT, &ready(&DEPLOYMENT, &deployment)), Ok(()), "{right}");
    }
    deployment.set("spec.strategy.type", "X");
    assert_eq!(
        super::words::told(create(&DEPLOYMENT, &ready(&DEPLOYMENT, &deployment))),
        [
            "spec.strategy: Unsupported value: apps.DeploymentStrategy{Type:\"X\", RollingUpdate:(*apps.RollingUpdateDeployment)(nil)}: supported values: \"Recreate\", \"RollingUpdate\""
        ]
    );
}

#[test]
fn sources_of_claims_are_kept_where_upstream_keeps_them() {
    let snapshot =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    for (field, source, kept) in [
        ("dataSource", json!({"kind": "PersistentVolumeClaim", "name": "c"}), true),
        ("dataSource", snapshot, true),
        ("dataSource", json!({}), false),
        ("dataSource", json!({"apiGroup": "example.com", "kind": "X", "name": "c"}), false),
        ("dataSourceRef", json!({"apiGroup": "example.com", "kind": "X", "name": "c"}), true),
        (
            "dataSourceRef",
            json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "n"}),
            false,
        ),
    ] {
        let tree = json!({"metadata": {"name": "c"}, "spec": {field: source}});
        let made = ready(&PERSISTENT_VOLUME_CLAIM, &tree);
        for field in ["dataSource", "dataSourceRef"] {
            assert_eq!(made.at("spec").get(field).is_some(), kept, "{tree}");
        }
    }
}

#[test]
fn huge_pages_and_other_resources_that_cannot_be_overcommitted() {
    const PATH: &str = "spec.containers[0].resources";
    for (limits, requests, words) in [
        (json!({"cpu": 1, "hugepages-2Mi": "4Mi"}), json!({"hugepages-2Mi": "4Mi"}), &[][..]),
        (
            json!({"hugepages-2Mi": "4Mi"}),
            json!({}),
            &[": Forbidden: HugePages require cpu or memory"],
        ),
        (
            json!({"cpu": 1, "hugepages-2Mi": "3Mi"}),
            json!({}),
            &[
                ".limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                ".requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            json!({}),
            json!({"example.com/x": 1}),
            &[".limits: Required value: Limit must be set for non overcommitable resources"],
        ),
        (
            json!({"example.com/x": 1}),
            json!({"example.com/x": 2}),
            &[".requests: Invalid value: \"2\": must be equal to example.com/x limit of 1"],
        ),
        (
            json!({"cpu": 1}),
            json!({"cpu": 2}),
            &[".requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        ),
        (json!({"cpu": 1}), json!({"memory": 2}), &[]),
    ] {
        let tree = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": limits, "requests": requests}}]}});
        let words: Vec<String> = words.iter().map(|words| format!("{PATH}{words}")).collect();
        assert_eq!(told(create(&POD, &ready(&POD, &tree))), words, "{tree}");
    }
}

#[test]
fn levels_that_are_exempt_are_not_judged_as_limited_ones() {
    let level = |name: &str, spec: Value| {
        let tree = json!({"metadata": {"name": name}, "spec": spec});
        told(create(&PRIORITY_LEVEL_CONFIGURATION, &ready(&PRIORITY_LEVEL_CONFIGURATION, &tree)))
    };
    assert_eq!(
        level("exempt", json!({"type": "Exempt", "limited": {"lendablePercent": 101}}))[0],
        "spec.limited: Forbidden: must be nil if the type is not Limited"
    );
    assert_eq!(
        level("a", json!({"type": "Limited", "limited": {"lendablePercent": 101}})),
        [
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            "spec.limited.limitResponse.type: Unsupported value: \"\": supported values: \"Queue\", \"Reject\"",
        ]
    );
}
