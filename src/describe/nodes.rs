//! Nodes and what they have to give; volumes, classes, limits and quotas.

use api::pod::resources::{self, Amounts};
use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::{Arrange, OrdMap, OrdSet};

use crate::needs::{Answer, Part};
use crate::page::Page;
use crate::{claims, words};

/// The sections of these kinds.
pub(crate) fn write(page: &mut Page<'_>, name: &str, title: &str, value: &Value, root: &Value) {
    match name {
        "roles" => roles(page, root),
        "taints" => taints(page, root),
        "lease" => lease(page),
        "amounts" => amounts(page, title, value),
        "nodepods" => pods(page, root),
        "limits" => limits(page, "", root),
        "quota" => quota(page, false, root),
        "quotas" => quotas(page),
        "class" => page.line(&["StorageClass:\t", claims::class(root)]),
        "modes" => page.line(&["Access Modes:\t", &claims::modes(value)]),
        "affinity" => affinity(page, root),
        "claim" => claims::claim(page, true, root),
        "users" => users(page, root),
        "default" => is_default(page, root),
        "topologies" => topologies(page, root),
        "drivers" => drivers(page, root),
        _ => stdx::never!(true, "a template calls a section that there is not"),
    }
}

fn answers(page: &Page<'_>, part: &Part) -> Option<Answer> {
    page.related.iter().find(|(known, _)| known == part).map(|(_, answer)| answer.clone())
}

fn roles(page: &mut Page<'_>, node: &Value) {
    let mut roles = OrdSet::new();
    for (key, value) in node.pairs("metadata.labels") {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.insert(role),
            _ if key == "kubernetes.io/role" && !value.is_empty() => roles.insert(value),
            _ => false,
        };
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    page.line(&["Roles:\t", &words::or(roles, "<none>")]);
}

fn taints(page: &mut Page<'_>, node: &Value) {
    page.put(&["Taints:\t"]);
    let mut taints: Vec<&Value> = node.list("spec.taints").iter().collect();
    taints.arrange_by_key(|taint| [taint.str("effect"), ",", taint.str("key")].concat());
    let mut is_first = true;
    for taint in taints {
        page.next(&mut is_first);
        let [key, value, effect] = ["key", "value", "effect"].map(|path| taint.str(path));
        let equals = if value.is_empty() { "" } else { "=" };
        let colon = if effect.is_empty() && value.is_empty() { "" } else { ":" };
        page.line(&[key, equals, value, colon, effect]);
    }
    page.none(is_first);
}

fn lease(page: &mut Page<'_>) {
    match answers(page, &Part::Lease) {
        Some(Ok(lease)) => page.render(LEASE, &lease),
        Some(Err(failure)) => page.line(&["Lease:\tFailed to get lease: ", &failure.message]),
        None => {}
    }
}

const LEASE: &str = "\
Lease:
  HolderIdentity:~{spec.holderIdentity=<unset>}
?spec.acquireTime|  AcquireTime:~{spec.acquireTime@time}
-spec.acquireTime|  AcquireTime:~<unset>
?spec.renewTime|  RenewTime:~{spec.renewTime@time}
-spec.renewTime|  RenewTime:~<unset>";

/// A map of quantities, one a line.
pub(crate) fn amounts(page: &mut Page<'_>, space: &str, map: &Value) {
    for (name, amount) in map.as_object().into_iter().flatten() {
        page.line(&[space, name, ":\t", &canonical(amount)]);
    }
}

/// A quantity as Go prints it.
fn canonical(amount: &Value) -> String {
    Quantity::from_tree(amount).unwrap_or_default().to_string()
}

/// What a pod asks for, or may have at most, with its overhead; where a node resizes it, the larger of both.
fn asked(pod: &Value, what: &str) -> Amounts {
    let mut spec = pod.at("spec").clone();
    if what == "requests" {
        for status in pod.list("status.containerStatuses") {
            let given = status.at("resources.requests").as_object();
            let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
            let own =
                containers.into_iter().flatten().find(|c| c.str("name") == status.str("name"));
            let (Some(given), Some(own)) = (given, own) else { continue };
            let wanted = &mut own["resources"]["requests"];
            for (name, amount) in given {
                let is_more =
                    Quantity::from_tree(amount) > wanted.get(name).and_then(Quantity::from_tree);
                if is_more {
                    wanted[name] = amount.clone();
                }
            }
        }
    }
    let mut sum = resources::total(&spec, what);
    let mut overhead = resources::amounts(pod.at("spec.overhead"));
    overhead.retain(|name, _| what == "requests" || sum.get(name).is_some_and(|q| !q.is_zero()));
    resources::add(&mut sum, &overhead);
    sum
}

