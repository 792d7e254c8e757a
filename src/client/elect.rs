//! Leader election over a Lease: of several servers one runs the controllers, by client-go's rules.
//!
//! Who leads has a Lease that it renews; whoever has watched that Lease unchanged for its duration may take it.
//! A candidate measures how long it has watched, and a leader how long it has failed to renew, by the
//! clock of its own machine that nobody sets: what the Lease says of the time is for readers.

use std::time::Duration;

use api::kinds::LEASE;
use api::{Lens, LensMut, Object, Status, Value, json};
use stdx::time::Mono;

use crate::request::Client;

/// How long a Lease stands without being renewed (kube-controller-manager's `--leader-elect-lease-duration`).
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader that cannot renew goes on: less, so that it has stopped before another begins.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Candidates wait up to this much longer between two tries, so that they do not try together for ever (client-go's jitter factor).
const JITTER: f64 = 1.2;

const NAMESPACE: &str = "kube-system";

/// One candidate for one role.
#[derive(Debug)]
pub struct Election {
    client: Client,
    role: &'static str,
    identity: String,
    observed: Option<Observed>,
}

/// The Lease as this candidate saw it last, and since when it has been so.
#[derive(Debug)]
struct Observed {
    spec: Value,
    since: Mono,
}

impl Election {
    /// `role` is the Lease's name, `identity` differs between candidates and between lives of one.
    pub fn new(client: Client, role: &'static str, identity: String) -> Election {
        Election { client, role, identity, observed: None }
    }

    /// Leads whenever it is this candidate's turn, for ever: `start` begins the work, and what it returns is
    /// dropped when the turn ends. That is at the latest when the Lease could not be renewed for ten seconds.
    pub async fn run<T>(mut self, mut start: impl FnMut() -> T) {
        loop {
            let renewed_at = self.acquire().await;
            log::info!("{} became leader of {}", self.identity, self.role);
            let work = start();
            self.hold(renewed_at).await;
            drop(work);
            log::warn!("{} is no longer leader of {}", self.identity, self.role);
        }
    }

    /// Returns once the Lease is this candidate's, with the moment from which that counts.
    async fn acquire(&mut self) -> Mono {
        loop {
            let began = rt::now().mono;
            match rt::timeout(RENEW_DEADLINE, self.try_once()).await {
                Ok(Ok(true)) => return began,
                Ok(Ok(false)) => {}
                Ok(Err(status)) => log::debug!("take the lease {}: {status}", self.role),
                Err(_) => log::debug!("take the lease {}: no answer", self.role),
            }
            #[expect(clippy::cast_precision_loss, reason = "a random fraction")]
            let fraction = (rt::random_u64() >> 11) as f64 / (1u64 << 53) as f64;
            rt::sleep(RETRY_PERIOD.mul_f64(1.0 + fraction * JITTER)).await;
        }
    }

    /// Renews until that fails for too long or somebody else has the Lease.
    async fn hold(&mut self, mut renewed_at: Mono) {
        loop {
            rt::sleep(RETRY_PERIOD).await;
            let deadline = renewed_at + RENEW_DEADLINE;
            loop {
                let began = rt::now().mono;
                if began >= deadline {
                    return;
                }
                // What is sent before the Lease is renewed counts from when it was sent.
                match rt::timeout(deadline.since(began), self.try_once()).await {
                    Ok(Ok(true)) => {
                        renewed_at = began;
                        break;
                    }
                    // Another has it.
                    Ok(Ok(false)) => return,
                    Ok(Err(status)) => log::debug!("renew the lease {}: {status}", self.role),
                    Err(_) => return,
                }
                rt::sleep(RETRY_PERIOD.min(deadline.since(rt::now().mono))).await;
            }
        }
    }

    /// Takes or renews the Lease if that is allowed now; whether it is held.
    async fn try_once(&mut self) -> Result<bool, Status> {
        let now = rt::now();
        let time = api::time::format_micro(now.wall);
        let secs = LEASE_DURATION.as_secs();
        let Some(lease) = self.client.get_optional(&LEASE, NAMESPACE, self.role).await? else {
            let tree = json!({
                "metadata": {"namespace": NAMESPACE, "name": self.role},
                "spec": {"holderIdentity": self.identity, "leaseDurationSeconds": secs,
                    "acquireTime": time, "renewTime": time, "leaseTransitions": 0},
            });
            let made = self.client.create(&LEASE, tree).await?;
            self.observe(&made);
            return Ok(true);
        };
        let mut tree = lease.tree();
        self.observe(&lease);
        let holder = tree.str("spec.holderIdentity").to_owned();
        let is_ours = holder == self.identity;
        if !is_ours && !holder.is_empty() && !self.has_expired(&tree) {
            return Ok(false);
        }
        tree.set("spec.holderIdentity", self.identity.as_str());
        tree.set("spec.leaseDurationSeconds", secs);
        tree.set("spec.renewTime", time.as_str());
        if !is_ours {
            tree.set("spec.acquireTime", time.as_str());
            tree.set("spec.leaseTransitions", tree.int("spec.leaseTransitions").unwrap_or(0) + 1);
        }
        // The version that was read goes along: of two candidates one wins.
        let written = self.client.update(&LEASE, tree).await?;
        self.observe(&written);
        Ok(true)
    }

    fn observe(&mut self, lease: &Object) {
        let spec = lease.tree().at("spec").clone();
        if self.observed.as_ref().is_none_or(|observed| observed.spec != spec) {
            self.observed = Some(Observed { spec, since: rt::now().mono });
        }
    }

    /// Whether nobody has renewed it for as long as its holder said that it stands.
    fn has_expired(&self, tree: &Value) -> bool {
        let secs = tree.int("spec.leaseDurationSeconds").and_then(|secs| u64::try_from(secs).ok());
        let duration = secs.map_or(LEASE_DURATION, Duration::from_secs);
        let since = self.observed.as_ref().map(|observed| observed.since);
        since.is_some_and(|since| rt::now().mono >= since + duration)
    }
}

/// Gives a Lease back if `identity` holds it, after the work that it stood for has ended: another candidate need not
/// wait until it expires (client-go's `ReleaseOnCancel`).
///
/// # Errors
/// If it cannot be read or written; then it expires.
pub async fn resign(client: &Client, role: &str, identity: &str) -> Result<(), Status> {
    let Some(lease) = client.get_optional(&LEASE, NAMESPACE, role).await? else { return Ok(()) };
    let mut tree = lease.tree();
    if tree.str("spec.holderIdentity") != identity {
        return Ok(());
    }
    tree.set("spec.holderIdentity", "");
    tree.set("spec.leaseDurationSeconds", 1);
    tree.set("spec.renewTime", api::time::format_micro(rt::now().wall));
    client.update(&LEASE, tree).await.map(drop)
}
