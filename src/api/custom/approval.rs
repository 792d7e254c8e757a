//! Groups of the community's own (`k8s.io`) are approved by an annotation.

use serde_json::Value;

use crate::lens::Lens;

/// The annotation.
pub const APPROVAL: &str = "api-approved.kubernetes.io";

/// How a group of the community's was approved, for its condition and for validation.
#[derive(Debug)]
pub struct Approval {
    pub reason: &'static str,
    pub status: &'static str,
    pub message: String,
}

/// What a definition says of its approval; `None` for groups that need none.
pub fn approval_of(tree: &Value) -> Option<Approval> {
    let group = tree.str("spec.group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|root| {
        group.strip_suffix(root).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if !protected {
        return None;
    }
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let text = tree.entry("metadata.annotations", APPROVAL).unwrap_or("");
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/')
    });
    let (reason, status, message) = match text {
        "" => (
            "MissingAnnotation",
            "False",
            format!("protected groups must have approval annotation {APPROVAL:?}, {SEE}"),
        ),
        text if text.starts_with("unapproved") => {
            ("UnapprovedAnnotation", "False", format!("not approved: {text:?}"))
        }
        text if is_url => ("ApprovedAnnotation", "True", format!("approved in {text}")),
        _ => (
            "InvalidAnnotation",
            "False",
            format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            ),
        ),
    };
    Some(Approval { reason, status, message })
}
