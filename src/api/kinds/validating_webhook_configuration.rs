//! ValidatingWebhookConfiguration: HTTPS servers that may refuse what is attempted.

use crate::kind::*;

pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    name: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        schema: SCHEMA,
        doc: "HTTPS servers that may refuse what is attempted.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.admissionregistration.v1
ValidatingWebhook
   1 name~                    str -- A fully qualified name.
   2 clientConfig~            WebhookClientConfig
   3 rules                    []RuleWithOperations
   4 failurePolicy            str? in Fail|Ignore = Fail -- What happens where the webhook cannot be asked.
   5 namespaceSelector        LabelSelector? = {}
   6 sideEffects~             str? enum None|NoneOnDryRun|Some|Unknown -- None or NoneOnDryRun.
   7 timeoutSeconds           i32? = 10
   8 admissionReviewVersions~ []str -- In the order in which they are preferred.
   9 matchPolicy              str? in Equivalent|Exact = Equivalent -- Whether rules also apply to other versions of what they name.
  10 objectSelector           LabelSelector? = {}
  11 matchConditions          []MatchCondition map(name) merge(name)
ValidatingWebhookConfiguration kind
   1 metadata ObjectMeta
   2 webhooks []ValidatingWebhook map(name) merge(name)
";
