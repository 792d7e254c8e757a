//! LimitRange: bounds and defaults for what pods, containers and claims of a namespace ask for.

use crate::kind::*;

pub static LIMIT_RANGE: Kind = Kind {
    name: "LimitRange",
    plural: "limitranges",
    declared: &Declared {
        version: "v1",
        short: &["limits"],
        generation: false,
        schema: SCHEMA,
        doc: "Bounds and defaults for what pods, containers and claims of a namespace ask for.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
LimitRange kind
   1 metadata ObjectMeta
   2 spec     LimitRangeSpec
LimitRangeSpec
   1 limits~ []LimitRangeItem
LimitRangeItem
   1 type~                str -- Pod, Container or PersistentVolumeClaim.
   2 max                  {}quantity
   3 min                  {}quantity
   4 default              {}quantity -- The limit of a container that says none.
   5 defaultRequest       {}quantity -- The request of a container that says none.
   6 maxLimitRequestRatio {}quantity -- How many times a request its limit may be.
";
