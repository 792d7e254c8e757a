//! The `rancher.io/local-path` provisioner: a directory of the chosen node for each claim.
//!
//! Here only the object is made and deleted. The directory is the node's: it makes it when a pod
//! mounts it, and removes it, and then the finalizer, when the volume is being deleted.

use api::kinds::{CONFIG_MAP, NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS};
use api::{Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View};
use api::{Wakes, Watch, json};

use super::{PROVISIONED_BY, SELECTED_NODE, class_name};
use crate::support::settings::Settings;
use crate::support::without_finalizer;

const NAME: &str = "rancher.io/local-path";
const FINALIZER: &str = "k3rs.io/local-path";
const NODE_OF_VOLUME: &str = "local.path.provisioner/selected-node";
const PROTECTION: &str = "kubernetes.io/pv-protection";
const HOSTNAME: &str = "kubernetes.io/hostname";
const DEFAULT_NODE: &str = "DEFAULT_PATH_FOR_NON_LISTED_NODES";

pub(crate) struct LocalPath;

impl Controller for LocalPath {
    const NAME: &'static str = "local-path-provisioner-service-account";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::Itself),
        Watch::new(&PERSISTENT_VOLUME, Wakes::Itself),
        Watch::new(&NODE, Wakes::With(wakes_of_node)),
        Watch::new(&STORAGE_CLASS, Wakes::With(wakes_of_class)),
    ];
    const READS: &'static [&'static Kind] = &[&CONFIG_MAP];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        match *key.kind == PERSISTENT_VOLUME {
            true => reclaim(view, &object, actions),
            false => provision(view, &object, actions),
        }
        Next::Done
    }
}

/// Volumes of a node that is gone cannot be cleared away there.
fn wakes_of_node(view: &View<'_>, node: &Object) -> Vec<Key> {
    if view.at(&Key::of(node)).is_some() {
        return Vec::new();
    }
    view.list(&PERSISTENT_VOLUME, None).iter().map(Key::of).collect()
}

fn wakes_of_class(view: &View<'_>, class: &Object) -> Vec<Key> {
    let mut claims = view.list(&PERSISTENT_VOLUME_CLAIM, None);
    claims.retain(|claim| class_name(&claim.tree()) == class.name());
    claims.iter().map(Key::of).collect()
}

/// Makes the volume of a claim whose node has been chosen.
fn provision(view: &View<'_>, claim: &Object, actions: &mut Actions) {
    let tree = claim.tree();
    if claim.deleting() || tree.has("spec.volumeName") && !tree.str("spec.volumeName").is_empty() {
        return;
    }
    let Some(class) = view.get(&STORAGE_CLASS, "", class_name(&tree)).map(|class| class.tree())
    else {
        return;
    };
    let name = format!("pvc-{}", claim.uid());
    if class.str("provisioner") != NAME || view.get(&PERSISTENT_VOLUME, "", &name).is_some() {
        return;
    }
    let chosen = tree.entry("metadata.annotations", SELECTED_NODE);
    if chosen.is_none() && class.str("volumeBindingMode") == "WaitForFirstConsumer" {
        return;
    }
    // Upstream's library says so before it asks the provisioner, whatever else is wrong.
    if tree.str("spec.volumeMode") == "Block" {
        let message = format!("{NAME} does not support block volume provisioning");
        return actions.warning(claim, "ProvisioningFailed", message);
    }
    let mut refuse = |why: String| {
        let class = class_name(&tree);
        let message = format!("failed to provision volume with StorageClass \"{class}\": {why}");
        actions.warning(claim, "ProvisioningFailed", message);
    };
    let Some(node) = chosen.and_then(|name| view.get(&NODE, "", name)).map(|node| node.tree())
    else {
        return refuse("configuration error, no node was specified".into());
    };
    let single = |mode: &Value| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
    if !tree.list("spec.accessModes").iter().all(single) {
        return refuse(
            "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes".into(),
        );
    }
    // An empty volume is not what was asked for.
    if tree.has("spec.dataSource") || tree.has("spec.dataSourceRef") {
        return refuse("a claim with a data source cannot be provisioned".into());
    }
    if tree.has("spec.selector") {
        return refuse("claim.Spec.Selector is not supported".into());
    }
    let node_name = node.str("metadata.name");
    let Some(base) = base_path(view, node_name) else {
        return refuse(format!("config doesn't contain a path on node {node_name}"));
    };
    let (namespace, claim_name) = (claim.namespace(), claim.name());
    let path = format!("{}/{name}_{namespace}_{claim_name}", base.trim_end_matches('/'));
    let message = format!(
        "External provisioner is provisioning volume for claim \"{namespace}/{claim_name}\""
    );
    actions.event(claim, "Provisioning", message);
    let volume = volume(claim, &tree, &class, &node, &name, &path);
    actions.create(&PERSISTENT_VOLUME, volume);
    actions.event(
        claim,
        "ProvisioningSucceeded",
        format!("Successfully provisioned volume {name}"),
    );
}

