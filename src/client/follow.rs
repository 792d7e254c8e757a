//! One selection followed without an end: listed, then watched, resumed after what breaks, listed again
//! only where the history in between is lost.

use std::time::Duration;

use api::status::Reason;
use api::{Kind, Status};
use stdx::backoff::Backoff;

use crate::request::{Client, List, ListOptions, WatchEvent};

/// What is followed.
#[derive(Debug, Clone)]
pub struct Selection {
    pub kind: &'static Kind,
    /// "" for all namespaces.
    pub namespace: String,
    /// A field selector, such as `spec.nodeName=a`; "" for all.
    pub field_selector: String,
}

/// News of a selection.
#[derive(Debug)]
pub enum News {
    /// Everything that is selected, at one revision: what is not in it does not exist.
    Listed(List),
    Event(WatchEvent),
}

/// Takes news; false ends it. Must not block.
pub type Hear<'a> = dyn FnMut(News) -> bool + Send + 'a;

/// Follows `selection` and hands over its news until `hear` answers false, which ends it. `retry` is
/// how long it rests after failures in a row.
pub async fn follow(client: Client, selection: Selection, retry: Backoff, hear: &mut Hear<'_>) {
    let mut failures = 0;
    // The newest revision seen: where a watch goes on.
    let mut at = None;
    loop {
        match follow_once(&client, &selection, &mut at, &mut failures, hear).await {
            Ok(Next::End) => return,
            Ok(Next::Again) => {}
            Err(status) => {
                failures += 1;
                log::debug!(
                    "follow {} {}: {status}",
                    selection.kind.plural,
                    selection.field_selector
                );
                if !keeps_history(&status) {
                    at = None;
                }
            }
        }
        rt::sleep(retry.delay(failures)).await;
    }
}

enum Next {
    Again,
    End,
}

/// Whether a failure says nothing of the history: the server was not reached, or was too busy.
fn keeps_history(status: &Status) -> bool {
    matches!(status.reason(), Reason::ServiceUnavailable | Reason::TooManyRequests)
}

/// A watch that ended sooner than this without a word is a failure: the next one rests first.
const SHORT: Duration = Duration::from_secs(1);

async fn follow_once(
    client: &Client,
    selection: &Selection,
    at: &mut Option<u64>,
    failures: &mut u32,
    hear: &mut Hear<'_>,
) -> Result<Next, Status> {
    let options =
        ListOptions { field_selector: selection.field_selector.clone(), ..ListOptions::default() };
    let from = match *at {
        Some(revision) => revision,
        None => {
            let list = client.list(selection.kind, &selection.namespace, options.clone()).await?;
            let revision = list.revision;
            if !hear(News::Listed(list)) {
                return Ok(Next::End);
            }
            *at.insert(revision)
        }
    };
    let options =
        ListOptions { resource_version: from.to_string(), allow_bookmarks: true, ..options };
    let started = rt::now().mono;
    let mut watch = client.watch(selection.kind, &selection.namespace, options).await?;
    let mut said_nothing = true;
    while let Some(event) = watch.next().await {
        let event = event?;
        (*failures, said_nothing) = (0, false);
        *at = Some(match &event {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object) => object.revision(),
            WatchEvent::Bookmark { revision, .. } => *revision,
        });
        if !hear(News::Event(event)) {
            return Ok(Next::End);
        }
    }
    if said_nothing && rt::now().mono.since(started) < SHORT {
        *failures += 1;
    }
    Ok(Next::Again)
}
