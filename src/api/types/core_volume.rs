//! Volumes and where they come from.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
Volume -- A volume of a pod.
   1 name*  str -- The name by which containers mount it.
   2 inline VolumeSource
VolumeSource
   1 hostPath              HostPathVolumeSource? -- A file or directory of the node.
   2 emptyDir              EmptyDirVolumeSource? -- An empty directory that lives as long as the pod.
   3 gcePersistentDisk     GCEPersistentDiskVolumeSource?
   4 awsElasticBlockStore  AWSElasticBlockStoreVolumeSource?
   5 gitRepo               GitRepoVolumeSource?
   6 secret                SecretVolumeSource? -- The entries of a secret as files.
   7 nfs                   NFSVolumeSource? -- A directory of an NFS server.
   8 iscsi                 ISCSIVolumeSource?
   9 glusterfs             GlusterfsVolumeSource?
  10 persistentVolumeClaim PersistentVolumeClaimVolumeSource? -- The volume bound to a claim.
  11 rbd                   RBDVolumeSource?
  12 flexVolume            FlexVolumeSource?
  13 cinder                CinderVolumeSource?
  14 cephfs                CephFSVolumeSource?
  15 flocker               FlockerVolumeSource?
  16 downwardAPI           DownwardAPIVolumeSource? -- Fields of the pod as files.
  17 fc                    FCVolumeSource?
  18 azureFile             AzureFileVolumeSource?
  19 configMap             ConfigMapVolumeSource? -- The entries of a config map as files.
  20 vsphereVolume         VsphereVirtualDiskVolumeSource?
  21 quobyte               QuobyteVolumeSource?
  22 azureDisk             AzureDiskVolumeSource?
  23 photonPersistentDisk  PhotonPersistentDiskVolumeSource?
  24 portworxVolume        PortworxVolumeSource?
  25 scaleIO               ScaleIOVolumeSource?
  26 projected             ProjectedVolumeSource? -- Several sources in one directory.
  27 storageos             StorageOSVolumeSource?
  28 csi                   CSIVolumeSource? -- A volume from a CSI driver.
  29 ephemeral             EphemeralVolumeSource? -- A claim made for this pod and gone with it.
  30 image                 ImageVolumeSource?
PersistentVolumeClaimVolumeSource
   1 claimName* str
   2 readOnly   bool
PersistentVolumeSource
   1 gcePersistentDisk    GCEPersistentDiskVolumeSource?
   2 awsElasticBlockStore AWSElasticBlockStoreVolumeSource?
   3 hostPath             HostPathVolumeSource?
   4 glusterfs            GlusterfsPersistentVolumeSource?
   5 nfs                  NFSVolumeSource?
   6 rbd                  RBDPersistentVolumeSource?
   7 iscsi                ISCSIPersistentVolumeSource?
   8 cinder               CinderPersistentVolumeSource?
   9 cephfs               CephFSPersistentVolumeSource?
  10 fc                   FCVolumeSource?
  11 flocker              FlockerVolumeSource?
  12 flexVolume           FlexPersistentVolumeSource?
  13 azureFile            AzureFilePersistentVolumeSource?
  14 vsphereVolume        VsphereVirtualDiskVolumeSource?
  15 quobyte              QuobyteVolumeSource?
  16 azureDisk            AzureDiskVolumeSource?
  17 photonPersistentDisk PhotonPersistentDiskVolumeSource?
  18 portworxVolume       PortworxVolumeSource?
  19 scaleIO              ScaleIOPersistentVolumeSource?
  20 local                LocalVolumeSource?
  21 storageos            StorageOSPersistentVolumeSource?
  22 csi                  CSIPersistentVolumeSource?
HostPathVolumeSource
   1 path* str
   2 type  str? in ''|BlockDevice|CharDevice|Directory|DirectoryOrCreate|File|FileOrCreate|Socket = ''
EmptyDirVolumeSource
   1 medium    str -- Memory keeps it in RAM.
   2 sizeLimit quantity? -- The most it may hold.
GlusterfsVolumeSource
   1 endpoints* str
   2 path*      str
   3 readOnly   bool
