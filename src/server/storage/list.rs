//! Lists: revisions, pages and selectors, with upstream's `resourceVersion` semantics.

use api::kinds::EVENT;
use api::status::{Cause, Reason};
use api::{Form, Kind, Object, Status};
use client::{List, ListOptions};
use store::{Bytes, Error, Query, Span, Store};

use super::continue_token::{self, Continue};
use super::selection::Selection;
use crate::storage;

/// Keys read from the store at a time while a filtered page fills.
const CHUNK_KEYS: usize = 500;

/// Lists a kind in one namespace or ("") in all.
///
/// # Errors
/// 400 and 422 for options that make no sense, 410 when the revision is gone, 504 when it is not there yet.
pub(crate) async fn list<'f>(
    store: &Store,
    form: impl Into<Form<'f>>,
    namespace: &str,
    options: &ListOptions,
) -> Result<List, Status> {
    let form = form.into();
    let kind = form.kind;
    let selection = Selection::parse(form, options)?;
    check_versions(options, false)?;
    if let Some(name) = selection.name()
        && options.continue_token.is_empty()
        && matches!(options.resource_version.as_str(), "" | "0")
        && (!namespace.is_empty() || !kind.namespaced())
    {
        return one(store, kind, namespace, name, &selection).await;
    }
    let prefix = storage::prefix(kind, namespace);
    let mut since = continue_token::now_secs();
    let (start, at) = match options.continue_token.as_str() {
        "" => (None, exact_revision(store, kind, options)?),
        token => {
            if !matches!(options.resource_version.as_str(), "" | "0") {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = continue_token::decode(token)?;
            if token.is_too_old() {
                return Err(continue_token::expired(&token.start));
            }
            if token.revision.is_some() {
                since = token.since;
            }
            (Some(token.start), token.revision)
        }
    };
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let page = read_page(store, kind, &prefix, start.as_deref(), at, limit, &selection).await;
    let page = match page {
        Ok(page) => page,
        Err(Failed::Status(status)) => return Err(status),
        Err(Failed::Store(Error::Compacted { .. })) => {
            return Err(match &start {
                Some(start) => continue_token::expired(start),
                None => Status::expired("The resourceVersion for the provided list is too old."),
            });
        }
        Err(Failed::Store(error)) => return Err(storage::status(error)),
    };
    let mut list = List { items: page.items, revision: page.revision, ..List::default() };
    if let Some(last) = page.next_after {
        let start = format!("{}\0", String::from_utf8_lossy(&last[prefix.len().min(last.len())..]));
        // An inconsistent continuation stays at one revision from here on, as upstream's.
        list.continue_token =
            continue_token::encode(&Continue { revision: Some(page.revision), start, since });
        list.remaining = selection.is_everything().then_some(page.remaining as u64);
    }
    Ok(list)
}

/// Where a page ends that holds this object as its last one.
pub(crate) fn token_after(object: &Object, namespace: &str, revision: u64) -> String {
    let kind = object.kind();
    let key = storage::key(kind, object.namespace(), object.name());
    let start = format!("{}\0", &key[storage::prefix(kind, namespace).len()..]);
    continue_token::encode(&Continue::begins(revision, start))
}

/// At most one object: no range is read.
async fn one(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    selection: &Selection,
) -> Result<List, Status> {
    // The revision is read first: what is found is at least as new.
    let revision = store.revision();
    let found = storage::find(store, kind, namespace, name).await?;
    let revision = found.as_ref().map_or(revision, |object| object.revision().max(revision));
    let items = found.into_iter().filter(|object| selection.matches(object)).collect();
    Ok(List { items, revision, ..List::default() })
}

struct Page {
    items: Vec<Object>,
    revision: u64,
    /// The last key looked at, if more follow.
    next_after: Option<Bytes>,
    remaining: usize,
}

enum Failed {
    Store(Error),
    Status(Status),
}

async fn read_page(
    store: &Store,
    kind: &'static Kind,
    prefix: &str,
    start: Option<&str>,
    at: Option<u64>,
    limit: usize,
    selection: &Selection,
) -> Result<Page, Failed> {
    let span = match start {
        None => Span::prefix(prefix),
        Some(start) => {
            let mut end = prefix.as_bytes().to_vec();
            // Prefixes end in '/', so the byte after it ends the span.
            if let Some(last) = end.last_mut() {
                *last += 1;
            }
            Span::Between(format!("{prefix}{start}").into_bytes().into(), end.into())
        }
    };
    let mut page = Page { items: Vec::new(), revision: 0, next_after: None, remaining: 0 };
    let mut query = Query { span, at, limit: 0, after: None };
    loop {
        query.limit = match limit {
            0 => 0,
            _ if selection.is_everything() => limit,
            _ => CHUNK_KEYS,
        };
        let range = store.range(&query).await.map_err(Failed::Store)?;
        page.revision = range.revision;
        query.at = Some(range.revision);
        let n = range.items.len();
        for (idx, version) in range.items.into_iter().enumerate() {
            let object = storage::object(kind, &version).map_err(Failed::Status)?;
            if selection.matches(&object) {
                page.items.push(object);
            }
            if limit > 0 && page.items.len() == limit && (idx + 1 < n || range.remaining > 0) {
                page.remaining = range.remaining + n - idx - 1;
                page.next_after = Some(version.key);
                return Ok(page);
            }
            if idx + 1 == n {
                query.after = Some(version.key);
            }
        }
        if range.remaining == 0 || n == 0 {
            return Ok(page);
        }
    }
}

/// The one revision that the list must be at, if it must.
fn exact_revision(
    store: &Store,
    kind: &Kind,
    options: &ListOptions,
) -> Result<Option<u64>, Status> {
    let exact = match options.resource_version_match.as_str() {
        "Exact" => true,
        "" => options.limit > 0,
        _ => false,
    };
    let revision = match options.resource_version.as_str() {
        "" | "0" => return Ok(None),
        // Upstream reads events and what must be at one revision without its cache, whose complaint is another.
        text if *kind == EVENT || exact => parse_revision(text).map_err(|status| {
            Status::bad_request(format!("invalid resource version: {}", status.message()))
        })?,
        text => parse_revision(text)?,
    };
    let current = store.revision();
    if revision > current {
        return Err(storage::too_large(revision, current));
    }
    Ok(exact.then_some(revision))
}

/// # Errors
/// 500 without a reason for what is no revision, as upstream answers.
pub(crate) fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        let message = format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        );
        Status::new(Reason::Unknown, message)
    })
}

