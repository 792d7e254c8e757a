//! Tests of the rules of CertificateSigningRequests.

use super::*;
use crate::certificate::tests::NODE;
use serde_json::json;

fn request(conditions: Value) -> Value {
    json!({
        "metadata": {"name": "r"},
        "spec": {"request": NODE, "signerName": "example.com/s", "usages": ["client auth"]},
        "status": {"conditions": conditions},
    })
}

fn told(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn signers_have_a_domain_and_a_name() {
    for (name, word) in [
        ("", "Required value"),
        ("a", "fully qualified domain and path"),
        ("a.b/c/d", "fully qualified domain and path"),
        ("a/b", "at least two segments"),
        ("a.B/c", "validating label \"B\""),
        ("a.b/C", "validating label \"C\""),
    ] {
        let mut causes = Vec::new();
        signer_name(name, "p", &mut causes);
        assert!(told(&causes)[0].contains(word), "{name}: {causes:?}");
    }
    let mut causes = Vec::new();
    signer_name("kubernetes.io/kube-apiserver-client", "p", &mut causes);
    assert!(causes.is_empty(), "{causes:?}");
}

#[test]
fn only_approval_approves_and_nobody_takes_it_back() {
    let none = request(json!([]));
    let approved = request(json!([{"type": "Approved", "status": "True", "reason": "a"}]));
    let changed = request(json!([{"type": "Approved", "status": "True", "reason": "b"}]));
    let denied = request(json!([{"type": "Denied", "status": "True"}]));
    let both = request(json!([
        {"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"},
    ]));
    for (part, old, new, wanted) in [
        ("approval", &none, &approved, ""),
        ("status", &none, &approved, "may not add a condition of type \"Approved\""),
        ("", &none, &denied, "may not add a condition of type \"Denied\""),
        ("approval", &approved, &none, "may not remove a condition of type \"Approved\""),
        ("status", &approved, &changed, "may not modify a condition of type \"Approved\""),
        ("approval", &approved, &changed, ""),
        ("approval", &none, &both, "mutually exclusive"),
        ("approval", &none, &both, "Unsupported value: \"False\": supported values: \"True\""),
    ] {
        let mut causes = Vec::new();
        every(new, Some(old), &mut causes);
        changes(new, old, part, &mut causes);
        let told = told(&causes);
        match wanted {
            "" => assert!(told.is_empty(), "{told:?}"),
            wanted => assert!(told.iter().any(|it| it.contains(wanted)), "{wanted}: {told:?}"),
        }
    }
}

#[test]
fn each_part_changes_its_own_and_stamps_it() {
    let old = request(json!([
        {"type": "Approved", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
    ]));
    let mut new = request(json!([
        {"type": "Approved", "status": "True", "reason": "forged"}, {"type": "Failed", "status": "True"},
    ]));
    new.set("spec.signerName", "example.com/other");
    new.set("status.certificate", "eA==");
    let mut by_status = new.clone();
    update_status(&mut by_status, &old, Wall(0));
    assert_eq!(by_status.str("spec.signerName"), "example.com/s");
    assert_eq!(by_status.str("status.certificate"), "eA==");
    assert!(!by_status.has("status.conditions.0.reason"));
    assert_eq!(by_status.str("status.conditions.1.lastTransitionTime"), "1970-01-01T00:00:00Z");
    let mut by_approval = new;
    update_approval(&mut by_approval, &old, Wall(0));
    assert!(!by_approval.has("status.certificate"));
    let since = by_approval.str("status.conditions.0.lastTransitionTime");
    assert_eq!(since, "2025-01-01T00:00:00Z", "the state is the same");
}