/// An amount and, in brackets, how much of all that is.
fn share(amounts: &Amounts, all: &Amounts, name: &str, of_nothing: i64) -> String {
    let get = |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default();
    let (amount, all) = (get(amounts), get(all));
    let units =
        |quantity: Quantity| if name == "cpu" { quantity.milli() } else { quantity.units() };
    let percent = match units(all) {
        0 => of_nothing,
        all => (units(amount) as f64 / all as f64 * 100.0) as i64,
    };
    format!("{amount} ({percent}%)")
}

/// The pods of a node and what they were promised.
fn pods(page: &mut Page<'_>, node: &Value) {
    let Some(Ok(pods)) = answers(page, &Part::Pods) else {
        return page.line(&["Pods:\tnot authorized"]);
    };
    let pods = pods.list("");
    page.line(&["Non-terminated Pods:\t(", &pods.len().to_string(), " in total)"]);
    page.line(&[
        "  Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    ]);
    page.line(&[
        "  ---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    ]);
    let all = match node.at("status.allocatable").as_object() {
        Some(map) if !map.is_empty() => resources::amounts(node.at("status.allocatable")),
        _ => resources::amounts(node.at("status.capacity")),
    };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (asked, most) = (asked(pod, "requests"), asked(pod, "limits"));
        let (name, namespace) = (pod.str("metadata.name"), pod.str("metadata.namespace"));
        page.put(&["  ", namespace, "\t", name, "\t"]);
        for resource in ["cpu", "memory"] {
            for amounts in [&asked, &most] {
                // Go's conversion of what is no number.
                page.text.push('\t');
                page.text.push_str(&share(amounts, &all, resource, i64::MIN));
            }
        }
        let age = words::age(page.now, pod.at("metadata.creationTimestamp"));
        page.text.push('\t');
        page.text.push_str(&age);
        page.text.push('\n');
        resources::add(&mut requests, &asked);
        resources::add(&mut limits, &most);
    }
    page.line(&[
        "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)",
    ]);
    page.line(&["  Resource\tRequests\tLimits\n  --------\t--------\t------"]);
    let names = ["cpu", "memory", "ephemeral-storage"].into_iter();
    let huge = all.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-"));
    for name in names.chain(huge) {
        let (asked, most) = (share(&requests, &all, name, 0), share(&limits, &all, name, 0));
        page.line(&["  ", name, "\t", &asked, "\t", &most]);
    }
    for name in all.keys() {
        let is_usual = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pods");
        if !is_usual && !name.starts_with("hugepages-") {
            let get =
                |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default().to_string();
            page.line(&["  ", name, "\t", &get(&requests), "\t", &get(&limits)]);
        }
    }
}

/// The bounds of a LimitRange, each resource of each of its items a line.
fn limits(page: &mut Page<'_>, space: &str, range: &Value) {
    let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for item in range.list("spec.limits") {
        let mut rows: OrdMap<&str, [String; 5]> = OrdMap::new();
        for (idx, field) in fields.iter().enumerate() {
            for (name, amount) in item.at(field).as_object().into_iter().flatten() {
                let row = rows.entry(name).or_insert_with(|| fields.map(|_| "-".to_owned()));
                row[idx] = canonical(amount);
            }
        }
        for (name, row) in rows {
            page.line(&[space, item.str("type"), "\t", name, "\t", &row.join("\t")]);
        }
    }
}

/// A ResourceQuota, alone or among others of its namespace.
fn quota(page: &mut Page<'_>, is_nested: bool, quota: &Value) {
    let space = if is_nested { "  " } else { "" };
    let mut scopes: Vec<&str> =
        quota.list("spec.scopes").iter().filter_map(Value::as_str).collect();
    if !scopes.is_empty() {
        scopes.arrange();
        page.line(&[space, "Scopes:\t", &scopes.join(", ")]);
        for scope in scopes {
            if let Some((_, text)) = SCOPES.iter().find(|(known, _)| *known == scope) {
                page.line(&[if is_nested { "  * " } else { " * " }, text]);
            }
        }
    }
    let line = if is_nested { "--------\t---\t---" } else { "--------\t----\t----" };
    page.line(&[space, "Resource\tUsed\tHard"]);
    page.line(&[space, line]);
    for (name, hard) in quota.at("status.hard").as_object().into_iter().flatten() {
        let used = quota.at("status.used").get(name);
        let mut used = used.and_then(Quantity::from_tree).unwrap_or_default();
        let hard = Quantity::from_tree(hard).unwrap_or_default();
        if !is_nested && used.format() != hard.format() {
            // A sum has the format of its first part.
            used = hard + Quantity::from_units(used.units()) - hard;
        }
        page.line(&[space, name, "\t", &used.to_string(), "\t", &hard.to_string()]);
    }
}

const SCOPES: &[(&str, &str)] = &[
    (
        "Terminating",
        "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system.",
    ),
    (
        "NotTerminating",
        "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate.",
    ),
    (
        "BestEffort",
        "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service.",
    ),
    (
        "NotBestEffort",
        "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.",
    ),
];

/// The quotas and limits of a namespace, as far as the server knows such kinds.
fn quotas(page: &mut Page<'_>) {
    if let Some(Ok(quotas)) = answers(page, &Part::Quotas) {
        page.line(&[]);
        let mut list: Vec<&Value> = quotas.list("").iter().collect();
        list.arrange_by_key(|quota| quota.str("metadata.name").to_owned());
        page.line(&[if list.is_empty() { "No resource quota." } else { "Resource Quotas" }]);
        for one in list {
            page.line(&["  Name:\t", one.str("metadata.name")]);
            quota(page, true, one);
        }
    }
    if let Some(Ok(ranges)) = answers(page, &Part::LimitRanges) {
        page.line(&[]);
        let list = ranges.list("");
        if list.is_empty() {
            return page.line(&["No LimitRange resource."]);
        }
        page.line(&["Resource Limits"]);
        page.line(&[
            " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
        ]);
        page.line(&[
            " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
        ]);
        for range in list {
            limits(page, " ", range);
        }
    }
}

fn affinity(page: &mut Page<'_>, volume: &Value) {
    let required = volume.at("spec.nodeAffinity.required");
    page.line(&["Node Affinity:\t", if required.is_null() { "<none>" } else { "" }]);
    if required.is_null() {
        return;
    }
    let terms = required.list("nodeSelectorTerms");
    page.line(&["  Required Terms:\t", if terms.is_empty() { "<none>" } else { "" }]);
    for (idx, term) in terms.iter().enumerate() {
        selector_term(page, "    ", idx, term.list("matchExpressions"));
    }
}

/// One term of a node selector, or of a topology selector, whose expressions have no operator.
fn selector_term(page: &mut Page<'_>, space: &str, idx: usize, expressions: &[Value]) {
    page.put(&[space, &format!("Term {idx}:\t")]);
    if expressions.is_empty() {
        return page.line(&["<none>"]);
    }
    for (idx, expression) in expressions.iter().enumerate() {
        if idx > 0 {
            page.put(&[space, "\t"]);
        }
        let operator = expression.str("operator").to_lowercase();
        let operator = words::or(operator, "in");
        let values = words::join(expression.list("values"), ", ");
        let (open, close) = if values.is_empty() { ("", "") } else { (" [", "]") };
        page.line(&[expression.str("key"), " ", &operator, open, &values, close]);
    }
}

/// The pods that use a claim.
fn users(page: &mut Page<'_>, claim: &Value) {
    let name = claim.str("metadata.name");
    let owners = claim.list("metadata.ownerReferences");
    let answer = answers(page, &Part::Pods).and_then(Result::ok).unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for pod in answer.list("") {
        let uses = pod.list("spec.volumes").iter().any(|volume| {
            volume.has("persistentVolumeClaim")
                && volume.str("persistentVolumeClaim.claimName") == name
        });
        let uid = pod.str("metadata.uid");
        let owns = owners.iter().any(|owner| owner.str("kind") == "Pod" && owner.str("uid") == uid);
        if uses || owns {
            names.push(pod.str("metadata.name"));
        }
    }
    names.arrange();
    page.put(&["Used By:\t"]);
    let mut is_first = true;
    for name in &names {
        page.next(&mut is_first);
        page.line(&[name]);
    }
    page.none(is_first);
}

fn is_default(page: &mut Page<'_>, class: &Value) {
    let is_default =
        ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"].iter().any(|group| {
            class.entry("metadata.annotations", &[group, "/is-default-class"].concat())
                == Some("true")
        });
    page.line(&["IsDefaultClass:\t", if is_default { "Yes" } else { "No" }]);
}

fn topologies(page: &mut Page<'_>, class: &Value) {
    if class.has("allowedTopologies") {
        let terms = class.list("allowedTopologies");
        page.line(&["AllowedTopologies:\t", if terms.is_empty() { "<none>" } else { "" }]);
        for (idx, term) in terms.iter().enumerate() {
            selector_term(page, "  ", idx, term.list("matchLabelExpressions"));
        }
    }
}

fn drivers(page: &mut Page<'_>, node: &Value) {
    for driver in node.list("spec.drivers") {
        page.render(DRIVER, driver);
    }
}

const DRIVER: &str = "    {name}:
      Node ID:~{nodeID}
?allocatable.count|      Allocatables:
?allocatable.count|        Count:~{allocatable.count}
?topologyKeys|      Topology Keys:~{topologyKeys@go}";