/// Which combinations of `resourceVersion`, `resourceVersionMatch`, `continue` and
/// `sendInitialEvents` are allowed (upstream's ValidateListOptions).
///
/// # Errors
/// 422 for the others, with all that is wrong.
pub(crate) fn check_versions(options: &ListOptions, watch: bool) -> Result<(), Status> {
    let mut causes = Vec::new();
    let mut add = |reason, field: &str, message: String| {
        causes.push(Cause { reason, message, field: field.into() });
    };
    let matching = options.resource_version_match.as_str();
    let asks_initial = options.send_initial_events.is_some();
    let mut forbid = |field: &str, why: &str| {
        add("FieldValueForbidden", field, format!("Forbidden: {why}"));
    };
    const MATCH: &str = "resourceVersionMatch";
    if watch && asks_initial && matching != "NotOlderThan" {
        forbid(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if watch && asks_initial && !rules::gates::is_on(rules::gates::WATCH_LIST) {
        let why =
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        forbid("sendInitialEvents", why);
    }
    if watch && !matching.is_empty() && !asks_initial {
        let why =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        forbid(MATCH, why);
    }
    let continues = !matching.is_empty() && !options.continue_token.is_empty();
    let when_continued = "resourceVersionMatch is forbidden when continue is provided";
    if !watch && !matching.is_empty() && options.resource_version.is_empty() {
        forbid(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if !watch && continues {
        forbid(MATCH, when_continued);
    }
    let supported = if watch { "\"NotOlderThan\"" } else { "\"Exact\", \"NotOlderThan\", \"\"" };
    if !(matches!(matching, "" | "NotOlderThan") || matching == "Exact" && !watch) {
        let message = format!("Unsupported value: {matching:?}: supported values: {supported}");
        add("FieldValueNotSupported", MATCH, message);
    }
    let mut forbid = |field: &str, why: &str| {
        add("FieldValueForbidden", field, format!("Forbidden: {why}"));
    };
    if watch && continues {
        forbid(MATCH, when_continued);
    }
    if !watch && matching == "Exact" && options.resource_version == "0" {
        forbid(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    }
    if !watch && asks_initial {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if causes.is_empty() {
        return Ok(());
    }
    let kind = Kind { group: "meta.k8s.io", name: "ListOptions", plural: "", ..Kind::BASE };
    Err(Status::invalid(&kind, "", causes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_with_the_versions_is_told() {
        let check = |revision: &str, matching: &str, initial: Option<bool>, watch: bool| {
            let options = ListOptions {
                resource_version: revision.into(),
                resource_version_match: matching.into(),
                send_initial_events: initial,
                ..ListOptions::default()
            };
            let told = check_versions(&options, watch);
            told.err().map_or(String::new(), |status| status.message().to_owned())
        };
        let is = r#"ListOptions.meta.k8s.io "" is invalid: "#;
        for (revision, matching) in [("", ""), ("5", "Exact"), ("0", "NotOlderThan")] {
            assert_eq!(check(revision, matching, None, false), "");
        }
        assert_eq!(check("", "", None, true), "");
        assert_eq!(check("", "NotOlderThan", Some(true), true), "");
        let list = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        assert_eq!(check("", "", Some(false), false), format!("{is}{list}"));
        let unsupported = "resourceVersionMatch: Unsupported value: \"Bogus\": supported values: ";
        assert_eq!(
            check("0", "Bogus", Some(true), false),
            format!("{is}[{unsupported}\"Exact\", \"NotOlderThan\", \"\", {list}]")
        );
        let unless = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        assert_eq!(check("", "NotOlderThan", None, true), format!("{is}{unless}"));
        assert_eq!(
            check("5", "Bogus", None, true),
            format!("{is}[{unless}, {unsupported}\"NotOlderThan\"]")
        );
        let requires = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        assert_eq!(check("", "", Some(false), true), format!("{is}{requires}"));
    }
}
