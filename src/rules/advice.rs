//! Upstream's warnings of what is deprecated, or surely not meant, though it is valid.
//!
//! Source: k8s.io/kubernetes/pkg/api/{pod,node,persistentvolume,persistentvolumeclaim,service}, and each
//! kind's `WarningsOnCreate` and `WarningsOnUpdate`.

use api::kind::Kind;
use api::kinds::ingress::CLASS_ANNOTATION;
use api::lens::Lens;
use api::names;
use serde_json::Value;
use stdx::{OrdMap, OrdSet};
use wire::quantity::Quantity;

use crate::gates;

/// Labels of nodes by which nobody should choose any more.
const NODE_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Sources of volumes that are on their way out, and what is said of them.
const VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Those that are also said of persistent volumes.
const PERSISTENT: &[&str] =
    &["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"];

/// Annotations of pods and persistent volumes that do nothing any more.
const POD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const VOLUME_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "volume.beta.kubernetes.io/storage-class",
        "deprecated since v1.8; use \"storageClassName\" attribute instead",
    ),
    (
        "volume.beta.kubernetes.io/mount-options",
        "deprecated since v1.31; use \"mountOptions\" attribute instead",
    ),
];
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const NO_LABEL: &str = "a null labelSelector results in matching no pod";

/// How many warnings are said about one object.
const WARNINGS_MAX: usize = 64;
/// How many of the ports that are alike, and of the files of one volume, are compared with each other.
const PEERS_MAX: usize = 256;

/// What is said so far: at most `WARNINGS_MAX` lines.
struct Said(Vec<String>);

impl Said {
    fn push(&mut self, line: String) {
        if !self.is_full() {
            self.0.push(line);
        }
    }

    fn extend(&mut self, lines: impl Iterator<Item = String>) {
        self.0.extend(lines.take(WARNINGS_MAX - self.0.len()));
    }

    fn is_full(&self) -> bool {
        self.0.len() >= WARNINGS_MAX
    }
}

