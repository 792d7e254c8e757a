//! What the servers of a cluster show of the keys that each has, and whether that is the same: k3s's annotation of nodes.

use api::kinds::{ENDPOINT_SLICE, NODE};
use api::{Lens, Object, Status};
use client::{Client, ListOptions};
use stdx::{Error, Result};

pub(crate) const ANNOTATION: &str = "k3s.io/encryption-config-hash";
/// Nodes that are looked at.
const NODES_MAX: u64 = 500;

/// What is known of the servers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    /// The servers' nodes by name, with the stage and the hash that each shows.
    shown: Vec<(String, String)>,
    /// How many serve the API.
    n_servers: usize,
}

impl Peers {
    pub(crate) async fn look(client: &Client) -> Result<Peers, Status> {
        let options = ListOptions {
            label_selector: format!("{}=true", crate::role::CONTROL_PLANE),
            limit: NODES_MAX,
            ..ListOptions::default()
        };
        let nodes = client.list(&NODE, "", options).await?.items;
        let shown = nodes.iter().filter_map(|node| {
            let tree = node.tree();
            let hash = tree.entry("metadata.annotations", ANNOTATION)?;
            Some((node.name().to_owned(), hash.to_owned()))
        });
        let options = ListOptions {
            label_selector: "kubernetes.io/service-name=kubernetes".into(),
            ..ListOptions::default()
        };
        let slices = client.list(&ENDPOINT_SLICE, "default", options).await?.items;
        // One slice a family: a server is in each, as an endpoint of one address or one of an endpoint's addresses.
        let n_addresses = |slice: &Object| -> usize {
            let tree = slice.tree();
            tree.list("endpoints").iter().map(|one| one.list("addresses").len()).sum()
        };
        let n_servers = slices.iter().map(n_addresses).max();
        Ok(Peers { shown: shown.collect(), n_servers: n_servers.unwrap_or(0) })
    }

    /// Whether all of them show `own`, which is what the server at hand has.
    ///
    /// # Errors
    /// In k3s's words, who does not; or that some server shows nothing, for its keys are not known then.
    pub(crate) fn agree(&self, node: &str, own: &str) -> Result<()> {
        if let Some((other, _)) = self.shown.iter().find(|(_, hash)| hash != own) {
            let (one, other) =
                if other.as_str() < node { (other.as_str(), node) } else { (node, other.as_str()) };
            return Err(Error::new(format!("hash does not match between {one} and {other}")));
        }
        if self.shown.len() < self.n_servers {
            return Err(Error::new(format!(
                "{} servers serve the API, and {} have a node that shows which keys they have (--disable-agent)",
                self.n_servers,
                self.shown.len()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_servers_show_the_same() {
        let check = |shown: &[(&str, &str)], n_servers, expected: &str| {
            let shown = shown.iter().map(|(name, hash)| ((*name).into(), (*hash).into())).collect();
            let said = Peers { shown, n_servers }.agree("b", "start-1").map_err(|e| e.to_string());
            assert_eq!(said.err().unwrap_or_default(), expected);
        };
        check(&[("a", "start-1"), ("b", "start-1")], 2, "");
        check(&[("a", "start-2"), ("b", "start-1")], 2, "hash does not match between a and b");
        check(&[("b", "start-1"), ("c", "rotate-1")], 2, "hash does not match between b and c");
        // One that is away: its node shows what it has.
        check(
            &[("a", "start-1"), ("b", "start-1"), ("c", "x")],
            2,
            "hash does not match between b and c",
        );
        check(
            &[("b", "start-1")],
            2,
            "2 servers serve the API, and 1 have a node that shows which keys they have (--disable-agent)",
        );
    }
}
