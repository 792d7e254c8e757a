//! Upstream's answers for sources of volumes, in a table.

use api::kinds::{PERSISTENT_VOLUME, POD};
use api::lens::Lens;
use serde_json::{Value, json};

use crate::validate;

/// What is said of a pod with this volume, without the field's beginning.
fn of_pod(volume: &Value) -> Vec<String> {
    let mut volume = volume.clone();
    volume["name"] = "v".into();
    let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {
        "containers": [{"name": "c", "image": "i"}], "volumes": [volume], "serviceAccountName": "default"}});
    said(validate::create(&POD, &pod), "spec.volumes[0]")
}

/// What is said of a PersistentVolume with this source beside `local`'s affinity.
fn of_volume(source: &Value) -> Vec<String> {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"});
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let volume = json!({"metadata": {"name": "a"}, "spec": spec});
    said(validate::create(&PERSISTENT_VOLUME, &volume), "spec")
}

fn said(answer: Result<(), api::status::Status>, beginning: &str) -> Vec<String> {
    let details = answer.err().map(|status| status.to_tree()).unwrap_or_default();
    let short = |field: &str| field.strip_prefix(beginning).unwrap_or(field).to_owned();
    let causes = details.list("details.causes").iter();
    causes.map(|cause| format!("{}: {}", short(cause.str("field")), cause.str("message"))).collect()
}

#[test]
fn sources_of_pods() {
    for (volume, want) in [
        (json!({}), &[": Required value: must specify a volume type"][..]),
        (json!({"emptyDir": {"medium": "odd"}}), &[]),
        (json!({"hostPath": {}}), &[".hostPath.path: Required value"]),
        (
            json!({"emptyDir": {}, "rbd": {}}),
            &[".rbd: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"cephfs": {"monitors": ["a"]}, "downwardAPI": {}}),
            &[".downwarAPI: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"gcePersistentDisk": {"partition": 256}}),
            &[
                ".persistentDisk.pdName: Required value",
                ".persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        ),
        (
            json!({"nfs": {"server": "s"}}),
            &[
                ".nfs.path: Required value",
                ".nfs.path: Invalid value: \"\": must be an absolute path",
            ],
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "..x"}]}}),
            &[
                ".downwardAPI.path: Invalid value: \"..x\": must not start with '..'",
                ".downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "spec.nope"}}]}}),
            &[
                ".downwardAPI.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: field label not supported: spec.nope",
            ],
        ),
        (
            json!({"secret": {"items": [{"key": "a", "path": "/x"}], "defaultMode": 512}}),
            &[
                ".secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                ".secret.secretName: Required value",
                ".secret.items[0].path: Invalid value: \"/x\": must be a relative path",
            ],
        ),
        (
            json!({"projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
            {"configMap": {"items": [{"path": "p"}]}}]}}),
            &[
                ".projected.sources[1].configMap.name: Required value",
                ".projected.sources[1].configMap.items[0].key: Required value",
                ".projected: Invalid value: \"\": conflicting duplicate paths",
            ],
        ),
        (
            json!({"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 1}}]}}),
            &[
                ".projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                ".projected.path: Required value",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "t", "iqn": "x", "lun": 300}}),
            &[
                ".iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                ".iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "t", "iqn": "iqn.2001-04.com.example:a", "lun": 0}}),
            &[],
        ),
        (
            json!({"flocker": {}}),
            &[".flocker: Required value: one of datasetName and datasetUUID is required"],
        ),
        (
            json!({"fc": {"targetWWNs": ["a"]}}),
            &[".fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
        (
            json!({"csi": {"driver": ""}}),
            &[
                ".csi.driver: Required value",
                ".csi.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {}}}}),
            &[
                ".ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                ".ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
                ".ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
            ],
        ),
        (
            json!({"scaleIO": {"gateway": "g", "system": "s"}}),
            &[".scaleIO.volumeName: Required value"],
        ),
    ] {
        assert_eq!(of_pod(&volume), want, "{volume}");
    }
}

#[test]
fn sources_of_persistent_volumes() {
    for (source, want) in [
        (json!({}), &[": Required value: must specify a volume type"][..]),
        (
            json!({"local": {"path": "/a"}}),
            &[".nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            json!({"local": {"path": "/a"}, "rbd": {"monitors": ["m"], "image": "i"}}),
            &[".local: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"nodeAffinity": {}, "hostPath": {"path": "/"}}),
            &[".nodeAffinity.required: Required value: must specify required node constraints"],
        ),
        (
            json!({"nodeAffinity": {"required": {}}, "hostPath": {"path": "/"}}),
            &[
                ".nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        ),
        (
            json!({"quobyte": {"registry": "a", "volume": "v"}}),
            &[
                ".quobyte.registry: Invalid value: \"a\": must be a host:port pair or multiple pairs separated by commas",
            ],
        ),
        (
            json!({"cinder": {"volumeID": "v", "secretRef": {}}}),
            &[
                ".cinder.secretRef.name: Required value",
                ".cinder.secretRef.namespace: Required value",
            ],
        ),
        (
            json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}}),
            &[".csi.nodePublishSecretRef.namespace: Required value"],
        ),
        (
            json!({"azureDisk": {"diskName": "d", "diskURI": "x", "kind": "Managed"}}),
            &[
                ".azureDisk.diskURI: Unsupported value: \"x\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
            ],
        ),
        (
            json!({"accessModes": ["odd"], "hostPath": {"path": "/a"}}),
            &[
                ".accessModes: Unsupported value: \"odd\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ],
        ),
    ] {
        assert_eq!(of_volume(&source), want, "{source}");
    }
}
