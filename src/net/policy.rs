//! What is known of NetworkPolicies, and of Pods and Namespaces as long as there is a policy.
//!
//! While nothing is known, pods of this node are shut if there were policies before: a file remembers that, so
//! that a start without the server opens nothing.

use std::path::PathBuf;
use std::sync::Mutex;

use api::Kind;
use api::controller::Cache;
use api::kinds::{NAMESPACE, NETWORK_POLICY, POD};
use client::{Client, Informers};
use netplan::{Model, PolicyObject};
use stdx::OrdSet;

use crate::{Config, lock};

/// The kinds, and what they are to the model.
pub(crate) const KINDS: [(&Kind, PolicyObject); 3] = [
    (&NETWORK_POLICY, PolicyObject::Policy),
    (&NAMESPACE, PolicyObject::Namespace),
    (&POD, PolicyObject::Pod),
];

/// What is followed for policies.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) client: Client,
    pub(crate) policies: Informers,
    /// Pods and Namespaces; there only while there is a policy.
    pub(crate) peers: Mutex<Option<Informers>>,
    /// There while the last known state has policies.
    marker: PathBuf,
    /// A policy came, changed or went.
    pub(crate) changed: rt::Event,
}

/// Which objects changed. Bounded by how many there are.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) switch: Option<bool>,
    pub(crate) objects: OrdSet<(PolicyObject, String, String)>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.switch.is_none() && self.objects.is_empty()
    }
}

impl Followed {
    pub(crate) fn new(client: Client, config: &Config) -> Followed {
        let (policies, marker) = (Informers::new(client.clone()), marker(config));
        Followed { client, policies, peers: Mutex::default(), marker, changed: rt::Event::new() }
    }

    /// Whether there were policies when that was last known.
    pub(crate) fn had_policies(&self) -> bool {
        self.marker.exists()
    }

    pub(crate) fn is_on(&self) -> bool {
        lock(&self.peers).is_some()
    }

    pub(crate) fn remember(&self, on: bool) {
        let done = match on {
            true => rt::fs::keep(&self.marker, b"", 0o600),
            false if self.marker.exists() => rt::fs::remove_file(&self.marker),
            false => Ok(()),
        };
        if let Err(error) = done {
            log::warn!("remember whether there are network policies: {error}");
        }
    }

    /// Everything there is, as if it had just come.
    pub(crate) fn everything(&self) -> OrdSet<(PolicyObject, String, String)> {
        let peers = lock(&self.peers).clone();
        let mut all = OrdSet::new();
        for informers in [Some(self.policies.clone()), peers].into_iter().flatten() {
            for (kind, of) in KINDS {
                let objects = informers.list(kind, None).into_iter();
                all.extend(objects.map(|o| (of, o.namespace().to_owned(), o.name().to_owned())));
            }
        }
        all
    }

    /// Brings the model up to date.
    pub(crate) fn feed(&self, model: &mut Model, news: &News) {
        if let Some(on) = news.switch {
            model.set_policies(on);
        }
        let peers = lock(&self.peers).clone();
        for (of, namespace, name) in &news.objects {
            let (kind, informers) = match of {
                PolicyObject::Policy => (&NETWORK_POLICY, Some(&self.policies)),
                PolicyObject::Namespace => (&NAMESPACE, peers.as_ref()),
                PolicyObject::Pod => (&POD, peers.as_ref()),
            };
            let object = informers.and_then(|informers| informers.get(kind, namespace, name));
            let tree = object.map(|object| object.tree());
            model.set_policy_object(*of, namespace, name, tree.as_ref());
        }
        for ((namespace, name), why) in model.take_refused_policies() {
            log::warn!("network policy {namespace}/{name}: {why}: it allows nothing");
        }
    }
}

/// Removes what is remembered.
pub(crate) fn forget(config: &Config) -> stdx::Result<()> {
    let marker = marker(config);
    if marker.exists() { rt::fs::remove_file(&marker) } else { Ok(()) }
}

fn marker(config: &Config) -> PathBuf {
    config.address_directory.with_file_name("policies")
}
