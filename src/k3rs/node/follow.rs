//! What follows the machine while it runs: certificates follow the clock, and everything that tells
//! the node's addresses follows those.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::Pki;
use http::tls::Identity;
use server::Server;
use stdx::{Context, Result};

use crate::machine::clock::{clock, eras_file, format_eras};
use crate::machine::{Machine, advertised, pki_settings, write_kubeconfig};
use crate::node::Agent;

/// Nothing is renewed more than a day late, and nothing is asked more often than needed.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After a failure: a full disk, most of all.
const RETRY: Duration = Duration::from_secs(60);
/// A lease that ends and the next one that begins are one change.
const SETTLE: Duration = Duration::from_secs(1);

/// The certificates that listeners show; connections take the new one from their next handshake on.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) apiserver: Arc<Identity>,
    pub(crate) kubelet: Arc<Identity>,
    /// The API server's to kubelets.
    pub(crate) kubelet_client: Arc<Identity>,
    /// The API server's to the servers of aggregated APIs.
    pub(crate) auth_proxy: Arc<Identity>,
}

impl Shown {
    pub(crate) fn new(pki: &Pki) -> Result<Shown> {
        let identity = |pair: &cluster::Certificate| {
            Identity::from_pem(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes())
        };
        Ok(Shown {
            apiserver: identity(&pki.serving_kube_apiserver)?,
            kubelet: identity(&pki.serving_kubelet)?,
            kubelet_client: identity(&pki.kube_apiserver_client)?,
            auth_proxy: identity(&pki.auth_proxy)?,
        })
    }

    fn show(&self, pki: &Pki) -> Result<()> {
        for (slot, pair) in [
            (&self.apiserver, &pki.serving_kube_apiserver),
            (&self.kubelet, &pki.serving_kubelet),
            (&self.kubelet_client, &pki.kube_apiserver_client),
            (&self.auth_proxy, &pki.auth_proxy),
        ] {
            slot.replace_pem(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes())?;
        }
        Ok(())
    }
}

/// Keeps certificates valid and addresses told, for ever; by the API server of this process, if it has one.
pub(crate) async fn run(
    machine: Arc<Machine>,
    server: Option<Server>,
    agent: Option<Arc<Agent>>,
    shown: Shown,
    mut pki: Pki,
) {
    let mut settings = rt::ClockSettings::new();
    let mut ips = machine.node_ips.clone();
    let mut next = wait_for(&pki);
    loop {
        let moved = agent.as_ref().map(|agent| agent.net().node_ips_changed());
        // A change before the listener was there.
        if agent.as_ref().is_none_or(|agent| agent.net().node_ips() == ips) {
            let moved = async {
                match moved {
                    Some(moved) => moved.await,
                    None => rt::future::pending().await,
                }
            };
            let set = async {
                settings.next().await;
                let now = rt::now();
                log::info!("The clock was set: it is {}", api::time::format(now.wall));
                let (file, text) = (eras_file(&machine.paths), format_eras(&now.eras));
                let write = move || rt::fs::write_atomic(file, text.as_bytes(), 0o600);
                if let Err(error) = rt::unblock(write).await {
                    log::warn!("{error}");
                }
            };
            rt::future::or(rt::future::or(moved, set), rt::sleep(next)).await;
        }
        rt::sleep(SETTLE).await;
        if let Some(agent) = &agent {
            let found = agent.net().node_ips();
            if found != ips {
                log::info!("The node moves from {ips:?} to {found:?}");
                ips = found;
                agent.kubelet().set_node_ips(ips.clone());
                if let Some(server) = &server
                    && let Err(error) = server.advertise(advertised(&machine, &ips)).await
                {
                    log::warn!("tell the kubernetes Service where the node is: {error}");
                }
            }
        }
        next = match renew(&machine, &shown, &pki, &ips).await {
            Ok(renewed) => {
                pki = renewed;
                wait_for(&pki)
            }
            Err(error) => {
                log::warn!("{error}; trying again in {} s", RETRY.as_secs());
                RETRY
            }
        };
    }
}

/// Until the first certificate is due.
fn wait_for(pki: &Pki) -> Duration {
    let left = pki.renew_at().since(rt::now().wall);
    (left + Duration::from_secs(1)).min(LOOK_EVERY)
}

/// Looks at every certificate, and shows and writes down what is new.
async fn renew(machine: &Arc<Machine>, shown: &Shown, old: &Pki, ips: &[IpAddr]) -> Result<Pki> {
    let (paths, settings) = (machine.paths.clone(), pki_settings(machine, ips));
    let work = move || {
        let pki = Pki::ensure(&paths, &settings, clock())?;
        // The embedded etcd's clients are among those that were renewed.
        if let Err(error) = datastore::read_identities_again() {
            log::warn!("{error}");
        }
        Ok::<_, stdx::Error>(pki)
    };
    let pki = rt::unblock(work).await.context(|| "renew certificates")?;
    let served = |pki: &Pki| {
        [&pki.serving_kube_apiserver, &pki.serving_kubelet, &pki.kube_apiserver_client]
            .map(|pair| pair.chain_pem.clone())
    };
    if served(&pki) != served(old) {
        shown.show(&pki)?;
        log::info!("Renewed the serving certificates for {ips:?}");
    }
    if pki.admin.chain_pem != old.admin.chain_pem && !machine.config.disable_apiserver {
        let (machine, pki) = (Arc::clone(machine), pki.clone());
        rt::unblock(move || write_kubeconfig(&machine, &pki)).await?;
    }
    Ok(pki)
}
