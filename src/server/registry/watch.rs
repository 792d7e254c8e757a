//! Watches: initial events, selector transitions, bookmarks, and their end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::{Kind, Object, Resource, Status};
use client::{Registry, Request, WatchEvent, WatchStream};
use rt::BoxFuture;
use stdx::time::Mono;
use store::Error;

use crate::conversion;
use crate::core::Core;
use crate::storage::cache;
use crate::storage::change::{Change, Type};
use crate::storage::selection::Selection;
use crate::storage::{self, list};

/// How often a client that takes bookmarks learns how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Without `timeoutSeconds` a watch lasts between this long and twice as long, as upstream's.
const TIMEOUT_MIN_SECS: u64 = 1800;

/// A client's own timeout is cut at this.
const TIMEOUT_MAX_SECS: u64 = 24 * 3600;

/// Starts a watch.
///
/// # Errors
/// 400 and 422 for options that make no sense. A revision that is gone is no error here but the
/// stream's first item, as upstream answers.
pub(crate) async fn watch(core: &Core, request: &Request) -> Result<Stream, Status> {
    let resource = core.resource(request)?;
    let form = resource.form();
    let (kind, options) = (request.kind, &request.list);
    let mut selection_options = options.clone();
    if !request.name.is_empty() {
        selection_options.field_selector = match options.field_selector.as_str() {
            "" => format!("metadata.name={}", request.name),
            fields => format!("{fields},metadata.name={}", request.name),
        };
    }
    let mut selection = Selection::parse(form, &selection_options)?;
    list::check_versions(options, true)?;
    let mut converts = conversion::is_asked(form, request).then(Selection::default);
    if let Some(by_content) = &mut converts
        && selection.reads_content()
    {
        // What is selected by is not known before it is converted.
        let mut wide = selection_options.clone();
        selection.widen(&mut wide);
        *by_content = std::mem::replace(&mut selection, Selection::parse(form, &wide)?);
    }
    let registry = (!kind.is_built_in()).then(|| Arc::clone(&core.kinds));
    let mut stream = Stream {
        kind,
        defined: registry.map(|registry| (registry, resource.clone())),
        selection,
        converts,
        watch: None,
        waiting: VecDeque::new(),
        failed: None,
        bookmarks: options.allow_bookmarks,
        revision: 0,
        bookmarked: 0,
        deadline: deadline(options.timeout_secs),
        ended: false,
    };
    let from = match options.resource_version.as_str() {
        "" | "0" => None,
        text => Some(list::parse_revision(text)?),
    };
    let sends_initial = options.send_initial_events == Some(true);
    if from.is_some() && !sends_initial {
        stream.start(core, &request.namespace, from.unwrap_or(0));
        return Ok(stream);
    }
    if let Some(revision) = from {
        let current = core.store.revision();
        if revision > current {
            return Err(storage::too_large(revision, current));
        }
    }
    let mut initial = options.clone();
    initial.limit = 0;
    initial.resource_version.clear();
    initial.resource_version_match.clear();
    initial.send_initial_events = None;
    initial.field_selector = selection_options.field_selector;
    // In no version yet if nothing is selected by what is in them: they are converted as they are sent.
    let found = match stream.converts.as_ref().is_some_and(Selection::reads_content) {
        false => list::list(&core.store, form, &request.namespace, &initial).await?,
        true => conversion::list(core, form, request, &initial).await?,
    };
    stream.start(core, &request.namespace, found.revision);
    stream.revision = found.revision;
    stream.waiting.extend(found.items.into_iter().map(Item::Initial));
    if sends_initial && options.allow_bookmarks {
        stream.waiting.push_back(Item::Bookmark { revision: found.revision, initial_end: true });
    }
    Ok(stream)
}

fn deadline(timeout_secs: Option<u64>) -> Mono {
    let secs = match timeout_secs {
        Some(secs) if secs > 0 => secs.min(TIMEOUT_MAX_SECS),
        _ => TIMEOUT_MIN_SECS + rt::random_u64() % TIMEOUT_MIN_SECS,
    };
    rt::now().mono + Duration::from_secs(secs)
}

