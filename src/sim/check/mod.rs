//! The rules that hold at every step, one file each, and the record of the store they look at.

mod binding;
mod clock;
mod collector;
mod durability;
mod endpoints;
mod identity;
mod jobs;
mod orphans;
mod ownership;
mod progress;
mod revisions;
mod rollout;

use std::collections::BTreeMap;

use api::{Actions, Key, Kind, Object, View};
use client::Request;
use store::{Event, KeyValue, Range, Watch};

pub(crate) use progress::is_ready_tree;

pub(crate) type Verdict = Result<(), String>;

/// One rule (or a few of a kind). What it does not look at passes.
pub(crate) trait Check: Send {
    /// After every change of the store, in order.
    fn changed(&mut self, _known: &Known, _change: &Change) -> Verdict {
        Ok(())
    }

    /// After every decision of a controller, before it is carried out.
    fn decided(&mut self, _name: &str, _view: &View<'_>, _key: &Key, _acts: &Actions) -> Verdict {
        Ok(())
    }

    /// Before and after a component's changing request.
    fn before(&mut self, _known: &Known, _name: &str, _request: &Request) {}

    fn after(&mut self, _known: &Known, _name: &str, _request: &Request, _ok: bool) -> Verdict {
        Ok(())
    }

    /// A container started or stopped on a node.
    fn container(&mut self, _known: &Known, _container: &Container<'_>) -> Verdict {
        Ok(())
    }

    /// When the faults are over and everything rests.
    fn settled(&mut self, _known: &Known) -> Verdict {
        Ok(())
    }
}

/// One change of one object.
pub(crate) struct Change {
    pub(crate) before: Option<Object>,
    pub(crate) now: Option<Object>,
}

/// What a kubelet did.
pub(crate) struct Container<'a> {
    pub(crate) pod: &'a Object,
    pub(crate) node: &'a str,
    pub(crate) runs: bool,
}

/// The store's content as its changes tell it.
#[derive(Default)]
pub(crate) struct Known {
    objects: BTreeMap<String, Object>,
    pub(crate) revision: u64,
    /// The newest change that is no heartbeat and no Event.
    pub(crate) busy_revision: u64,
}

