//! The sources of volumes: one template each.

use api::{Lens, Value};

use crate::page::Page;

/// Volumes of a pod, or of a pod's template, whose lines begin with `space`.
pub(crate) fn volumes(page: &mut Page<'_>, space: &str, volumes: &[Value]) {
    if volumes.is_empty() {
        return page.line(&[space, "Volumes:\t<none>"]);
    }
    page.line(&[space, "Volumes:"]);
    for volume in volumes {
        let indent = if space.is_empty() { "  " } else { "   " };
        page.line(&[indent, volume.str("name"), ":"]);
        source(page, volume);
    }
}

/// The one source that a volume has, or none that is known.
fn source(page: &mut Page<'_>, volume: &Value) {
    for (name, kind, template) in SOURCES {
        let source = volume.at(name);
        if !source.is_null() {
            page.line(&["    Type:\t", kind]);
            return page.render(template, source);
        }
    }
    page.line(&["  <unknown>"]);
}

/// The source of a PersistentVolume.
pub(crate) fn persistent(page: &mut Page<'_>, volume: &Value) {
    page.is_persistent = true;
    let spec = volume.at("spec");
    for (name, template) in PERSISTENT {
        let own = spec.at(name);
        if let Some((_, kind, _)) = SOURCES.iter().find(|(known, ..)| known == name)
            && !own.is_null()
        {
            page.line(&["    Type:\t", kind]);
            return page.render(template, own);
        }
    }
    source(page, spec);
}

/// Attributes of a CSI volume: a map, cut like annotations; each part of a line is nested by itself.
pub(crate) fn attributes(page: &mut Page<'_>, title: &str, map: &Value) {
    page.put(&["    ", title, ":\t"]);
    let mut is_first = true;
    for (key, value) in map.pairs("") {
        if !std::mem::replace(&mut is_first, false) {
            page.put(&["        \t"]);
        }
        let line = [key, "=", value].concat();
        let (shown, more) = crate::page::shorten(&line, 140);
        page.line(&["    ", shown, more]);
    }
    page.none(is_first);
}

/// The sources within a projected volume.
pub(crate) fn projected(page: &mut Page<'_>, volume: &Value) {
    for source in volume.list("sources") {
        page.render(PROJECTED, source);
    }
}

const PROJECTED: &str = "\
?secret|    SecretName:~{secret.name}
?secret|    SecretOptionalName:~{secret.optional=<nil>}
?downwardAPI|    DownwardAPI:~true
?configMap|    ConfigMapName:~{configMap.name}
?configMap|    ConfigMapOptional:~{configMap.optional=<nil>}
?serviceAccountToken|    TokenExpirationSeconds:~{serviceAccountToken.expirationSeconds}";