/// A running watch.
pub(crate) struct Stream {
    kind: &'static Kind,
    /// How it was defined when the watch began, if it was defined at run time: the watch ends with that.
    defined: Option<(Arc<Registry>, Resource)>,
    selection: Selection,
    /// Objects are shown in a version that a webhook makes, and those only that are selected in it.
    converts: Option<Selection>,
    watch: Option<cache::Watch>,
    /// Initial events; bounded by the objects that exist.
    waiting: VecDeque<Item>,
    failed: Option<Status>,
    bookmarks: bool,
    /// Everything up to here has been yielded.
    revision: u64,
    bookmarked: u64,
    deadline: Mono,
    ended: bool,
}

/// What a watch yields.
pub(crate) enum Item {
    /// One of the objects that it begins with.
    Initial(Object),
    Change(Type, Arc<Change>),
    /// A change of what was converted for this watch.
    Converted(Type, Object),
    Bookmark {
        revision: u64,
        initial_end: bool,
    },
}

impl Item {
    /// What would have to be converted for it, in bytes.
    pub(crate) fn open_bytes(&self) -> usize {
        match self {
            Item::Initial(object) => object.bytes().len(),
            Item::Change(_, change) => {
                change.versions().into_iter().flatten().map(|it| it.bytes().len()).sum()
            }
            Item::Converted(..) | Item::Bookmark { .. } => 0,
        }
    }
}

impl Stream {
    fn start(&mut self, core: &Core, namespace: &str, after: u64) {
        self.revision = after;
        match core.cache.watch(&core.store, self.kind, namespace, &self.selection, after) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => self.failed = Some(storage::status(error)),
        }
    }

    /// How many objects it begins with.
    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether its items are to be [converted](Stream::converted) before they are shown.
    pub(crate) fn converts(&self) -> bool {
        self.converts.is_some()
    }

    /// Items as they are in the version of the request. What comes after an error is gone.
    pub(crate) async fn converted(
        &self,
        core: &Core,
        resource: &Resource,
        items: Vec<Result<Item, Status>>,
    ) -> Vec<Result<Item, Status>> {
        let by_content = self.converts.as_ref().filter(|it| it.reads_content());
        // Of each item what it showed before and shows now, as far as it is to be known.
        let mut open = Vec::new();
        let mut places = Vec::with_capacity(items.len());
        for item in &items {
            let [before, now] = match item {
                Ok(Item::Initial(object)) => [None, Some(object)],
                Ok(Item::Change(_, change)) if by_content.is_some() => change.versions(),
                Ok(Item::Change(event, change)) => [None, change.object(*event)],
                _ => [None, None],
            };
            let mut place = |object: Option<&Object>| {
                open.push(object?.clone());
                Some(open.len() - 1)
            };
            places.push([place(before), place(now)]);
        }
        let failed = conversion::objects(core, resource.form(), &mut open).await.err();
        let mut shown = Vec::with_capacity(items.len());
        for (item, place) in items.into_iter().zip(places) {
            let [before, now] = place.map(|at| at.map(|at| open[at].clone()));
            match (item, &failed) {
                (Ok(Item::Initial(_) | Item::Change(..)), Some(status)) => {
                    shown.push(Err(status.clone()));
                    break;
                }
                (Ok(Item::Initial(_)), None) => shown.extend(now.map(|it| Ok(Item::Initial(it)))),
                (Ok(Item::Change(event, _)), None) => {
                    let seen = match by_content {
                        None => now.map(|object| (event, object)),
                        Some(selection) => seen(selection, before, now),
                    };
                    shown.extend(seen.map(|(event, object)| Ok(Item::Converted(event, object))));
                }
                (item, _) => shown.push(item),
            }
        }
        shown
    }

    /// What can be had without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Result<Item, Status>> {
        if let Some(item) = self.waiting.pop_front() {
            return Some(Ok(item));
        }
        self.change()?
    }

    /// The next change if one waits already, or the end: `Some(None)` is one without an error.
    #[expect(clippy::option_option, reason = "nothing yet, the end, or an item")]
    fn change(&mut self) -> Option<Option<Result<Item, Status>>> {
        match self.watch.as_mut()?.try_next() {
            Ok(change) => {
                let (event, change) = change?;
                self.revision = self.revision.max(change.revision());
                Some(Some(Ok(Item::Change(event, change))))
            }
            Err(error) => {
                self.ended = true;
                Some(match error {
                    Error::Closed => None,
                    error => Some(Err(storage::status(error))),
                })
            }
        }
    }

    /// The next item; `None` at the end.
    pub(crate) async fn next_item(&mut self) -> Option<Result<Item, Status>> {
        if self.ended {
            return None;
        }
        if let Some(item) = self.waiting.pop_front() {
            return Some(Ok(item));
        }
        if let Some(status) = self.failed.take() {
            self.ended = true;
            return Some(Err(status));
        }
        loop {
            if self
                .defined
                .as_ref()
                .is_some_and(|(registry, it)| !registry.current().is_current(it))
            {
                self.ended = true;
                return None;
            }
            let changed = self.watch.as_ref()?.changed();
            if let Some(item) = self.change() {
                return item;
            }
            let left = self.deadline.since(rt::now().mono);
            let changed = rt::future::or(changed, defined_anew(self.defined.as_ref()));
            if rt::timeout(left.min(BOOKMARK_EVERY), changed).await.is_ok() {
                continue;
            }
            self.ended = rt::now().mono >= self.deadline;
            let progress = self.watch.as_ref().and_then(cache::Watch::progress);
            let bookmark = match progress {
                None if !self.ended => continue,
                progress => self.bookmark(progress.unwrap_or(self.revision)),
            };
            if bookmark.is_some() || self.ended {
                return bookmark.map(Ok);
            }
        }
    }

    /// A bookmark, if they are wanted and it says something new.
    fn bookmark(&mut self, revision: u64) -> Option<Item> {
        self.revision = self.revision.max(revision);
        if !self.bookmarks || self.bookmarked == self.revision {
            return None;
        }
        self.bookmarked = self.revision;
        Some(Item::Bookmark { revision: self.revision, initial_end: false })
    }
}