GlusterfsPersistentVolumeSource
   1 endpoints*         str
   2 path*              str
   3 readOnly           bool
   4 endpointsNamespace str?
RBDVolumeSource
   1 monitors* []str
   2 image*    str
   3 fsType    str
   4 pool      str                   = rbd
   5 user      str                   = admin
   6 keyring   str                   = /etc/ceph/keyring
   7 secretRef LocalObjectReference?
   8 readOnly  bool
RBDPersistentVolumeSource
   1 monitors* []str
   2 image*    str
   3 fsType    str
   4 pool      str              = rbd
   5 user      str              = admin
   6 keyring   str              = /etc/ceph/keyring
   7 secretRef SecretReference?
   8 readOnly  bool
CinderVolumeSource
   1 volumeID* str
   2 fsType    str
   3 readOnly  bool
   4 secretRef LocalObjectReference?
CinderPersistentVolumeSource
   1 volumeID* str
   2 fsType    str
   3 readOnly  bool
   4 secretRef SecretReference?
CephFSVolumeSource
   1 monitors*  []str
   2 path       str
   3 user       str
   4 secretFile str
   5 secretRef  LocalObjectReference?
   6 readOnly   bool
CephFSPersistentVolumeSource
   1 monitors*  []str
   2 path       str
   3 user       str
   4 secretFile str
   5 secretRef  SecretReference?
   6 readOnly   bool
FlockerVolumeSource
   1 datasetName str
   2 datasetUUID str
GCEPersistentDiskVolumeSource
   1 pdName*   str
   2 fsType    str
   3 partition i32
   4 readOnly  bool
QuobyteVolumeSource
   1 registry~ str
   2 volume*   str
   3 readOnly  bool
   4 user      str
   5 group     str
   6 tenant    str
FlexPersistentVolumeSource
   1 driver*   str
   2 fsType    str
   3 secretRef SecretReference?
   4 readOnly  bool
   5 options   {}str
FlexVolumeSource
   1 driver*   str
   2 fsType    str
   3 secretRef LocalObjectReference?
   4 readOnly  bool
   5 options   {}str
AWSElasticBlockStoreVolumeSource
   1 volumeID* str
   2 fsType    str
   3 partition i32
   4 readOnly  bool
GitRepoVolumeSource
   1 repository* str
   2 revision    str
   3 directory   str
SecretVolumeSource
   1 secretName  str
   2 items       []KeyToPath
   3 defaultMode i32?        = 420
   4 optional    bool?
SecretProjection
   1 inline   LocalObjectReference
   2 items    []KeyToPath
   4 optional bool?
NFSVolumeSource
   1 server*  str
   2 path*    str
   3 readOnly bool
ISCSIVolumeSource
   1 targetPortal*     str
   2 iqn*              str
   3 lun*              i32
   4 iscsiInterface    str                   = default
   5 fsType            str
   6 readOnly          bool
   7 portals           []str
   8 chapAuthDiscovery bool
  10 secretRef         LocalObjectReference?
  11 chapAuthSession   bool
  12 initiatorName     str?
ISCSIPersistentVolumeSource
   1 targetPortal*     str
   2 iqn*              str
   3 lun*              i32
   4 iscsiInterface    str              = default
   5 fsType            str
   6 readOnly          bool
   7 portals           []str
   8 chapAuthDiscovery bool
  10 secretRef         SecretReference?
  11 chapAuthSession   bool
  12 initiatorName     str?
FCVolumeSource
   1 targetWWNs []str
   2 lun        i32?
   3 fsType     str
   4 readOnly   bool
   5 wwids      []str
AzureFileVolumeSource
   1 secretName* str
   2 shareName*  str
   3 readOnly    bool
AzureFilePersistentVolumeSource
   1 secretName*      str
   2 shareName*       str
   3 readOnly         bool
   4 secretNamespace! str?
VsphereVirtualDiskVolumeSource
   1 volumePath*       str
   2 fsType            str
   3 storagePolicyName str
   4 storagePolicyID   str
