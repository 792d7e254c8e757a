//! FlowSchema: which requests belong to which priority level.

use crate::kind::*;

pub static FLOW_SCHEMA: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    name: "FlowSchema",
    plural: "flowschemas",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "Which requests belong to which priority level.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.flowcontrol.v1
FlowSchema kind
   1 metadata ObjectMeta
   2 spec     FlowSchemaSpec
   3 status   FlowSchemaStatus
FlowSchemaSpec
   1 priorityLevelConfiguration~ PriorityLevelConfigurationReference -- The level of its requests.
   2 matchingPrecedence!         i32 = 1000 -- Of several schemas that fit, that with the smallest counts.
   3 distinguisherMethod         FlowDistinguisherMethod? -- What tells flows of requests apart.
   4 rules                       []PolicyRulesWithSubjects -- The requests that belong to it.
FlowDistinguisherMethod
   1 type~ str
PriorityLevelConfigurationReference
   1 name~ str
PolicyRulesWithSubjects
   1 subjects~        []Subject
   2 resourceRules    []ResourcePolicyRule
   3 nonResourceRules []NonResourcePolicyRule
Subject
   1 kind~          str
   2 user           UserSubject?
   3 group          GroupSubject?
   4 serviceAccount ServiceAccountSubject?
UserSubject
   1 name~ str
GroupSubject
   1 name~ str
ServiceAccountSubject
   1 namespace~ str
   2 name~      str
ResourcePolicyRule
   1 verbs~       []str set
   2 apiGroups~   []str set
   3 resources~   []str set
   4 clusterScope bool
   5 namespaces!  []str set
NonResourcePolicyRule
   1 verbs~           []str set
   6 nonResourceURLs~ []str set
FlowSchemaStatus
   1 conditions []FlowSchemaCondition map(type) merge(type)
FlowSchemaCondition
   1 type               str
   2 status             str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
