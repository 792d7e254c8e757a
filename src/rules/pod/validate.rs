//! Rules of pods and pod templates.
//!
//! Source: pkg/apis/core/validation. What the schema says (required, enums, bounds) is checked there.

mod container;
mod platform;
mod source;
mod volume;

pub(crate) use container::{amounts, port};
pub(crate) use source::one as volume_source;

use api::complain::Complain;
use api::labels;
use api::lens::{Lens, LensMut};
use api::names;
use api::pod::all_containers;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use crate::checks;
use crate::gates;

/// `POD`'s hook.
pub(crate) fn pod(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    match old {
        None => {
            spec(new.at("spec"), "spec", causes);
            only_of_pods(new, causes);
            if !new.list("spec.ephemeralContainers").is_empty() {
                causes.forbidden("spec.ephemeralContainers", "cannot be set on create");
            }
            let gated = !new.list("spec.schedulingGates").is_empty();
            if gated && !new.str("spec.nodeName").is_empty() {
                let detail = "cannot be set until all schedulingGates have been cleared";
                causes.forbidden("spec.nodeName", detail);
            }
        }
        Some(old) => {
            // What was stored under older rules does not keep labels or finalizers from changing.
            if new.at("spec") != old.at("spec") {
                spec(new.at("spec"), "spec", causes);
                only_of_pods(new, causes);
            }
            update(new, old, causes);
        }
    }
}

/// What upstream asks of pods but not of templates.
fn only_of_pods(new: &Value, causes: &mut Vec<Cause>) {
    if new.str("spec.serviceAccountName").is_empty() {
        for (idx, volume) in new.list("spec.volumes").iter().enumerate() {
            for (nth, part) in volume.list("projected.sources").iter().enumerate() {
                if part.has("serviceAccountToken") {
                    let path = format!("spec.volumes[{idx}].projected.sources[{nth}]");
                    let detail = "must not be specified when serviceAccountName is not set";
                    causes.forbidden(&format!("{path}.serviceAccountToken"), detail);
                }
            }
        }
    }
    for (field, idx, container) in all_containers(new.at("spec")) {
        let image = container.str("image");
        if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            causes.invalid(&format!("spec.{field}[{idx}].image"), &image.into(), detail);
        }
    }
}

