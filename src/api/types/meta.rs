//! Metadata, statuses, selectors, discovery lists: what every group uses.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.apimachinery.pkg.apis.meta.v1
ListMeta
   1 selfLink           str
   2 resourceVersion    str
   3 continue           str
   4 remainingItemCount i64?
ObjectMeta -- What every object has: its name, labels, owners and history.
   1 name                       str -- The object's name, unique among its kind in its namespace.
   2 generateName               str -- A prefix from which the server makes a unique name, if no name is given.
   3 namespace                  str -- The namespace that the object lives in.
   4 selfLink                   str
   5 uid                        str -- Identifies this object among all that ever existed.
   6 resourceVersion            str -- The version that was read; a write that names it fails if the object has changed since.
   7 generation                 i64 -- Counts the changes of what is wanted.
   8 creationTimestamp          time -- CreationTimestamp is a timestamp representing the server time when this object was created.
   9 deletionTimestamp          time? -- When the object is to go; set by the server once deletion was asked for.
  10 deletionGracePeriodSeconds i64? -- How long it may take to end in an orderly way.
  11 labels                     {}str -- Short keys and values by which objects are selected.
  12 annotations                {}str -- Keys and values for tools and people; nothing selects by them.
  13 ownerReferences            []OwnerReference     map(uid) merge(uid) -- Objects that this one belongs to; it goes when they have gone.
  14 finalizers                 []str                set merge -- Names that must be taken off, by those who put them there, before a deleted object goes.
  17 managedFields              []ManagedFieldsEntry -- Who set which fields, and when.
OwnerReference atomic
   1 kind*              str
   3 name*              str
   4 uid*               str
   5 apiVersion*        str
   6 controller         bool? -- The owner that manages this object; there is one at most.
   7 blockOwnerDeletion bool? -- In a foreground deletion the owner waits until this object has gone.
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
   5 details  StatusDetails? listed
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
LabelSelector atomic -- Selects objects by their labels; an empty one selects all.
   1 matchLabels      {}str -- Labels that must all have these values.
   2 matchExpressions []LabelSelectorRequirement -- Conditions on labels that must all hold.
LabelSelectorRequirement
   1 key~      str -- The label's key.
   2 operator~ str -- How the label relates to the values.
   3 values    []str -- The values for In and NotIn.
FieldSelectorRequirement
   1 key*      str
   2 operator* str
   3 values    []str
ManagedFieldsEntry
   1 manager     str
   2 operation   str
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
   2 status~             str
   3 observedGeneration  i64
   4 lastTransitionTime~ time
   5 reason~             str
   6 message~            str
WatchEvent
   1 type*   str
   2 object* raw
";
