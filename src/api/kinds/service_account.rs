//! ServiceAccount: an identity for what runs in pods.

use crate::kind::*;
use crate::lens::{Lens, LensMut};
use serde_json::{Value, json};

pub static SERVICE_ACCOUNT: Kind = Kind {
    name: "ServiceAccount",
    plural: "serviceaccounts",
    declared: &Declared {
        version: "v1",
        short: &["sa"],
        generation: false,
        subresources: &[Sub::Named("token")],
        schema: SCHEMA,
        columns: COLUMNS,
        prepare,
        doc: "An identity for what runs in pods.",
        answers_deleted: true,
        on_update: "UCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Of the secrets only the names are kept.
fn prepare(new: &mut Value, _: Option<&Value>) {
    if let Some(Value::Array(secrets)) = new.at_mut("secrets") {
        for secret in secrets {
            *secret = match secret.str("name") {
                "" => json!({}),
                name => json!({"name": name}),
            };
        }
    }
}

const COLUMNS: &[Column<'static>] =
    &[Column::with("Secrets", |tree, _| tree.list("secrets").len().into()), Column::AGE];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ServiceAccount kind
   1 metadata                     ObjectMeta
   2 secrets                      []ObjectReference      map(name) merge(name) -- Secrets that its pods may use.
   3 imagePullSecrets             []LocalObjectReference -- Secrets with credentials for image registries.
   4 automountServiceAccountToken bool? -- Whether its pods get a token.
";
