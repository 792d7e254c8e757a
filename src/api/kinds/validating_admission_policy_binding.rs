//! ValidatingAdmissionPolicyBinding: where a policy applies, with which parameters, and what follows.

use crate::kind::*;

pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    name: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        schema: SCHEMA,
        doc: "Where a ValidatingAdmissionPolicy applies, and what follows.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.admissionregistration.v1
ParamRef atomic
   1 name                    str
   2 namespace               str -- The object's own unless given.
   3 selector                LabelSelector? -- Each that it selects is one parameter.
   4 parameterNotFoundAction str? -- Allow or Deny.
ValidatingAdmissionPolicyBindingSpec
   1 policyName        str
   2 paramRef          ParamRef?
   3 matchResources    MatchResources? -- What of the policy's it is about; all unless given.
   4 validationActions []str set -- Deny, Warn or Audit.
ValidatingAdmissionPolicyBinding kind
   1 metadata ObjectMeta
   2 spec     ValidatingAdmissionPolicyBindingSpec
";
