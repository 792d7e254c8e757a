//! Endpoints: the addresses behind a service, as one list.

use crate::kind::*;

pub static ENDPOINTS: Kind = Kind {
    name: "Endpoints",
    plural: "endpoints",
    storage: "services/endpoints",
    declared: &Declared {
        version: "v1",
        short: &["ep"],
        generation: false,
        schema: SCHEMA,
        doc: "The addresses behind a service, as one list.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Endpoints kind
   1 metadata ObjectMeta
   2 subsets  []EndpointSubset
EndpointSubset
   1 addresses         []EndpointAddress
   2 notReadyAddresses []EndpointAddress
   3 ports             []EndpointPort
EndpointAddress atomic
   1 ip~       str
   2 targetRef ObjectReference?
   3 hostname  str
   4 nodeName  str?
EndpointPort atomic
   1 name        str
   2 port*       i32
   3 protocol    str  in SCTP|TCP|UDP = TCP
   4 appProtocol str?
";
