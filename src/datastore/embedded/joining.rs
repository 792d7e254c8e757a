//! How a member comes to a cluster that exists: it is added as a learner, and promoted when it has caught up.

use std::net::IpAddr;
use std::time::Duration;

use http::grpc::{Code, Status};
use stdx::{Context, Error, Result};

use super::config::Setup;
use super::members::{Member, Members};

/// As long as another learner may be on its way, or the cluster may lack members.
const ADD_MAX: Duration = Duration::from_secs(300);
const ADD_EVERY: Duration = Duration::from_secs(1);

/// Where a member stands among others.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    is_member: bool,
    /// `initial-cluster`, with this member in it.
    cluster: String,
}

/// Makes `setup` one of the members, if it is not one yet: the `initial-cluster` that it starts with.
///
/// # Errors
/// If its node's name is another member's, or the cluster takes nobody for five minutes.
pub(super) async fn add(setup: &Setup, members: &Members) -> Result<String> {
    let until = rt::now().mono + ADD_MAX;
    let peer_url = setup.peer_url();
    let mut told = String::new();
    loop {
        let status = match members.list().await {
            Ok(known) => {
                let place = place(&known, setup)?;
                if place.is_member {
                    log::info!("Starting etcd for cluster [{}]", place.cluster);
                    return Ok(place.cluster);
                }
                log::info!(
                    "Adding member {}={peer_url} to etcd cluster [{}]",
                    setup.name,
                    listed(&known)
                );
                match members.add(&peer_url).await {
                    // What it is told of is read again, so that members who come at once know each other.
                    Ok(()) => continue,
                    Err(status) => status,
                }
            }
            Err(status) => status,
        };
        if !passes(&status) || rt::now().mono >= until {
            return Err(status).context(|| "join the etcd cluster");
        }
        if status.message != told {
            log::warn!("join the etcd cluster: {}; trying again", status.message);
            told.clone_from(&status.message);
        }
        rt::sleep(ADD_EVERY).await;
    }
}

/// Whether it may be otherwise in a moment: too many learners, members that are not connected yet, no leader.
fn passes(status: &Status) -> bool {
    matches!(
        status.code,
        Code::UNAVAILABLE
            | Code::DEADLINE_EXCEEDED
            | Code::FAILED_PRECONDITION
            | Code::RESOURCE_EXHAUSTED
            | Code::UNKNOWN
    )
}

fn listed(members: &[Member]) -> String {
    let urls = members
        .iter()
        .filter_map(|member| Some(format!("{}={}", member.name, member.peer_urls.first()?)));
    urls.collect::<Vec<_>>().join(",")
}

/// By k3s's rules: one without a name that has our address is us, and a node has one member.
fn place(members: &[Member], setup: &Setup) -> Result<Place> {
    let mut is_member = false;
    let mut cluster = Vec::new();
    for member in members {
        let at_ours = member.peer_urls.iter().any(|url| host(url) == Some(setup.address));
        let is_us = at_ours && (member.name.is_empty() || member.name == setup.name);
        is_member |= is_us;
        let name = if is_us { &setup.name } else { &member.name };
        if !is_us && node_of(&member.name) == setup.node_name {
            return Err(Error::new(
                "duplicate node name found, please use a unique name for this node",
            ));
        }
        cluster.extend(member.peer_urls.first().map(|url| format!("{name}={url}")));
    }
    Ok(Place { is_member, cluster: cluster.join(",") })
}

/// The node of a member, whose name has a random end.
pub fn node_of(member: &str) -> &str {
    member.rsplit_once('-').map_or(member, |(node, _)| node)
}

/// The address in a URL.
pub fn host(url: &str) -> Option<IpAddr> {
    let url = http::client::Url::parse(url).ok()?;
    url.host.trim_matches(['[', ']']).parse().ok()
}

/// Where the members serve clients, but for learners, who serve none, and the one at `own`.
pub fn client_urls(members: &[Member], own: IpAddr) -> Vec<String> {
    let others = members.iter().filter(|member| {
        !member.is_learner && !member.client_urls.iter().any(|url| host(url) == Some(own))
    });
    others.flat_map(|member| member.client_urls.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, address: &str, is_learner: bool) -> Member {
        Member {
            id: 1,
            name: name.into(),
            peer_urls: vec![format!("https://{address}:2380")],
            client_urls: vec![format!("https://{address}:2379")],
            is_learner,
        }
    }

    #[test]
    fn a_member_is_known_by_its_name_and_its_address() {
        let setup = crate::embedded::config::tests::setup();
        let other = || member("two-ffffffff", "192.0.2.2", false);
        let at = "two-ffffffff=https://192.0.2.2:2380";
        let us = "one-0a1b2c3d=https://192.0.2.1:2380";
        let found =
            |members: &[Member]| place(members, &setup).map(|it| (it.is_member, it.cluster));
        assert_eq!(found(&[other()]).unwrap(), (false, at.to_owned()));
        // Added and not started yet; started before.
        for name in ["", "one-0a1b2c3d"] {
            let members = [other(), member(name, "192.0.2.1", true)];
            assert_eq!(found(&members).unwrap(), (true, format!("{at},{us}")));
        }
        // The node's data directory was lost, or it is another machine's name.
        for twin in
            [member("one-11111111", "192.0.2.1", false), member("one-11111111", "192.0.2.9", false)]
        {
            assert!(
                found(&[twin]).unwrap_err().to_string().starts_with("duplicate node name found")
            );
        }
        let moved = member("one-0a1b2c3d", "192.0.2.9", false);
        assert!(found(&[moved]).is_err(), "another address");
    }

    #[test]
    fn those_that_serve_clients() {
        let members = [
            member("a-1", "192.0.2.1", false),
            member("b-1", "192.0.2.2", false),
            member("c-1", "192.0.2.3", true),
        ];
        let urls = client_urls(&members, "192.0.2.1".parse().unwrap());
        assert_eq!(urls, ["https://192.0.2.2:2379"]);
        assert_eq!(host("https://[fd00::1]:2380"), Some("fd00::1".parse().unwrap()));
        assert_eq!(host("https://name:2380"), None);
    }
}
