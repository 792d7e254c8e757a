//! A node that cannot start: what is beside it in the process goes on, its Node says why, and it is tried again.

use std::time::Duration;

use stdx::Result;
use stdx::backoff::Backoff;

use crate::machine::Machine;
use crate::node::{self, Agent, Link};

/// A missing module may be loaded, a file system mounted: the next try finds it.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Says what this kernel lacks, then starts the node, however many attempts it takes.
///
/// # Errors
/// If the flags of the node are wrong: no later attempt would help.
pub(crate) async fn start(machine: &Machine, link: &Link) -> Result<Agent> {
    node::check_flags(machine)?;
    let substitutes = rt::unblock(sys::lacks::substitutes).await;
    if !substitutes.is_empty() {
        log::info!("This kernel has no {}", substitutes.join(", no "));
    }
    let mut failures = 0;
    loop {
        let lacks = rt::unblock(sys::lacks::find).await;
        let notices: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        if failures == 0 {
            notices.iter().for_each(|notice| log::warn!("This kernel lacks something: {notice}"));
        }
        let why = match lacks.into_iter().find(|lack| lack.fatal) {
            Some(lack) => lack.to_string(),
            None => match node::start(machine, link, notices).await {
                Ok(agent) => return Ok(agent),
                Err(error) => error.to_string(),
            },
        };
        failures += 1;
        let rest = RETRY.delay(failures);
        log::error!(
            "The node cannot start: {why}. What is beside it goes on; next try in {} s",
            rest.as_secs()
        );
        let config = node::kubelet_config(machine)?;
        if let Err(status) = kubelet::report_not_ready(&config, &link.kubelet, &why).await {
            log::warn!("node {}: {status}", machine.node_name);
        }
        rt::sleep(rest).await;
    }
}
