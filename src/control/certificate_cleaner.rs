//! CertificateSigningRequests go once they are done with: issued, denied or failed ones after an hour, others after a day.

use std::time::Duration;

use api::kinds::CERTIFICATE_SIGNING_REQUEST;
use api::{Actions, Controller, Key, Lens, Next, Value, View, Wakes, Watch};

use crate::support::{created, time_at};

const DONE: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Cleaner;

impl Controller for Cleaner {
    const NAME: &'static str = "certificate-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&CERTIFICATE_SIGNING_REQUEST, Wakes::Itself)];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(request) = view.at(key) else { return Next::Done };
        let tree = request.tree();
        let issued = !tree.str("status.certificate").is_empty();
        // Approved and not issued: its signer may still come, and nobody knows when.
        let ends = |condition: &&Value| match condition.str("type") {
            "Approved" => issued,
            "Denied" | "Failed" => true,
            _ => false,
        };
        let done = tree.list("status.conditions").iter().find(ends);
        let (since, keeps) = match done {
            Some(condition) => (time_at(condition, "lastUpdateTime"), DONE),
            None if tree.list("status.conditions").is_empty() => (Some(created(&tree)), PENDING),
            None => return Next::Done,
        };
        let Some(since) = since else { return Next::Done };
        match keeps.checked_sub(view.now.age(since)) {
            Some(left) if !left.is_zero() => Next::After(left),
            _ => {
                actions.delete(&request);
                Next::Done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::reconcile;
    use api::json;

    #[test]
    fn requests_go_when_they_are_done_with() {
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2024-01-01T00:00:00Z"}]);
        let gone = "delete CertificateSigningRequest r Background\n";
        for (conditions, certificate, secs, wanted) in [
            (json!([]), "", 3600, "after 82800s\n"),
            (json!([]), "", 86_400, gone),
            (condition("Denied"), "", 3599, "after 1s\n"),
            (condition("Denied"), "", 3600, gone),
            (condition("Failed"), "", 3600, gone),
            (condition("Approved"), "", 86_400, ""),
            (condition("Approved"), "eA==", 3600, gone),
        ] {
            let tree = json!({
                "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z"},
                "spec": {"signerName": "a.b/c"},
                "status": {"conditions": conditions, "certificate": certificate},
            });
            let found = reconcile::<Cleaner>([tree], (&CERTIFICATE_SIGNING_REQUEST, "", "r"), secs);
            assert_eq!(found, wanted, "{conditions} {secs}");
        }
    }
}
