//! The signers of the cluster's own authorities: approved CertificateSigningRequests get certificates, and
//! those of kubelets are approved if they may have one.
//!
//! Source: kube-controller-manager's csrapproving and csrsigning controllers.

use std::time::Duration;

use api::kinds::{CERTIFICATE_SIGNING_REQUEST, SUBJECT_ACCESS_REVIEW};
use api::{Lens, LensMut, Object, Status, Value, json};
use client::follow::{News, Selection, follow};
use client::{Answer, Client, ListOptions, Verb, WatchEvent};
use stdx::Arrange;
use stdx::backoff::Backoff;
use stdx::time::Wall;
use wire::pkcs10::Request;

use crate::x509::{self, Certificate};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// The default of kube-controller-manager's `--cluster-signing-duration`.
pub const VALID_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many requests are looked at together.
const PAGE_MAX: u64 = 100;
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// The authorities that sign.
#[derive(Debug, Clone)]
pub struct Authorities {
    /// Of clients of the API server.
    pub client: Certificate,
    /// Of kubelets' servers.
    pub server: Certificate,
}

/// Approves and signs for as long as the task lives. `client` is one with the rights of upstream's
/// `certificate-controller`. No certificate is valid for longer than `valid_max`.
pub fn keep(client: Client, authorities: Authorities, valid_max: Duration) -> rt::Task<Option<()>> {
    rt::spawn_named("certificate signers", async move {
        let selection = Selection {
            kind: &CERTIFICATE_SIGNING_REQUEST,
            namespace: String::new(),
            field_selector: String::new(),
        };
        let (tell, told) = rt::channel::bounded(1);
        let mut hear = move |news: News| {
            let waits = match &news {
                News::Listed(list) => list.items.iter().any(is_waiting),
                News::Event(WatchEvent::Added(one) | WatchEvent::Modified(one)) => is_waiting(one),
                News::Event(_) => false,
            };
            if waits {
                // Full is as good: it says that there is something to do.
                let _ = tell.try_send(());
            }
            true
        };
        let waiting = follow(client.clone(), selection, RETRY, &mut hear);
        let signing = async {
            let mut failures = 0;
            while told.recv().await.is_ok() {
                while let Err(status) = pass(&client, &authorities, valid_max).await {
                    failures += 1;
                    log::warn!("sign certificates: {status}");
                    rt::sleep(RETRY.delay(failures)).await;
                }
                failures = 0;
            }
        };
        rt::future::or(waiting, signing).await;
    })
}

fn has(tree: &Value, kind: &str) -> bool {
    tree.list("status.conditions").iter().any(|condition| condition.str("type") == kind)
}

fn is_waiting(request: &Object) -> bool {
    let tree = request.tree();
    let signer = tree.str("spec.signerName");
    let ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer);
    // The others wait for somebody else's approval.
    let is_next = signer == KUBELET_CLIENT || has(&tree, "Approved");
    ours && is_next
        && tree.str("status.certificate").is_empty()
        && !has(&tree, "Failed")
        && !has(&tree, "Denied")
}

/// Looks at every request once. One that fails does not keep others waiting.
async fn pass(
    client: &Client,
    authorities: &Authorities,
    valid_max: Duration,
) -> Result<(), Status> {
    let mut failed = None;
    let mut options = ListOptions { limit: PAGE_MAX, ..ListOptions::default() };
    loop {
        let list = client.list(&CERTIFICATE_SIGNING_REQUEST, "", options.clone()).await?;
        for request in list.items.iter().filter(|request| is_waiting(request)) {
            let tree = request.tree();
            let done = match has(&tree, "Approved") {
                true => sign(client, tree, authorities, valid_max).await,
                false => approve(client, tree).await,
            };
            match done {
                // Gone or changed: there will be news of it.
                Err(status) if status.is_not_found() || status.is_conflict() => {}
                Err(status) => failed = Some(status),
                Ok(()) => {}
            }
        }
        if list.continue_token.is_empty() {
            return failed.map_or(Ok(()), Err);
        }
        options.continue_token = list.continue_token;
    }
}

fn parsed(tree: &Value) -> Result<Request, String> {
    let pem = wire::base64::decode(tree.str("spec.request")).unwrap_or_default();
    api::certificate::request(&pem)
}

/// A kubelet's client certificate is approved if who asks may create `selfnodeclient` (its own) or
/// `nodeclient` (any node's).
async fn approve(client: &Client, mut tree: Value) -> Result<(), Status> {
    let Ok(request) = parsed(&tree) else { return Ok(()) };
    if check(&tree, &request).is_err() {
        return Ok(());
    }
    let own = tree.str("spec.username") == request.common_name;
    let ways = [
        (
            own,
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ),
        (
            true,
            "nodeclient",
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        ),
    ];
    for (_, subresource, message) in ways.into_iter().filter(|(fits, ..)| *fits) {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": tree.at("spec.username"), "uid": tree.at("spec.uid"),
                "groups": tree.at("spec.groups"), "extra": tree.at("spec.extra"),
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                    "verb": "create", "subresource": subresource, "version": "*",
                },
            },
        });
        let allowed = match client.put(Verb::Create, &SUBJECT_ACCESS_REVIEW, "", review).await? {
            Answer::Tree(tree) => tree.flag("status.allowed"),
            Answer::Object(object) => object.tree().flag("status.allowed"),
            Answer::List(_) => false,
        };
        if allowed {
            tree.list_mut("status.conditions").push(json!({
                "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
            }));
            let kind = &CERTIFICATE_SIGNING_REQUEST;
            return client.put(Verb::Update, kind, "approval", tree).await.map(drop);
        }
    }
    Ok(())
}

