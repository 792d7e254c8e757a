//! Objects of kinds whose versions a webhook makes of each other: it is asked, in batches, where one is
//! shown, selected or written in another version than it is in.
//!
//! Nobody else knows of it: of every other kind, all versions are of one shape or are converted by code.

use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use api::custom::conversion::{converted, question};
use api::status::Reason;
use api::{Form, LensMut, Object, Status, Value};
use client::{Answer, List, ListOptions, Request};

use crate::core::{Call, Core, Outcome};
use crate::storage::list;
use crate::storage::selection::Selection;
use crate::uid::new_uid;
use crate::webhook;

/// How long one question may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// How long all questions of one answer may take.
const ALL_TIME_MAX: Duration = Duration::from_secs(60);

/// The objects of one question, in bytes. One object always is one.
const QUESTION_MAX_BYTES: usize = 1 << 20;

/// The objects of one question.
const QUESTION_OBJECTS_MAX: usize = 500;

/// What the converted objects of one answer may take: who lists more reads pages.
const CONVERTED_MAX_BYTES: usize = 64 << 20;

/// Keys read from the store at a time while a page of selected objects fills.
const PAGE_OBJECTS: u64 = 500;

/// Whether what answers this request is converted by a webhook. Who names no version, in this process
/// only, is shown what is stored: it looks at nothing but metadata, and needs no webhook for that.
pub(crate) fn is_asked(form: Form<'_>, request: &Request) -> bool {
    form.webhook().is_some() && !request.group_version.is_empty()
}

/// An answer in the version of the request.
///
/// # Errors
/// If the webhook does not convert.
pub(crate) async fn outcome(call: &Call<'_>, mut outcome: Outcome) -> Result<Outcome, Status> {
    if !is_asked(call.form, call.request) {
        return Ok(outcome);
    }
    let shown = match &mut outcome.answer {
        Answer::Object(object) => slice::from_mut(object),
        Answer::List(list) => &mut list.items[..],
        Answer::Tree(_) => return Ok(outcome),
    };
    Box::pin(objects(call.core, call.form, shown)).await?;
    Ok(outcome)
}

/// The object's tree in the version of the form; unknown fields are gone and defaults filled in.
///
/// # Errors
/// If the webhook does not convert.
pub(crate) async fn tree(core: &Core, form: Form<'_>, object: &Object) -> Result<Value, Status> {
    let mut tree = match form.webhook() {
        None => object.whole_tree(),
        Some(_) => Box::pin(one(core, form, object)).await?.whole_tree(),
    };
    form.settle(&mut tree);
    Ok(tree)
}

/// The object in the version of the form.
///
/// # Errors
/// If the webhook does not convert.
pub(crate) async fn one(core: &Core, form: Form<'_>, object: &Object) -> Result<Object, Status> {
    let mut object = object.clone();
    if form.webhook().is_some() {
        Box::pin(objects(core, form, slice::from_mut(&mut object))).await?;
    }
    Ok(object)
}

/// An object, which is in the version of the form, as it is written.
///
/// # Errors
/// If the webhook does not convert.
pub(crate) async fn written(core: &Core, form: Form<'_>, object: Object) -> Result<Object, Status> {
    let wanted = form.written_version();
    if form.webhook().is_none() || form.api_version() == wanted {
        return Ok(object);
    }
    let sent = [Arc::clone(object.bytes())];
    let mut tree = Box::pin(ask(core, form, &wanted, &sent)).await?.pop().unwrap_or_default();
    form.prune_written(&mut tree);
    stored(&object, tree)
}

/// A tree of any version of the kind in that of the form; not settled.
///
/// # Errors
/// If the webhook does not convert.
pub(crate) async fn other(core: &Core, form: Form<'_>, tree: &Value) -> Result<Value, Status> {
    let object = Object::from_tree(form.kind, tree).map_err(Status::internal)?;
    Ok(one(core, form, &object).await?.whole_tree())
}

/// Lists what the options select, as it is in the version of the request.
///
/// # Errors
/// As [`list::list`], and if the webhook does not convert.
pub(crate) async fn list(
    core: &Core,
    form: Form<'_>,
    request: &Request,
    options: &ListOptions,
) -> Result<List, Status> {
    match is_asked(form, request) {
        false => list::list(&core.store, form, &request.namespace, options).await,
        true => Box::pin(list_converted(core, form, &request.namespace, options)).await,
    }
}

