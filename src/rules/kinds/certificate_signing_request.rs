//! CertificateSigningRequest: asks a signer for a certificate, which somebody approves first.
//!
//! Source: pkg/apis/certificates/validation.

use api::certificate;
use api::complain::Complain;
use api::kinds::CERTIFICATE_SIGNING_REQUEST;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::{NameRule, Rules};
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &CERTIFICATE_SIGNING_REQUEST,
    columns: COLUMNS,
    name_rule: NameRule::Any,
    prepare,
    validate: |new, old, causes| {
        every(new, old, causes);
        if let Some(old) = old {
            changes(new, old, "", causes);
        }
    },
    validate_part: |part, new, old, causes| {
        every(new, Some(old), causes);
        changes(new, old, part, causes);
    },
    on_update: "CVU",
    ..Rules::BASE
};

pub(crate) const APPROVED: &str = "Approved";

pub(crate) const DENIED: &str = "Denied";

const FAILED: &str = "Failed";

/// A signer's name in versions that are gone.
const LEGACY: &str = "kubernetes.io/legacy-unknown";

const COLUMNS: &[Column<'static>] = &[
    Column::AGE,
    Column::with("SignerName", |tree, _| crate::print::or_none(tree.str("spec.signerName"))),
    Column::path("Requestor", "spec.username"),
    Column::with("RequestedDuration", |tree, _| match tree.int("spec.expirationSeconds") {
        None => "<none>".into(),
        Some(secs) => {
            let secs = u64::try_from(secs).unwrap_or(0);
            crate::ages::human_duration(std::time::Duration::from_secs(secs)).into()
        }
    }),
    Column::with("Condition", |tree, _| state(tree).into()),
];

fn state(tree: &Value) -> String {
    let has = |kind: &str| of_type(tree, kind).next().is_some();
    let mut state = match () {
        () if has(DENIED) => DENIED,
        () if has(APPROVED) => APPROVED,
        () => "Pending",
    }
    .to_owned();
    if has(FAILED) {
        state.push_str(",Failed");
    }
    if !tree.str("status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

/// The conditions of a type.
pub(crate) fn of_type<'a>(tree: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    tree.list("status.conditions").iter().filter(move |condition| condition.str("type") == kind)
}

/// What is asked for does not change.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if let Some(old) = old {
        keep::keep(new, old, "spec");
    }
}

