//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may do what for which signer.

use api::kinds::CERTIFICATE_SIGNING_REQUEST;
use api::{Lens, Status, Value};

use super::{Act, Operation};
use crate::auth::Attributes;

/// The signer of clients of the API server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether a request's subresource is changed.
pub(super) fn changes(act: &Act<'_>, subresource: &str) -> bool {
    act.operation == Operation::Update
        && *act.kind == CERTIFICATE_SIGNING_REQUEST
        && act.subresource() == subresource
}

/// Who approves must be allowed to for the request's signer.
pub(super) async fn may_approve(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    may(act, tree, "approve").await
}

/// Who puts in a certificate, or conditions, must be allowed to sign for the request's signer.
pub(super) async fn may_sign(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let same = |path: &str| act.old.is_some_and(|old| old.at(path) == tree.at(path));
    match same("status.certificate") && same("status.conditions") {
        true => Ok(()),
        false => may(act, tree, "sign").await,
    }
}

async fn may(act: &Act<'_>, tree: &Value, verb: &str) -> Result<(), Status> {
    let signer = act.old.map_or("", |old| old.str("spec.signerName"));
    let domain = signer.split('/').next().unwrap_or("");
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let attributes = Attributes {
            verb: verb.into(),
            group: "certificates.k8s.io".into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            ..Attributes::default()
        };
        let core = act.core;
        if core.authorizer.decide(&core.store, &act.caller.user, &attributes).await.allowed {
            return Ok(());
        }
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(act.forbidden(tree, why))
}

/// Nobody gets a certificate of those who may do anything.
pub(super) fn restrict_subject(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    if tree.str("spec.signerName") != CLIENT_SIGNER {
        return Ok(());
    }
    let pem = wire::base64::decode(tree.str("spec.request")).unwrap_or_default();
    let request = api::certificate::request(&pem)
        .map_err(|why| act.forbidden(tree, format!("failed to parse CSR: {why}")))?;
    match request.organizations.iter().any(|group| group == "system:masters") {
        true => {
            let why =
                format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            Err(act.forbidden(tree, why))
        }
        false => Ok(()),
    }
}
