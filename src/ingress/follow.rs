//! Following the objects: watches feed the model, and each change of it makes a new table, not too often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Kind;
use client::follow::{News, Selection, follow};
use client::{Client, List, ListOptions, WatchEvent};
use routes::Model;
use stdx::{OrdSet, backoff::Backoff};

use crate::certificates::{Cache, Certificates};
use crate::live::Shared;
use crate::report;

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// Changes come in groups; what follows a change within this time is one with it.
const SETTLE: Duration = Duration::from_millis(20);
/// Making tables takes no more than one part in this many of the time.
const PARTS: u32 = 5;

/// The model as it is fed.
struct Fed {
    model: Model,
    /// Kinds that were listed.
    listed: OrdSet<&'static Kind>,
    changed: bool,
}

impl Fed {
    /// Whether something is new, and everything that is followed is known.
    fn is_new(&self) -> bool {
        let mut n_wanted = Model::kinds().len();
        if self.model.has_gateways() {
            n_wanted += Model::gateway_kinds().len();
        }
        self.changed && self.listed.len() == n_wanted
    }
}

struct Feed {
    fed: Mutex<Fed>,
    news: rt::Event,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Fed> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, kind: &'static Kind, news: News) {
        {
            let mut fed = self.lock();
            match news {
                News::Listed(list) => {
                    fed.model.replace(kind, &list.items);
                    fed.listed.insert(kind);
                }
                News::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    fed.model.put(&object);
                }
                News::Event(WatchEvent::Deleted(object)) => {
                    let key = (object.namespace().into(), object.name().into());
                    fed.model.remove(kind, &key);
                }
                News::Event(WatchEvent::Bookmark { .. }) => return,
            }
            fed.changed = true;
        }
        self.news.notify(usize::MAX);
    }
}

/// Tasks that end when this is dropped.
pub(crate) struct Followed(
    #[expect(dead_code, reason = "held for their end")] Vec<rt::Task<Option<()>>>,
);

/// Begins to follow.
pub(crate) fn start(client: &Client, shared: &Arc<Shared>) -> Followed {
    let model = Model::new(shared.options.routes.clone());
    let fed = Mutex::new(Fed { model, listed: OrdSet::new(), changed: false });
    let feed = Arc::new(Feed { fed, news: rt::Event::new() });
    let mut tasks = follow_all(client, &feed, &Model::kinds());
    tasks.push(rt::spawn_named("follow gateways", gateways(client.clone(), Arc::clone(&feed))));
    tasks.push(rt::spawn_named("make tables", make_tables(feed, Arc::clone(shared))));
    let reporting = report::run(client.clone(), Arc::clone(shared));
    tasks.push(rt::spawn_named("report", reporting));
    Followed(tasks)
}

fn follow_all(
    client: &Client,
    feed: &Arc<Feed>,
    kinds: &[(&'static Kind, &'static str)],
) -> Vec<rt::Task<Option<()>>> {
    let one = |(kind, field_selector): &(&'static Kind, &'static str)| {
        let (kind, field_selector) = (*kind, (*field_selector).to_owned());
        let selection = Selection { kind, namespace: String::new(), field_selector };
        let (client, feed) = (client.clone(), Arc::clone(feed));
        rt::spawn_named(format!("follow {}", kind.plural), async move {
            let mut hear = |news: News| {
                feed.hear(kind, news);
                true
            };
            // A definition that somebody removed leaves nothing to wait for.
            let one = ListOptions { limit: 1, ..ListOptions::default() };
            if client.list(kind, "", one).await.is_err_and(|status| status.is_not_found()) {
                hear(News::Listed(List::default()));
            }
            follow(client, selection, RETRY, &mut hear).await;
        })
    };
    kinds.iter().map(one).collect()
}

/// Follows what only Gateway API's routes need, for as long as there is a GatewayClass of ours.
async fn gateways(client: Client, feed: Arc<Feed>) {
    let mut tasks = Vec::new();
    loop {
        let news = feed.news.listen();
        let wanted = feed.lock().model.has_gateways();
        if wanted && tasks.is_empty() {
            tasks = follow_all(&client, &feed, &Model::gateway_kinds());
        } else if !wanted && !tasks.is_empty() {
            // They have ended when they are let go: nothing of theirs comes after this.
            for task in tasks.drain(..) {
                rt::Task::cancel(task).await;
            }
            {
                let mut fed = feed.lock();
                for (kind, _) in Model::gateway_kinds() {
                    fed.model.replace(kind, &[]);
                    fed.listed.remove(kind);
                }
            }
            // A table without them was waited for.
            feed.news.notify(usize::MAX);
            continue;
        }
        news.await;
    }
}

async fn make_tables(feed: Arc<Feed>, shared: Arc<Shared>) {
    let mut cache = Cache::new();
    loop {
        let news = feed.news.listen();
        if !feed.lock().is_new() {
            news.await;
            continue;
        }
        rt::sleep(SETTLE).await;
        let started = rt::now().mono;
        let (table, certificates) = {
            let mut fed = feed.lock();
            fed.changed = false;
            let mut table = fed.model.table(&api::time::format(rt::now().wall));
            let certificates = Certificates::load(&fed.model, &table, &mut cache);
            complain(&fed.model, &mut table, &cache);
            (table, certificates)
        };
        shared.publish(table, certificates);
        rt::sleep(rt::now().mono.since(started) * PARTS).await;
    }
}

/// Secrets that hold no certificate are complained of where they lie.
fn complain(model: &Model, table: &mut routes::Table, cache: &Cache) {
    for (key, (_, loaded)) in cache {
        if let (Err(error), Some(about)) = (loaded, model.secret(key)) {
            let message = format!("it has no usable certificate: {error}");
            let about = about.clone();
            table.complaints.push(routes::Complaint {
                about,
                reason: "InvalidCertificate",
                message,
            });
        }
    }
}
