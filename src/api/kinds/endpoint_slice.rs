//! EndpointSlice.

use crate::kind::*;

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    name: "EndpointSlice",
    plural: "endpointslices",
    ..Kind::BASE
};