/// The warnings about a valid object that is created, or replaces `old`.
pub fn of(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = Said(Vec::new());
    let spec = gates::pod_spec_path(kind);
    // Templates are looked at again only when something changed.
    let is_same = |old: &Value| {
        spec != "spec" && old.at("metadata.generation") == new.at("metadata.generation")
    };
    if !spec.is_empty() && !old.is_some_and(is_same) {
        let named_pods = matches!(
            kind.name,
            "Deployment" | "ReplicaSet" | "ReplicationController" | "Job" | "CronJob"
        );
        if let (true, None, Err(why)) = (named_pods, old, names::label(new.str("metadata.name"))) {
            said.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{why}]"
            ));
        }
        let base = spec.strip_suffix("spec").unwrap_or("").trim_end_matches('.');
        let dot = if base.is_empty() { "" } else { "." };
        // Of a ReplicationController that is replaced, upstream tells about the template that it had.
        let judged = match old {
            Some(old) if kind.name == "ReplicationController" => old,
            _ => new,
        };
        let annotations = judged.at(&format!("{base}{dot}metadata"));
        Pod { base, spec: judged.at(spec), annotations }.warn(&mut said);
    }
    match (kind.group, kind.name) {
        ("", "Service") => service(new, &mut said),
        ("", "Secret") if new.str("type") == "kubernetes.io/tls" => key_pair(new, &mut said),
        ("", "ServiceAccount") => {
            let has = |tree: &Value| tree.entry("metadata.annotations", MOUNTABLE).is_some();
            if has(new) && !old.is_some_and(has) {
                said.push(format!(
                    "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                ));
            }
        }
        ("discovery.k8s.io", "EndpointSlice")
            if old.is_none() && new.str("addressType") == "FQDN" =>
        {
            said.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        ("", "PersistentVolume") => volume(new, &mut said),
        ("", "PersistentVolumeClaim") => {
            deprecated(new.at("metadata"), "metadata", &VOLUME_ANNOTATIONS[..1], &mut said);
            fractions(new.at("spec.resources"), "spec.resources", &["storage"], &mut said);
        }
        ("", "Node") if new.has("spec.externalID") && !new.str("spec.externalID").is_empty() => {
            said.push(
                "spec.externalID: this field is deprecated, and is unused by Kubernetes".into(),
            )
        }
        ("networking.k8s.io", "Ingress") => {
            let annotation = new.entry("metadata.annotations", CLASS_ANNOTATION).is_some();
            if annotation && old.is_none() && !new.has("spec.ingressClassName") {
                said.push(format!(
                    "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        }
        ("node.k8s.io", "RuntimeClass") => {
            let path = "scheduling.nodeSelector";
            let labels = new.pairs(path).filter_map(|(key, _)| node_label(key));
            said.extend(labels.map(|why| format!("{path}: {why}")));
        }
        ("storage.k8s.io", "CSIStorageCapacity") => {
            let path = "nodeTopology.matchExpressions";
            for (idx, expression) in new.list(path).iter().enumerate() {
                let key = expression.str("key");
                if let Some(why) = node_label(key) {
                    said.push(format!("{path}[{idx}].key: {key} is {why}"));
                }
            }
            for (key, _) in new.pairs("nodeTopology.matchLabels") {
                if let Some(why) = node_label(key) {
                    said.push(format!("nodeTopology.matchLabels.{key}: {why}"));
                }
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            for (idx, topology) in new.list("allowedTopologies").iter().enumerate() {
                let path = format!("allowedTopologies[{idx}].matchLabelExpressions");
                for (idx, expression) in topology.list("matchLabelExpressions").iter().enumerate() {
                    if let Some(why) = node_label(expression.str("key")) {
                        said.push(format!("{path}[{idx}].key: {why}"));
                    }
                }
            }
        }
        _ => {}
    }
    said.0
}

fn node_label(label: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(known, _)| *known == label).map(|(_, why)| *why)
}

fn deprecated(metadata: &Value, path: &str, known: &[(&str, &str)], said: &mut Said) {
    for (key, why) in known {
        if metadata.entry("annotations", key).is_some() {
            said.push(format!("{path}.annotations[{key}]: {why}"));
        }
    }
}

fn terms(terms: &[Value], path: &str, inner: &str, said: &mut Said) {
    for (idx, term) in terms.iter().enumerate() {
        let dot = if inner.is_empty() { "" } else { "." };
        for (at, expression) in term.at(inner).list("matchExpressions").iter().enumerate() {
            let key = expression.str("key");
            if let Some(why) = node_label(key) {
                said.push(format!(
                    "{path}[{idx}]{dot}{inner}.matchExpressions[{at}].key: {key} is {why}"
                ));
            }
        }
    }
}

/// Bytes come whole.
fn fractions(resources: &Value, path: &str, names: &[&str], said: &mut Said) {
    for name in names {
        for list in ["limits", "requests"] {
            fraction(resources.at(list), &format!("{path}.{list}"), name, said);
        }
    }
}

fn fraction(amounts: &Value, path: &str, name: &str, said: &mut Said) {
    let amount = Quantity::from_tree(amounts.get(name).unwrap_or(&Value::Null));
    if let Some(amount) = amount.filter(|amount| amount.has_fraction()) {
        said.push(format!(
            "{path}[{name}]: fractional byte value {:?} is invalid, must be an integer",
            amount.to_string()
        ));
    }
}

fn volume(new: &Value, said: &mut Said) {
    deprecated(new.at("metadata"), "metadata", VOLUME_ANNOTATIONS, said);
    if new.str("spec.persistentVolumeReclaimPolicy") == "Recycle" {
        said.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let path = "spec.nodeAffinity.required.nodeSelectorTerms";
    terms(new.list(path), path, "", said);
    for source in PERSISTENT {
        let why = VOLUMES.iter().find(|(name, _)| name == source).map_or("", |(_, why)| *why);
        if new.at("spec").has(source) {
            said.push(format!("spec.{}: {why}", spelled(source)));
        }
    }
}

/// Upstream's warnings spell this one as Go does.
fn spelled(source: &str) -> &str {
    if source == "storageos" { "storageOS" } else { source }
}

fn service(new: &Value, said: &mut Said) {
    let hints = "service.kubernetes.io/topology-aware-hints";
    if new.entry("metadata.annotations", hints).is_some() {
        said.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let mut addresses = Vec::new();
    for list in ["clusterIPs", "externalIPs"] {
        for (idx, address) in new.at("spec").list(list).iter().enumerate() {
            addresses.push((format!("spec.{list}[{idx}]"), address.as_str().unwrap_or("")));
        }
    }
    addresses.push(("spec.loadBalancerIP".into(), new.str("spec.loadBalancerIP")));
    for (path, address) in addresses {
        if let Ok(parsed) = address.parse::<std::net::Ipv6Addr>()
            && parsed.to_string() != address
        {
            said.push(format!(
                "{path}: IPv6 address {address:?} is not in RFC 5952 canonical format (\"{parsed}\"), which may cause controller apply-loops"
            ));
        }
        if let Some(why) = no_address(address) {
            said.push(format!(
                "{path}: IP address was accepted, but will be invalid in a future Kubernetes release: ParseAddr({address:?}): {why}"
            ));
        }
    }
    let is_external = new.str("spec.type") == "ExternalName";
    if is_external && !new.list("spec.externalIPs").is_empty() {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !is_external && !new.str("spec.externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
}

/// Why Go's strict parser takes a text for no address; of those that hold a colon nothing is said.
fn no_address(text: &str) -> Option<String> {
    if text.is_empty() || text.contains(':') || text == "None" {
        return None;
    }
    if !text.contains('.') {
        return Some("unable to parse IP".into());
    }
    let at = |what: &str, idx: usize| Some(format!("{what} (at {:?})", &text[idx..]));
    let (mut value, mut n_digits, mut n_dots) = (0, 0, 0);
    for (idx, c) in text.char_indices() {
        match c.to_digit(10) {
            Some(_) if n_digits == 1 && value == 0 => {
                return Some("IPv4 field has octet with leading zero".into());
            }
            Some(digit) => {
                (value, n_digits) = (value * 10 + digit, n_digits + 1);
                if value > 255 {
                    return Some("IPv4 field has value >255".into());
                }
            }
            None if c != '.' => return at("unexpected character", idx),
            None if n_digits == 0 || idx + 1 == text.len() => {
                return at("IPv4 field must have at least one digit", idx);
            }
            None if n_dots == 3 => return Some("IPv4 address too long".into()),
            None => (value, n_digits, n_dots) = (0, 0, n_dots + 1),
        }
    }
    (n_dots < 3).then(|| "IPv4 address too short".into())
}

/// What is found of a certificate and its key: that there is something to read in both.
fn key_pair(secret: &Value, said: &mut Said) {
    for (field, what) in [("tls.crt", "certificate"), ("tls.key", "key")] {
        let bytes =
            wire::base64::decode(secret.entry("data", field).unwrap_or("")).unwrap_or_default();
        if !String::from_utf8_lossy(&bytes).contains("-----BEGIN ") {
            said.push(format!("tls: failed to find any PEM data in {what} input"));
            return;
        }
    }
}

/// A pod or a template of pods.
struct Pod<'a> {
    /// Where the template stands, "" for a pod.
    base: &'a str,
    spec: &'a Value,
    /// Its metadata.
    annotations: &'a Value,
}

impl Pod<'_> {
    fn path(&self, below: &str) -> String {
        if self.base.is_empty() { below.to_owned() } else { format!("{}.{below}", self.base) }
    }

    fn warn(&self, said: &mut Said) {
        self.placement(said);
        deprecated(self.annotations, &self.path("metadata"), POD_ANNOTATIONS, said);
        for (idx, volume) in self.spec.list("volumes").iter().enumerate() {
            let path = self.path(&format!("spec.volumes[{idx}]"));
            for (source, why) in VOLUMES.iter().filter(|(source, _)| volume.has(source)) {
                said.push(format!("{path}.{}: {why}", spelled(source)));
            }
            let claim = "ephemeral.volumeClaimTemplate.spec";
            let resources = volume.at(claim).at("resources");
            fractions(resources, &format!("{path}.{claim}.resources"), &["storage"], said);
        }
        overlaps(self.spec.list("volumes"), said);
        self.repeated("hostAliases", "ip", said);
        self.repeated("imagePullSecrets", "name", said);
        for (idx, secret) in self.spec.list("imagePullSecrets").iter().enumerate() {
            if secret.str("name").is_empty() {
                let path = self.path(&format!("spec.imagePullSecrets[{idx}].name"));
                said.push(format!("{path}: invalid empty name \"\""));
            }
        }
        for name in ["memory", "ephemeral-storage"] {
            fraction(self.spec.at("overhead"), &self.path("spec.overhead"), name, said);
        }
        let seccomp = "seccomp.security.alpha.kubernetes.io/pod";
        if !self.spec.has("securityContext.seccompProfile") {
            self.annotation(
                seccomp,
                "non-functional in v1.27+; use the \"seccompProfile\" field instead",
                said,
            );
        }
        let mut ports = Ports::new();
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for (idx, container) in self.spec.list(list).iter().enumerate() {
                let path = self.path(&format!("spec.{list}[{idx}]"));
                self.container(container, &path, said);
                for (idx, port) in container.list("ports").iter().enumerate() {
                    one_port(port, format!("{path}.ports[{idx}]"), &mut ports, said);
                }
            }
        }
        if self.spec.int("terminationGracePeriodSeconds").is_some_and(|secs| secs < 0) {
            let path = self.path("spec.terminationGracePeriodSeconds");
            said.push(format!(
                "{path}: must be >= 0; negative values are invalid and will be treated as 1"
            ));
        }
        for which in ["podAffinity", "podAntiAffinity"] {
            for (list, inner) in [
                ("requiredDuringSchedulingIgnoredDuringExecution", ""),
                ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm."),
            ] {
                let path = format!("affinity.{which}.{list}");
                for (idx, term) in self.spec.list(&path).iter().enumerate() {
                    if !term.has(&format!("{inner}labelSelector")) {
                        let path = self.path(&format!("spec.{path}[{idx}].{inner}labelSelector"));
                        said.push(format!("{path}: {NO_LABEL}"));
                    }
                }
            }
        }
    }

    fn placement(&self, said: &mut Said) {
        for (key, _) in self.spec.pairs("nodeSelector") {
            if let Some(why) = node_label(key) {
                said.push(format!("{}[{key}]: {why}", self.path("spec.nodeSelector")));
            }
        }
        let affinity = "affinity.nodeAffinity";
        for (list, inner) in [
            ("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", "preference"),
        ] {
            let path = format!("{affinity}.{list}");
            terms(self.spec.list(&path), &self.path(&format!("spec.{path}")), inner, said);
        }
        for (idx, spread) in self.spec.list("topologySpreadConstraints").iter().enumerate() {
            let path = self.path(&format!("spec.topologySpreadConstraints[{idx}]"));
            let key = spread.str("topologyKey");
            if let Some(why) = node_label(key) {
                said.push(format!("{path}.topologyKey: {key} is {why}"));
            }
            if !spread.has("labelSelector") {
                said.push(format!("{path}.labelSelector: {NO_LABEL}"));
            }
        }
    }

    fn annotation(&self, key: &str, why: &str, said: &mut Said) {
        if self.annotations.entry("annotations", key).is_some() {
            said.push(format!("{}[{key}]: {why}", self.path("metadata.annotations")));
        }
    }

    fn repeated(&self, list: &str, field: &str, said: &mut Said) {
        let mut seen = OrdSet::new();
        for (idx, item) in self.spec.list(list).iter().enumerate() {
            if !seen.insert(item.str(field)) {
                let path = self.path(&format!("spec.{list}[{idx}].{field}"));
                said.push(format!("{path}: duplicate {field} {:?}", item.str(field)));
            }
        }
    }

    fn container(&self, container: &Value, path: &str, said: &mut Said) {
        let name = container.str("name");
        if !container.has("securityContext.seccompProfile") {
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
            self.annotation(
                &key,
                "non-functional in v1.27+; use the \"seccompProfile\" field instead",
                said,
            );
        }
        let field = "securityContext.appArmorProfile";
        if !self.base.is_empty() && !self.spec.has(field) && !container.has(field) {
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            self.annotation(
                &key,
                "deprecated since v1.30; use the \"appArmorProfile\" field instead",
                said,
            );
        }
        let resources = format!("{path}.resources");
        fractions(container.at("resources"), &resources, &["memory", "ephemeral-storage"], said);
        let mut seen = OrdSet::new();
        for (idx, variable) in container.list("env").iter().enumerate() {
            let (name, value) = (variable.str("name"), variable.str("value"));
            let itself = format!("$({name})");
            let hides = variable.has("valueFrom") || value == itself || !value.contains(&itself);
            if !seen.insert(name) && hides {
                said.push(format!(
                    "{path}.env[{idx}]: hides previous definition of {name:?}, which may be dropped when using apply"
                ));
            }
        }
    }
}

/// Ports of one number and protocol, where each is written, in their order.
type Ports<'a> = OrdMap<(i64, &'a str), Vec<(String, &'a Value)>>;

fn one_port<'a>(port: &'a Value, path: String, others: &mut Ports<'a>, said: &mut Said) {
    let host = |port: &Value| port.int("hostPort").unwrap_or(0);
    let key = (port.int("containerPort").unwrap_or(0), port.str("protocol"));
    if !port.str("hostIP").is_empty() && host(port) == 0 {
        said.push(format!(
            "{path}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
            port.str("name"),
            key.0,
            key.1,
            port.str("hostIP")
        ));
    }
    let others = others.entry(key).or_default();
    for (where_, other) in others.iter() {
        if said.is_full() {
            return;
        }
        let (a, b) = (port.str("hostIP"), other.str("hostIP"));
        let what = if a == b && host(port) == host(other) {
            "duplicate"
        } else if host(port) == 0 || host(other) == 0 {
            "overlapping"
        } else if host(port) == host(other) && a.is_empty() != b.is_empty() {
            "dangerously ambiguous"
        } else {
            continue;
        };
        said.push(format!("{path}: {what} port definition with {where_}"));
    }
    if others.len() < PEERS_MAX {
        others.push((path, port));
    }
}

fn is_at_or_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Files of one volume that two sources put at one place, or one below the other.
fn overlaps(volumes: &[Value], said: &mut Said) {
    for volume in volumes {
        let name = volume.str("name");
        let items = |source: &Value, from: &str| -> Vec<(String, String)> {
            let path = |item: &Value| item.str("path").trim_end_matches('/').to_owned();
            source.list("items").iter().map(|item| (path(item), from.to_owned())).collect()
        };
        let mut tell = |what: &str, paths: Vec<(String, String)>| {
            let show = |(path, from): &(String, String)| match from.as_str() {
                "" => format!("{path:?}"),
                from => format!("{path:?} ({from})"),
            };
            let paths: Vec<_> = paths.iter().filter(|(path, _)| !path.is_empty()).collect();
            for (idx, one) in paths.iter().enumerate().take(PEERS_MAX) {
                for other in &paths[..idx] {
                    if said.is_full() {
                        return;
                    }
                    if is_at_or_below(&one.0, &other.0) || is_at_or_below(&other.0, &one.0) {
                        let pair = format!("{} with {}", show(one), show(other));
                        said.push(format!("volume {name:?} ({what}): overlapping paths: {pair}"));
                    }
                }
            }
        };
        let (map, secret) = (volume.at("configMap"), volume.at("secret"));
        tell(&format!("ConfigMap {:?}", map.str("name")), items(map, ""));
        tell(&format!("Secret {:?}", secret.str("secretName")), items(secret, ""));
        tell("DownwardAPI", items(volume.at("downwardAPI"), ""));
        let mut all = Vec::new();
        let mut n_empty = 0;
        for source in volume.list("projected.sources") {
            let (map, secret) = (source.at("configMap"), source.at("secret"));
            all.extend(items(map, &format!("ConfigMap {:?}", map.str("name"))));
            all.extend(items(secret, &format!("Secret {:?}", secret.str("name"))));
            all.extend(items(source.at("downwardAPI"), "DownwardAPI"));
            if source.has("serviceAccountToken") {
                let path = source.str("serviceAccountToken.path").trim_end_matches('/');
                all.push((path.to_owned(), "ServiceAccountToken".into()));
            }
            n_empty += usize::from(source.as_object().is_none_or(serde_json::Map::is_empty));
        }
        tell("Projected", all);
        for _ in 0..n_empty {
            said.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds;
    use serde_json::json;

    #[test]
    fn pods_are_advised() {
        let template = json!({"spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "volumes": [
                {"name": "a", "projected": {"sources": [
                    {"downwardAPI": {"items": [{"path": "x"}, {"path": "x/y"}]}}, {}]}},
                {"name": "b", "gitRepo": {}}],
            "imagePullSecrets": [{"name": "s"}, {"name": "s"}, {"name": ""}],
            "terminationGracePeriodSeconds": -1,
            "topologySpreadConstraints": [{"topologyKey": "z"}],
            "containers": [{"name": "c",
                "resources": {"limits": {"memory": "100m", "cpu": "100m"}},
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "hostPort": 1}]}],
        }});
        let tree =
            json!({"metadata": {"name": "a.b", "generation": 1}, "spec": {"template": template}});
        let said = of(&kinds::DEPLOYMENT, &tree, None);
        let beginnings = [
            "metadata.name: this is used in Pod names",
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14",
            "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector",
            "spec.template.spec.volumes[1].gitRepo: deprecated in v1.11",
            "volume \"a\" (Projected): overlapping paths: \"x/y\" (DownwardAPI) with \"x\" (DownwardAPI)",
            "volume \"a\" (Projected) has no sources provided",
            "spec.template.spec.imagePullSecrets[1].name: duplicate name \"s\"",
            "spec.template.spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"100m\"",
            "spec.template.spec.containers[0].env[2]: hides previous definition of \"A\"",
            "spec.template.spec.containers[0].ports[1]: overlapping port definition with spec.template.spec.containers[0].ports[0]",
            "spec.template.spec.terminationGracePeriodSeconds: must be >= 0",
        ];
        assert_eq!(said.len(), beginnings.len(), "{said:#?}");
        for (line, beginning) in said.iter().zip(beginnings) {
            assert!(line.starts_with(beginning), "{line}");
        }
        assert!(of(&kinds::DEPLOYMENT, &tree, Some(&tree)).is_empty());
        let pod = json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/critical-pod": ""}}, "spec": {}});
        assert_eq!(
            of(&kinds::POD, &pod, Some(&pod)),
            [
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead"
            ]
        );
    }

    #[test]
    fn much_is_said_in_few_lines() {
        let said = |spec: Value| of(&kinds::POD, &json!({"spec": spec}), None);
        let ports = |host: &dyn Fn(usize) -> usize| -> Vec<Value> {
            let port = |nth| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host(nth)});
            (0..1000).map(port).collect()
        };
        let equal = said(json!({"containers": [{"name": "c", "ports": ports(&|_| 0)}]}));
        assert_eq!(equal.len(), WARNINGS_MAX);
        let apart = said(json!({"containers": [{"name": "c", "ports": ports(&|nth| nth + 1)}]}));
        assert!(apart.is_empty(), "{apart:?}");
        let items = |path: &dyn Fn(usize) -> String| -> Vec<Value> {
            (0..1000).map(|nth| json!({"path": path(nth)})).collect()
        };
        let volume = |items: Vec<Value>| json!({"volumes": [{"name": "v", "configMap": {"name": "m", "items": items}}]});
        assert_eq!(said(volume(items(&|_| "x".into()))).len(), WARNINGS_MAX);
        assert!(said(volume(items(&|nth| format!("x{nth}")))).is_empty());
        let secrets = vec![json!({"name": ""}); 1000];
        assert_eq!(said(json!({"imagePullSecrets": secrets})).len(), WARNINGS_MAX);
    }

    #[test]
    fn services_are_advised() {
        let tree = json!({"spec": {"clusterIPs": ["010.0.0.1", "FD00::1"], "externalName": "x"}});
        assert_eq!(
            of(&kinds::SERVICE, &tree, None),
            [
                "spec.clusterIPs[0]: IP address was accepted, but will be invalid in a future Kubernetes release: ParseAddr(\"010.0.0.1\"): IPv4 field has octet with leading zero",
                "spec.clusterIPs[1]: IPv6 address \"FD00::1\" is not in RFC 5952 canonical format (\"fd00::1\"), which may cause controller apply-loops",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
    }
}
