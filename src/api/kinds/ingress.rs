//! Ingress: which requests from outside go to which services, by host and path.

use crate::kind::*;

/// What named the class before there was a field.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub static INGRESS: Kind = Kind {
    group: "networking.k8s.io",
    name: "Ingress",
    plural: "ingresses",
    storage: "ingress",
    declared: &Declared {
        version: "v1",
        short: &["ing"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "Which requests from outside go to which services, by host and path.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.networking.v1
Ingress kind
   1 metadata ObjectMeta
   2 spec     IngressSpec
   3 status   IngressStatus
IngressSpec
   1 defaultBackend   IngressBackend? -- Where requests go that no rule is about.
   2 tls              []IngressTLS -- The certificates of its hosts.
   3 rules            []IngressRule -- Where requests go, by host and path.
   4 ingressClassName str? -- The class whose controller serves it.
IngressTLS
   1 hosts      []str
   2 secretName str
IngressStatus
   1 loadBalancer IngressLoadBalancerStatus
IngressLoadBalancerStatus
   1 ingress []IngressLoadBalancerIngress
IngressLoadBalancerIngress
   1 ip       str
   2 hostname str
   4 ports    []IngressPortStatus
IngressPortStatus
   1 port~     i32
   2 protocol~ str enum SCTP|TCP|UDP
   3 error     str?
IngressRule
   1 host   str
   2 inline IngressRuleValue
IngressRuleValue
   1 http HTTPIngressRuleValue?
HTTPIngressRuleValue
   1 paths~ []HTTPIngressPath
HTTPIngressPath
   1 path      str
   2 backend~  IngressBackend
   3 pathType~ str? enum Exact|ImplementationSpecific|Prefix
IngressBackend
   3 resource TypedLocalObjectReference?
   4 service  IngressServiceBackend?
IngressServiceBackend
   1 name~ str
   2 port  ServiceBackendPort
ServiceBackendPort atomic
   1 name   str
   2 number i32
";
