//! MutatingWebhookConfiguration: HTTPS servers that may change objects on their way in.

use crate::kind::*;

pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    name: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        schema: SCHEMA,
        doc: "HTTPS servers that may change objects on their way in.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.admissionregistration.v1
ServiceReference
   1 namespace~ str
   2 name~      str
   3 path       str? -- The URL path that is asked for.
   4 port       i32? = 443
WebhookClientConfig
   1 service  ServiceReference? -- A Service of this cluster. Either this or url.
   2 caBundle bytes             -- PEM: who signs the server's certificate.
   3 url      str?              -- https://host[:port][/path]
RuleWithOperations
   1 operations []str -- CREATE, UPDATE, DELETE, CONNECT, or * for all.
   2 inline     Rule
Rule
   1 apiGroups   []str
   2 apiVersions []str
   3 resources   []str -- As pods, pods/log, */scale or */*.
   4 scope       str?  of *|Cluster|Namespaced = *
MatchCondition
   1 name~       str
   2 expression~ str -- CEL.
MutatingWebhook
   1 name~                    str -- A fully qualified name.
   2 clientConfig~            WebhookClientConfig
   3 rules                    []RuleWithOperations
   4 failurePolicy            str? in Fail|Ignore = Fail -- What happens where the webhook cannot be asked.
   5 namespaceSelector        LabelSelector? = {}
   6 sideEffects~             str? enum None|NoneOnDryRun|Some|Unknown -- None or NoneOnDryRun.
   7 timeoutSeconds           i32? = 10
   8 admissionReviewVersions~ []str -- In the order in which they are preferred.
   9 matchPolicy              str? in Equivalent|Exact = Equivalent -- Whether rules also apply to other versions of what they name.
  10 reinvocationPolicy       str? in IfNeeded|Never = Never -- Whether it is asked again after others changed the object.
  11 objectSelector           LabelSelector? = {}
  12 matchConditions          []MatchCondition map(name) merge(name)
MutatingWebhookConfiguration kind
   1 metadata ObjectMeta
   2 webhooks []MutatingWebhook map(name) merge(name)
";
