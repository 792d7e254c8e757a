//! Watches: initial events, selector transitions, bookmarks, and their end.

use std::collections::VecDeque;
use std::time::Duration;

use api::{Kind, Object, Status};
use client::{Request, WatchEvent, WatchStream};
use rt::BoxFuture;
use stdx::time::Mono;
use store::{Error, Event, Item, Span, Watch};

use super::selection::Selection;
use super::{list, storage};
use crate::core::Core;

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
    let form = core.form(request)?;
    let (kind, options) = (request.kind, &request.list);
    let mut selection_options = options.clone();
    if !request.name.is_empty() {
        selection_options.field_selector = match options.field_selector.as_str() {
            "" => format!("metadata.name={}", request.name),
            fields => format!("{fields},metadata.name={}", request.name),
        };
    }
    let selection = Selection::parse(form, &selection_options)?;
    list::check_versions(options, true)?;
    let mut stream = Stream {
        kind,
        selection,
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
    let span = match stream.selection.name() {
        Some(name) if !kind.namespaced() || !request.namespace.is_empty() => {
            Span::key(storage::key(kind, &request.namespace, name))
        }
        _ => storage::span(kind, &request.namespace),
    };
    if from.is_some() && !options.send_initial_events {
        stream.start(core, span, from.unwrap_or(0)).await;
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
    initial.send_initial_events = false;
    initial.field_selector = selection_options.field_selector;
    let found = list::list(core, form, &request.namespace, &initial).await?;
    stream.start(core, span, found.revision).await;
    stream.revision = found.revision;
    stream.waiting.extend(found.items.into_iter().map(WatchEvent::Added));
    if options.send_initial_events && options.allow_bookmarks {
        stream
            .waiting
            .push_back(WatchEvent::Bookmark { revision: found.revision, initial_end: true });
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
    selection: Selection,
    watch: Option<Watch>,
    /// Initial events; bounded by the objects that exist.
    waiting: VecDeque<WatchEvent>,
    failed: Option<Status>,
    bookmarks: bool,
    /// Everything up to here has been yielded.
    revision: u64,
    bookmarked: u64,
    deadline: Mono,
    ended: bool,
}

impl Stream {
    async fn start(&mut self, core: &Core, span: Span, after: u64) {
        self.revision = after;
        match core.store.watch(vec![span], Some(after)).await {
            Ok(watch) => self.watch = Some(watch.with_progress(BOOKMARK_EVERY)),
            Err(error) => self.failed = Some(storage::status(error)),
        }
    }

    /// How many objects it begins with.
    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether something can be had without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Result<WatchEvent, Status>> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(Ok(event));
        }
        loop {
            let event = match self.watch.as_mut()?.try_next() {
                Ok(event) => event?,
                Err(error) => return Some(Err(self.end(error))),
            };
            if let Some(event) = self.translate(&event) {
                return Some(event);
            }
        }
    }

    async fn step(&mut self) -> Option<Result<WatchEvent, Status>> {
        if self.ended {
            return None;
        }
        if let Some(event) = self.waiting.pop_front() {
            return Some(Ok(event));
        }
        if let Some(status) = self.failed.take() {
            self.ended = true;
            return Some(Err(status));
        }
        loop {
            let left = self.deadline.since(rt::now().mono);
            let watch = self.watch.as_mut()?;
            match rt::timeout(left, watch.next()).await {
                Err(rt::Elapsed) => {
                    self.ended = true;
                    let progress = self.watch.as_ref().and_then(Watch::progress);
                    return self.bookmark(progress.unwrap_or(self.revision)).map(Ok);
                }
                Ok(Ok(Item::Event(event))) => {
                    if let Some(event) = self.translate(&event) {
                        return Some(event);
                    }
                }
                Ok(Ok(Item::Progress(revision))) => {
                    if let Some(bookmark) = self.bookmark(revision) {
                        return Some(Ok(bookmark));
                    }
                }
                Ok(Err(Error::Closed)) => {
                    self.ended = true;
                    return None;
                }
                Ok(Err(error)) => return Some(Err(self.end(error))),
            }
        }
    }

    fn end(&mut self, error: Error) -> Status {
        self.ended = true;
        storage::status(error)
    }

    /// A bookmark, if they are wanted and it says something new.
    fn bookmark(&mut self, revision: u64) -> Option<WatchEvent> {
        self.revision = self.revision.max(revision);
        if !self.bookmarks || self.bookmarked == self.revision {
            return None;
        }
        self.bookmarked = self.revision;
        Some(WatchEvent::Bookmark { revision: self.revision, initial_end: false })
    }

    /// What a change means to one who sees only what is selected.
    fn translate(&mut self, event: &Event) -> Option<Result<WatchEvent, Status>> {
        self.revision = self.revision.max(event.revision);
        self.event(event).transpose()
    }

    fn event(&self, event: &Event) -> Result<Option<WatchEvent>, Status> {
        let now = event.now.as_ref().map(|v| storage::object(self.kind, v)).transpose()?;
        let seen = now.as_ref().is_some_and(|object| self.selection.matches(object));
        let last = |version| storage::deleted_object(self.kind, version, event.revision);
        if self.selection.is_everything() {
            return Ok(match (now, &event.before) {
                (Some(now), None) => Some(WatchEvent::Added(now)),
                (Some(now), Some(_)) => Some(WatchEvent::Modified(now)),
                (None, Some(before)) => Some(WatchEvent::Deleted(last(before)?)),
                (None, None) => None,
            });
        }
        let before: Option<Object> = event.before.as_ref().map(last).transpose()?;
        let before = before.filter(|object| self.selection.matches(object));
        Ok(match (now.filter(|_| seen), before) {
            (Some(now), None) => Some(WatchEvent::Added(now)),
            (Some(now), Some(_)) => Some(WatchEvent::Modified(now)),
            (None, Some(before)) => Some(WatchEvent::Deleted(before)),
            (None, None) => None,
        })
    }
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(self.step())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} after {})", self.kind.plural, self.revision)
    }
}
