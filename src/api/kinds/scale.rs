//! Scale: the number of replicas of something that can be scaled.

use crate::kind::*;

pub static SCALE: Kind = Kind {
    group: "autoscaling",
    name: "Scale",
    plural: "scales",
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "The number of replicas of something that can be scaled.",
        subresource_body: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.autoscaling.v1
Scale kind
   1 metadata ObjectMeta
   2 spec     ScaleSpec
   3 status   ScaleStatus
ScaleSpec
   1 replicas i32
ScaleStatus
   1 replicas~ i32
   2 selector  str
";
