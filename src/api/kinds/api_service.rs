//! APIService: who serves a group and version of the API: this server, or a Service.

use crate::kind::*;

pub static API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    name: "APIService",
    plural: "apiservices",
    storage: "apiregistration.k8s.io/apiservices",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        generation: false,
        doc: "Who serves a group and version of the API: this server, or a Service.",
        conditional_updates: true,
        ..Declared::BASE
    },
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.kube-aggregator.pkg.apis.apiregistration.v1
APIService kind
   1 metadata ObjectMeta
   2 spec     APIServiceSpec
   3 status   APIServiceStatus
APIServiceSpec
   1 service               ServiceReference? -- The Service that serves it; without one it is this server.
   2 group                 str -- The group.
   3 version               str -- The version.
   4 insecureSkipTLSVerify bool
   5 caBundle              bytes atomic -- The authorities that the Service's certificate may come from.
   7 groupPriorityMinimum~ i32 -- Groups with more come first.
   8 versionPriority~      i32 -- Versions with more come first.
ServiceReference
   1 namespace str
   2 name      str
   3 port      i32? = 443
APIServiceStatus
   1 conditions []APIServiceCondition map(type) merge(type)
APIServiceCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
