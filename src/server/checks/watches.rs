//! Watches against a plain model of them, whenever they start and however far they fall behind.

use api::kinds::{CONFIG_MAP, POD};
use api::{Object, json};
use client::{Client, DeleteOptions, ListOptions, PatchType, Request, Verb, WatchEvent};
use stdx::prng::Prng;
use store::{Class, Disk, Limits, Op, Span, Store};

use super::{config, start};
use crate::registry::watch::{self, Item};
use crate::storage::cache::Cache;
use crate::storage::selection::Selection;
use crate::{Server, User};

/// What one watch selects.
const SELECTIONS: [(&str, &str, &str); 12] = [
    ("", "", ""),
    ("default", "", ""),
    ("other", "", ""),
    ("", "", "spec.nodeName=n1"),
    ("", "", "spec.nodeName=n2"),
    ("default", "", "spec.nodeName=n1,status.phase!=Failed"),
    ("", "", "spec.nodeName="),
    ("", "app=x", ""),
    ("other", "app in (x,y)", "spec.nodeName!=n2"),
    ("default", "", "metadata.name=p1"),
    ("", "", "metadata.name=p2"),
    ("", "app", "metadata.namespace=other"),
];

fn options(labels: &str, fields: &str, revision: u64) -> ListOptions {
    ListOptions {
        label_selector: labels.into(),
        field_selector: fields.into(),
        resource_version: revision.to_string(),
        ..ListOptions::default()
    }
}

/// One random change of one of a few pods; what cannot be done is no change.
async fn change(client: &Client, rng: &mut Prng) {
    let namespace = ["default", "other"][rng.below(2) as usize];
    let name = format!("p{}", rng.below(4));
    match rng.below(4) {
        0 => {
            let node = ["", "n1", "n2"][rng.below(3) as usize];
            let app = ["x", "y"][rng.below(2) as usize];
            let pod = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
            });
            let _ = client.create(&POD, pod).await;
        }
        1 => {
            let now = DeleteOptions { grace_secs: Some(0), ..DeleteOptions::default() };
            let _ = client.delete(&POD, namespace, &name, now).await;
        }
        2 => {
            let label = [json!("x"), json!("y"), json!(null)][rng.below(3) as usize].clone();
            let patch = json!({"metadata": {"labels": {"app": label}}});
            let _ = client.patch(&POD, namespace, &name, "", PatchType::Merge, patch).await;
        }
        _ => {
            let node = ["n1", "n2"][rng.below(2) as usize];
            let binding = json!({
                "metadata": {"name": name, "namespace": namespace},
                "target": {"kind": "Node", "name": node},
            });
            let _ = client.put(Verb::Create, &POD, "binding", binding).await;
        }
    }
}

fn shown(event: &WatchEvent) -> String {
    let of = |object: &Object| format!("{object:?}");
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", of(object)),
        WatchEvent::Modified(object) => format!("MODIFIED {}", of(object)),
        WatchEvent::Deleted(object) => format!("DELETED {}", of(object)),
        WatchEvent::Bookmark { .. } => "BOOKMARK".into(),
    }
}

/// Everything that a watch has to say until nothing happens for a while.
async fn drain(watch: &mut dyn client::WatchStream) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(Some(event)) =
        rt::timeout(std::time::Duration::from_millis(50), watch.next()).await
    {
        seen.push(shown(&event.unwrap()));
    }
    seen
}

/// What a watch of a selection sees of all changes, by the definition of watches.
fn model(all: &[WatchEvent], namespace: &str, selection: &Selection, start: u64) -> Vec<String> {
    let mut known: stdx::OrdMap<String, Object> = Default::default();
    let mut seen = Vec::new();
    for event in all {
        let (object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark { .. } => continue,
        };
        let key = format!("{}/{}", object.namespace(), object.name());
        let before = known.remove(&key);
        if !gone {
            known.insert(key, object.clone());
        }
        if object.revision() <= start || !(namespace.is_empty() || object.namespace() == namespace)
        {
            continue;
        }
        let was = before.as_ref().is_some_and(|object| selection.matches(object));
        let is = !gone && selection.matches(object);
        match (was, is) {
            (false, true) => seen.push(shown(&WatchEvent::Added(object.clone()))),
            (true, true) => seen.push(shown(&WatchEvent::Modified(object.clone()))),
            (true, false) => {
                let last = before.unwrap().at_revision(object.revision());
                seen.push(shown(&WatchEvent::Deleted(last)));
            }
            (false, false) => {}
        }
    }
    seen
}

