//! Tests of the rules of CertificateSigningRequests.

use serde_json::json;

use super::*;

/// A request of a node, as in `api/certificate.rs`.
pub(crate) const NODE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJQktEQ0J6d0lCQURBdk1SVXdFd1lEVlFRS0RBeHplWE4wWlcwNmJtOWtaWE14RmpBVUJnTlZCQU1NRFhONQpjM1JsYlRwdWIyUmxPbUV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVNtalZwakQvaU9FY3ViCjkzQmsyYXo4SUEweG9hOVRSQXBuSk9kNnN2cTg3VFdTVVVTMGR6cDMydWVrWGMxeFh6MnZQakVuRTBqRzhxaDEKVm9yem1IZkNvRDR3UEFZSktvWklodmNOQVFrT01TOHdMVEFyQmdOVkhSRUVKREFpZ2dsaExtVjRZVzF3YkdXSApCQW9BQUFHQkEzaEFlWVlLYzNCcFptWmxPaTh2ZWpBS0JnZ3Foa2pPUFFRREFnTklBREJGQWlCcUIydjRHZnNyCnI0ZjNBL1VDS2ZzMk42UnlOSzBHV2s0dWxhdThoUGYxUWdJaEFNU2pYOGsxREtiOCthRjZxcTJ1UzVIR1g2bjQKMnlpWFlOaUUxSzhlbG10VwotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";

/// One with these conditions.
pub(crate) fn request(conditions: Value) -> Value {
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
