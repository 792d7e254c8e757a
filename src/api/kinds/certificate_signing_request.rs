//! CertificateSigningRequest: asks a signer for a certificate, which somebody approves first.
//!
//! Source: pkg/apis/certificates/validation.

use crate::kind::*;

pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    name: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["csr"],
        subresources: &[Sub::Status, Sub::Named("approval")],
        fields: &["spec.signerName"],
        schema: SCHEMA,
        generation: false,
        names_requester: true,
        doc: "Asks a signer for a certificate, which somebody approves first.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.certificates.v1
CertificateSigningRequest kind
   1 metadata ObjectMeta
   2 spec~    CertificateSigningRequestSpec
   3 status   CertificateSigningRequestStatus
CertificateSigningRequestSpec
   1 request~          bytes atomic -- What is to be certified: PKCS #10 in PEM.
   2 username          str -- Who asked; set by the server.
   3 uid               str
   4 groups            []str
   5 usages            []str in any|cert+sign|client+auth|code+signing|content+commitment|crl+sign|data+encipherment|decipher+only|digital+signature|email+protection|encipher+only|ipsec+end+system|ipsec+tunnel|ipsec+user|key+agreement|key+encipherment|microsoft+sgc|netscape+sgc|ocsp+signing|s/mime|server+auth|signing|timestamping -- What the certificate is to be good for.
   6 extra             {}strs
   7 signerName~       str -- Who is to sign it.
   8 expirationSeconds i32? -- How long it is to be valid.
CertificateSigningRequestStatus
   1 conditions  []CertificateSigningRequestCondition map(type)
   2 certificate bytes atomic -- The certificate, in PEM.
CertificateSigningRequestCondition
   1 type~              str
   2 reason             str
   3 message            str
   4 lastUpdateTime     time
   5 lastTransitionTime time
   6 status~            str
";