#[test]
fn watches_see_what_they_select_whenever_they_start() {
    rt::block_on(async {
        let (server, client) = start().await;
        let other = json!({"metadata": {"name": "other"}});
        client.create(&api::kinds::NAMESPACE, other).await.unwrap();
        for namespace in ["default", "other"] {
            let account = json!({"metadata": {"name": "default", "namespace": namespace}});
            let _ = client.create(&api::kinds::SERVICE_ACCOUNT, account).await;
        }
        let first = server.core().store.revision();
        let mut rng = Prng::new(7);
        let mut watches = Vec::new();
        let mut all = client.watch(&POD, "", options("", "", first)).await.unwrap();
        for round in 0..60 {
            for _ in 0..5 {
                change(&client, &mut rng).await;
            }
            let (namespace, labels, fields) = SELECTIONS[round % SELECTIONS.len()];
            // Now, somewhere in the past, or at a revision that is still to come.
            let revision = server.core().store.revision();
            let from = match rng.below(3) {
                0 => revision,
                1 => first + rng.below(revision - first + 1),
                _ => revision + 3,
            };
            let options = options(labels, fields, from);
            let watch = client.watch(&POD, namespace, options.clone()).await.unwrap();
            watches.push((namespace, options, from, watch));
        }
        let mut events = Vec::new();
        while let Ok(Some(event)) =
            rt::timeout(std::time::Duration::from_millis(100), all.next()).await
        {
            events.push(event.unwrap());
        }
        assert!(events.len() > 80, "{}", events.len());
        let mut n_seen = 0;
        for (namespace, options, from, mut watch) in watches {
            let selection = Selection::parse((&POD).into(), &options).unwrap();
            let expected = model(&events, namespace, &selection, from);
            n_seen += expected.len();
            assert_eq!(drain(&mut *watch).await, expected, "{namespace} {options:?} from {from}");
        }
        assert!(n_seen > 500, "{n_seen}");
    });
}

async fn small(limits: Limits) -> (Server, Client) {
    let store = Store::open_memory(&Disk::default(), limits).await.unwrap();
    let server = Server::start(config(), store).await.unwrap();
    let client = server.client_as(User::admin());
    (server, client)
}

/// Writes of many keys at once: more than the cache may have waiting, some of them of ConfigMaps.
async fn burst(store: &Store, value: &[u8], n_writes: u64) {
    let writes = (0..n_writes).map(|n| {
        let key = |idx: u64| match idx % 40 {
            0 => format!("/registry/configmaps/default/c-{n}-{idx}"),
            _ => format!("/elsewhere/{n}-{idx}"),
        };
        let ops = (0..400).map(|idx| Op::put(key(idx).into_bytes(), value)).collect();
        let store = store.clone();
        rt::spawn(async move { store.write(ops, Class::Durable).await.unwrap() })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await;
    }
}

#[test]
fn a_cache_that_fell_behind_misses_nothing_and_repeats_nothing() {
    rt::block_on(async {
        // No watch is cut off, but the cache is: it may be behind by eight times as much, and a burst is more.
        let limits = Limits {
            watch_events_max: 700,
            txn_ops_max: 1000,
            history_events_max: 1 << 20,
            history_bytes_max: 1 << 30,
            ..Limits::default()
        };
        let (server, client) = small(limits).await;
        let store = &server.core().store;
        let made = json!({"metadata": {"name": "c", "namespace": "default"}});
        let value = client.create(&CONFIG_MAP, made).await.unwrap().bytes().clone();
        let from = store.revision();
        let request = |revision| {
            let mut request = Request::new(Verb::Watch, &CONFIG_MAP, "", "");
            request.list = options("", "", revision);
            request
        };
        let mut quick = watch::watch(server.core(), &request(from)).await.unwrap();
        let reader = rt::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 600 {
                match quick.next_item().await.unwrap().unwrap() {
                    Item::Change(event, change) => {
                        seen.push(change.object(event).map(Object::revision).unwrap());
                    }
                    _ => panic!("nothing else happened"),
                }
            }
            seen
        });
        for _ in 0..3 {
            burst(store, &value, 20).await;
        }
        let expected = store.changes(Span::prefix("/registry/configmaps/"), from).unwrap();
        let expected: Vec<u64> = expected.iter().map(|event| event.revision).collect();
        assert_eq!(expected.len(), 600, "every write has ten of them");
        assert_eq!(reader.await, expected);
    });
}

