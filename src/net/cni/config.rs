//! A network as CNI's configuration files describe it: one plugin (`.conf`, `.json`) or a chain (`.conflist`).

use std::path::{Path, PathBuf};

use api::Lens;
use serde_json::{Map, Value, json};
use stdx::{Arrange, Context, Error, Result};

/// A file's size.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Plugins of a chain.
const PLUGINS_MAX: usize = 32;

/// The plugins that give a pod its network, in the order in which they add to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// That of the specification which the file follows, as it says.
    version: String,
    /// Nobody is to ask whether a pod's network is whole.
    pub(crate) unchecked: bool,
    /// Objects, each with its `type`.
    pub(crate) plugins: Vec<Value>,
}

impl Network {
    /// Reads what a file holds; `is_list` says that it is a chain.
    ///
    /// # Errors
    /// If it is not as the specification has it.
    pub(crate) fn read(bytes: &[u8], is_list: bool) -> Result<Network> {
        let tree: Value = serde_json::from_slice(bytes).context(|| "read it as JSON")?;
        let plugins = match is_list {
            true => tree.list("plugins").to_vec(),
            false => vec![tree.clone()],
        };
        let network = Network {
            name: tree.str("name").to_owned(),
            version: match is_list {
                true => newest(&tree).to_owned(),
                false => tree.str("cniVersion").to_owned(),
            },
            unchecked: is_list && is_true(tree.at("disableCheck")),
            plugins,
        };
        if !is_name(&network.name) {
            return Err(Error::new(format!("{:?} is no name of a network", network.name)));
        }
        if network.plugins.is_empty() || network.plugins.len() > PLUGINS_MAX {
            return Err(Error::new(format!("want 1 to {PLUGINS_MAX} plugins")));
        }
        // What is no object has no type.
        if network.plugins.iter().any(|plugin| plugin.str("type").is_empty()) {
            let why = if is_list { "" } else { "; perhaps this is a .conflist" };
            return Err(Error::new(format!("a plugin has no type{why}")));
        }
        Ok(network)
    }

    /// As [`Network::read`] takes a list.
    pub(crate) fn to_tree(&self) -> Value {
        json!({
            "name": self.name, "cniVersion": self.version, "disableCheck": self.unchecked,
            "plugins": self.plugins,
        })
    }

    /// Whether the specification that it follows is this one or a later one.
    pub(crate) fn follows(&self, major: u32, minor: u32) -> bool {
        version(&self.version) >= (major, minor, 0)
    }

    /// Whether a plugin asks to be told this of each pod.
    pub(crate) fn wants(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| takes(plugin, capability))
    }

    /// What a plugin of it reads: its part of the file, what came of the plugins before it, and of what is known of
    /// the pod that which it asks for.
    pub(crate) fn told(&self, plugin: &Value, before: Option<&Value>, of_pod: &Value) -> Value {
        let mut told = plugin.as_object().cloned().unwrap_or_default();
        told.insert("name".into(), self.name.clone().into());
        told.insert("cniVersion".into(), self.version.clone().into());
        if let Some(before) = before {
            told.insert("prevResult".into(), before.clone());
        }
        let all = of_pod.as_object().into_iter().flatten();
        let wanted: Map<String, Value> = all
            .filter(|(name, _)| takes(plugin, name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !wanted.is_empty() {
            told.insert("runtimeConfig".into(), wanted.into());
        }
        told.into()
    }
}

/// The first usable file, by name, of the first directory that has one; and what is wrong with those passed over.
pub(crate) fn find(directories: &[PathBuf]) -> (Option<Network>, Vec<String>) {
    let mut wrong = Vec::new();
    for directory in directories {
        let mut paths = rt::fs::list_dir(directory).unwrap_or_default();
        paths.arrange();
        for path in paths {
            let Some(is_list) = kind(&path) else { continue };
            let read = rt::fs::read_within(&path, FILE_MAX_BYTES)
                .and_then(|bytes| Network::read(&bytes, is_list));
            match read {
                Ok(network) => return (Some(network), wrong),
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            }
        }
    }
    (None, wrong)
}

/// Whether a file is a chain; `None`: it is nothing of ours.
fn kind(path: &Path) -> Option<bool> {
    match path.extension()?.to_str()? {
        "conflist" => Some(true),
        "conf" | "json" => Some(false),
        _ => None,
    }
}

/// As the specification has names of networks and of containers: they become parts of paths.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= 253
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(plain)
}

fn takes(plugin: &Value, capability: &str) -> bool {
    plugin.at("capabilities").get(capability) == Some(&Value::Bool(true))
}

/// libcni takes the word, too.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str().is_some_and(|text| text == "true")
}

