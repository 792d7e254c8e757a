//! ServiceAccount.

use crate::kind::*;

pub static SERVICE_ACCOUNT: Kind = Kind {
    version: "v1",
    name: "ServiceAccount",
    plural: "serviceaccounts",
    short: &["sa"],
    generation: false,
    subresources: &[Sub::Named("token")],
    ..Kind::BASE
};
