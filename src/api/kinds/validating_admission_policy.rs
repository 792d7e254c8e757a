//! ValidatingAdmissionPolicy: expressions that refuse what is attempted, without a server of their own.

use crate::kind::*;

pub static VALIDATING_ADMISSION_POLICY: Kind = Kind {
    group: "admissionregistration.k8s.io",
    name: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "Expressions that refuse what is attempted.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.admissionregistration.v1
NamedRuleWithOperations atomic
   1 resourceNames []str -- Names of objects; none for any.
   2 inline        RuleWithOperations
MatchResources atomic
   1 namespaceSelector    LabelSelector? = {} -- Labels of the object's namespace.
   2 objectSelector       LabelSelector? = {} -- Labels of the object, or of the one before.
   3 resourceRules        []NamedRuleWithOperations
   4 excludeResourceRules []NamedRuleWithOperations -- What is left out of it.
   7 matchPolicy          str? in Equivalent|Exact = Equivalent -- Whether rules also apply to other versions of what they name.
ParamKind atomic
   1 apiVersion str
   2 kind       str
Validation
   1 expression~       str -- CEL; false refuses.
   2 message           str
   3 reason            str?
   4 messageExpression str -- CEL that makes the message.
Variable atomic
   1 name~       str
   2 expression~ str -- CEL; evaluated when something comes to it.
AuditAnnotation
   1 key~             str
   2 valueExpression~ str -- CEL that is a string, or null for none.
ValidatingAdmissionPolicySpec
   1 paramKind        ParamKind? -- What may be a parameter of it.
   2 matchConstraints MatchResources? -- What it is about.
   3 validations      []Validation
   4 failurePolicy    str? in Fail|Ignore = Fail -- What happens where it cannot be evaluated.
   5 auditAnnotations []AuditAnnotation
   6 matchConditions  []MatchCondition map(name) merge(name)
   7 variables        []Variable map(name) merge(name)
ExpressionWarning
   2 fieldRef~ str
   3 warning~  str
TypeChecking
   1 expressionWarnings []ExpressionWarning
ValidatingAdmissionPolicyStatus
   1 observedGeneration i64
   2 typeChecking       TypeChecking? -- What is wrong with the types in expressions.
   3 conditions         []Condition map(type)
ValidatingAdmissionPolicy kind
   1 metadata ObjectMeta
   2 spec     ValidatingAdmissionPolicySpec
   3 status   ValidatingAdmissionPolicyStatus
";
