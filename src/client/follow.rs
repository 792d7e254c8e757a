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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use api::kinds::NODE;
    use api::{Object, json};
    use rt::BoxFuture;

    use super::*;
    use crate::request::{Answer, Api, Request, WatchStream};

    /// What an API answers to one call after the other, and what it was asked.
    struct Script {
        answers: Mutex<VecDeque<Said>>,
        asked: Mutex<String>,
    }

    enum Said {
        /// A list at this revision.
        List(u64),
        /// A watch of events at these revisions, which then ends, or breaks with an error.
        Watch(Vec<u64>, Option<Status>),
        Refuse(Status),
    }

    struct Scripted(VecDeque<Result<WatchEvent, Status>>);

    fn node(revision: u64) -> Object {
        let tree = json!({"metadata": {"name": "n", "resourceVersion": revision.to_string()}});
        Object::from_tree(&NODE, &tree).unwrap()
    }

    impl Script {
        fn next(&self, asked: String) -> Result<Said, Status> {
            self.asked.lock().unwrap().push_str(&asked);
            match self.answers.lock().unwrap().pop_front() {
                Some(Said::Refuse(status)) => Err(status),
                Some(said) => Ok(said),
                None => Err(Status::forbidden(&NODE, "", "the script is over")),
            }
        }
    }

    impl Api for Script {
        fn call(&self, _: Request) -> BoxFuture<'_, Result<Answer, Status>> {
            Box::pin(async move {
                match self.next("list ".into())? {
                    Said::List(revision) => {
                        let items = vec![node(revision)];
                        Ok(Answer::List(List { items, revision, ..List::default() }))
                    }
                    _ => panic!("the script has a watch here"),
                }
            })
        }

        fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
            Box::pin(async move {
                let Said::Watch(events, end) =
                    self.next(format!("watch@{} ", request.list.resource_version))?
                else {
                    panic!("the script has a list here")
                };
                let events = events.into_iter().map(|at| match at % 10 {
                    0 => Ok(WatchEvent::Bookmark { revision: at, initial_end: false }),
                    _ => Ok(WatchEvent::Modified(node(at))),
                });
                Ok(Box::new(Scripted(events.chain(end.map(Err)).collect())) as Box<dyn WatchStream>)
            })
        }
    }

    impl WatchStream for Scripted {
        fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
            let next = self.0.pop_front();
            Box::pin(async move { next })
        }
    }

    #[test]
    fn only_a_lost_history_is_listed_again() {
        use Said::{List, Refuse, Watch};
        let down = || Status::unavailable("down");
        for (what, script, asked) in [
            (
                "it ends",
                vec![List(1), Watch(vec![3, 20], None), Watch(vec![], None)],
                "list watch@1 watch@20 watch@20 list ",
            ),
            (
                "it breaks",
                vec![List(1), Watch(vec![3], Some(down())), Refuse(down())],
                "list watch@1 watch@3 watch@3 list ",
            ),
            (
                "too busy",
                vec![List(1), Refuse(Status::too_many_requests("later", 1))],
                "list watch@1 watch@1 list ",
            ),
            (
                "compacted",
                vec![List(1), Watch(vec![5], Some(Status::expired("old"))), List(9)],
                "list watch@1 list watch@9 list ",
            ),
            (
                "refused",
                vec![List(1), Refuse(Status::expired("old")), List(9)],
                "list watch@1 list watch@9 list ",
            ),
            (
                "no list",
                vec![Refuse(down()), Refuse(down()), List(4)],
                "list list list watch@4 list ",
            ),
        ] {
            let script =
                Arc::new(Script { answers: Mutex::new(script.into()), asked: Mutex::default() });
            let api = Arc::clone(&script);
            let end = rt::sim::run(1, 10_000, async move {
                let selection = Selection {
                    kind: &NODE,
                    namespace: String::new(),
                    field_selector: String::new(),
                };
                let retry = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
                let client = Client::new(api);
                // The script's end is asked about once more, and then waited after.
                let mut hear = |_: News| true;
                let follow = follow(client, selection, retry, &mut hear);
                rt::future::or(follow, rt::sleep(Duration::from_secs(3600))).await;
            });
            assert_eq!(end, rt::sim::End::Done(()), "{what}");
            let said = script.asked.lock().unwrap().clone();
            assert!(said.starts_with(asked), "{what}: {said}");
        }
    }
}