/// Of several versions that a list names the newest that there is.
fn newest(tree: &Value) -> &str {
    const NEWEST: (u32, u32, u32) = (1, 1, 0);
    let named = tree.list("cniVersions").iter().filter_map(Value::as_str);
    let all = named.chain([tree.str("cniVersion")]);
    let known = all.filter(|text| version(text) <= NEWEST);
    known.max_by_key(|text| version(text)).unwrap_or(tree.str("cniVersion"))
}

/// Without a version, a file is of the first.
pub(crate) fn version(text: &str) -> (u32, u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_or_refused() {
        let read = |text: &str, is_list| match Network::read(text.as_bytes(), is_list) {
            Ok(network) => network.to_tree().to_string(),
            Err(error) => error.to_string(),
        };
        let list = r#"{"cniVersion":"1.0.0","name":"n","disableCheck":"true","plugins":[{"type":"a"},{"type":"b"}]}"#;
        assert_eq!(
            read(list, true),
            r#"{"cniVersion":"1.0.0","disableCheck":true,"name":"n","plugins":[{"type":"a"},{"type":"b"}]}"#
        );
        assert_eq!(
            read(r#"{"name":"n","type":"a"}"#, false),
            r#"{"cniVersion":"","disableCheck":false,"name":"n","plugins":[{"name":"n","type":"a"}]}"#
        );
        let versions = |text: &str| {
            let text = format!(r#"{{"name":"n","plugins":[{{"type":"a"}}],{text}}}"#);
            Network::read(text.as_bytes(), true).unwrap().version
        };
        assert_eq!(versions(r#""cniVersion":"0.4.0","cniVersions":["1.0.0","0.3.1"]"#), "1.0.0");
        assert_eq!(versions(r#""cniVersion":"1.0.0","cniVersions":["2.0.0"]"#), "1.0.0");
        for (text, is_list, why) in [
            (list, false, "a plugin has no type; perhaps this is a .conflist"),
            (r#"{"name":"n","plugins":[]}"#, true, "want 1 to 32 plugins"),
            (r#"{"name":"n","plugins":[7]}"#, true, "a plugin has no type"),
            (
                r#"{"name":"../n","plugins":[{"type":"a"}]}"#,
                true,
                "\"../n\" is no name of a network",
            ),
            (r#"{"plugins":[{"type":"a"}]}"#, true, "\"\" is no name of a network"),
            ("[]", true, "\"\" is no name of a network"),
        ] {
            assert_eq!(read(text, is_list), why);
        }
        assert!(read(&"[".repeat(100_000), true).starts_with("read it as JSON"));
    }

    #[test]
    fn a_plugin_is_told_what_it_asks_for() {
        let text = r#"{"cniVersion":"0.4.0","name":"n","plugins":[{"type":"a","capabilities":{"portMappings":true,"bandwidth":false}},{"type":"b"}]}"#;
        let network = Network::read(text.as_bytes(), true).unwrap();
        let of_pod = json!({"portMappings": [1], "bandwidth": {"x": 1}});
        let told =
            |idx: usize, before| network.told(&network.plugins[idx], before, &of_pod).to_string();
        assert_eq!(
            told(0, None),
            r#"{"capabilities":{"bandwidth":false,"portMappings":true},"cniVersion":"0.4.0","name":"n","runtimeConfig":{"portMappings":[1]},"type":"a"}"#
        );
        assert_eq!(
            told(1, Some(&json!({"ips": []}))),
            r#"{"cniVersion":"0.4.0","name":"n","prevResult":{"ips":[]},"type":"b"}"#
        );
        assert!(network.wants("portMappings") && !network.wants("bandwidth"));
        assert!(network.follows(0, 4) && !network.follows(1, 0));
    }

    #[test]
    fn the_first_good_file_counts() {
        let directory = std::env::temp_dir().join(format!("k3rs-cni-find-{}", std::process::id()));
        let dirs = [directory.join("none"), directory.join("a"), directory.join("b")];
        for (dir, name, text) in [
            (1, "05-bad.conflist", "{"),
            (1, "10-notes.txt", "x"),
            (2, "20-two.conf", r#"{"name":"two","type":"t"}"#),
            (2, "10-one.conflist", r#"{"name":"one","plugins":[{"type":"t"}]}"#),
        ] {
            rt::fs::create_dir_all(&dirs[dir], 0o755).unwrap();
            rt::fs::write(dirs[dir].join(name), text.as_bytes(), 0o644).unwrap();
        }
        let (network, wrong) = find(&dirs);
        assert_eq!(network.unwrap().name, "one");
        assert!(
            wrong.len() == 1 && wrong[0].contains("05-bad.conflist: read it as JSON"),
            "{wrong:?}"
        );
        assert_eq!(find(&dirs[..1]), (None, Vec::new()));
        rt::fs::remove_dir_all(&directory).unwrap();
    }
}
