//! IngressClass: which controller serves the ingresses that name it.

use crate::kind::*;

pub static INGRESS_CLASS: Kind = Kind {
    group: "networking.k8s.io",
    name: "IngressClass",
    plural: "ingressclasses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        doc: "Which controller serves the ingresses that name it.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.networking.v1
IngressClass kind
   1 metadata ObjectMeta
   2 spec     IngressClassSpec
IngressClassSpec
   1 controller str -- The controller, as a domain and a path.
   2 parameters IngressClassParametersReference? -- An object that says more to the controller.
IngressClassParametersReference
   1 apiGroup  str?
   2 kind~     str
   3 name~     str
   4 scope!    str? = Cluster
   5 namespace str?
";
