//! CustomResourceDefinition: a kind that users define.

use crate::kind::*;

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    storage: "apiextensions.k8s.io/customresourcedefinitions",
    scope: Scope::Cluster,
    declared: &Declared {
        short: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "A kind that users define: its names, its versions, and what its objects look like.",
        conditional_updates: true,
        ..Declared::BASE
    },
};

/// The finalizer that deletes the objects of a kind before its definition goes.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1
CustomResourceDefinition kind
   1 metadata ObjectMeta
   2 spec~    CustomResourceDefinitionSpec
   3 status   CustomResourceDefinitionStatus
CustomResourceDefinitionSpec
   1 group~                str -- The API group that the kind is in; at least one dot.
   3 names~                CustomResourceDefinitionNames -- What the kind is called.
   4 scope~                str -- Namespaced or Cluster.
   7 versions~             []CustomResourceDefinitionVersion -- The versions that it is served in; just one of them is stored.
   9 conversion            CustomResourceConversion? -- How objects get from one version to another.
  10 preserveUnknownFields bool -- Keeps what no schema knows. Only definitions of earlier versions may have it.
CustomResourceDefinitionNames
   1 plural~    str -- The name in paths, in lower case.
   2 singular   str -- The name that kubectl takes for one; the kind in lower case unless given.
   3 shortNames []str -- Short names that kubectl takes.
   4 kind~      str -- The kind, in CamelCase.
   5 listKind   str -- The kind of a list; the kind and `List` unless given.
   6 categories []str -- Groups of kinds that it belongs to, such as `all`.
CustomResourceDefinitionVersion
   1 name~                    str -- v1, v1beta1 and so on.
   2 served~                  bool -- Whether it may be used.
   3 storage~                 bool -- Whether objects are stored in it.
   4 schema                   CustomResourceValidation? -- What objects of this version look like.
   5 subresources             CustomResourceSubresources? -- Which subresources there are.
   6 additionalPrinterColumns []CustomResourceColumnDefinition -- What kubectl get shows; the age, if there are none.
   7 deprecated               bool -- Who uses it is warned.
   8 deprecationWarning       str? -- What a deprecated version's users are told.
   9 selectableFields         []SelectableField -- What field selectors may name.
SelectableField
   1 jsonPath~ str -- A simple path to a string, a boolean or an integer, such as `.spec.color`.
CustomResourceColumnDefinition
   1 name~       str -- The column's heading.
   2 type~       str -- An OpenAPI type.
   3 format      str -- An OpenAPI format.
   4 description str -- What the column shows.
   5 priority    i32 -- Columns above 0 show with `-o wide` only.
   6 jsonPath~   str -- Where the value is.
CustomResourceValidation
   1 openAPIV3Schema JSONSchemaProps? -- An OpenAPI v3 schema.
CustomResourceSubresources
   1 status CustomResourceSubresourceStatus? -- The status has a path of its own, and the rest of the object another.
   2 scale  CustomResourceSubresourceScale? -- The number of replicas has a path of its own.
CustomResourceSubresourceStatus
CustomResourceSubresourceScale
   1 specReplicasPath~   str -- Where the wanted number is, below `.spec`.
   2 statusReplicasPath~ str -- Where the present number is, below `.status`.
   3 labelSelectorPath   str? -- Where the pods' selector is, as text.
CustomResourceConversion
   1 strategy~ str -- None changes the apiVersion only; Webhook asks somebody.
   2 webhook   WebhookConversion? -- Whom to ask.
WebhookConversion
   2 clientConfig              WebhookClientConfig? -- Where it is.
   3 conversionReviewVersions~ []str -- The versions of ConversionReview that it knows, preferred first.
WebhookClientConfig
   1 service  ServiceReference? -- The service that answers.
   2 caBundle bytes -- The certificate authorities that it is believed by, as PEM.
   3 url      str? -- Where it is, if it is no service of the cluster.
ServiceReference
   1 namespace~ str -- The service's namespace.
   2 name~      str -- The service's name.
   3 path       str? -- The path that is asked.
   4 port       i32? -- The service's port; 443 unless given.
CustomResourceDefinitionStatus
   1 conditions!    []CustomResourceDefinitionCondition map(type)
   2 acceptedNames  CustomResourceDefinitionNames -- The names that it is served under.
   3 storedVersions! []str -- Every version that objects were ever stored in.
CustomResourceDefinitionCondition
   1 type~              str -- Established, NamesAccepted, NonStructuralSchema, Terminating or KubernetesAPIApprovalPolicyConformant.
   2 status~            str -- True, False or Unknown.
   3 lastTransitionTime time -- When the status last changed.
   4 reason             str
   5 message            str
JSONSchemaProps
   1 id                                   str
   2 $schema                              str
   3 $ref                                 str?
   4 description                          str
   5 type                                 str
   6 format                               str
   7 title                                str
   8 default                              raw?
   9 maximum                              f64?
  10 exclusiveMaximum                     bool
  11 minimum                              f64?
  12 exclusiveMinimum                     bool
  13 maxLength                            i64?
  14 minLength                            i64?
  15 pattern                              str
  16 maxItems                             i64?
  17 minItems                             i64?
  18 uniqueItems                          bool
  19 multipleOf                           f64?
  20 enum                                 []raw
  21 maxProperties                        i64?
  22 minProperties                        i64?
  23 required                             []str
  24 items                                JSONSchemaPropsOrArray?
  25 allOf                                []JSONSchemaProps
  26 oneOf                                []JSONSchemaProps
  27 anyOf                                []JSONSchemaProps
  28 not                                  JSONSchemaProps?
  29 properties                           {}JSONSchemaProps
  30 additionalProperties                 JSONSchemaPropsOrBool?
  31 patternProperties                    {}JSONSchemaProps
  32 dependencies                         {}JSONSchemaPropsOrStringArray
  33 additionalItems                      JSONSchemaPropsOrBool?
  34 definitions                          {}JSONSchemaProps
  35 externalDocs                         ExternalDocumentation?
  36 example                              raw?
  37 nullable                             bool
  38 x-kubernetes-preserve-unknown-fields bool? -- Keeps what the schema does not know.
  39 x-kubernetes-embedded-resource       bool -- The value is a whole object with apiVersion, kind and metadata.
  40 x-kubernetes-int-or-string           bool -- A number or a string.
  41 x-kubernetes-list-map-keys           []str -- The fields by which items of a list of type map are known.
  42 x-kubernetes-list-type               str? -- atomic, set or map.
  43 x-kubernetes-map-type                str? -- granular or atomic.
  44 x-kubernetes-validations             []ValidationRule map(rule) merge(rule) -- Rules in CEL.
ValidationRule
   1 rule~             str -- The expression, which must be true.
   2 message           str -- What is told if it is not.
   3 messageExpression str -- An expression that makes the message.
   4 reason            str? enum FieldValueDuplicate|FieldValueForbidden|FieldValueInvalid|FieldValueRequired -- The reason that is told.
   5 fieldPath         str -- The field that is told.
   6 optionalOldSelf   bool? -- The rule is evaluated without an old value too.
JSONSchemaPropsOrArray union
   1 schema      JSONSchemaProps?
   2 jsonSchemas []JSONSchemaProps
JSONSchemaPropsOrBool union
   1 allows bool
   2 schema JSONSchemaProps?
JSONSchemaPropsOrStringArray union
   1 schema   JSONSchemaProps?
   2 property []str
ExternalDocumentation
   1 description str
   2 url         str
";
