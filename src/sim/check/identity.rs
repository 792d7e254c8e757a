//! One container at a time per StatefulSet identity, on whatever node.

use std::collections::BTreeMap;

use super::{Check, Container, Known, Verdict};

/// Running identities: the pod's uid and node.
#[derive(Default)]
pub(super) struct Identity(BTreeMap<(String, String), (String, String)>);

impl Check for Identity {
    fn container(&mut self, _known: &Known, container: &Container<'_>) -> Verdict {
        let pod = container.pod;
        if pod.controller().is_none_or(|owner| &*owner.kind != "StatefulSet") {
            return Ok(());
        }
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        let this = (pod.uid().to_owned(), container.node.to_owned());
        if !container.runs {
            if self.0.get(&key) == Some(&this) {
                self.0.remove(&key);
            }
            return Ok(());
        }
        match self.0.insert(key, this.clone()) {
            Some(other) if other != this => Err(format!(
                "{pod:?} runs on {} while another of its name runs on {}",
                this.1, other.1
            )),
            _ => Ok(()),
        }
    }
}