/// A pod template at `path`, whose pods may restart only as `policies` say.
pub(crate) fn template(template: &Value, path: &str, policies: &[&str], causes: &mut Vec<Cause>) {
    // Upstream's paths.
    labels::labels(template.at("metadata.labels"), &format!("{path}.labels"), causes);
    let annotations = template.at("metadata.annotations");
    labels::annotations(annotations, &format!("{path}.annotations"), causes);
    let policy = template.str("spec.restartPolicy");
    // Those of jobs are told by their own rules.
    if !policies.is_empty() && !policies.contains(&policy) {
        causes.not_supported_in_order(&format!("{path}.spec.restartPolicy"), policy, policies);
    }
    if !template.list("spec.ephemeralContainers").is_empty() {
        causes.forbidden(
            &format!("{path}.spec.ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
    spec(template.at("spec"), &format!("{path}.spec"), causes);
}

/// A `PodSpec` at `path`.
pub(crate) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes = volume::all(spec, path, causes);
    container::all(spec, path, &volumes, causes);
    numbers(spec, path, causes);
    named(spec, path, causes);
    scheduling(spec, path, causes);
    security(spec, path, causes);
    platform::spec(spec, path, causes);
    amounts(spec.at("overhead"), &format!("{path}.overhead.limits"), causes);
    dns(spec, path, causes);
}

fn numbers(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(secs) = spec.int("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&secs)
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.invalid(&format!("{path}.activeDeadlineSeconds"), &secs.into(), detail);
    }
}

fn named(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    type Check = fn(&str) -> Result<(), String>;
    let checks: [(&str, Check); 6] = [
        ("serviceAccountName", names::subdomain),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ];
    for (field, check) in checks {
        let value = spec.str(field);
        // Whoever names an empty class names one: of the others there is no telling.
        if !value.is_empty() || (field == "runtimeClassName" && spec.has(field)) {
            causes.check_name(&format!("{path}.{field}"), value, check);
        }
    }
    for (idx, alias) in spec.list("hostAliases").iter().enumerate() {
        let path = format!("{path}.hostAliases[{idx}]");
        if names::ip(alias.str("ip")).is_none() {
            causes.invalid(
                &format!("{path}.ip"),
                alias.at("ip"),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
        for (idx, host) in alias.list("hostnames").iter().filter_map(Value::as_str).enumerate() {
            causes.check_name(&format!("{path}.hostnames[{idx}]"), host, names::subdomain);
        }
    }
    let mut gates = OrdSet::new();
    for (idx, gate) in spec.list("schedulingGates").iter().enumerate() {
        let path = format!("{path}.schedulingGates[{idx}]");
        causes.check_name(&path, gate.str("name"), names::qualified);
        if !gates.insert(gate.str("name")) {
            causes.duplicate(&path, gate.at("name"));
        }
    }
    for (idx, gate) in spec.list("readinessGates").iter().enumerate() {
        let path = format!("{path}.readinessGates[{idx}].conditionType");
        causes.check_name(&path, gate.str("conditionType"), names::qualified);
    }
}

fn scheduling(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    labels::labels(spec.at("nodeSelector"), &format!("{path}.nodeSelector"), causes);
    tolerations(spec, path, causes);
    // Upstream tells of all but the last of equal ones.
    let mut later = OrdSet::new();
    let pair = |spread: &Value| {
        (spread.str("topologyKey").to_owned(), spread.str("whenUnsatisfiable").to_owned())
    };
    let constraints = spec.list("topologySpreadConstraints").iter().enumerate();
    let repeated: OrdSet<usize> = constraints
        .rev()
        .filter_map(|(idx, it)| (!later.insert(pair(it))).then_some(idx))
        .collect();
    for (idx, spread) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{idx}]");
        if spread.int("maxSkew").unwrap_or(0) <= 0 {
            causes.invalid(
                &format!("{path}.maxSkew"),
                spread.at("maxSkew"),
                "must be greater than zero",
            );
        }
        let (key, action) = (spread.str("topologyKey"), spread.str("whenUnsatisfiable"));
        if key.is_empty() {
            causes.required(&format!("{path}.topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let at = format!("{path}.whenUnsatisfiable");
            causes.not_supported(&at, action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if repeated.contains(&idx) {
            let pair = format!("{{{key}, {action}}}");
            causes.duplicate(&format!("{path}.{{topologyKey, whenUnsatisfiable}}"), &pair.into());
        }
        if let Some(domains) = spread.int("minDomains") {
            if domains <= 0 {
                causes.invalid(
                    &format!("{path}.minDomains"),
                    &domains.into(),
                    "must be greater than zero",
                );
            }
            if spread.str("whenUnsatisfiable") != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    spread.str("whenUnsatisfiable")
                );
                causes.invalid(&format!("{path}.minDomains"), &domains.into(), &detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            checks::part_at(
                "TopologySpreadConstraint",
                field,
                spread.at(field),
                &format!("{path}.{field}"),
                causes,
            );
        }
        let selector = spread.at("labelSelector");
        label_keys(spread, "matchLabelKeys", true, &path, causes);
        checks::label_selector(selector, &format!("{path}.labelSelector"), causes);
    }
    affinity(spec.at("affinity"), &format!("{path}.affinity"), causes);
}

fn tolerations(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, toleration) in spec.list("tolerations").iter().enumerate() {
        self::toleration(toleration, &format!("{path}.tolerations[{idx}]"), causes);
    }
}

/// A toleration at `path`.
pub(crate) fn toleration(toleration: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (key, operator) = (toleration.str("key"), toleration.str("operator"));
    if !key.is_empty() {
        causes.check_name(&format!("{path}.key"), key, names::qualified);
    } else if operator != "Exists" {
        causes.invalid(
            &format!("{path}.operator"),
            &operator.into(),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    if toleration.has("tolerationSeconds") && toleration.str("effect") != "NoExecute" {
        causes.invalid(
            &format!("{path}.effect"),
            &toleration.str("effect").into(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator {
        "Exists" if !toleration.str("value").is_empty() => causes.invalid(
            &format!("{path}.operator"),
            toleration.at("value"),
            "value must be empty when `operator` is 'Exists'",
        ),
        "" | "Equal" => {
            if let Err(why) = names::label_value(toleration.str("value")) {
                let why = why.replace('\n', ";");
                causes.invalid(&format!("{path}.operator"), &toleration.str("value").into(), &why);
            }
        }
        "Exists" => {}
        other => {
            causes.not_supported_in_order(&format!("{path}.operator"), other, &["Equal", "Exists"])
        }
    }
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let effect = toleration.str("effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        causes.not_supported_in_order(&format!("{path}.effect"), effect, &EFFECTS);
    }
}

fn affinity(affinity: &Value, path: &str, causes: &mut Vec<Cause>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let weight = |value: &Value, path: &str, causes: &mut Vec<Cause>| {
        if !(1..=100).contains(&value.int("weight").unwrap_or(0)) {
            causes.invalid(
                &format!("{path}.weight"),
                value.at("weight"),
                "must be in the range 1-100",
            );
        }
    };
    let node = affinity.at("nodeAffinity");
    if node.has(REQUIRED) {
        let path = format!("{path}.nodeAffinity.{REQUIRED}");
        checks::node_selector(node.at(REQUIRED), &path, causes);
    }
    for (idx, term) in node.list(PREFERRED).iter().enumerate() {
        let path = format!("{path}.nodeAffinity.{PREFERRED}[{idx}]");
        weight(term, &path, causes);
        checks::node_selector_term(term.at("preference"), &format!("{path}.preference"), causes);
    }
    for which in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(which);
        for (idx, term) in pods.list(REQUIRED).iter().enumerate() {
            pod_affinity_term(term, &format!("{path}.{which}.{REQUIRED}[{idx}]"), causes);
        }
        for (idx, term) in pods.list(PREFERRED).iter().enumerate() {
            let path = format!("{path}.{which}.{PREFERRED}[{idx}]");
            weight(term, &path, causes);
            pod_affinity_term(
                term.at("podAffinityTerm"),
                &format!("{path}.podAffinityTerm"),
                causes,
            );
        }
    }
}

fn pod_affinity_term(term: &Value, path: &str, causes: &mut Vec<Cause>) {
    checks::label_selector(term.at("labelSelector"), &format!("{path}.labelSelector"), causes);
    checks::label_selector(
        term.at("namespaceSelector"),
        &format!("{path}.namespaceSelector"),
        causes,
    );
    for namespace in term.list("namespaces").iter().filter_map(Value::as_str) {
        causes.check_name(&format!("{path}.namespace"), namespace, names::label);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, field, false, path, causes);
    }
    let mismatched = term.list("mismatchLabelKeys");
    for (idx, key) in term.list("matchLabelKeys").iter().enumerate() {
        if mismatched.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            causes.invalid(&format!("{path}.matchLabelKeys[{idx}]"), key, detail);
        }
    }
    let key = term.str("topologyKey");
    if key.is_empty() {
        causes.required(&format!("{path}.topologyKey"), "can not be empty");
    }
    causes.check_name(&format!("{path}.topologyKey"), key, names::qualified);
}

/// Keys of labels whose values the pod's own are; of a spread constraint the selector may not name them, too.
fn label_keys(of: &Value, field: &str, of_spread: bool, path: &str, causes: &mut Vec<Cause>) {
    let (keys, path) = (of.list(field), format!("{path}.{field}"));
    if keys.is_empty() {
        return;
    }
    if !of.has("labelSelector") {
        causes.forbidden(&path, "must not be specified when labelSelector is not set");
        if !of_spread {
            return;
        }
    }
    let selected: OrdSet<&str> = of
        .pairs("labelSelector.matchLabels")
        .map(|(key, _)| key)
        .chain(of.list("labelSelector.matchExpressions").iter().map(|it| it.str("key")))
        .collect();
    for (idx, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let path = format!("{path}[{idx}]");
        causes.check_name(&path, key, names::qualified);
        if of_spread && selected.contains(key) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            causes.invalid(&path, &key.into(), detail);
        }
    }
}

fn security(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let context = spec.at("securityContext");
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = context.int(field) {
            container::user_id(id, &format!("{path}.{field}"), causes);
        }
    }
    for (idx, id) in context.list("supplementalGroups").iter().filter_map(Value::as_i64).enumerate()
    {
        container::user_id(id, &format!("{path}.supplementalGroups[{idx}]"), causes);
    }
    let mut seen = OrdSet::new();
    for (idx, sysctl) in context.list("sysctls").iter().enumerate() {
        let path = format!("{path}.sysctls[{idx}].name");
        let name = sysctl.str("name");
        if !name.is_empty() && !is_sysctl(name) {
            causes.invalid(&path, &name.into(), "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
        } else if !seen.insert(name) {
            causes.duplicate(&path, &name.into());
        }
        if let Some((_, field)) =
            api::pod::host_namespace_of_sysctl(spec, &api::pod::sysctl_name(name))
        {
            let detail = format!("may not be specified when '{field}' is true");
            causes.invalid(&path, &name.into(), &detail);
        }
    }
    container::seccomp(context.at("seccompProfile"), &format!("{path}.seccompProfile"), causes);
    platform::context(context, &path, causes);
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        causes.invalid(
            &format!("{path}.shareProcessNamespace"),
            &true.into(),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
}

/// Segments between dots or slashes, each of lower-case letters, digits and, inside, `-` and `_`.
fn is_sysctl(name: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= names::SUBDOMAIN_MAX
        && name.split(['.', '/']).map(str::as_bytes).all(|segment| {
            segment.first().is_some_and(alphanumeric)
                && segment.last().is_some_and(alphanumeric)
                && segment.iter().all(|b| alphanumeric(b) || matches!(b, b'-' | b'_'))
        })
}

fn dns(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    const NAMESERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    const SEARCHES_MAX_BYTES: usize = 2048;
    let config = spec.at("dnsConfig");
    let servers = config.list("nameservers");
    if spec.str("dnsPolicy") == "None" && servers.is_empty() {
        let (field, detail) = match config.is_null() {
            true => ("", "must provide `dnsConfig` when `dnsPolicy` is None"),
            false => (
                ".nameservers",
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
        };
        causes.required(&format!("{path}.dnsConfig{field}"), detail);
        return;
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        causes.invalid(&format!("{path}.dnsConfig.nameservers"), config.at("nameservers"), &detail);
    }
    for (idx, server) in servers.iter().enumerate() {
        if server.as_str().and_then(names::ip).is_none() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.invalid(&format!("{path}.dnsConfig.nameservers[{idx}]"), server, detail);
        }
    }
    if config.list("searches").len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        causes.invalid(&format!("{path}.dnsConfig.searches"), config.at("searches"), &detail);
    }
    let length: usize =
        config.list("searches").iter().filter_map(|s| Some(s.as_str()?.len() + 1)).sum();
    if length > SEARCHES_MAX_BYTES + 1 {
        let detail = format!(
            "must not have more than {SEARCHES_MAX_BYTES} characters (including spaces) in the search list"
        );
        causes.invalid(&format!("{path}.dnsConfig.searches"), config.at("searches"), &detail);
    }
    let relaxed = gates::is_on(gates::RELAXED_SEARCHES);
    for (idx, search) in config.list("searches").iter().filter_map(Value::as_str).enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        let path = format!("{path}.dnsConfig.searches[{idx}]");
        match relaxed {
            true if search == "." => {}
            true => {
                let label =
                    |label: &str| label.strip_prefix('_').unwrap_or(label).replace('_', "-");
                let labels: Vec<String> = name.split('.').map(label).collect();
                if let Err(why) = names::subdomain(&labels.join(".")) {
                    causes.invalid(&path, &name.into(), &why.replacen("'-'", "'_', '-'", 1));
                }
            }
            false => causes.check_name(&path, name, names::subdomain),
        }
    }
    for (idx, option) in config.list("options").iter().enumerate() {
        if option.str("name").is_empty() {
            causes.required(&format!("{path}.dnsConfig.options[{idx}]"), "must not be empty");
        }
    }
}

/// What may change in a pod that exists: images, the deadline, more tolerations; and, behind gates, more.
fn update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, old) = (new.at("spec"), old.at("spec"));
    if new == old {
        return;
    }
    if new.list("containers").len() != old.list("containers").len() {
        causes.forbidden("spec.containers", "pod updates may not add or remove containers");
        return;
    }
    if new.list("initContainers").len() != old.list("initContainers").len() {
        causes.forbidden("spec.initContainers", "pod updates may not add or remove containers");
        return;
    }
    for (field, idx, container) in
        all_containers(new).filter(|(field, ..)| *field != "ephemeralContainers")
    {
        let (image, path) = (container.str("image"), format!("spec.{field}[{idx}].image"));
        if image.is_empty() {
            causes.required(&path, "");
        }
        if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            causes.invalid(&path, &image.into(), detail);
        }
    }
    match (new.int("activeDeadlineSeconds"), old.int("activeDeadlineSeconds")) {
        (Some(secs), _) if !(0..=i64::from(i32::MAX)).contains(&secs) => {
            let detail = "must be between 0 and 2147483647, inclusive";
            causes.invalid("spec.activeDeadlineSeconds", &secs.into(), detail);
            return;
        }
        (Some(secs), Some(before)) if secs > before => {
            let detail = "must be less than or equal to previous value";
            causes.invalid("spec.activeDeadlineSeconds", &secs.into(), detail);
            return;
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            causes.invalid("spec.activeDeadlineSeconds", &Value::Null, detail);
        }
        _ => {}
    }
    let kept = |old: &Value| {
        new.list("tolerations").iter().any(|new| {
            // A new bound on how long to tolerate is allowed.
            let without = |t: &Value| {
                let mut t = t.clone();
                t.remove("tolerationSeconds");
                t
            };
            without(new) == without(old)
        })
    };
    if !old.list("tolerations").iter().all(kept) {
        causes.forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        );
    } else {
        // Upstream looks at them here again.
        tolerations(new, "spec", causes);
    }
    let gated = !old.list("schedulingGates").is_empty();
    for (idx, gate) in new.list("schedulingGates").iter().enumerate() {
        if !old.list("schedulingGates").contains(gate) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.str("name")
            );
            causes.forbidden(&format!("spec.schedulingGates[{idx}].name"), &detail);
        }
    }
    // With what may change made equal, the rest must be.
    let mut wanted = new.clone();
    for path in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        same(&mut wanted, old, path);
    }
    if gated {
        for path in ["nodeSelector", "affinity.nodeAffinity"] {
            same(&mut wanted, old, path);
        }
    }
    if old.int("terminationGracePeriodSeconds").is_some_and(|secs| secs < 0)
        && new.int("terminationGracePeriodSeconds") == Some(1)
    {
        same(&mut wanted, old, "terminationGracePeriodSeconds");
    }
    for field in ["containers", "initContainers"] {
        for idx in 0..new.list(field).len() {
            same(&mut wanted, old, &format!("{field}.{idx}.image"));
        }
    }
    if wanted != *old {
        let changed: Vec<&str> = wanted
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .chain(old.as_object().into_iter().flat_map(|map| map.keys()))
            .filter(|key| wanted.get(key.as_str()) != old.get(key.as_str()))
            .map(String::as_str)
            .collect::<OrdSet<&str>>()
            .into_iter()
            .collect();
        causes.forbidden(
            "spec",
            &format!(
                "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                 `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n \
                 changed: {}\n",
                changed.join(", ")
            ),
        );
    }
}

/// Ephemeral containers are only ever added.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.ephemeralContainers";
    let containers = new.list(path);
    for before in old.list(path) {
        let name = before.str("name");
        match containers.iter().find(|container| container.str("name") == name) {
            None => causes.forbidden(
                path,
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(now) if now != before => {
                causes.forbidden(
                    path,
                    &format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
}

fn same(new: &mut Value, old: &Value, path: &str) {
    match old.at(path) {
        Value::Null => {
            new.remove(path);
        }
        value => new.set(path, value.clone()),
    }
}
