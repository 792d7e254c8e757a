//! Persistent volumes that are directories of this node: hostPath, local, and local-path's own.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use api::pod::ephemeral::check_owner;
use api::pod::references::{self, Target};
use api::{Lens, Value};
use stdx::{Error, OrdMap, Result};

/// The claims and volumes that a pod's volumes lead to, by claim name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Claim and, where it is bound, its volume.
    pub found: OrdMap<String, (Option<Value>, Option<Value>)>,
}

/// Where a bound claim's data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub path: PathBuf,
    /// Make it (0777) if it is not there.
    pub make: bool,
    /// Of a hostPath volume its type: it is treated as a pod's own hostPath.
    pub host_type: Option<String>,
    pub read_only: bool,
    /// An fsGroup changes its owners and modes. Never so for hostPath, as upstream: what is the host's
    /// keeps the modes that somebody gave it.
    pub takes_group: bool,
    /// The path is a device, without a file system.
    pub block: bool,
}

/// Upstream's annotation for the node that a local-path volume was made on.
pub(crate) const SELECTED_NODE: &str = "local.path.provisioner/selected-node";
/// Keeps a local-path volume until its node removed the directory.
pub(crate) const FINALIZER: &str = "k3rs.io/local-path";

impl Claims {
    /// The claim names of a pod's volumes.
    pub(crate) fn wanted(pod: &Value) -> Vec<String> {
        references::names(pod, Target::Claim)
    }

    /// The claim of `volume` and what it is bound to.
    pub(crate) fn bound(&self, pod: &Value, volume: &Value) -> Result<(&Value, &Value)> {
        let namespace = pod.str("metadata.namespace");
        let name = claim_name(pod, volume).unwrap_or_default();
        let (claim, bound) = match self.found.get(&name) {
            Some((Some(claim), bound)) => (claim, bound),
            _ => return Err(Error::new(format!("persistentvolumeclaim \"{name}\" not found"))),
        };
        if volume.has("ephemeral") {
            check_owner(pod, claim).map_err(Error::new)?;
        }
        if claim.str("status.phase") != "Bound" || claim.str("spec.volumeName").is_empty() {
            return Err(Error::new(format!(
                "error processing PVC {namespace}/{name}: PVC is not bound"
            )));
        }
        match bound {
            Some(bound) => {
                check_use(pod, volume.str("name"), bound.str("spec.volumeMode") == "Block")?;
                Ok((claim, bound))
            }
            None => Err(Error::new(format!(
                "error processing PVC {namespace}/{name}: failed to fetch PV {} from API server: persistentvolumes \"{0}\" not found",
                claim.str("spec.volumeName")
            ))),
        }
    }

    /// Where the claim of `volume` leads.
    pub(crate) fn place(&self, pod: &Value, volume: &Value) -> Result<Place> {
        let (_, bound) = self.bound(pod, volume)?;
        place_of(bound, volume.flag("persistentVolumeClaim.readOnly"))
    }
}

/// Whether containers have a volume as what it is, a file system or a device.
fn check_use(pod: &Value, name: &str, block: bool) -> Result<()> {
    let (wrong, mode) = match block {
        true => ("volumeMounts", "Block"),
        false => ("volumeDevices", "Filesystem"),
    };
    let lists = ["spec.containers", "spec.initContainers"].into_iter();
    let containers = lists.flat_map(|list| pod.list(list));
    let mut uses = containers.flat_map(|container| container.list(wrong));
    match uses.any(|entry| entry.str("name") == name) {
        true => Err(Error::new(format!(
            "volume {name} has volumeMode {mode}, but is specified in {wrong}"
        ))),
        false => Ok(()),
    }
}

/// The claim that a volume is about.
fn claim_name(pod: &Value, volume: &Value) -> Option<String> {
    references::claim_of(pod.str("metadata.name"), volume).map(Cow::into_owned)
}

