//! EndpointSlice.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;
use crate::print::first_three;

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    name: "EndpointSlice",
    plural: "endpointslices",
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column::path("AddressType", "addressType"),
    Column::with("Ports", |tree, _| ports(tree).into()),
    Column::with("Endpoints", |tree, _| addresses(tree).into()),
    Column::AGE,
];

fn ports(tree: &Value) -> String {
    let ports: Vec<String> = tree
        .list("ports")
        .iter()
        .map(|port| port.int("port").map_or_else(|| "*".to_owned(), |port| port.to_string()))
        .collect();
    first_three(&ports, "<unset>")
}

fn addresses(tree: &Value) -> String {
    let addresses = tree.list("endpoints").iter().flat_map(|endpoint| endpoint.list("addresses"));
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    first_three(&addresses, "<unset>")
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.discovery.v1
EndpointSlice kind
   1 metadata     ObjectMeta
   2 endpoints~   []Endpoint
   3 ports!       []EndpointPort
   4 addressType* str            immutable
Endpoint
   1 addresses*         []str              set
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
   1 name* str
EndpointPort atomic
   1 name        str? = ''
   2 protocol    str? in TCP|UDP|SCTP = TCP
   3 port        i32?
   4 appProtocol str?
";
