//! PriorityLevelConfiguration: how many requests of a level are served at once, and what waits.

use crate::kind::*;

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    name: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "How many requests of a level are served at once, and what waits.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.flowcontrol.v1
PriorityLevelConfiguration kind
   1 metadata ObjectMeta
   2 spec     PriorityLevelConfigurationSpec
   3 status   PriorityLevelConfigurationStatus
PriorityLevelConfigurationSpec
   1 type~   str of Exempt|Limited
   2 limited LimitedPriorityLevelConfiguration?
   3 exempt  ExemptPriorityLevelConfiguration?
LimitedPriorityLevelConfiguration
   1 nominalConcurrencyShares! i32? = 30 -- The level's part of all requests that are served at once.
   2 limitResponse             LimitResponse -- What happens to requests beyond that.
   3 lendablePercent           i32? = 0 min 0 max 100
   4 borrowingLimitPercent     i32?
ExemptPriorityLevelConfiguration
   1 nominalConcurrencyShares i32? = 0
   2 lendablePercent          i32? = 0 min 0 max 100
LimitResponse
   1 type~   str of Queue|Reject
   2 queuing QueuingConfiguration?
QueuingConfiguration
   1 queues!           i32 = 64
   2 handSize!         i32 = 8
   3 queueLengthLimit! i32 = 50
PriorityLevelConfigurationStatus
   1 conditions []PriorityLevelConfigurationCondition map(type) merge(type)
PriorityLevelConfigurationCondition
   1 type               str
   2 status             str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
