//! A server without an etcd of its own (`--disable-etcd`): its datastore are the members that other servers have. They are
//! asked for at each start, remembered for starts at which nobody answers, and followed as they come and go.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::json;
use api::kinds::NODE;
use client::follow::{News, Selection, follow as follow_kind};
use client::{Client, WatchEvent};
use cluster::role::ETCD_LABEL;
use cluster::{Paths, pki, supervisor};
use datastore::Files;
use datastore::embedded::{self, Member, Members};
use http::Request;
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};

use crate::etcd::embedded::{
    ANSWER_MAX, Joining, ask, idle, joining, members_of_json, take_keys, tombstone,
};
use crate::machine::{Machine, pki_settings};
use crate::peers::balancer::SERVERS_MAX;
use crate::settings::config::{Config, Shared};
use crate::{machine::clock, peers::join};

/// What is kept of the members' addresses.
const FILE_MAX_BYTES: u64 = 64 << 10;
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The server to ask, if this one is to have no etcd of its own.
///
/// # Errors
/// If it has one, or another datastore.
pub(crate) fn plan(config: &Config, paths: &Paths) -> Result<Option<Joining>> {
    if !config.disable_etcd {
        return Ok(None);
    }
    let dir = paths.etcd();
    let own = match embedded::is_initialized(&dir) && !tombstone(paths).exists() {
        true => Some(dir),
        false => Some(paths.datastore()).filter(|file| file.exists()),
    };
    match own {
        Some(own) => Err(Error::new(format!(
            "--disable-etcd: this server has a datastore of its own, {}: its Node is deleted first, or it starts with an empty data directory",
            own.display()
        ))),
        None => {
            if let Some(idle) = idle(config) {
                log::warn!("{idle}");
            }
            joining(config)
        }
    }
}

/// Makes the members the datastore of this server, and the cluster's keys its own when it comes for the first time.
///
/// # Errors
/// If the server does not take it, or there is none and nothing is remembered.
pub(crate) async fn open(machine: &mut Machine, joining: Joining) -> Result<()> {
    let (paths, tls) = (&machine.paths, machine.paths.tls("etcd"));
    let file = kept_in(paths);
    let kept = kept(&file)?;
    let text = match kept.is_empty() {
        true => {
            take_keys(machine, &joining).await?;
            ask(&joining, supervisor::MEMBERS).await
        }
        false => {
            let request = Request::get(supervisor::MEMBERS);
            join::ask(&joining.url, &joining.token, request, ANSWER_MAX).await
        }
    };
    let asked = text.and_then(|text| members_of_json(&text));
    let own = own_address(machine)?;
    let urls = match asked.context(|| "find the members of the embedded etcd") {
        Ok(members) => urls(&members, own),
        Err(error) if kept.is_empty() => return Err(error),
        Err(error) => {
            log::warn!("{error}; going on with those that are remembered");
            kept
        }
    };
    if urls.is_empty() {
        return Err(Error::new("no member of the embedded etcd serves clients"));
    }
    pki::ensure_etcd(paths, &pki_settings(machine, &machine.node_ips), clock::clock())
        .context(|| "prepare the certificates for the embedded etcd")?;
    log::info!("The datastore is the etcd of other servers: {}", urls.join(", "));
    keep(&file, &urls)?;
    let files = embedded::client_files(&tls);
    machine.config.datastore = Some(Shared { endpoint: urls.join(","), files });
    Ok(())
}

