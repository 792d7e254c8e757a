//! What the audit log is told of the bodies of a request and its answer.

use api::{Form, Lens, LensMut, Object, Resource, Status, Value, codec};
use client::{Answer, Body, Request};

use super::negotiate::{Format, Media};
use super::respond::{self, Wanted};
use crate::audit::{OBJECT_MAX_BYTES, Trail};
use crate::core::Outcome;

/// How somebody who was refused tried to show who it is, in upstream's words.
pub(super) fn attempted(request: &http::Headers, peer: &http::Peer) -> String {
    let mut methods = Vec::new();
    let authorization = request.get("authorization").unwrap_or("").trim();
    if let Some((scheme, _)) = authorization.split_once(' ') {
        methods
            .extend(["basic", "bearer"].into_iter().filter(|own| own.eq_ignore_ascii_case(scheme)));
    }
    if !peer.certificates.is_empty() {
        methods.push("x509");
    }
    match methods.is_empty() {
        true => "Authentication failed, no credentials provided".into(),
        false => format!("Authentication failed, attempted: {}", methods.join(", ")),
    }
}

/// Tells what was sent: the object with its defaults, or the patch. What that takes of memory is asked of `hold`.
///
/// # Errors
/// 429 if there is no room for it now.
pub(crate) fn request(
    trail: &Trail,
    request: &Request,
    form: Form<'_>,
    hold: &mut dyn FnMut(usize) -> Result<(), Status>,
) -> Result<(), Status> {
    let (tree, is_patch) = match &request.body {
        Body::Tree(tree) => (tree, false),
        Body::Patch(_, patch) => (patch, true),
        Body::None => return Ok(()),
    };
    if !is_patch {
        trail.names(tree);
    }
    if !trail.wants_requests() {
        return Ok(());
    }
    hold(2 * wire::json::memory_of(tree))?;
    let mut json = Vec::new();
    if is_patch {
        codec::write_tree_json(tree, &mut json);
    } else {
        let mut tree = tree.clone();
        if matches!(request.subresource.as_str(), "" | "status") {
            rules::defaults::apply(form, &mut tree);
        }
        if trail.omits_managed_fields() {
            tree.remove("metadata.managedFields");
        }
        codec::write_tree_json(&tree, &mut json);
    }
    trail.sent(json);
    Ok(())
}

/// Tells what is answered as a tree.
pub(crate) fn tree(trail: &Trail, tree: &Value) {
    if trail.wants_responses() {
        let mut json = Vec::new();
        codec::write_tree_json(tree, &mut json);
        trail.answered(Some(json));
    }
}

/// Tells what the options of a deletion are.
pub(super) fn delete_options(trail: &Trail, options: Option<&Value>) {
    if let Some(options) = options.filter(|_| trail.wants_requests()) {
        let mut json = Vec::new();
        codec::write_tree_json(options, &mut json);
        trail.sent(json);
    }
}

/// Tells what is answered, in the form in which it is; how many bytes of it are kept.
pub(crate) async fn answer(
    trail: &Trail,
    outcome: &Outcome,
    resource: &Resource,
    wanted: &Wanted,
) -> usize {
    if let Answer::Tree(tree) = &outcome.answer
        && tree.str("kind") == "Status"
    {
        trail.says(tree, 200);
    }
    if !trail.wants_responses() {
        return 0;
    }
    let json = json(&outcome.answer, resource, wanted, trail.omits_managed_fields()).await;
    let n_bytes = json.as_ref().map_or(0, Vec::len);
    trail.answered(json);
    n_bytes
}

/// An answer as JSON; `None` if it is longer than an event may hold.
async fn json(
    answer: &Answer,
    resource: &Resource,
    wanted: &Wanted,
    omits_managed_fields: bool,
) -> Option<Vec<u8>> {
    let objects = match answer {
        Answer::Object(object) => std::slice::from_ref(object),
        Answer::List(list) => &list.items,
        Answer::Tree(_) => &[],
    };
    if objects.iter().map(|object| object.bytes().len()).sum::<usize>() > OBJECT_MAX_BYTES {
        return None;
    }
    let mut answer = answer.clone();
    if omits_managed_fields {
        match &mut answer {
            Answer::Object(object) => *object = unmanaged(object),
            Answer::List(list) => {
                list.items.iter_mut().for_each(|object| *object = unmanaged(object));
            }
            Answer::Tree(tree) => drop(tree.remove("metadata.managedFields")),
        }
    }
    let media = Media { format: Format::Json, pretty: false, ..wanted.media };
    let wanted = Wanted { media, gzip: false, ..*wanted };
    let mut response = respond::outcome(Outcome::ok(answer), resource, &wanted).ok()?;
    response.body.read_all(OBJECT_MAX_BYTES).await.ok()
}

/// The object without who manages what of it.
fn unmanaged(object: &Object) -> Object {
    let of = Object::from_tree(object.kind(), &object.tree());
    of.map_or_else(|_| object.clone(), |new| new.at_revision(object.revision()))
}
