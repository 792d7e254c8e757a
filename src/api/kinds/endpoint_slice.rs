//! EndpointSlice: some of the addresses behind a service.

use crate::kind::*;

/// The label that names the Service whose addresses a slice has.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    name: "EndpointSlice",
    plural: "endpointslices",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        doc: "Some of the addresses behind a service.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.discovery.v1
EndpointSlice kind
   1 metadata     ObjectMeta
   2 endpoints~   []Endpoint
   3 ports!       []EndpointPort
   4 addressType* str            in FQDN|IPv4|IPv6
Endpoint
   1 addresses~         []str              set
   2 conditions         EndpointConditions
   3 hostname           str?
   4 targetRef          ObjectReference?
   5 deprecatedTopology {}str
   6 nodeName           str?
   7 zone               str?
   8 hints              EndpointHints?
EndpointConditions
   1 ready       bool?
   2 serving     bool?
   3 terminating bool?
EndpointHints
   1 forZones []ForZone
ForZone
   1 name~ str
EndpointPort atomic
   1 name        str? = ''
   2 protocol    str? in SCTP|TCP|UDP = TCP
   3 port        i32?
   4 appProtocol str?
";
