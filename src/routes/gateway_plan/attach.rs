//! Which routes are attached to which listeners, and for which hosts.

use stdx::{OrdMap, OrdSet};

use super::listener::{State, Verdict};
use crate::gateway_objects::{From, GROUP, Gateway, Gateways, Parent, Route, Sort};
use crate::table::Key;

/// A Gateway of ours with its listeners.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) listeners: Vec<State<'a>>,
}

/// A route attached to a listener, for these hosts ("" is all).
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) gateway: Key,
    pub(super) listener: usize,
    pub(super) hosts: OrdSet<Box<str>>,
}

/// Attaches a route to one of its parents. `None` if that is nobody of ours.
pub(super) fn attach(
    held: &mut OrdMap<Key, Held<'_>>,
    known: &Gateways,
    route: &Route,
    sort: Sort,
    parent: &Parent,
) -> Option<(Verdict, Vec<Attached>)> {
    if (&*parent.to.group, &*parent.to.kind) != (GROUP, "Gateway") {
        return None;
    }
    let key = (parent.to.namespace.clone(), parent.to.name.clone());
    let Held { listeners, .. } = held.get_mut(&key)?;
    let namespace = route.object.namespace();
    let refused = |reason, text: &str| Some(((false, reason, text.to_owned()), Vec::new()));
    let (mut n_named, mut n_allowed) = (0, 0);
    let mut attached = Vec::new();
    for (idx, state) in listeners.iter_mut().enumerate() {
        let own = state.listener;
        let named = (parent.section.is_empty() || parent.section == own.name)
            && parent.port.is_none_or(|port| port == i64::from(own.port));
        n_named += usize::from(named);
        if !named || !state.takes(sort) || !allows(known, &own.from, &key.0, namespace) {
            continue;
        }
        n_allowed += 1;
        let hosts = intersection(&own.hostname, &route.hostnames);
        if !hosts.is_empty() {
            state.n_attached += 1;
            attached.push(Attached { gateway: key.clone(), listener: idx, hosts });
        }
    }
    match (n_named, n_allowed, attached.is_empty()) {
        (0, ..) => refused("NoMatchingParent", "the Gateway has no listener of this name and port"),
        (_, 0, _) => refused("NotAllowedByListeners", "no listener takes this route"),
        (_, _, true) => {
            refused("NoMatchingListenerHostname", "no listener has one of the host names")
        }
        _ => Some(((true, "Accepted", String::new()), attached)),
    }
}

fn allows(known: &Gateways, from: &From, own: &str, namespace: &str) -> bool {
    match from {
        From::All => true,
        From::Same => own == namespace,
        From::Selector(selector) => {
            let object = known.namespaces.get(namespace);
            object.is_some_and(|object| selector.matches(object.labels()))
        }
    }
}

/// The hosts that a listener and a route both mean; empty if there are none.
fn intersection(listener: &str, route: &OrdSet<Box<str>>) -> OrdSet<Box<str>> {
    if route.is_empty() {
        return OrdSet::from([listener.into()]);
    }
    let both = route.iter().filter_map(|host| {
        if covers(listener, host) {
            return Some(host.clone());
        }
        covers(host, listener).then(|| listener.into())
    });
    both.collect()
}

/// Whether every host that `inner` means is one that `outer` means; "" is all, `*.x` whatever ends in `.x`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    match outer.strip_prefix('*') {
        _ if outer.is_empty() => true,
        Some(suffix) => {
            let rest = inner.strip_prefix('*').unwrap_or(inner);
            rest.ends_with(suffix) && (inner.starts_with('*') || rest.len() > suffix.len())
        }
        None => outer == inner,
    }
}
