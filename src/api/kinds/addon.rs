//! Addon: a manifest that the deploy controller applied from a file.

use crate::kind::*;

pub static ADDON: Kind = Kind {
    group: "k3s.cattle.io",
    name: "Addon",
    plural: "addons",
    storage: "k3s.cattle.io/addons",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        doc: "A manifest that the deploy controller applied from a file.",
        conditional_updates: true,
        json: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form. Addons are stored as JSON, as k3s stores them; the tags are ours.
const SCHEMA: &str = "
package io.cattle.k3s.v1
Addon kind
   1 metadata ObjectMeta
   2 spec     AddonSpec
   3 status   AddonStatus
AddonSpec
   1 source   str -- The file that the manifest came from.
   2 checksum str -- The manifest's SHA-256 when it was last applied.
AddonStatus
   1 gvks []AddonGroupVersionKind
AddonGroupVersionKind
   1 group   str
   2 version str
   3 kind    str
";
