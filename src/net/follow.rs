//! Follows NetworkPolicies, and Pods and Namespaces while there is a policy, and tells the rules.

use std::sync::{Arc, Weak};

use api::controller::Cache;
use api::kinds::{NAMESPACE, NETWORK_POLICY, POD};
use client::informer::Change;
use client::{Informers, Interest};
use netplan::PolicyObject;
use stdx::OrdSet;

use crate::lock;
use crate::policy::KINDS;
use crate::proxy::Proxy;

/// Begins to hear of policies.
pub(crate) fn listen(proxy: &Arc<Proxy>) {
    let Some(followed) = &proxy.policies else { return };
    hear(&followed.policies, Arc::downgrade(proxy));
    followed.policies.want(Interest::all(&NETWORK_POLICY));
}

fn note(proxy: &Proxy, change: &Change) {
    let (Some(object), Some(followed)) = (change.object(), &proxy.policies) else { return };
    let found = KINDS.iter().find(|(kind, _)| *kind == object.kind());
    let Some((_, of)) = found else { return };
    if *of == PolicyObject::Policy {
        followed.changed.notify(usize::MAX);
    }
    if followed.is_on() {
        let name = (*of, object.namespace().to_owned(), object.name().to_owned());
        proxy.tell_policies(None, [name].into());
    }
}

fn hear(informers: &Informers, proxy: Weak<Proxy>) {
    informers.listen(Arc::new(move |change| {
        if let Some(proxy) = proxy.upgrade() {
            note(&proxy, change);
        }
    }));
}

/// Follows pods and namespaces while there is a policy, for as long as the proxy lives.
pub(crate) async fn run(weak: Weak<Proxy>) {
    let followed = weak.upgrade().and_then(|proxy| proxy.policies.clone());
    let Some(followed) = followed else { return };
    followed.policies.synced(&[&NETWORK_POLICY]).await;
    loop {
        let changed = followed.changed.listen();
        let any = !followed.policies.list(&NETWORK_POLICY, None).is_empty();
        let is_on = followed.is_on();
        if any && !is_on {
            // Before anything depends on it.
            followed.remember(true);
            let peers = Informers::new(followed.client.clone());
            hear(&peers, weak.clone());
            peers.want(Interest::all(&NAMESPACE));
            peers.want(Interest::all(&POD));
            peers.synced(&[&NAMESPACE, &POD]).await;
            *lock(&followed.peers) = Some(peers);
            let Some(proxy) = weak.upgrade() else { return };
            proxy.tell_policies(Some(true), followed.everything());
            continue;
        }
        if !any && (is_on || followed.had_policies()) {
            let ended = lock(&followed.peers).take();
            drop(ended);
            followed.remember(false);
            let Some(proxy) = weak.upgrade() else { return };
            proxy.tell_policies(Some(false), OrdSet::new());
        }
        if let Some(proxy) = weak.upgrade() {
            proxy.policies_are_known();
        }
        changed.await;
    }
}
