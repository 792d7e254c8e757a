//! Service: a name and address for a changing set of pods.

use crate::kind::*;

pub static SERVICE: Kind = Kind {
    name: "Service",
    plural: "services",
    storage: "services/specs",
    declared: &Declared {
        version: "v1",
        short: &["svc"],
        categories: &["all"],
        generation: false,
        subresources: &[Sub::Status, Sub::Named("proxy")],
        fields: &["spec.clusterIP", "spec.type"],
        schema: SCHEMA,
        doc: "A name and address for a changing set of pods.",
        answers_deleted: true,
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
SessionAffinityConfig
   1 clientIP ClientIPConfig?
ClientIPConfig
   1 timeoutSeconds i32?
ServiceStatus
   1 loadBalancer LoadBalancerStatus
   2 conditions   []Condition        map(type) merge(type)
LoadBalancerStatus
   1 ingress []LoadBalancerIngress
LoadBalancerIngress
   1 ip       str
   2 hostname str
   3 ipMode   str?
   4 ports    []PortStatus
ServiceSpec -- What a service is to be.
   1 ports                        []ServicePort          map(port,protocol) merge(port) -- The ports of the service.
   2 selector                     {}str                  atomic -- Labels of the pods that serve.
   3 clusterIP                    str -- The service's address in the cluster; None makes it headless.
   4 type                         str                    in ClusterIP|ExternalName|LoadBalancer|NodePort = ClusterIP -- How the service is reached: ClusterIP, NodePort, LoadBalancer or ExternalName.
   5 externalIPs                  []str -- Further addresses whose traffic nodes accept for the service.
   7 sessionAffinity              str                    in ClientIP|None = None -- ClientIP sends each client to the same pod.
   8 loadBalancerIP               str
   9 loadBalancerSourceRanges     []str
  10 externalName                 str -- The name that an ExternalName service stands for.
  11 externalTrafficPolicy        str                    in Cluster|Local -- Local keeps traffic from outside on its node, with the client's address.
  12 healthCheckNodePort          i32
  13 publishNotReadyAddresses     bool -- Also name pods that are not ready.
  14 sessionAffinityConfig        SessionAffinityConfig?
  17 ipFamilyPolicy               str?                   in PreferDualStack|RequireDualStack|SingleStack -- Whether the service wants one IP family or two.
  18 clusterIPs                   []str -- The service's addresses, one for each IP family.
  19 ipFamilies                   []str                  in IPv4|IPv6 -- The IP families of the service.
  20 allocateLoadBalancerNodePorts bool?
  21 loadBalancerClass            str?
  22 internalTrafficPolicy        str?                   in Cluster|Local -- Local keeps traffic from inside on its node.
  23 trafficDistribution          str?                   of PreferClose
ServicePort -- A port of a service.
   1 name        str -- The port's name; needed when there are several.
   2 protocol    str      in SCTP|TCP|UDP = TCP
   3 port*       i32 -- The port of the service.
   4 targetPort  intorstr -- The port of the pods, by number or name.
   5 nodePort    i32 -- The port on every node.
   6 appProtocol str?
Service kind
   1 metadata ObjectMeta
   2 spec     ServiceSpec
   3 status   ServiceStatus
PortStatus
   1 port~     i32
   2 protocol~ str  in SCTP|TCP|UDP
   3 error     str?
";
