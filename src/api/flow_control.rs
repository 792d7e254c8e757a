//! The flow schemas and priority levels that every server has: what is mandatory, and what is suggested.
//!
//! Source: k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap.

use serde_json::{Value, json};
use stdx::Arrange;

/// Objects with this annotation set to "true" follow what the server suggests.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

struct Level {
    name: &'static str,
    shares: i64,
    lendable: i64,
    /// Queues, hand size and queue length; none rejects.
    queues: Option<[i64; 3]>,
}

const LEVELS: &[Level] = &[
    Level { name: "catch-all", shares: 5, lendable: 0, queues: None },
    Level { name: "system", shares: 30, lendable: 33, queues: Some([64, 6, 50]) },
    Level { name: "node-high", shares: 40, lendable: 25, queues: Some([64, 6, 50]) },
    Level { name: "leader-election", shares: 10, lendable: 0, queues: Some([16, 4, 50]) },
    Level { name: "workload-high", shares: 40, lendable: 50, queues: Some([128, 6, 50]) },
    Level { name: "workload-low", shares: 100, lendable: 90, queues: Some([128, 6, 50]) },
    Level { name: "global-default", shares: 20, lendable: 50, queues: Some([128, 6, 50]) },
];

struct Schema {
    name: &'static str,
    level: &'static str,
    precedence: i64,
    /// `ByUser`, `ByNamespace` or nothing.
    method: &'static str,
    /// `g`roups, `u`sers and `s`ervice accounts of kube-system, each after its letter and a colon.
    subjects: &'static [&'static str],
    /// `verbs|groups|resources`, lists with commas; a `+` at the end says that objects without a
    /// namespace are meant too.
    resources: &'static [&'static str],
    /// `verbs|paths`, or nothing.
    paths: &'static str,
}

const ALL: &str = "*|*|*+";
const ALL_PATHS: &str = "*|*";
const EVERYBODY: &[&str] = &["g:system:unauthenticated", "g:system:authenticated"];
const LEASES: &str = "get,create,update|coordination.k8s.io|leases";

const SCHEMAS: &[Schema] = &[
    Schema {
        name: "exempt",
        level: "exempt",
        precedence: 1,
        method: "",
        subjects: &["g:system:masters"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "catch-all",
        level: "catch-all",
        precedence: 10_000,
        method: "ByUser",
        subjects: EVERYBODY,
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "probes",
        level: "exempt",
        precedence: 2,
        method: "",
        subjects: EVERYBODY,
        resources: &[],
        paths: "get|/healthz,/readyz,/livez",
    },
    Schema {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        method: "ByUser",
        subjects: &["u:system:kube-controller-manager", "u:system:kube-scheduler", "s:*"],
        resources: &[LEASES],
        paths: "",
    },
    Schema {
        name: "endpoint-controller",
        level: "workload-high",
        precedence: 150,
        method: "ByUser",
        subjects: &[
            "u:system:kube-controller-manager",
            "s:endpoint-controller",
            "s:endpointslicemirroring-controller",
        ],
        resources: &["get,create,update||endpoints"],
        paths: "",
    },
    Schema {
        name: "workload-leader-election",
        level: "leader-election",
        precedence: 200,
        method: "ByUser",
        subjects: &["s:*"],
        resources: &["get,create,update||endpoints,configmaps", LEASES],
        paths: "",
    },
    Schema {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        method: "ByUser",
        subjects: &["g:system:nodes"],
        resources: &["*||nodes,nodes/status+", "*|coordination.k8s.io|leases"],
        paths: "",
    },
    Schema {
        name: "system-nodes",
        level: "system",
        precedence: 500,
        method: "ByUser",
        subjects: &["g:system:nodes"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "kube-controller-manager",
        level: "workload-high",
        precedence: 800,
        method: "ByNamespace",
        subjects: &["u:system:kube-controller-manager"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "kube-scheduler",
        level: "workload-high",
        precedence: 800,
        method: "ByNamespace",
        subjects: &["u:system:kube-scheduler"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "kube-system-service-accounts",
        level: "workload-high",
        precedence: 900,
        method: "ByNamespace",
        subjects: &["s:*"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "service-accounts",
        level: "workload-low",
        precedence: 9000,
        method: "ByUser",
        subjects: &["g:system:serviceaccounts"],
        resources: &[ALL],
        paths: ALL_PATHS,
    },
    Schema {
        name: "global-default",
        level: "global-default",
        precedence: 9900,
        method: "ByUser",
        subjects: EVERYBODY,
        resources: &[ALL],
        paths: ALL_PATHS,
    },
];

/// Whether the objects of this name are mandatory: they come back, and their specs are fixed.
pub fn is_mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

/// Every object that a server has from the start, mandatory ones first.
pub fn objects() -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}, "spec": spec,
        })
    };
    let levels = ["exempt"].into_iter().chain(LEVELS.iter().map(|level| level.name));
    let levels = levels
        .filter_map(|name| Some(object("PriorityLevelConfiguration", name, level_spec(name)?)));
    let schemas = SCHEMAS.iter().map(|it| object("FlowSchema", it.name, spec_of(it)));
    let mut all: Vec<Value> = levels.chain(schemas).collect();
    all.arrange_by_key(|object| {
        !object.pointer("/metadata/name").and_then(Value::as_str).is_some_and(is_mandatory)
    });
    all
}

/// The spec of a priority level that a server has from the start.
pub fn level_spec(name: &str) -> Option<Value> {
    if name == "exempt" {
        return Some(json!({
            "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
        }));
    }
    let level = LEVELS.iter().find(|level| level.name == name)?;
    let response = match level.queues {
        None => json!({"type": "Reject"}),
        Some([queues, hand, length]) => json!({
            "type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length},
        }),
    };
    Some(json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": level.shares, "lendablePercent": level.lendable,
        "limitResponse": response,
    }}))
}

/// The spec of a flow schema that a server has from the start.
pub fn schema_spec(name: &str) -> Option<Value> {
    SCHEMAS.iter().find(|schema| schema.name == name).map(spec_of)
}

fn spec_of(schema: &Schema) -> Value {
    let mut rule = json!({"subjects": schema.subjects.iter().map(subject).collect::<Vec<_>>()});
    let list = |text: &str| text.split(',').map(Value::from).collect::<Value>();
    if !schema.resources.is_empty() {
        let rules = schema.resources.iter().map(|text| {
            let (text, cluster) = match text.strip_suffix('+') {
                Some(text) => (text, true),
                None => (*text, false),
            };
            let mut parts = text.split('|').map(list);
            let mut part = || parts.next().unwrap_or_default();
            let (verbs, groups, resources) = (part(), part(), part());
            let mut rule = json!({
                "verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"],
            });
            if cluster {
                rule["clusterScope"] = true.into();
            }
            rule
        });
        rule["resourceRules"] = rules.collect();
    }
    if let Some((verbs, paths)) = schema.paths.split_once('|') {
        rule["nonResourceRules"] = json!([{"verbs": list(verbs), "nonResourceURLs": list(paths)}]);
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": schema.level},
        "matchingPrecedence": schema.precedence, "rules": [rule],
    });
    if !schema.method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": schema.method});
    }
    spec
}

fn subject(text: &&str) -> Value {
    match text.split_once(':') {
        Some(("u", name)) => json!({"kind": "User", "user": {"name": name}}),
        Some(("s", name)) => json!({
            "kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name},
        }),
        other => {
            let name = other.map_or("", |(_, name)| name);
            json!({"kind": "Group", "group": {"name": name}})
        }
    }
}
