//! NetworkPolicy: which connections the pods that it selects may have.

use crate::kind::*;

pub static NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    name: "NetworkPolicy",
    plural: "networkpolicies",
    declared: &Declared {
        version: "v1",
        short: &["netpol"],
        schema: SCHEMA,
        doc: "Which connections the pods that it selects may have.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.networking.v1
NetworkPolicy kind
   1 metadata ObjectMeta
   2 spec     NetworkPolicySpec
NetworkPolicySpec
   1 podSelector~ LabelSelector -- The pods that it is about; an empty one selects all of the namespace.
   2 ingress      []NetworkPolicyIngressRule -- What may come in.
   3 egress       []NetworkPolicyEgressRule -- Where it may go.
   4 policyTypes  []str enum Egress|Ingress -- What it is about: Ingress, Egress or both.
NetworkPolicyIngressRule
   1 ports []NetworkPolicyPort
   2 from  []NetworkPolicyPeer
NetworkPolicyEgressRule
   1 ports []NetworkPolicyPort
   2 to    []NetworkPolicyPeer
NetworkPolicyPort
   1 protocol str? = TCP enum SCTP|TCP|UDP
   2 port     intorstr?
   3 endPort  i32?
IPBlock
   1 cidr~  str
   2 except []str
NetworkPolicyPeer
   1 podSelector       LabelSelector?
   2 namespaceSelector LabelSelector?
   3 ipBlock           IPBlock?
";