impl Known {
    pub(crate) fn of_kind(&self, kind: &'static Kind) -> impl Iterator<Item = &Object> {
        let prefix = format!("/registry/{}/", kind.storage_prefix());
        let from = self.objects.range(prefix.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
    }

    pub(crate) fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<&Object> {
        let key = match kind.namespaced() {
            true => format!("/registry/{}/{namespace}/{name}", kind.storage_prefix()),
            false => format!("/registry/{}/{name}", kind.storage_prefix()),
        };
        self.objects.get(&key)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// What `owner` controls.
    pub(crate) fn controlled(&self, kind: &'static Kind, owner: &Object) -> Vec<&Object> {
        let owns = |object: &&Object| {
            object.namespace() == owner.namespace()
                && object.controller().is_some_and(|by| *by.uid == *owner.uid())
        };
        self.of_kind(kind).filter(owns).collect()
    }
}

/// What `Checks::catch_up` found.
#[derive(Default)]
pub(crate) struct Caught {
    pub(crate) lines: Vec<String>,
    pub(crate) violation: Option<String>,
}

pub(crate) struct Checks {
    pub(crate) violation: Option<String>,
    pub(crate) known: Known,
    watch: Option<Watch>,
    rules: Vec<Box<dyn Check>>,
    durability: durability::Durability,
}

impl Default for Checks {
    fn default() -> Checks {
        let rules: Vec<Box<dyn Check>> = vec![
            Box::new(revisions::Revisions),
            Box::new(ownership::Ownership),
            Box::new(collector::Collector::default()),
            Box::new(identity::Identity::default()),
            Box::new(rollout::Rollouts),
            Box::new(jobs::Jobs),
            Box::new(clock::Clock::default()),
            Box::new(binding::Binding::default()),
            Box::new(endpoints::Endpoints),
            Box::new(orphans::Orphans),
            Box::new(progress::Progress),
        ];
        Checks {
            violation: None,
            known: Known::default(),
            watch: None,
            rules,
            durability: durability::Durability,
        }
    }
}

impl Checks {
    /// A store was opened: it must hold what was promised. The record starts again from it.
    pub(crate) fn opened(&mut self, range: &Range, watch: Watch, unsure: bool) -> Verdict {
        let verdict = self.durability.opened(&self.known, range, unsure);
        self.known.revision = range.revision;
        self.known.objects =
            range.items.iter().filter_map(|kv| Some((text(&kv.key), object(kv)?))).collect();
        self.watch = Some(watch);
        verdict
    }

    pub(crate) fn power_cut(&mut self) {
        self.watch = None;
    }

    /// Looks at what has changed since the last time.
    pub(crate) fn catch_up(&mut self, wants_lines: impl Fn() -> bool) -> Caught {
        let mut caught = Caught::default();
        while let Some(event) = self.watch.as_mut().and_then(|w| w.try_next().ok().flatten()) {
            if let Some(change) = self.take(&event) {
                if wants_lines() {
                    caught.lines.push(describe(&change));
                }
                let known = &self.known;
                let verdict = self.rules.iter_mut().try_for_each(|r| r.changed(known, &change));
                if let Err(why) = verdict {
                    caught.violation.get_or_insert(format!("revision {}: {why}", event.revision));
                }
            }
        }
        caught
    }

    fn take(&mut self, event: &Event) -> Option<Change> {
        let key = text(&event.key);
        self.known.revision = event.revision;
        let now = event.now.as_ref().and_then(object);
        let before = match &now {
            Some(now) => self.known.objects.insert(key, now.clone()),
            None => self.known.objects.remove(&key),
        };
        let kind = now.as_ref().or(before.as_ref()).map(Object::kind);
        if kind.is_some_and(|kind| !matches!(kind.declared.durability, api::kind::Durability::Lazy))
        {
            self.known.busy_revision = event.revision;
        }
        (now.is_some() || before.is_some()).then_some(Change { before, now })
    }

    pub(crate) fn decided(
        &mut self,
        name: &str,
        view: &View<'_>,
        key: &Key,
        actions: &Actions,
    ) -> Verdict {
        let verdict = self.rules.iter_mut().try_for_each(|r| r.decided(name, view, key, actions));
        verdict.map_err(|why| format!("{name} decides about {key}: {why}"))
    }

    pub(crate) fn before(&mut self, name: &str, request: &Request) {
        self.rules.iter_mut().for_each(|rule| rule.before(&self.known, name, request));
    }

    pub(crate) fn after(&mut self, name: &str, request: &Request, ok: bool) -> Verdict {
        self.rules.iter_mut().try_for_each(|rule| rule.after(&self.known, name, request, ok))
    }

    pub(crate) fn container(&mut self, container: &Container<'_>) -> Verdict {
        self.rules.iter_mut().try_for_each(|rule| rule.container(&self.known, container))
    }

    pub(crate) fn settled(&mut self) -> Verdict {
        self.rules.iter_mut().try_for_each(|rule| rule.settled(&self.known))
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// The stored object of a key, if the key is a kind's.
fn object(kv: &KeyValue) -> Option<Object> {
    let key = text(&kv.key);
    let path = key.strip_prefix("/registry/")?;
    let kind = api::kinds::KINDS.iter().copied().filter(|kind| kind.stored()).find(|kind| {
        path.strip_prefix(kind.storage_prefix()).is_some_and(|rest| rest.starts_with('/'))
    })?;
    Object::from_bytes(kind, kv.mod_revision, kv.value.clone()).ok()
}

fn describe(change: &Change) -> String {
    use api::Lens;
    let (verb, object) = match (&change.before, &change.now) {
        (None, Some(now)) => ("+", now),
        (_, Some(now)) => ("~", now),
        (Some(before), None) => ("-", before),
        (None, None) => return String::new(),
    };
    let tree = object.tree();
    let mut text = format!("    {verb} {object:?}");
    if object.deleting() {
        text.push_str(" deleting");
    }
    if change.now.is_some() {
        for path in [
            "spec.replicas",
            "status.replicas",
            "status.readyReplicas",
            "status.phase",
            "spec.nodeName",
        ] {
            if tree.has(path) {
                text.push_str(&format!(" {path}={}", tree.at(path)));
            }
        }
    }
    text
}