async fn list_converted(
    core: &Core,
    form: Form<'_>,
    namespace: &str,
    options: &ListOptions,
) -> Result<List, Status> {
    let selection = Selection::parse(form, options)?;
    if !selection.reads_content() {
        let mut found = list::list(&core.store, form, namespace, options).await?;
        objects(core, form, &mut found.items).await?;
        return Ok(found);
    }
    // What is selected by is not known before it is converted.
    let mut wide = options.clone();
    selection.widen(&mut wide);
    wide.limit = PAGE_OBJECTS;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let (mut all, mut all_bytes) = (List::default(), 0);
    loop {
        let mut page = list::list(&core.store, form, namespace, &wide).await?;
        objects(core, form, &mut page.items).await?;
        all.revision = page.revision;
        let more = !page.continue_token.is_empty();
        let n = page.items.len();
        for (idx, object) in page.items.into_iter().enumerate() {
            if !selection.matches(&object) {
                continue;
            }
            let is_last = limit > 0 && all.items.len() + 1 == limit && (more || idx + 1 < n);
            if is_last {
                all.continue_token = list::token_after(&object, namespace, all.revision);
            }
            all_bytes += object.bytes().len();
            if all_bytes > CONVERTED_MAX_BYTES {
                return Err(too_much(form));
            }
            all.items.push(object);
            if is_last {
                return Ok(all);
            }
        }
        if !more {
            return Ok(all);
        }
        wide.continue_token = page.continue_token;
        wide.resource_version.clear();
        wide.resource_version_match.clear();
    }
}

/// Converts those objects that are in another version than the form.
///
/// # Errors
/// If the webhook does not convert all of them in time.
pub(crate) async fn objects(
    core: &Core,
    form: Form<'_>,
    shown: &mut [Object],
) -> Result<(), Status> {
    let wanted = form.api_version();
    let mut open: VecDeque<usize> =
        (0..shown.len()).filter(|idx| shown[*idx].api_version() != wanted).collect();
    let all = async {
        let mut all_bytes = 0;
        while !open.is_empty() {
            let (mut batch, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(idx) = open.front().copied()
                && batch.len() < QUESTION_OBJECTS_MAX
                && (bytes == 0 || bytes + shown[idx].bytes().len() <= QUESTION_MAX_BYTES)
            {
                open.pop_front();
                bytes += shown[idx].bytes().len();
                batch.push(idx);
                sent.push(Arc::clone(shown[idx].bytes()));
            }
            let trees = ask(core, form, &wanted, &sent).await?;
            for (idx, tree) in batch.into_iter().zip(trees) {
                shown[idx] = stored(&shown[idx], tree)?;
                all_bytes += shown[idx].bytes().len();
            }
            if all_bytes > CONVERTED_MAX_BYTES {
                return Err(too_much(form));
            }
        }
        Ok(())
    };
    rt::timeout(ALL_TIME_MAX, all).await.unwrap_or_else(|_| {
        Err(failed(format!(
            "conversion webhook for {wanted}, Kind={} failed: context deadline exceeded",
            form.kind.name
        )))
    })
}

fn too_much(form: Form<'_>) -> Status {
    let why = format!(
        "more than {CONVERTED_MAX_BYTES} bytes of {} would have to be converted at once: list them in pages",
        form.kind.plural
    );
    Status::new(Reason::RequestEntityTooLarge, why)
}

/// A tree that a webhook made of an object, as one of the same revision.
fn stored(object: &Object, mut tree: Value) -> Result<Object, Status> {
    tree.set("metadata.resourceVersion", object.revision().to_string());
    Object::from_tree(object.kind(), &tree).map_err(|error| failed(error.to_string()))
}

/// Asks for objects in another version.
async fn ask(
    core: &Core,
    form: Form<'_>,
    wanted: &str,
    sent: &[Arc<[u8]>],
) -> Result<Vec<Value>, Status> {
    let Some((conversion, stamp)) = form.webhook() else { return Ok(Vec::new()) };
    let Some(review) = conversion.review else {
        return Err(failed("no supported conversion review versions".into()));
    };
    let target = core.conversions.of(&conversion.client, stamp);
    let uid = new_uid();
    let sent: Vec<&[u8]> = sent.iter().map(|bytes| &**bytes).collect();
    let question = question(review, &uid, wanted, &sent);
    let answer = webhook::call(core.ways(), &core.http, &target, question, TIME_MAX).await;
    let answer = answer.map_err(|why| {
        failed(format!(
            "conversion webhook for {} failed: {why}",
            api::custom::conversion::kind_of_text(sent[0])
        ))
    })?;
    converted(answer, (review, &uid, wanted), &sent).map_err(failed)
}

/// Upstream's answer to what is no API error: 500 without a reason.
fn failed(why: String) -> Status {
    Status::new(Reason::Unknown, why)
}
