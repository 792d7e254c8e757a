//! ConfigMap: configuration for pods to read.

use crate::kind::*;

pub static CONFIG_MAP: Kind = Kind {
    name: "ConfigMap",
    plural: "configmaps",
    declared: &Declared {
        version: "v1",
        short: &["cm"],
        generation: false,
        schema: SCHEMA,
        doc: "Configuration for pods to read.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ConfigMap kind
   1 metadata   ObjectMeta
   2 data       {}str -- The entries, as text.
   3 binaryData {}bytes -- Entries that are not text, in base64.
   4 immutable  bool? -- The entries cannot change any more.
";