fn place_of(volume: &Value, read_only: bool) -> Result<Place> {
    let name = volume.str("metadata.name");
    let provisioned = volume.entry("metadata.annotations", SELECTED_NODE).is_some();
    let block = volume.str("spec.volumeMode") == "Block";
    if block && !volume.has("spec.local") {
        return Err(Error::new("no block volume plugin matched"));
    }
    let (path, make) = if volume.has("spec.hostPath") {
        (volume.str("spec.hostPath.path"), provisioned)
    } else if volume.has("spec.local") {
        (volume.str("spec.local.path"), provisioned && !block)
    } else {
        let plugin = volume
            .at("spec")
            .as_object()
            .and_then(|spec| spec.keys().find(|key| PLUGINS.contains(&&***key)))
            .map_or("unknown", |key| &**key);
        return Err(Error::new(format!(
            "persistent volume {name} is of type {plugin}, which this node cannot mount"
        )));
    };
    let mut options = volume.list("spec.mountOptions").iter().filter_map(Value::as_str);
    if volume.has("spec.hostPath") && options.next().is_some() {
        return Err(Error::new(
            "MountVolume.MountOptionSupport check failed: mount options are not supported for this volume type",
        ));
    }
    // The directory is the node's own: the rest of its file system's options are not a pod's to choose.
    let read_only = read_only || options.clone().any(|option| option == "ro");
    if let Some(option) = options.find(|option| !HARMLESS.contains(option)) {
        return Err(Error::new(format!(
            "persistent volume {name}: mount option \"{option}\" is not supported on this node"
        )));
    }
    let host_type = (!provisioned && volume.has("spec.hostPath"))
        .then(|| volume.str("spec.hostPath.type").to_owned());
    let takes_group = !volume.has("spec.hostPath") && !block;
    Ok(Place { path: PathBuf::from(path), make, host_type, read_only, takes_group, block })
}

/// Mount options of a local volume that are carried out, or that promise nothing but speed.
const HARMLESS: [&str; 7] =
    ["ro", "rw", "defaults", "noatime", "nodiratime", "relatime", "discard"];

/// Volume types of a PersistentVolume that need a driver.
const PLUGINS: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// The directory of a local-path volume that waits for this node to remove it.
pub(crate) fn local_path_of(volume: &Value, node: &str) -> Option<PathBuf> {
    let ours = volume.entry("metadata.annotations", SELECTED_NODE) == Some(node);
    let waits = volume.has("metadata.deletionTimestamp")
        && volume.list("metadata.finalizers").iter().any(|f| f.as_str() == Some(FINALIZER));
    if !ours || !waits {
        return None;
    }
    match volume.has("spec.hostPath") {
        true => Some(PathBuf::from(volume.str("spec.hostPath.path"))),
        false => Some(PathBuf::from(volume.str("spec.local.path"))),
    }
}

