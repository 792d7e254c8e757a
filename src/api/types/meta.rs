//! Metadata, statuses, selectors, discovery lists: what every group uses.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.apimachinery.pkg.apis.meta.v1
ListMeta
   1 selfLink           str
   2 resourceVersion    str
   3 continue           str
   4 remainingItemCount i64?
ObjectMeta
   1 name                       str
   2 generateName               str
   3 namespace                  str
   4 selfLink                   str
   5 uid                        str
   6 resourceVersion            str
   7 generation                 i64
   8 creationTimestamp          time
   9 deletionTimestamp          time?
  10 deletionGracePeriodSeconds i64?
  11 labels                     {}str
  12 annotations                {}str
  13 ownerReferences            []OwnerReference     map(uid) merge(uid)
  14 finalizers                 []str                set merge
  17 managedFields              []ManagedFieldsEntry
OwnerReference atomic
   1 kind*              str
   3 name*              str
   4 uid*               str
   5 apiVersion*        str
   6 controller         bool?
   7 blockOwnerDeletion bool?
DeleteOptions kind
   1 gracePeriodSeconds           i64?
   2 preconditions                Preconditions?
   3 orphanDependents             bool?
   4 propagationPolicy            str?
   5 dryRun                       []str
   6 ignoreStoreReadErrorWithClusterBreakingPotential bool?
Preconditions
   1 uid             str?
   2 resourceVersion str?
Status kind
   1 metadata ListMeta
   2 status   str
   3 message  str
   4 reason   str
   5 details  StatusDetails?
   6 code     i32
StatusDetails
   1 name              str
   2 group             str
   3 kind              str
   4 causes            []StatusCause
   5 retryAfterSeconds i32
   6 uid               str
StatusCause
   1 reason  str
   2 message str
   3 field   str
APIVersions kind
   1 versions*                   []str
   2 serverAddressByClientCIDRs* []ServerAddressByClientCIDR
APIGroupList kind
   1 groups* []APIGroup
APIGroup kind
   1 name*                      str
   2 versions*                  []GroupVersionForDiscovery
   3 preferredVersion           GroupVersionForDiscovery
   4 serverAddressByClientCIDRs []ServerAddressByClientCIDR
ServerAddressByClientCIDR
   1 clientCIDR*    str
   2 serverAddress* str
GroupVersionForDiscovery
   1 groupVersion* str
   2 version*      str
APIResource
   1 name*              str
   2 namespaced*        bool
   3 kind*              str
   4 verbs*             strs
   5 shortNames         []str
   6 singularName*      str
   7 categories         []str
   8 group              str
   9 version            str
  10 storageVersionHash str
APIResourceList kind
   1 groupVersion* str
   2 resources*    []APIResource
LabelSelector atomic
   1 matchLabels      {}str
   2 matchExpressions []LabelSelectorRequirement
LabelSelectorRequirement
   1 key*      str
   2 operator* str   in In|NotIn|Exists|DoesNotExist
   3 values    []str
FieldSelectorRequirement
   1 key*      str
   2 operator* str
   3 values    []str
ManagedFieldsEntry
   1 manager     str
   2 operation   str     in Apply|Update
   3 apiVersion  str
   4 time        time?
   6 fieldsType  str
   7 fieldsV1    fields?
   8 subresource str
PartialObjectMetadata kind
   1 metadata ObjectMeta
PartialObjectMetadataList kind
   1 metadata ListMeta
   2 items*   []PartialObjectMetadata
Condition
   1 type~               str
   2 status~             str  in True|False|Unknown
   3 observedGeneration  i64
   4 lastTransitionTime~ time
   5 reason~             str
   6 message~            str
WatchEvent
   1 type*   str
   2 object* raw
";