async fn sign(
    client: &Client,
    mut tree: Value,
    authorities: &Authorities,
    valid_max: Duration,
) -> Result<(), Status> {
    let checked = parsed(&tree).and_then(|request| check(&tree, &request).map(|()| request));
    match checked {
        Err(why) => tree.list_mut("status.conditions").push(json!({
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
        })),
        Ok(request) => {
            let ca = match tree.str("spec.signerName") {
                KUBELET_SERVING => &authorities.server,
                _ => &authorities.client,
            };
            let asked =
                tree.int("spec.expirationSeconds").and_then(|secs| u64::try_from(secs).ok());
            let valid = asked.map_or(valid_max, Duration::from_secs).min(valid_max);
            let valid_secs = i64::try_from(valid.as_secs()).unwrap_or(0);
            let until = Wall::from_secs(rt::now().wall.secs() + valid_secs);
            let usages: Vec<&str> =
                tree.list("spec.usages").iter().filter_map(Value::as_str).collect();
            let pem = x509::certify(ca, &request, &usages, until)
                .map_err(|error| Status::internal(error.to_string()))?;
            tree.set("status.certificate", wire::base64::encode(pem.as_bytes()));
        }
    }
    client.update_status(&CERTIFICATE_SIGNING_REQUEST, tree).await.map(drop)
}

/// What each signer demands of a request.
fn check(tree: &Value, request: &Request) -> Result<(), String> {
    let mut usages: Vec<&str> = tree.list("spec.usages").iter().filter_map(Value::as_str).collect();
    usages.arrange();
    let main = match tree.str("spec.signerName") {
        CLIENT => return client_usages(&usages),
        KUBELET_SERVING => "server auth",
        _ => "client auth",
    };
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    let serves = main == "server auth";
    let named = (!request.dns_names.is_empty(), !request.addresses.is_empty());
    let complaint = match named {
        (false, false) if serves => "DNS or IP subjectAltName is required",
        (true, _) if !serves => "DNS subjectAltNames are not allowed",
        _ if !request.emails.is_empty() => "Email subjectAltNames are not allowed",
        (_, true) if !serves => "IP subjectAltNames are not allowed",
        _ if !request.uris.is_empty() => "URI subjectAltNames are not allowed",
        _ => "",
    };
    if !complaint.is_empty() {
        return Err(complaint.into());
    }
    let mut wanted = vec!["digital signature", "key encipherment", main];
    wanted.arrange();
    let usages_fit = usages == wanted || {
        let without: Vec<&str> =
            wanted.iter().copied().filter(|usage| *usage != "key encipherment").collect();
        usages == without
    };
    if !usages_fit {
        return Err(format!("usages did not match [{}]", wanted.join(" ")));
    }
    match request.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".into()),
    }
}

fn client_usages(usages: &[&str]) -> Result<(), String> {
    const ALLOWED: &[&str] = &["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|usage| !ALLOWED.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains(&"client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_demand_what_upstreams_demand() {
        let node = || Request {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            ..Request::default()
        };
        let serving = || Request { dns_names: vec!["a".into()], ..node() };
        let server = ["digital signature", "server auth"];
        let client = ["key encipherment", "digital signature", "client auth"];
        for (signer, usages, request, wanted) in [
            (CLIENT, &client[2..], Request::default(), ""),
            (CLIENT, &server[..], Request::default(), "invalid usage"),
            (CLIENT, &client[..1], Request::default(), "missing required usage"),
            (KUBELET_CLIENT, &client[..], node(), ""),
            (KUBELET_CLIENT, &client[1..], node(), ""),
            (
                KUBELET_CLIENT,
                &client[2..],
                node(),
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (KUBELET_CLIENT, &client[..], serving(), "DNS subjectAltNames are not allowed"),
            (KUBELET_CLIENT, &client[..], Request::default(), "organization is not"),
            (
                KUBELET_CLIENT,
                &client[..],
                Request { common_name: "a".into(), ..node() },
                "common name",
            ),
            (KUBELET_SERVING, &server[..], serving(), ""),
            (KUBELET_SERVING, &server[..], node(), "DNS or IP subjectAltName is required"),
            (KUBELET_SERVING, &server[..], Request { uris: vec!["a".into()], ..serving() }, "URI"),
        ] {
            let tree = json!({"spec": {"signerName": signer, "usages": usages}});
            match (check(&tree, &request), wanted) {
                (Ok(()), "") => {}
                (Err(why), wanted) if !wanted.is_empty() && why.contains(wanted) => {}
                (found, wanted) => panic!("{signer} {usages:?}: {found:?}, not {wanted:?}"),
            }
        }
    }
}