/// Removes a local-path volume's directory with its data. Only a directory whose name begins with
/// the volume's name is taken for one. Blocking.
pub(crate) fn release_local_path(path: &Path, volume_name: &str) -> Result<()> {
    let plain = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let named = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| !volume_name.is_empty() && name.starts_with(volume_name));
    if !plain || !named {
        return Err(Error::new(format!(
            "remove {}: not the directory of a local-path volume {volume_name}",
            path.display()
        )));
    }
    rt::fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn claims_lead_to_places_or_say_why_not() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}]}});
        let check = |claim: Value, volume: Value| {
            let mut claims = Claims::default();
            let opt = |v: Value| (!v.is_null()).then_some(v);
            claims.found.insert("c".into(), (opt(claim), opt(volume)));
            match claims.place(&pod, &pod["spec"]["volumes"][0]) {
                Ok(place) => {
                    let read_only = if place.read_only { " ro" } else { "" };
                    format!("{} {}{read_only}", place.path.display(), place.make)
                }
                Err(error) => error.to_string(),
            }
        };
        let bound = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        let host = |kind: &str| json!({"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": "/h", "type": kind}}});
        assert_eq!(check(bound.clone(), host("")), "/h false", "made as a pod's own would be");
        assert_eq!(check(Value::Null, Value::Null), "persistentvolumeclaim \"c\" not found");
        assert_eq!(check(json!({}), Value::Null), "error processing PVC n/c: PVC is not bound");
        let local = json!({"metadata": {"name": "pv", "annotations": {SELECTED_NODE: "n1"}},
            "spec": {"hostPath": {"path": "/data/pv_n_c"}}});
        assert_eq!(check(bound.clone(), local), "/data/pv_n_c true");
        let with = |source: &str, options: Value| {
            json!({"metadata": {"name": "pv"},
            "spec": {source: {"path": "/d"}, "mountOptions": options}})
        };
        assert_eq!(
            check(bound.clone(), with("hostPath", json!(["ro"]))),
            "MountVolume.MountOptionSupport check failed: mount options are not supported for this volume type"
        );
        assert_eq!(check(bound.clone(), with("hostPath", json!([]))), "/d false");
        assert_eq!(check(bound.clone(), with("local", json!(["noatime", "ro"]))), "/d false ro");
        assert_eq!(
            check(bound.clone(), with("local", json!(["ro", "noexec"]))),
            "persistent volume pv: mount option \"noexec\" is not supported on this node"
        );
        let device = |source: &str| {
            json!({"metadata": {"name": "pv"},
            "spec": {source: {"path": "/dev/d"}, "volumeMode": "Block"}})
        };
        assert_eq!(check(bound.clone(), device("local")), "/dev/d false");
        assert_eq!(check(bound.clone(), device("hostPath")), "no block volume plugin matched");
        assert_eq!(
            check(bound, json!({"metadata": {"name": "pv"}, "spec": {"nfs": {}, "capacity": {}}})),
            "persistent volume pv is of type nfs, which this node cannot mount"
        );
    }

    #[test]
    fn a_volume_is_used_as_what_it_is() {
        let pod = |list: &str| json!({"spec": {"containers": [{}], "initContainers": [{list: [{"name": "a"}]}]}});
        let check = |list: &str, block| {
            check_use(&pod(list), "a", block).map_err(|error| error.to_string())
        };
        assert_eq!(check("volumeMounts", false), Ok(()));
        assert_eq!(check("volumeDevices", true), Ok(()));
        let wrong = |mode: &str, list: &str| {
            Err(format!("volume a has volumeMode {mode}, but is specified in {list}"))
        };
        assert_eq!(check("volumeMounts", true), wrong("Block", "volumeMounts"));
        assert_eq!(check("volumeDevices", false), wrong("Filesystem", "volumeDevices"));
    }

    #[test]
    fn an_ephemeral_volume_is_its_own_pods() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"volumes": [
            {"name": "e", "ephemeral": {}}]}});
        for (owner, want) in [("u", true), ("other", false)] {
            let mut claims = Claims::default();
            let claim = json!({"metadata": {"name": "p-e", "namespace": "n", "ownerReferences": [
                {"uid": owner, "controller": true}]}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
            let volume = json!({"metadata": {"name": "pv"}, "spec": {"local": {"path": "/d"}}});
            claims.found.insert("p-e".into(), (Some(claim), Some(volume)));
            assert_eq!(claims.place(&pod, &pod["spec"]["volumes"][0]).is_ok(), want, "{owner}");
        }
    }

    #[test]
    fn only_the_nodes_own_directories_are_removed() {
        let volume = |node: &str| {
            json!({"metadata": {"name": "pv", "deletionTimestamp": "x",
            "annotations": {SELECTED_NODE: node}, "finalizers": [FINALIZER]}, "spec": {"local": {"path": "/d/pv_x"}}})
        };
        assert_eq!(local_path_of(&volume("a"), "a"), Some("/d/pv_x".into()));
        assert_eq!(local_path_of(&volume("b"), "a"), None);
        for bad in ["/etc", "relative/pv", "/d/../pv", "/"] {
            assert!(release_local_path(Path::new(bad), "pv").is_err(), "{bad}");
        }
    }
}