/// Follows the members as Nodes come and go, for as long as the task lives. `client` may read Nodes; what they say is
/// only a reason to ask the members.
pub(crate) fn follow(machine: &Machine, client: Client) -> Result<rt::Task<Option<()>>> {
    let file = kept_in(&machine.paths);
    let own = own_address(machine)?;
    let files = embedded::client_files(&machine.paths.tls("etcd"));
    let mut known = kept(&file)?;
    let work = async move {
        let (tell, told) = rt::channel::bounded(1);
        let mut hear = |news: News| {
            let concerns = match &news {
                News::Listed(_) => true,
                News::Event(
                    WatchEvent::Added(node)
                    | WatchEvent::Modified(node)
                    | WatchEvent::Deleted(node),
                ) => node.label(ETCD_LABEL).is_some(),
                News::Event(_) => false,
            };
            if concerns {
                // Full is as good: it says that there is something to do.
                let _ = tell.try_send(());
            }
            true
        };
        let nodes =
            Selection { kind: &NODE, namespace: String::new(), field_selector: String::new() };
        let following = follow_kind(client, nodes, RETRY, &mut hear);
        let working = async {
            let mut failures = 0;
            while told.recv().await.is_ok() {
                while let Err(why) = learn(&mut known, own, &files, &file).await {
                    failures += 1;
                    log::warn!("ask for the members of the embedded etcd: {why}");
                    rt::sleep(RETRY.delay(failures)).await;
                }
                failures = 0;
            }
        };
        rt::future::or(following, working).await;
    };
    Ok(rt::spawn_named("members of etcd", work))
}

/// Asks the members that are known for all of them.
async fn learn(
    known: &mut Vec<String>,
    own: IpAddr,
    files: &Files,
    file: &Path,
) -> Result<(), String> {
    let words = |error: Error| error.to_string();
    let members = Members::open(known, files).map_err(words)?;
    let found = urls(&members.list().await.map_err(|status| status.message)?, own);
    if found.is_empty() || found == *known {
        return Ok(());
    }
    log::info!("The members of the embedded etcd are {} now", found.join(", "));
    datastore::know_endpoints(&found.join(",")).map_err(words)?;
    *known = found;
    keep(file, known).map_err(words)
}

/// In one order, whoever was asked.
fn urls(members: &[Member], own: IpAddr) -> Vec<String> {
    let mut urls = embedded::client_urls(members, own);
    stdx::Arrange::arrange(&mut urls[..]);
    urls.truncate(SERVERS_MAX / 2);
    urls
}

fn own_address(machine: &Machine) -> Result<IpAddr> {
    machine.node_ips.first().copied().context(|| "find this node's address")
}

/// k3s's file for the same.
fn kept_in(paths: &Paths) -> PathBuf {
    paths.agent().join("etc").join("k3s-etcd-server-load-balancer.json")
}

fn kept(file: &Path) -> Result<Vec<String>> {
    let text = rt::fs::read_record(file, FILE_MAX_BYTES)?.unwrap_or_default();
    let tree: api::Value = serde_json::from_slice(&text).unwrap_or_default();
    let list = api::Lens::at(&tree, "ServerAddresses").to_string();
    let addresses = cluster::settings::servers(&list, SERVERS_MAX / 2);
    Ok(addresses.iter().map(|address| format!("https://{address}")).collect())
}

fn keep(file: &Path, urls: &[String]) -> Result<()> {
    let addresses = urls.iter().filter_map(|url| url.strip_prefix("https://")?.parse().ok());
    let addresses: Vec<String> = addresses.map(|address: SocketAddr| address.to_string()).collect();
    let text = json!({"ServerURL": urls.first(), "ServerAddresses": addresses}).to_string();
    rt::fs::create_dir_all(file.parent().unwrap_or(file), 0o700)?;
    rt::fs::keep(file, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_remembered() {
        let dir = std::env::temp_dir().join(format!("k3rs-elsewhere-{}", std::process::id()));
        let file = kept_in(&Paths::new(&dir));
        assert!(kept(&file).unwrap().is_empty());
        let member = |address: &str, is_learner| Member {
            client_urls: vec![format!("https://{address}:2379")],
            is_learner,
            ..Member::default()
        };
        let members = [
            member("192.0.2.3", false),
            member("[fd00::1]", false),
            member("192.0.2.2", false),
            member("192.0.2.4", true),
            member("192.0.2.9", false),
        ];
        let urls = urls(&members, "192.0.2.9".parse().unwrap());
        assert_eq!(
            urls,
            ["https://192.0.2.2:2379", "https://192.0.2.3:2379", "https://[fd00::1]:2379"]
        );
        keep(&file, &urls).unwrap();
        assert_eq!(kept(&file).unwrap(), urls);
        rt::fs::write(&file, b"{\"ServerAddresses\": 7}", 0o600).unwrap();
        assert!(kept(&file).unwrap().is_empty());
        rt::fs::remove_dir_all(&dir).unwrap();
    }
}
