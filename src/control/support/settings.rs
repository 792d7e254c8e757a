//! What main was told on the command line, as controllers read it: the ConfigMap `kube-system/k3rs-settings`.

use api::balance::{self, Port};
use api::kinds::CONFIG_MAP;
use api::{Lens, Value, View};

/// `--cluster-cidr` and its like. What is missing reads as the default.
#[derive(Debug)]
pub(crate) struct Settings(Value);

impl Settings {
    pub(crate) fn of(view: &View<'_>) -> Settings {
        let map = view.get(&CONFIG_MAP, "kube-system", "k3rs-settings");
        Settings(map.map(|map| map.tree().at("data").clone()).unwrap_or_default())
    }

    fn text<'s>(&'s self, key: &str, default: &'s str) -> &'s str {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(default)
    }

    pub(crate) fn local_storage_path(&self) -> &str {
        self.text("default-local-storage-path", "/var/lib/rancher/k3s/storage")
    }

    /// The blocks that pod addresses come from, one a family; empty until main has said so.
    pub(crate) fn cluster_cidrs(&self) -> Vec<&str> {
        let list = self.text("cluster-cidr", "").split(',').map(str::trim);
        list.filter(|cidr| !cidr.is_empty()).collect()
    }

    /// The prefix length of a node's part of a block.
    pub(crate) fn node_mask(&self, ipv6: bool) -> Option<u8> {
        let text = match ipv6 {
            true => self.text("node-cidr-mask-ipv6", "64"),
            false => self.text("node-cidr-mask", "24"),
        };
        text.parse().ok()
    }

    /// Without `--disable servicelb`.
    pub(crate) fn service_lb(&self) -> bool {
        self.text("servicelb", "true") == "true"
    }

    /// What no Service gets of a node's addresses.
    pub(crate) fn reserved_ports(&self) -> Reserved {
        let range = self.text("service-node-port-range", "30000-32767");
        let range = range.split_once('-').unwrap_or_default();
        let port = |text: &str| {
            let (number, protocol) = text.split_once('/')?;
            Some((balance::protocol(protocol), number.parse().ok()?))
        };
        Reserved {
            node_ports: (range.0.parse().unwrap_or(0), range.1.parse().unwrap_or(0)),
            own: self.text("node-own-ports", "").split(',').filter_map(port).collect(),
        }
    }
}

/// The node ports, and what nodes serve themselves.
#[derive(Debug)]
pub(crate) struct Reserved {
    node_ports: (u16, u16),
    own: Vec<Port>,
}

impl Reserved {
    pub(crate) fn has(&self, port: Port) -> bool {
        let (first, last) = self.node_ports;
        (first..=last).contains(&port.1) || self.own.contains(&port)
    }
}
