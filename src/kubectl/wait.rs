//! Waiting for objects: looked at once, then by a watch, for as long as it takes or somebody said.

use std::time::Duration;

use api::{Lens, LensMut, Value};

use crate::call::Call;
use crate::discovery::Resource;
use crate::failure::{Failure, Outcome, failed};
use crate::select::{Info, Pick, list_query};
use crate::watch;

/// Where nobody says how long.
pub(crate) const AGES: Duration = Duration::from_secs(7 * 86_400);
/// Between two looks where watches end at once.
const PAUSE: Duration = Duration::from_millis(200);

/// What is heard of an object: its new state, or `None` when it is gone. True when that was what was waited for.
pub(crate) type Until<'a> = dyn FnMut(Option<&Value>) -> Outcome<bool> + 'a;

/// Waits until `until` says so. False if the time was up.
pub(crate) fn follow(
    call: &Call<'_>,
    info: &Info,
    timeout: Duration,
    until: &mut Until<'_>,
) -> Outcome<bool> {
    let pick = Pick { field_selector: format!("metadata.name={}", info.name), ..Pick::default() };
    picked(call, &info.resource, &info.namespace, &pick, timeout, until)
}

/// The same for objects that selectors pick; at first only one of them is looked at.
pub(crate) fn picked(
    call: &Call<'_>,
    resource: &Resource,
    namespace: &str,
    pick: &Pick,
    timeout: Duration,
    until: &mut Until<'_>,
) -> Outcome<bool> {
    let rest = call.rest()?;
    let list = resource.path(namespace, "");
    let work = async {
        loop {
            let query = list_query(pick, &[]);
            let mut response = rest
                .open(http::Method::Get, &format!("{list}{query}"), "application/json", None)
                .await?;
            let bytes = response.body.read_all(crate::rest::ANSWER_MAX_BYTES).await?;
            let tree: Value = serde_json::from_slice(&bytes)
                .map_err(|error| Failure::Message(error.to_string()))?;
            let mut first = tree.list("items").first().cloned();
            if let Some(object) = &mut first {
                // Items of lists do not say what they are.
                object.set_default("kind", resource.kind.as_str());
                object.set_default("apiVersion", resource.api_version());
            }
            if until(first.as_ref())? {
                return Ok(());
            }
            let version = tree.str("metadata.resourceVersion").to_owned();
            let query = list_query(pick, &[("resourceVersion", &version), ("watch", "true")]);
            let mut is_done = false;
            let followed = watch::follow(
                rest,
                &format!("{list}{query}"),
                "application/json",
                &mut |kind, object| {
                    is_done = match kind {
                        "BOOKMARK" => false,
                        "DELETED" => until(None)?,
                        _ => until(Some(&object))?,
                    };
                    Ok(!is_done)
                },
            )
            .await;
            match followed {
                Ok(()) if is_done => return Ok(()),
                // The history moved on: it is looked at again.
                Ok(()) => rt::sleep(PAUSE).await,
                Err(Failure::Status(status)) if matches!(status.int("code"), Some(410 | 504)) => {
                    rt::sleep(PAUSE).await
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    rt::block_on(async {
        match rt::timeout(timeout, work).await {
            Ok(done) => done.map(|()| true),
            Err(rt::Elapsed) => Ok(false),
        }
    })
}

/// Waits until an object of this uid is gone; of any uid if that is "".
pub(crate) fn gone(call: &Call<'_>, info: &Info, uid: &str, timeout: Option<Duration>) -> Outcome {
    let is_gone = follow(call, info, timeout.unwrap_or(AGES), &mut |state| {
        Ok(state.is_none_or(|object| !uid.is_empty() && object.str("metadata.uid") != uid))
    });
    match is_gone {
        // Who may not look may not wait.
        Err(failure) if matches!(failure.reason(), "Forbidden" | "MethodNotAllowed") => Ok(()),
        Err(failure) => Err(failure),
        Ok(true) => Ok(()),
        Ok(false) => failed(format!(
            "timed out waiting for the condition on {}/{}",
            info.resource.plural, info.name
        )),
    }
}