/// The field, the type as it is told, and the rest.
const SOURCES: &[(&str, &str, &str)] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        "    Path:~{path}\n    HostPathType:~{type=<none>}",
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        "    Medium:~{medium}\n    SizeLimit:~{sizeLimit=<unset>}",
    ),
    (
        "gcePersistentDisk",
        "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
        "    PDName:~{pdName}\n    FSType:~{fsType}\n    Partition:~{partition=0}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "awsElasticBlockStore",
        "AWSElasticBlockStore (a Persistent Disk resource in AWS)",
        "    VolumeID:~{volumeID}\n    FSType:~{fsType}\n    Partition:~{partition=0}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "gitRepo",
        "GitRepo (a volume that is pulled from git when the pod is created)",
        "    Repository:~{repository}\n    Revision:~{revision}",
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        "    SecretName:~{secretName}\n    Optional:~{optional=false}",
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        "    Name:~{name}\n    Optional:~{optional=false}",
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        "    Server:~{server}\n    Path:~{path}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        "    TargetPortal:~{targetPortal}\n    IQN:~{iqn}\n    Lun:~{lun=0}\n    ISCSIInterface~{iscsiInterface}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}\n    Portals:~{portals@go}\n    DiscoveryCHAPAuth:~{chapAuthDiscovery=false}\n    SessionCHAPAuth:~{chapAuthSession=false}\n    SecretRef:~{secretRef@secret}\n    InitiatorName:~{initiatorName=<none>}",
    ),
    (
        "glusterfs",
        "Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)",
        "    EndpointsName:~{endpoints}\n    Path:~{path}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        "    ClaimName:~{claimName}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "ephemeral",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        "?volumeClaimTemplate|%ephemeral |volumeClaimTemplate",
    ),
    (
        "rbd",
        "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)",
        "    CephMonitors:~{monitors@go}\n    RBDImage:~{image}\n    FSType:~{fsType}\n    RBDPool:~{pool}\n    RadosUser:~{user}\n    Keyring:~{keyring}\n    SecretRef:~{secretRef@secret}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "quobyte",
        "Quobyte (a Quobyte mount on the host that shares a pod's lifetime)",
        "    Registry:~{registry}\n    Volume:~{volume}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "downwardAPI",
        "DownwardAPI (a volume populated by information about the pod)",
        "    Items:\n*items|      {fieldRef.fieldPath}{resourceFieldRef.resource} -> {path}",
    ),
    (
        "azureDisk",
        "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)",
        "    DiskName:~{diskName}\n    DiskURI:~{diskURI}\n    Kind: ~{kind}\n    FSType:~{fsType}\n    CachingMode:~{cachingMode}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "vsphereVolume",
        "vSphereVolume (a Persistent Disk resource in vSphere)",
        "    VolumePath:~{volumePath}\n    FSType:~{fsType}\n    StoragePolicyName:~{storagePolicyName}",
    ),
    (
        "cinder",
        "Cinder (a Persistent Disk resource in OpenStack)",
        "    VolumeID:~{volumeID}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}\n    SecretRef:~{secretRef@secret}",
    ),
    (
        "photonPersistentDisk",
        "PhotonPersistentDisk (a Persistent Disk resource in photon platform)",
        "    PdID:~{pdID}\n    FSType:~{fsType}",
    ),
    ("portworxVolume", "PortworxVolume (a Portworx Volume resource)", "    VolumeID:~{volumeID}"),
    (
        "scaleIO",
        "ScaleIO (a persistent volume backed by a block device in ScaleIO)",
        "    Gateway:~{gateway}\n    System:~{system}\n    Protection Domain:~{protectionDomain}\n    Storage Pool:~{storagePool}\n    Storage Mode:~{storageMode}\n    VolumeName:~{volumeName}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        "    Path:~{path}",
    ),
    (
        "cephfs",
        "CephFS (a CephFS mount on the host that shares a pod's lifetime)",
        "    Monitors:~{monitors@go}\n    Path:~{path}\n    User:~{user}\n    SecretFile:~{secretFile}\n    SecretRef:~{secretRef@secret}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "storageos",
        "StorageOS (a StorageOS Persistent Disk resource)",
        "    VolumeName:~{volumeName}\n    VolumeNamespace:~{volumeNamespace}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "fc",
        "FC (a Fibre Channel disk)",
        "    TargetWWNs:~{targetWWNs@list}\n    LUN:~{lun=<none>}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "azureFile",
        "AzureFile (an Azure File Service mount on the host and bind mount to the pod)",
        "    SecretName:~{secretName}\n    ShareName:~{shareName}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "flexVolume",
        "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)",
        "    Driver:~{driver}\n    FSType:~{fsType}\n    SecretRef:~{secretRef@secret}\n    ReadOnly:~{readOnly=false}\n    Options:~{options=map[]}",
    ),
    (
        "flocker",
        "Flocker (a Flocker volume mounted by the Flocker agent)",
        "    DatasetName:~{datasetName}\n    DatasetUUID:~{datasetUUID}",
    ),
    (
        "projected",
        "Projected (a volume that contains injected data from multiple sources)",
        "%projected",
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        "    Driver:~{driver}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}\n%attributes VolumeAttributes|volumeAttributes",
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        "    Reference:~{reference}\n    PullPolicy:~{pullPolicy}",
    ),
];

/// Where a PersistentVolume's source differs from a pod's.
const PERSISTENT: &[(&str, &str)] = &[
    (
        "glusterfs",
        "    EndpointsName:~{endpoints}\n    EndpointsNamespace:~{endpointsNamespace=<unset>}\n    Path:~{path}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "scaleIO",
        "    Gateway:~{gateway}\n    System:~{system}\n    Protection Domain:~{protectionDomain}\n    Storage Pool:~{storagePool}\n    Storage Mode:~{storageMode}\n    VolumeName:~{volumeName}\n    SecretName:~{secretRef.name}\n    SecretNamespace:~{secretRef.namespace}\n    FSType:~{fsType}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "azureFile",
        "    SecretName:~{secretName}\n    SecretNamespace:~{secretNamespace}\n    ShareName:~{shareName}\n    ReadOnly:~{readOnly=false}",
    ),
    (
        "csi",
        "    Driver:~{driver}\n    FSType:~{fsType}\n    VolumeHandle:~{volumeHandle}\n    ReadOnly:~{readOnly=false}\n%attributes VolumeAttributes|volumeAttributes",
    ),
];