#[test]
fn a_watch_that_starts_while_the_cache_is_behind_misses_nothing_and_repeats_nothing() {
    rt::block_on(async {
        let (server, client) = start().await;
        let store = &server.core().store;
        let made = json!({"metadata": {"name": "c", "namespace": "default"}});
        let value = client.create(&CONFIG_MAP, made).await.unwrap().bytes().clone();
        let (cache, from) = (Cache::by_hand(store), store.revision());
        for n in 0..4 {
            let key = |idx: u64| format!("/registry/configmaps/default/c-{n}-{idx}").into_bytes();
            let ops = (0..3).map(|idx| Op::put(key(idx), &*value)).collect();
            store.write(ops, Class::Durable).await.unwrap();
        }
        let all = store.changes(Span::prefix("/registry/configmaps/"), from).unwrap();
        let mut watches = Vec::new();
        // Watches start before, between and after the changes are handed out, in the midst of revisions too.
        for n_handed_out in 0..=all.len() {
            if let Some(last) = n_handed_out.checked_sub(1) {
                cache.hand_out(&all[last]);
            }
            for after in from..=store.revision() {
                let watch = cache.watch(store, &CONFIG_MAP, "", &Selection::default(), after);
                watches.push((n_handed_out, after, watch.unwrap()));
            }
        }
        for (n_handed_out, after, mut watch) in watches {
            let mut seen = Vec::new();
            while let Some((_, change)) = watch.try_next().unwrap() {
                seen.push(change.revision());
            }
            let later = all.iter().map(|event| event.revision).filter(|it| *it > after);
            assert_eq!(seen, later.collect::<Vec<_>>(), "after {after}, at {n_handed_out}");
        }
    });
}

#[test]
fn a_slow_watch_is_ended_and_others_go_on() {
    rt::block_on(async {
        let (server, client) = small(Limits { watch_events_max: 10, ..Limits::default() }).await;
        let revision = server.core().store.revision();
        let mut slow = client.watch(&CONFIG_MAP, "", options("", "", revision)).await.unwrap();
        let one = options("", "metadata.name=c19", revision);
        let mut quiet = client.watch(&CONFIG_MAP, "default", one).await.unwrap();
        for n in 0..20 {
            let made = json!({"metadata": {"name": format!("c{n}"), "namespace": "default"}});
            client.create(&CONFIG_MAP, made).await.unwrap();
        }
        // When the last of them has come here, the other has been offered all.
        assert!(quiet.next().await.unwrap().is_ok());
        assert_eq!(slow.next().await.unwrap().unwrap_err().code(), 410);
        assert!(slow.next().await.is_none());
    });
}

/// Hundreds of kubelets watch their own pods; a change is offered to those it concerns.
#[test]
fn a_change_meets_the_watches_it_concerns() {
    rt::block_on(async {
        let (server, client) = start().await;
        let core = server.core();
        let cache = Cache::start(&core.store).unwrap();
        let mut watches = Vec::new();
        let revision = core.store.revision();
        let mut watch = |namespace: &str, fields: &str| {
            let selection = Selection::parse((&POD).into(), &options("", fields, 0)).unwrap();
            let made = cache.watch(&core.store, &POD, namespace, &selection, revision);
            watches.push(made.unwrap());
        };
        for n in 0..500 {
            watch("", &format!("spec.nodeName=n{n}"));
            watch(&format!("ns{n}"), "");
            watch("default", &format!("metadata.name=p{n}"));
        }
        watch("", "");
        let pod = json!({
            "metadata": {"name": "p3", "namespace": "default"},
            "spec": {"nodeName": "n5", "containers": [{"name": "c", "image": "i"}]},
        });
        client.create(&POD, pod).await.unwrap();
        let events = core.store.changes(Span::prefix("/registry/pods/"), revision).unwrap();
        assert_eq!(cache.n_concerned(&POD, &events[0]), 3, "its node's, its name's, and all");
        drop(watches);
        assert_eq!(cache.n_concerned(&POD, &events[0]), 0);
    });
}
