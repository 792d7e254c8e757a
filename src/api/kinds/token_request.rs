//! TokenRequest: asks for a token of a service account.

use crate::kind::*;

pub static TOKEN_REQUEST: Kind = Kind {
    group: "authentication.k8s.io",
    name: "TokenRequest",
    plural: "tokenrequests",
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks for a token of a service account.",
        subresource_body: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authentication.v1
TokenRequest kind
   1 metadata ObjectMeta
   2 spec*    TokenRequestSpec
   3 status   TokenRequestStatus
TokenRequestSpec
   1 audiences~         []str
   3 boundObjectRef!    BoundObjectReference?
   4 expirationSeconds! i64?                  = 3600
TokenRequestStatus
   1 token~               str
   2 expirationTimestamp~ time
BoundObjectReference
   1 kind       str
   2 apiVersion str
   3 name       str
   4 uid        str
";