/// Rules that hold of every request.
fn every(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const SHORTEST_SECS: i64 = 600;
    let spec = new.at("spec");
    if let Err(why) = certificate::request(&bytes(spec.at("request"))) {
        let shown = format!("Invalid value: {}: {why}", go_bytes(spec.at("request")));
        causes.complain("FieldValueInvalid", "spec.request", shown);
    }
    if spec.list("usages").is_empty() {
        causes.required("spec.usages", "");
    }
    let mut seen = OrdSet::new();
    for (idx, usage) in spec.list("usages").iter().enumerate() {
        if !seen.insert(usage.as_str()) {
            causes.duplicate(&format!("spec.usages[{idx}]"), usage);
        }
    }
    let (signer, path) = (spec.str("signerName"), "spec.signerName");
    match signer {
        LEGACY if old.is_none_or(|old| old.str(path) != LEGACY) => {
            let detail = "the legacy signerName is not allowed via this API version";
            causes.invalid(path, &signer.into(), detail);
        }
        signer => signer_name(signer, path, causes),
    }
    if let Some(secs) = spec.int("expirationSeconds").filter(|secs| *secs < SHORTEST_SECS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.invalid("spec.expirationSeconds", &secs.into(), detail);
    }
    conditions(new, old, causes);
    let issued = new.at("status.certificate");
    let unchanged = old.is_some_and(|old| {
        old.at("status.certificate") == issued
            || certificate::chain(&bytes(old.at("status.certificate"))).is_err()
    });
    if let Err(why) = certificate::chain(&bytes(issued))
        && !unchanged
    {
        causes.invalid("status.certificate", &"<certificate data>".into(), &why);
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().and_then(wire::base64::decode).unwrap_or_default()
}

/// Go's `%#v` of bytes.
fn go_bytes(value: &Value) -> String {
    let bytes: Vec<String> = bytes(value).iter().map(|byte| format!("{byte:#x}")).collect();
    match bytes.is_empty() {
        true => "[]byte(nil)".into(),
        false => format!("[]byte{{{}}}", bytes.join(", ")),
    }
}

fn conditions(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const ALL: &[&str] = &["False", "True", "Unknown"];
    let before = |kind: &str| old.map_or(0, |old| of_type(old, kind).count());
    let contradicting = before(APPROVED) > 0 && before(DENIED) > 0;
    let old = old.map_or(&[][..], |old| old.list("status.conditions"));
    let repeated = {
        let kinds: OrdSet<&str> = old.iter().map(|condition| condition.str("type")).collect();
        kinds.len() < old.len()
    };
    let nameless = old.iter().any(|condition| condition.str("type").is_empty());
    let mut seen = OrdSet::new();
    for (idx, condition) in new.list("status.conditions").iter().enumerate() {
        let path = format!("status.conditions[{idx}]");
        let (kind, status) = (condition.str("type"), condition.str("status"));
        let path_of_type = format!("{path}.type");
        if kind.is_empty() && !nameless {
            causes.required(&path_of_type, "");
        }
        let only_true = matches!(kind, APPROVED | DENIED | FAILED);
        let allowed = if only_true { &ALL[1..2] } else { ALL };
        let path = format!("{path}.status");
        match status {
            "" => causes.required(&path, ""),
            status if !allowed.contains(&status) => causes.not_supported(&path, status, allowed),
            _ => {}
        }
        let opposite = match kind {
            APPROVED => DENIED,
            DENIED => APPROVED,
            _ => "",
        };
        if !opposite.is_empty() && seen.contains(opposite) && !contradicting {
            let detail = "Approved and Denied conditions are mutually exclusive";
            causes.invalid(&path_of_type, &kind.into(), detail);
        }
        if !seen.insert(kind) && !repeated {
            causes.duplicate(&path_of_type, &kind.into());
        }
    }
}

/// What a change through `part` may not do to conditions and the certificate.
fn changes(new: &Value, old: &Value, part: &str, causes: &mut Vec<Cause>) {
    const PATH: &str = "status.conditions";
    for kind in [APPROVED, DENIED, FAILED] {
        let (before, after) = (of_type(old, kind).count(), of_type(new, kind).count());
        let free = part == "approval" || kind == FAILED;
        let detail = match after.cmp(&before) {
            std::cmp::Ordering::Less => "remove",
            std::cmp::Ordering::Greater if !free => "add",
            std::cmp::Ordering::Equal if !free && !of_type(new, kind).eq(of_type(old, kind)) => {
                "modify"
            }
            _ => continue,
        };
        let detail = format!("updates may not {detail} a condition of type {kind:?}");
        causes.forbidden(PATH, &detail);
    }
    let (before, after) = (old.str("status.certificate"), new.str("status.certificate"));
    if before == after {
        return;
    }
    let path = "status.certificate";
    match part {
        "status" if before.is_empty() => {}
        "status" => causes.forbidden(path, "updates may not modify existing certificate content"),
        _ => causes.forbidden(path, "updates may not set certificate content"),
    }
}

/// `example.com/signer-name` (upstream's `ValidateSignerName`).
fn signer_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    const BYTES_MAX: usize = 2 * names::SUBDOMAIN_MAX + names::LABEL_MAX + 2;
    let (domain, rest) = match name.split_once('/') {
        _ if name.is_empty() => return causes.required(path, ""),
        Some((domain, rest)) if !rest.contains('/') => (domain, rest),
        _ => {
            let detail =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return causes.invalid(path, &name.into(), detail);
        }
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        causes.too_long(path, names::SUBDOMAIN_MAX);
    }
    labels(domain, names::label, path, causes);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        causes.invalid(path, &domain.into(), detail);
    }
    labels(rest, names::subdomain, path, causes);
    if name.len() > BYTES_MAX {
        causes.too_long(path, BYTES_MAX);
    }
}

/// Complains about the first of the labels that is none.
fn labels(text: &str, rule: fn(&str) -> Result<(), String>, path: &str, causes: &mut Vec<Cause>) {
    let broken = text.split('.').find_map(|label| Some((label, rule(label).err()?)));
    if let Some((label, why)) = broken {
        for why in why.lines() {
            causes.invalid(path, &text.into(), &format!("validating label {label:?}: {why}"));
        }
    }
}

#[cfg(test)]
#[path = "certificate_signing_request_tests.rs"]
pub(crate) mod tests;
