//! Addon.

use crate::kind::*;

pub static ADDON: Kind = Kind {
    group: "k3s.cattle.io",
    version: "v1",
    name: "Addon",
    plural: "addons",
    storage: "k3s.cattle.io/addons",
    ..Kind::BASE
};
