//! ServiceAccount.

use crate::kind::*;

pub static SERVICE_ACCOUNT: Kind = Kind {
    version: "v1",
    name: "ServiceAccount",
    plural: "serviceaccounts",
    short: &["sa"],
    generation: false,
    subresources: &[Sub::Named("token")],
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ServiceAccount kind
   1 metadata                     ObjectMeta
   2 secrets                      []ObjectReference      map(name) merge(name)
   3 imagePullSecrets             []LocalObjectReference
   4 automountServiceAccountToken bool?
";
