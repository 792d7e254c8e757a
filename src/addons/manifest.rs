//! The packaged components' manifests, built into the binary.

/// One packaged component, as `--disable` names it.
#[derive(Debug)]
pub struct Packaged {
    pub name: &'static str,
    pub file: &'static str,
    /// With `%{NAME}%` variables; see [`Packaged::render`].
    text: &'static str,
    /// What follows it, packed, without variables.
    packed: &'static [u8],
}

/// The definitions of Gateway API, see `build.rs`.
const GATEWAY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gateway.lzma"));

/// The ingress, without those.
pub(crate) const TRAEFIK: &str = include_str!("../../manifests/traefik.yaml");

/// In the order they are written to `server/manifests/`.
pub static PACKAGED: &[Packaged] = &[
    Packaged {
        name: "coredns",
        file: "coredns.yaml",
        text: include_str!("../../manifests/coredns.yaml"),
        packed: &[],
    },
    Packaged {
        name: "local-storage",
        file: "local-storage.yaml",
        text: include_str!("../../manifests/local-storage.yaml"),
        packed: &[],
    },
    Packaged { name: "traefik", file: "traefik.yaml", text: TRAEFIK, packed: GATEWAY },
];

impl Packaged {
    /// The manifest with its variables filled in.
    pub fn render(&self, variables: &[(&str, &str)]) -> String {
        let mut whole = variables.iter().fold(self.text.to_owned(), |text, (name, value)| {
            text.replace(&format!("%{{{name}}}%"), value)
        });
        if !self.packed.is_empty() {
            let unpacked = wire::lzma::text(self.packed).unwrap_or_default();
            whole.push_str("---\n");
            whole.push_str(&String::from_utf8_lossy(&unpacked));
        }
        whole
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
            let trees = wire::yaml::parse(&text).unwrap();
            let defines = |name: &str| trees.iter().any(|tree| tree["metadata"]["name"] == name);
            let gateways = defines("httproutes.gateway.networking.k8s.io");
            assert_eq!(gateways, packaged.name == "traefik");
            for tree in trees {
                assert!(api::kinds::of_tree(&tree).is_some(), "{}: {tree}", packaged.file);
            }
        }
    }
}
