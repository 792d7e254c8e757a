//! What is remembered of each pod that plugins gave a network: a file each, because it must be taken back by those that
//! gave it, as they gave it, whatever the configuration says by then.
//!
//! The file is there before the first plugin is called: what a crash leaves half made is taken back at the next start.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::Lens;
use serde_json::{Value, json};
use stdx::{OrdMap, Result};

use super::config::{self, Network};
use crate::HostPort;
use crate::addresses::{parse_port, port_text};

/// Of a file.
const FILE_MAX_BYTES: u64 = 2 << 20;

/// A pod that plugins gave a network, or began to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attached {
    /// `namespace/name`.
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) network: Network,
    /// What plugins may ask for (`runtimeConfig`).
    pub(crate) of_pod: Value,
    /// Those that the node's own rules serve, because no plugin does.
    pub(crate) host_ports: Vec<HostPort>,
    /// What the last plugin answered; `None`: it was not done.
    pub(crate) result: Option<Value>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The pods by their sandboxes' ids.
pub(crate) type Known = OrdMap<String, Attached>;

impl Attached {
    fn to_tree(&self) -> Value {
        json!({
            "pod": self.pod, "uid": self.uid, "network": self.network.to_tree(), "runtimeConfig": self.of_pod,
            "hostPorts": self.host_ports.iter().map(port_text).collect::<Vec<String>>(),
            "result": self.result, "addresses": self.addresses,
        })
    }

    fn from_tree(tree: &Value) -> Result<Attached> {
        let texts = |path: &str| tree.list(path).iter().filter_map(Value::as_str);
        Ok(Attached {
            pod: tree.str("pod").to_owned(),
            uid: tree.str("uid").to_owned(),
            network: Network::read(tree.at("network").to_string().as_bytes(), true)?,
            of_pod: tree.at("runtimeConfig").clone(),
            host_ports: texts("hostPorts").filter_map(parse_port).collect(),
            result: Some(tree.at("result")).filter(|result| result.is_object()).cloned(),
            addresses: texts("addresses").filter_map(|text| text.parse().ok()).collect(),
        })
    }

    /// Writes its file. It is forced to the disk, because what plugins keep (who has which address) is, too.
    pub(crate) fn write(&self, directory: &Path, id: &str) -> Result<()> {
        rt::fs::write_atomic(directory.join(id), self.to_tree().to_string().as_bytes(), 0o600)
    }
}

/// Reads what the last run left.
pub(crate) fn read(directory: &PathBuf) -> Result<Known> {
    rt::fs::create_dir_all(directory, 0o700)?;
    let mut known = Known::new();
    for path in rt::fs::list_dir(directory)? {
        let id = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        // Others are the temporary files of a writer that died.
        if !config::is_name(id) {
            rt::fs::remove_file(&path)?;
            continue;
        }
        let read = rt::fs::read_within(&path, FILE_MAX_BYTES).and_then(|bytes| {
            Attached::from_tree(&serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
        });
        match read {
            Ok(attached) => drop(known.insert(id.to_owned(), attached)),
            Err(error) => {
                log::warn!("{}: unreadable, forgotten: {error}", path.display());
                rt::fs::remove_file(&path)?;
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netplan::Protocol;

    #[test]
    fn they_outlive_a_restart() {
        let directory = std::env::temp_dir().join(format!("k3rs-cni-kept-{}", std::process::id()));
        let text = r#"{"cniVersion":"1.0.0","name":"n","disableCheck":true,"plugins":[{"type":"a","x":[1]}]}"#;
        let attached = Attached {
            pod: "ns/pod".into(),
            uid: "u".into(),
            network: Network::read(text.as_bytes(), true).unwrap(),
            of_pod: json!({"portMappings": [{"hostPort": 80}]}),
            host_ports: vec![HostPort {
                host_ip: None,
                protocol: Protocol::Sctp,
                host_port: 80,
                container_port: 8080,
            }],
            result: Some(json!({"ips": [{"address": "10.0.0.2/8"}]})),
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        };
        let begun = Attached { result: None, addresses: Vec::new(), ..attached.clone() };
        assert_eq!(read(&directory).unwrap(), Known::new());
        attached.write(&directory, "one").unwrap();
        begun.write(&directory, "two").unwrap();
        rt::fs::write(directory.join("three"), b"{}", 0o600).unwrap();
        rt::fs::write(directory.join(".four.1.tmp"), b"x", 0o600).unwrap();
        let known = read(&directory).unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((&known["one"], &known["two"]), (&attached, &begun));
        assert_eq!(rt::fs::list_dir(&directory).unwrap().len(), 2);
        rt::fs::remove_dir_all(&directory).unwrap();
    }
}
