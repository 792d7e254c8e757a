//! From a pod's spec to what the runtime is asked for: environment, users, limits, files.
//!
//! Pure functions of trees and what was looked up for them; `worker` does the looking up.

pub(crate) mod cgroup;
pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod security;

use api::{Lens, Value};
use stdx::{OrdMap, Sensitive};

/// The ConfigMaps and Secrets of the pod's namespace that its spec names, as they are now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `None`: looked up, not found.
    pub config_maps: OrdMap<String, Option<Value>>,
    pub secrets: OrdMap<String, Option<Value>>,
}

impl Sources {
    pub(crate) fn config_map(&self, name: &str) -> Option<&Value> {
        self.config_maps.get(name)?.as_ref()
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&Value> {
        self.secrets.get(name)?.as_ref()
    }
}

/// The entry of a ConfigMap, text or bytes.
pub(crate) fn config_map_entry(tree: &Value, key: &str) -> Option<Sensitive<Vec<u8>>> {
    let bytes = match tree.entry("data", key) {
        Some(text) => text.as_bytes().to_vec(),
        None => wire::base64::decode(tree.entry("binaryData", key)?)?,
    };
    Some(bytes.into())
}

pub(crate) fn secret_entry(tree: &Value, key: &str) -> Option<Sensitive<Vec<u8>>> {
    wire::base64::decode(tree.entry("data", key)?).map(Sensitive::from)
}

/// All keys of a ConfigMap or Secret with their bytes.
pub(crate) fn entries(tree: &Value, secret: bool) -> OrdMap<String, Sensitive<Vec<u8>>> {
    let mut all = OrdMap::new();
    for (key, text) in tree.pairs("data") {
        let bytes = match secret {
            true => wire::base64::decode(text).unwrap_or_default(),
            false => text.as_bytes().to_vec(),
        };
        all.insert(key.to_owned(), bytes.into());
    }
    for (key, text) in tree.pairs("binaryData") {
        all.insert(key.to_owned(), wire::base64::decode(text).unwrap_or_default().into());
    }
    all
}
