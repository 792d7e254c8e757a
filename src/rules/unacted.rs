//! Fields that are validated and stored, but that nothing in this version acts on: the server says
//! so in a `Warning` header, and the README lists them.

use api::kind::Kind;
use api::lens::Lens;
use serde_json::Value;

/// Paths below a pod spec. `[]` steps into every element of a list.
pub const POD_SPEC: &[&str] = &[
    "runtimeClassName",
    "os",
    "securityContext.seLinuxOptions",
    "securityContext.windowsOptions",
    "containers[].securityContext.seLinuxOptions",
    "containers[].securityContext.windowsOptions",
    "containers[].volumeDevices",
    "initContainers[].securityContext.seLinuxOptions",
    "initContainers[].securityContext.windowsOptions",
    "initContainers[].volumeDevices",
    "ephemeralContainers[].securityContext.seLinuxOptions",
    "ephemeralContainers[].securityContext.windowsOptions",
    "ephemeralContainers[].volumeDevices",
    "volumes[].awsElasticBlockStore",
    "volumes[].azureDisk",
    "volumes[].azureFile",
    "volumes[].cephfs",
    "volumes[].cinder",
    "volumes[].csi",
    "volumes[].fc",
    "volumes[].flexVolume",
    "volumes[].flocker",
    "volumes[].gcePersistentDisk",
    "volumes[].gitRepo",
    "volumes[].glusterfs",
    "volumes[].iscsi",
    "volumes[].nfs",
    "volumes[].photonPersistentDisk",
    "volumes[].portworxVolume",
    "volumes[].quobyte",
    "volumes[].rbd",
    "volumes[].scaleIO",
    "volumes[].storageos",
    "volumes[].vsphereVolume",
];

/// Paths of kinds other than pods and templates.
pub const OTHERS: &[(&str, &str)] = &[
    ("Service", "spec.loadBalancerIP"),
    ("Service", "spec.trafficDistribution"),
    ("PersistentVolume", "spec.awsElasticBlockStore"),
    ("PersistentVolume", "spec.azureDisk"),
    ("PersistentVolume", "spec.azureFile"),
    ("PersistentVolume", "spec.cephfs"),
    ("PersistentVolume", "spec.cinder"),
    ("PersistentVolume", "spec.csi"),
    ("PersistentVolume", "spec.fc"),
    ("PersistentVolume", "spec.flexVolume"),
    ("PersistentVolume", "spec.flocker"),
    ("PersistentVolume", "spec.gcePersistentDisk"),
    ("PersistentVolume", "spec.glusterfs"),
    ("PersistentVolume", "spec.iscsi"),
    ("PersistentVolume", "spec.nfs"),
    ("PersistentVolume", "spec.photonPersistentDisk"),
    ("PersistentVolume", "spec.portworxVolume"),
    ("PersistentVolume", "spec.quobyte"),
    ("PersistentVolume", "spec.rbd"),
    ("PersistentVolume", "spec.scaleIO"),
    ("PersistentVolume", "spec.storageos"),
    ("PersistentVolume", "spec.vsphereVolume"),
    ("PersistentVolume", "spec.mountOptions"),
    ("StorageClass", "mountOptions"),
    ("PersistentVolumeClaim", "spec.dataSource"),
    ("PersistentVolumeClaim", "spec.dataSourceRef"),
];

/// Kinds whose objects are kept and served, but that nothing acts on; what would act on them is missing. What only drivers
/// write (CSINode, CSIStorageCapacity, VolumeAttachment) warns nobody: whoever installs a driver is told at its CSIDriver.
pub const KINDS: &[(&str, &str)] = &[("CSIDriver", "storage drivers (CSI) are not called")];

/// One warning for each field of `tree` that nothing acts on.
pub fn warnings(kind: &Kind, tree: &Value) -> Vec<String> {
    // The names of custom kinds are their owners' to choose.
    if !kind.is_built_in() {
        return Vec::new();
    }
    let of_kind = KINDS.iter().filter(|(name, _)| *name == kind.name);
    let of_kind: Vec<String> = of_kind
        .map(|(name, why)| format!("{name}: nothing in this version of k3rs acts on it: {why}"))
        .collect();
    let spec_path = crate::gates::pod_spec_path(kind);
    let mut found = Vec::new();
    for path in POD_SPEC.iter().filter(|_| !spec_path.is_empty()) {
        collect(tree.at(spec_path), path, &mut spec_path.to_owned(), &mut found);
    }
    for (_, path) in OTHERS.iter().filter(|(name, _)| *name == kind.name) {
        collect(tree, path, &mut String::new(), &mut found);
    }
    let of_fields = found
        .iter()
        .map(|path| format!("{path}: nothing in this version of k3rs acts on this field"));
    of_kind.into_iter().chain(of_fields).collect()
}

fn collect(value: &Value, path: &str, prefix: &mut String, found: &mut Vec<String>) {
    let len = prefix.len();
    let dot = if prefix.is_empty() { "" } else { "." };
    match path.split_once("[].") {
        Some((list, rest)) => {
            for (idx, item) in value.list(list).iter().enumerate() {
                prefix.push_str(&format!("{dot}{list}[{idx}]"));
                collect(item, rest, prefix, found);
                prefix.truncate(len);
            }
        }
        None => {
            let unset = match value.at(path) {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            if !unset {
                found.push(format!("{prefix}{dot}{path}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::schema::schema;
    use serde_json::json;

    #[test]
    fn the_readme_lists_them_all() {
        let readme =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
        let readme = readme.unwrap();
        for path in POD_SPEC {
            assert!(readme.contains(&format!("`{path}`")), "{path}");
        }
        for (kind, _) in KINDS {
            assert!(readme.contains(&format!("`{kind}`")), "{kind}");
        }
        for (kind, path) in OTHERS {
            assert!(readme.contains(&format!("`{kind}: {path}`")), "{kind}: {path}");
        }
    }

    #[test]
    fn every_path_exists() {
        let exists = |root: api::schema::TypeId, path: &str| {
            let mut at = Some(root);
            for step in path.split('.') {
                let field = at.and_then(|id| schema().by_json(id, step.trim_end_matches("[]")));
                let Some(field) = field else { return false };
                at = field.message();
            }
            true
        };
        let pod_spec = schema().qualified("io.k8s.api.core.v1.PodSpec").unwrap();
        for path in POD_SPEC {
            assert!(exists(pod_spec, path), "{path}");
        }
        for (name, _) in KINDS {
            assert!(api::kinds::KINDS.iter().any(|kind| kind.name == *name), "{name}");
        }
        for (name, path) in OTHERS {
            let kind = api::kinds::KINDS.iter().find(|kind| kind.name == *name).unwrap();
            assert!(exists(schema().root(*kind), path), "{name} {path}");
        }
    }

    #[test]
    fn what_is_set_is_told() {
        let tree = json!({"spec": {"template": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "rbd": {}}]}}}});
        assert_eq!(
            warnings(&api::kinds::DEPLOYMENT, &tree),
            [
                "spec.template.spec.volumes[1].rbd: nothing in this version of k3rs acts on this field"
            ]
        );
        let tree = json!({"spec": {"overhead": {"cpu": "1"},
            "initContainers": [{"volumeDevices": [{}]}], "ephemeralContainers": [{"securityContext": {"seLinuxOptions": {}}}]}});
        assert_eq!(warnings(&api::kinds::POD, &tree).len(), 2);
        let tree = json!({"spec": {"nfs": {"server": "x"}, "mountOptions": ["ro"]}});
        assert_eq!(warnings(&api::kinds::PERSISTENT_VOLUME, &tree).len(), 2);
    }
}
