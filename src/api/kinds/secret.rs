//! Secret: confidential data for pods to read.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;

pub static SECRET: Kind = Kind {
    name: "Secret",
    plural: "secrets",
    declared: &Declared {
        version: "v1",
        generation: false,
        fields: &["type"],
        schema: SCHEMA,
        doc: "Confidential data for pods to read.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Bootstrap tokens, by which nodes join.
pub const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

/// What follows a node's name in the name of the Secret with its password, in kube-system (k3s).
pub const NODE_PASSWORD_SUFFIX: &str = ".node-password.k3s";

/// What a Secret holds under a key, as text; "" if there is no such text.
pub fn text(secret: &Value, key: &str) -> String {
    let bytes = secret.entry("data", key).and_then(wire::base64::decode);
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Secret kind
   1 metadata   ObjectMeta
   2 data       {}bytes -- The entries, in base64.
   3 type       str        = Opaque immutable -- What the secret is for, and so which entries it must have.
   4 stringData {}str -- Entries as text; stored in data and never read back.
   5 immutable  bool? -- The entries cannot change any more.
";