/// What a change is to one who sees only what is selected; `None` if it is nothing.
fn seen(
    selection: &Selection,
    before: Option<Object>,
    now: Option<Object>,
) -> Option<(Type, Object)> {
    let selected = |object: Option<Object>| object.filter(|it| selection.matches(it));
    // Where it is not seen any more, the last that was seen is shown, at the revision of the change.
    match (selected(before), selected(now)) {
        (None, Some(now)) => Some((Type::Added, now)),
        (Some(_), Some(now)) => Some((Type::Modified, now)),
        (Some(before), None) => Some((Type::Deleted, before)),
        (None, None) => None,
    }
}

/// Waits until a kind is defined otherwise than it was, or not at all.
async fn defined_anew(defined: Option<&(Arc<Registry>, Resource)>) {
    let Some((registry, resource)) = defined else { return rt::future::pending().await };
    registry.redefined(resource).await;
}

/// An item for those in the process, who share its object.
fn event(item: Item) -> Option<WatchEvent> {
    Some(match item {
        Item::Initial(object) => WatchEvent::Added(object),
        Item::Change(event, change) => {
            let object = change.object(event)?.clone();
            match event {
                Type::Added => WatchEvent::Added(object),
                Type::Modified => WatchEvent::Modified(object),
                Type::Deleted => WatchEvent::Deleted(object),
            }
        }
        // In the process nobody names a version.
        Item::Converted(..) => return None,
        Item::Bookmark { revision, initial_end } => WatchEvent::Bookmark { revision, initial_end },
    })
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(async {
            loop {
                match self.next_item().await? {
                    Ok(item) => {
                        if let Some(event) = event(item) {
                            return Some(Ok(event));
                        }
                    }
                    Err(status) => return Some(Err(status)),
                }
            }
        })
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} after {})", self.kind.plural, self.revision)
    }
}
