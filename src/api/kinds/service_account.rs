//! ServiceAccount: an identity for what runs in pods.

use crate::kind::*;

pub static SERVICE_ACCOUNT: Kind = Kind {
    name: "ServiceAccount",
    plural: "serviceaccounts",
    declared: &Declared {
        version: "v1",
        short: &["sa"],
        generation: false,
        subresources: &[Sub::Named("token")],
        schema: SCHEMA,
        doc: "An identity for what runs in pods.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ServiceAccount kind
   1 metadata                     ObjectMeta
   2 secrets                      []ObjectReference      map(name) merge(name) -- Secrets that its pods may use.
   3 imagePullSecrets             []LocalObjectReference -- Secrets with credentials for image registries.
   4 automountServiceAccountToken bool? -- Whether its pods get a token.
";