PhotonPersistentDiskVolumeSource
   1 pdID*  str
   2 fsType str
AzureDiskVolumeSource
   1 diskName*   str
   2 diskURI*    str
   3 cachingMode str?  in None|ReadOnly|ReadWrite = ReadWrite
   4 fsType      str?  = ext4
   5 readOnly    bool? = false
   6 kind        str?  in Dedicated|Managed|Shared = Shared
PortworxVolumeSource
   1 volumeID* str
   2 fsType    str
   3 readOnly  bool
ScaleIOVolumeSource
   1 gateway*         str
   2 system*          str
   3 secretRef~       LocalObjectReference?
   4 sslEnabled       bool
   5 protectionDomain str
   6 storagePool      str
   7 storageMode      str                   = ThinProvisioned
   8 volumeName       str
   9 fsType           str                   = xfs
  10 readOnly         bool
ScaleIOPersistentVolumeSource
   1 gateway*         str
   2 system*          str
   3 secretRef~       SecretReference?
   4 sslEnabled       bool
   5 protectionDomain str
   6 storagePool      str
   7 storageMode      str              = ThinProvisioned
   8 volumeName       str
   9 fsType           str              = xfs
  10 readOnly         bool
StorageOSVolumeSource
   1 volumeName      str
   2 volumeNamespace str
   3 fsType          str
   4 readOnly        bool
   5 secretRef       LocalObjectReference?
StorageOSPersistentVolumeSource
   1 volumeName      str
   2 volumeNamespace str
   3 fsType          str
   4 readOnly        bool
   5 secretRef       ObjectReference?
ConfigMapVolumeSource
   1 inline      LocalObjectReference
   2 items       []KeyToPath
   3 defaultMode i32?                 = 420
   4 optional    bool?
ConfigMapProjection
   1 inline   LocalObjectReference
   2 items    []KeyToPath
   4 optional bool?
ServiceAccountTokenProjection
   1 audience          str
   2 expirationSeconds i64? = 3600
   3 path*             str
ClusterTrustBundleProjection
   1 name          str?
   2 signerName    str?
   3 labelSelector LabelSelector?
   4 path*         str
   5 optional      bool?
ProjectedVolumeSource
   1 sources!    []VolumeProjection
   2 defaultMode i32?               = 420
VolumeProjection
   1 secret              SecretProjection?
   2 downwardAPI         DownwardAPIProjection?
   3 configMap           ConfigMapProjection?
   4 serviceAccountToken ServiceAccountTokenProjection?
   5 clusterTrustBundle  ClusterTrustBundleProjection?
KeyToPath
   1 key*  str
   2 path* str
   3 mode  i32?
LocalVolumeSource
   1 path*  str
   2 fsType str?
CSIPersistentVolumeSource
   1 driver~                    str
   2 volumeHandle*              str
   3 readOnly                   bool
   4 fsType                     str
   5 volumeAttributes           {}str
   6 controllerPublishSecretRef SecretReference?
   7 nodeStageSecretRef         SecretReference?
   8 nodePublishSecretRef       SecretReference?
   9 controllerExpandSecretRef  SecretReference?
  10 nodeExpandSecretRef        SecretReference?
CSIVolumeSource
   1 driver~              str
   2 readOnly             bool?
   3 fsType               str?
   4 volumeAttributes     {}str
   5 nodePublishSecretRef LocalObjectReference?
EphemeralVolumeSource
   1 volumeClaimTemplate PersistentVolumeClaimTemplate?
PersistentVolumeClaimTemplate
   1 metadata ObjectMeta
   2 spec*    PersistentVolumeClaimSpec
DownwardAPIVolumeSource
   1 items       []DownwardAPIVolumeFile
   2 defaultMode i32?                    = 420
DownwardAPIVolumeFile
   1 path*            str
   2 fieldRef         ObjectFieldSelector?
   3 resourceFieldRef ResourceFieldSelector?
   4 mode             i32?
DownwardAPIProjection
   1 items []DownwardAPIVolumeFile
ImageVolumeSource
   1 reference  str
   2 pullPolicy str in Always|IfNotPresent|Never
";
