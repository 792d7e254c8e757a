//! The question to a webhook and its answer: `AdmissionReview`.

use api::{Lens, LensMut, Status, Value, json};

use super::{Subject, name, namespace, operation};
use crate::admission::{Act, Operation};
use crate::auth::tokens::user_tree;
use crate::core::posted_kind;
use crate::uid::new_uid;
use crate::webhook;
use crate::webhook::hooks::Hook;

const PATCH_TYPE: &str = "JSONPatch";

/// What a webhook that allows says.
pub(super) struct Verdict {
    /// A JSON patch with at least one operation.
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// Why an attempt does not go on.
pub(in crate::admission) enum Failure {
    /// There is no proper answer: the webhook's failure policy says what that means.
    Calling(String),
    /// It is refused.
    Status(Status),
}

/// Warnings, and audit annotations, that are taken from one answer: clients are told 4 KiB of them at most.
const WARNINGS_MAX: usize = 64;

/// Asks a webhook about `object`, which is in its version.
pub(super) async fn ask(
    subject: &Subject<'_>,
    hook: &Hook,
    object: Value,
    mutating: bool,
) -> Result<Verdict, Failure> {
    let act = subject.act;
    if act.request.dry_run && !hook.takes_dry_run {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Status(Status::bad_request(why)));
    }
    let Some(version) = hook.review else {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::Calling(why.into()));
    };
    let uid = new_uid();
    // Trees cost ten times their bytes: none is held while an answer is waited for.
    let question = {
        let mut request = request(subject, &object);
        request.set("uid", uid.as_str());
        request.set("oldObject", subject.old().await?);
        request.set("object", object);
        let tree = json!({
            "kind": "AdmissionReview",
            "apiVersion": format!("admission.k8s.io/{version}"),
            "request": request,
        });
        let mut bytes = Vec::new();
        api::codec::write_tree_json(&tree, &mut bytes);
        bytes
    };
    let (ways, client) = (act.core.ways(), &act.core.http);
    let answer = webhook::call(ways, client, &hook.target, question, hook.time_max).await;
    let answer =
        answer.map_err(|why| Failure::Calling(format!("failed to call webhook: {why}")))?;
    verdict(&answer, hook, version, &uid, mutating)
}

/// `AdmissionRequest`, but for its uid and the objects in it.
pub(in crate::admission) fn request(subject: &Subject<'_>, object: &Value) -> Value {
    let act = subject.act;
    let (asked, sent) = (act.form, subject.resource.form());
    let kind_of = |form: api::Form<'_>| match act.operation {
        // Its object is what it is asked for with.
        Operation::Connect => json!({"group": "", "version": "v1", "kind": object.at("kind")}),
        _ => {
            let posted = posted_kind(act.kind, act.subresource());
            match *posted == *act.kind {
                true => {
                    json!({"group": form.group(), "version": form.version(), "kind": act.kind.name})
                }
                false => {
                    json!({"group": posted.group, "version": posted.declared.version, "kind": posted.name})
                }
            }
        }
    };
    let resource = |form: api::Form<'_>| json!({"group": form.group(), "version": form.version(), "resource": act.kind.plural});
    let mut request = json!({
        "kind": kind_of(sent),
        "resource": resource(sent),
        "requestKind": kind_of(asked),
        "requestResource": resource(asked),
        "operation": operation(act),
        "userInfo": user_tree(&act.caller.user),
        "dryRun": act.request.dry_run,
        "options": options(act),
    });
    for (field, value) in [
        ("subResource", act.subresource()),
        ("requestSubResource", act.subresource()),
        ("name", name(act, object)),
        ("namespace", namespace(act, object)),
    ] {
        if !value.is_empty() {
            request.set(field, value);
        }
    }
    request
}