fn volume(
    claim: &Object,
    tree: &Value,
    class: &Value,
    node: &Value,
    name: &str,
    path: &str,
) -> Value {
    let node_name = node.str("metadata.name");
    let hostname = node.entry("metadata.labels", HOSTNAME).unwrap_or(node_name);
    let policy = match class.str("reclaimPolicy") {
        "" => "Delete",
        policy => policy,
    };
    let mut volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: NAME, NODE_OF_VOLUME: node_name},
            "finalizers": [PROTECTION, FINALIZER],
        },
        "spec": {
            "capacity": {"storage": tree.at("spec.resources.requests.storage").clone()},
            "accessModes": tree.at("spec.accessModes").clone(),
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": class.str("metadata.name"),
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(), "name": claim.name(), "uid": claim.uid(),
                "resourceVersion": claim.revision().to_string(),
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": [hostname]},
            ]}]}},
        },
    });
    let kind = class.entry("metadata.annotations", "defaultVolumeType");
    let asked = tree.entry("metadata.annotations", "volumeType").or(kind).unwrap_or("hostPath");
    match asked.eq_ignore_ascii_case("local") {
        true => volume.set("spec.local", json!({"path": path})),
        false => volume.set("spec.hostPath", json!({"path": path, "type": "DirectoryOrCreate"})),
    }
    volume
}

/// Where a node keeps volumes: the ConfigMap that k3s users edit, or what main was told.
fn base_path(view: &View<'_>, node: &str) -> Option<String> {
    let map = view.get(&CONFIG_MAP, "kube-system", "local-path-config").map(|map| map.tree());
    let text = map.as_ref().and_then(|map| map.entry("data", "config.json"));
    let Some(config) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Some(Settings::of(view).local_storage_path().to_owned());
    };
    let paths_of = |name: &str| {
        let entries = config.list("nodePathMap").iter();
        entries.filter(|entry| entry.str("node") == name).map(|entry| entry.list("paths")).next()
    };
    let paths = paths_of(node).or_else(|| paths_of(DEFAULT_NODE))?;
    paths.first().and_then(Value::as_str).map(str::to_owned)
}

/// Deletes a volume that its claim has left, and lets go of one whose node is no more.
fn reclaim(view: &View<'_>, volume: &Object, actions: &mut Actions) {
    let tree = volume.tree();
    if tree.entry("metadata.annotations", PROVISIONED_BY) != Some(NAME) {
        return;
    }
    if !volume.deleting() {
        let released = tree.str("status.phase") == "Released";
        if released && tree.str("spec.persistentVolumeReclaimPolicy") == "Delete" {
            actions.delete(volume);
        }
        return;
    }
    let node = tree.entry("metadata.annotations", NODE_OF_VOLUME).unwrap_or("");
    if view.get(&NODE, "", node).is_none()
        && let Some(patch) = without_finalizer(&tree, FINALIZER)
    {
        actions.expect(Expect::Gone { key: Key::new(&NODE, "", node), uid: String::new() });
        actions.patch_exact(volume, patch);
    }
}
