//! The packaged components' manifests, built into the binary.

/// One packaged component, as `--disable` names it.
#[derive(Debug)]
pub struct Packaged {
    pub name: &'static str,
    pub file: &'static str,
    /// With `%{NAME}%` variables; see [`Packaged::render`].
    text: &'static str,
}

/// In the order they are written to `server/manifests/`.
pub static PACKAGED: &[Packaged] = &[
    Packaged {
        name: "coredns",
        file: "coredns.yaml",
        text: include_str!("../../manifests/coredns.yaml"),
    },
    Packaged {
        name: "local-storage",
        file: "local-storage.yaml",
        text: include_str!("../../manifests/local-storage.yaml"),
    },
    Packaged {
        name: "traefik",
        file: "traefik.yaml",
        text: include_str!("../../manifests/traefik.yaml"),
    },
];

impl Packaged {
    /// The manifest with its variables filled in.
    pub fn render(&self, variables: &[(&str, &str)]) -> String {
        variables.iter().fold(self.text.to_owned(), |text, (name, value)| {
            text.replace(&format!("%{{{name}}}%"), value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_objects_of_known_kinds_with_no_variable_left() {
        for packaged in PACKAGED {
            let text = packaged.render(&[
                ("CLUSTER_DNS", "10.43.0.10"),
                ("CLUSTER_DNS_LIST", "\"10.43.0.10\", \"fd43::a\""),
                ("CLUSTER_DNS_IPFAMILYPOLICY", "RequireDualStack"),
                ("CLUSTER_DOMAIN", "cluster.local"),
                ("DEFAULT_LOCAL_STORAGE_PATH", "/s"),
                ("VERSION", "v1.2.3+k3rs1"),
            ]);
            assert!(!text.contains("%{"), "{}", packaged.file);
            for tree in wire::yaml::parse(&text).unwrap() {
                assert!(api::kinds::of_tree(&tree).is_some(), "{}: {tree}", packaged.file);
            }
        }
    }
}