/// `CreateOptions`, `UpdateOptions` or `DeleteOptions`; a patch is an update, and a connection has none.
fn options(act: &Act<'_>) -> Value {
    let request = act.request;
    let kind = match act.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if request.dry_run {
        options.set("dryRun", json!(["All"]));
    }
    if act.operation == Operation::Delete {
        let delete = &request.delete;
        if let Some(secs) = delete.grace_secs {
            options.set("gracePeriodSeconds", secs);
        }
        if let Some(uid) = &delete.uid {
            options.set("preconditions.uid", uid.as_str());
        }
        if let Some(revision) = &delete.resource_version {
            options.set("preconditions.resourceVersion", revision.as_str());
        }
        if !delete.propagation.is_empty() {
            options.set("propagationPolicy", delete.propagation.as_str());
        }
        return options;
    }
    for (field, value) in
        [("fieldManager", &request.field_manager), ("fieldValidation", &request.field_validation)]
    {
        if !value.is_empty() {
            options.set(field, value.as_str());
        }
    }
    options
}

/// Reads an answer.
fn verdict(
    answer: &Value,
    hook: &Hook,
    version: &str,
    uid: &str,
    mutating: bool,
) -> Result<Verdict, Failure> {
    let invalid =
        |why: String| Failure::Calling(format!("received invalid webhook response: {why}"));
    let response = answer.at("response");
    if !response.is_object() {
        return Err(invalid("webhook response was absent".into()));
    }
    let patch = response.str("patch");
    let patch_type = response.at("patchType").as_str();
    if version == "v1" {
        check(answer, response, uid, mutating).map_err(invalid)?;
    }
    let texts = |path: &str| response.list(path).iter().filter_map(Value::as_str);
    let verdict = Verdict {
        patch: None,
        warnings: texts("warnings").take(WARNINGS_MAX).map(str::to_owned).collect(),
        annotations: response
            .pairs("auditAnnotations")
            .take(WARNINGS_MAX)
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    if !response.flag("allowed") {
        return Err(Failure::Status(refusal(&hook.name, response.at("status"))));
    }
    if !mutating || patch.is_empty() {
        return Ok(verdict);
    }
    if let Some(other) = patch_type.filter(|own| *own != PATCH_TYPE) {
        return Err(Failure::Calling(format!("unsupported patch type {other:?}")));
    }
    let decoded = wire::base64::decode(patch)
        .ok_or_else(|| invalid("response.patch: illegal base64 data".into()))?;
    let operations =
        webhook::parse(&decoded).map_err(|error| Failure::Status(Status::internal(error)))?;
    let patch = (!operations.list("").is_empty() || !operations.is_array()).then_some(operations);
    Ok(Verdict { patch, ..verdict })
}

/// What upstream's `VerifyAdmissionResponse` checks of `v1` answers.
fn check(answer: &Value, response: &Value, uid: &str, mutating: bool) -> Result<(), String> {
    let told = response.str("uid");
    if told != uid {
        return Err(format!("expected response.uid={uid:?}, got {told:?}"));
    }
    let (api_version, kind) = (answer.str("apiVersion"), answer.str("kind"));
    if (api_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
        ));
    }
    let (patch, patch_type) =
        (!response.str("patch").is_empty(), response.at("patchType").as_str());
    match (mutating, patch, patch_type) {
        (true, true, None) => {
            Err("webhook returned response.patch but not response.patchType".into())
        }
        (true, false, Some(_)) => {
            Err("webhook returned response.patchType but not response.patch".into())
        }
        (true, _, Some("")) => Err("webhook returned invalid response.patchType of \"\"".into()),
        (false, true, _) => Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        _ => Ok(()),
    }
}

/// Upstream's `ToStatusErr`.
fn refusal(hook: &str, result: &Value) -> Status {
    let denied = format!("admission webhook {hook:?} denied the request");
    let message = match (result.str("message"), result.str("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = result.int("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let code = if (400..600).contains(&code) { code } else { 400 };
    let mut told = json!({"message": message, "reason": result.at("reason")});
    if result.at("details").is_object() {
        told.set("details", result.at("details").clone());
    }
    Status::from_tree(&told, code)
}
