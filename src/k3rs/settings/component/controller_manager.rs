//! What `--kube-controller-manager-arg` says.

use std::sync::Arc;
use std::time::Duration;

use api::Registered;
use control::Tuning;
use stdx::{Error, Result};

use super::{Args, Component, known};

/// Which controllers run, and how.
#[derive(Debug, Clone)]
pub(crate) struct ControllerManager {
    /// `--controllers`, in the order that they were given; none: all.
    controllers: Vec<String>,
    /// `--allocate-node-cidrs=false` and `--enable-garbage-collector=false`.
    off: Vec<&'static str>,
    /// `None` if every value is the default.
    tuning: Option<Arc<Tuning>>,
    node_masks: NodeMasks,
    pub(crate) signing_duration: Duration,
}

/// What is said of the sizes of nodes' blocks.
#[derive(Debug, Clone, Copy)]
struct NodeMasks {
    any: Option<u8>,
    ipv4: Option<u8>,
    ipv6: Option<u8>,
}

impl NodeMasks {
    fn read(args: &mut Args) -> Result<NodeMasks> {
        let mut read = |name: &str| match args.int(name).filter(|mask| *mask != 0) {
            None => Ok(None),
            Some(mask) => match u8::try_from(mask).ok().filter(|mask| *mask <= 128) {
                Some(mask) => Ok(Some(mask)),
                None => Err(args.wrong(&format!("--{name}={mask}: want at most 128"))),
            },
        };
        Ok(NodeMasks {
            any: read("node-cidr-mask-size")?,
            ipv4: read("node-cidr-mask-size-ipv4")?,
            ipv6: read("node-cidr-mask-size-ipv6")?,
        })
    }
}

const IPAM: &str = "node-ipam-controller";
const SIGNING: &str = "certificatesigningrequest-signing-controller csrsigning";

impl ControllerManager {
    /// # Errors
    /// For what upstream refuses.
    pub(crate) fn read(args: &[String], idle: &mut Vec<String>) -> Result<ControllerManager> {
        let mut args = Args::read(Component::ControllerManager, args)?;
        let controllers = args.list("controllers").unwrap_or_default();
        for said in controllers.iter().filter(|said| *said != "*") {
            let name = said.strip_prefix('-').unwrap_or(said);
            if known::find(b'N', name).is_none() {
                return Err(
                    args.wrong(&format!("{name:?} is not in the list of known controllers"))
                );
            }
        }
        let mut off = Vec::new();
        for (flag, name) in [
            ("allocate-node-cidrs", IPAM),
            ("enable-garbage-collector", "garbage-collector-controller"),
        ] {
            if args.switch(flag) == Some(false) {
                off.push(name);
            }
        }
        let tuning = tuning(&mut args)?;
        let node_masks = NodeMasks::read(&mut args)?;
        let signing_duration =
            args.duration("cluster-signing-duration").unwrap_or(cluster::signer::VALID_MAX);
        // It does so anyway.
        if args.left().any(|(name, _, value)| {
            name == "use-service-account-credentials" && super::bool_of(value) == Some(true)
        }) {
            args.switch("use-service-account-credentials");
        }
        idle.extend(args.idle());
        Ok(ControllerManager { controllers, off, tuning, node_masks, signing_duration })
    }

    /// The prefix lengths of a node's blocks of IPv4 and IPv6 in a cluster of one family, which may be IPv6, or of both.
    ///
    /// # Errors
    /// For what upstream refuses.
    pub(crate) fn node_cidr_masks(&self, ipv6: bool, both: bool) -> Result<(u8, u8)> {
        let NodeMasks { any, ipv4, ipv6: of_ipv6 } = self.node_masks;
        let refused = |what: &str| {
            Err(Error::new(format!(
                "kube-controller-manager: usage of --node-cidr-mask-size{what}"
            )))
        };
        match (any, ipv4.or(of_ipv6)) {
            (Some(_), _) if both => return refused(" is not allowed with dual-stack clusters"),
            (Some(_), Some(_)) => {
                return refused(
                    "-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if --node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags",
                );
            }
            _ if ipv6 && !both && ipv4.is_some() => {
                return refused("-ipv4 is not allowed for a single-stack IPv6 cluster");
            }
            _ if !ipv6 && !both && of_ipv6.is_some() => {
                return refused("-ipv6 is not allowed for a single-stack IPv4 cluster");
            }
            _ => {}
        }
        let ipv4 = ipv4.or(any).unwrap_or(24);
        let of_ipv6 = of_ipv6.or(any).unwrap_or(64);
        if (!ipv6 || both) && ipv4 > 32 {
            return Err(Error::new(format!(
                "kube-controller-manager: --node-cidr-mask-size={ipv4}: want at most 32"
            )));
        }
        Ok((ipv4, of_ipv6))
    }

    /// The controllers that run.
    pub(crate) fn controllers(&self) -> &'static [Registered] {
        if self.controllers.is_empty() && self.off.is_empty() {
            return control::CONTROLLERS;
        }
        let all = control::NAMES.lines().zip(control::CONTROLLERS);
        let on = all.filter(|(names, _)| *names == "-" || self.runs(names));
        let on: Vec<Registered> = on.map(|(_, controller)| *controller).collect();
        // Once for the life of the process.
        on.leak()
    }

    /// Whether requests for certificates are approved and signed.
    pub(crate) fn signs(&self) -> bool {
        self.runs(SIGNING)
    }

    pub(crate) fn told(&self) -> client::Told {
        let settings = self.tuning.clone().map(|tuning| tuning as client::Settings);
        client::Told { settings, outside: None }
    }

    /// Upstream's rule: the first word about a controller counts, and where there is none, the star.
    fn runs(&self, names: &str) -> bool {
        if self.off.iter().any(|off| names.split(' ').any(|name| name == *off)) {
            return false;
        }
        for said in &self.controllers {
            let (name, is_on) = said.strip_prefix('-').map_or((&**said, true), |off| (off, false));
            if names.split(' ').any(|own| own == name) {
                return is_on;
            }
        }
        let by_hand = names.starts_with("token-cleaner-controller");
        self.controllers.is_empty() || (self.controllers.iter().any(|said| said == "*") && !by_hand)
    }
}

fn tuning(args: &mut Args) -> Result<Option<Arc<Tuning>>> {
    let mut tuning = Tuning::default();
    let autoscaler = &mut tuning.autoscaler;
    let mut down_window = Duration::from_secs(300);
    for (name, slot) in [
        ("node-monitor-grace-period", &mut tuning.node_monitor_grace),
        ("node-startup-grace-period", &mut tuning.node_startup_grace),
        ("horizontal-pod-autoscaler-sync-period", &mut autoscaler.sync_every),
        ("horizontal-pod-autoscaler-downscale-stabilization", &mut down_window),
        ("horizontal-pod-autoscaler-cpu-initialization-period", &mut autoscaler.cpu_initialization),
        ("horizontal-pod-autoscaler-initial-readiness-delay", &mut autoscaler.initial_readiness),
    ] {
        let Some(value) = args.duration(name) else { continue };
        let may_be_none = name.ends_with("delay") || name.ends_with("initialization-period");
        if value.is_zero() && !may_be_none {
            return Err(args.wrong(&format!("--{name} must be greater than 0")));
        }
        *slot = value;
    }
    tuning.autoscaler.down_window_secs = i64::try_from(down_window.as_secs()).unwrap_or(i64::MAX);
    if let Some(tolerance) = args.float("horizontal-pod-autoscaler-tolerance") {
        tuning.autoscaler.tolerance = tolerance;
    }
    // None at all, or fewer, keeps every finished pod.
    if let Some(max) = args.int("terminated-pod-gc-threshold") {
        tuning.finished_pods_max = match usize::try_from(max) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(max) => max,
        };
    }
    for (name, slot) in [
        ("max-endpoints-per-slice", &mut tuning.endpoints_per_slice_max),
        ("mirroring-max-endpoints-per-subset", &mut tuning.mirrored_addresses_max),
    ] {
        let Some(max) = args.int(name) else { continue };
        match usize::try_from(max).ok().filter(|max| (1..=1000).contains(max)) {
            Some(max) => *slot = max,
            None => {
                let bound = if max < 1 { "less than 1" } else { "more than 1000" };
                return Err(args.wrong(&format!("{name} must not be {bound}, but got {max}")));
            }
        }
    }
    Ok((tuning != Tuning::default()).then(|| Arc::new(tuning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<(ControllerManager, String), String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let mut idle = Vec::new();
        let read = ControllerManager::read(&args, &mut idle);
        read.map(|read| (read, idle.join("; "))).map_err(|error| error.to_string())
    }

    #[test]
    fn controllers_are_chosen_by_upstreams_rule() {
        let all = control::CONTROLLERS.len();
        for (args, missing, signs) in [
            ("", 0, true),
            ("controllers=*", 1, true),
            ("controllers=*,tokencleaner", 0, true),
            ("controllers+=-nodelifecycle", 1, true),
            ("controllers=*,tokencleaner,-replicaset,-csrsigning", 1, false),
            ("controllers=-replicaset", all - 1, false),
            ("controllers=replicaset-controller controllers=job", all - 3, false),
            ("controllers=*,-ttl,tokencleaner", 0, true),
            ("enable-garbage-collector=false allocate-node-cidrs=false", 2, true),
        ] {
            let (read, idle) = read(args).unwrap();
            assert_eq!(all - read.controllers().len(), missing, "{args}");
            assert_eq!((read.signs(), &*idle), (signs, ""), "{args}");
        }
        assert_eq!(
            read("controllers=*,-nonsense").unwrap_err(),
            "kube-controller-manager: \"nonsense\" is not in the list of known controllers"
        );
    }

    #[test]
    fn values_reach_the_controllers() {
        let (found, idle) = read("node-monitor-grace-period=20s terminated-pod-gc-threshold=0 horizontal-pod-autoscaler-tolerance=0.2 horizontal-pod-autoscaler-downscale-stabilization=1m max-endpoints-per-slice=7 node-cidr-mask-size=26 cluster-signing-duration=1h leader-elect=false concurrent-job-syncs=3 use-service-account-credentials").unwrap();
        let tuning = found.tuning.clone().unwrap();
        assert_eq!(tuning.node_monitor_grace, Duration::from_secs(20));
        assert_eq!((tuning.finished_pods_max, tuning.endpoints_per_slice_max), (usize::MAX, 7));
        assert_eq!((tuning.autoscaler.tolerance, tuning.autoscaler.down_window_secs), (0.2, 60));
        assert_eq!(found.node_cidr_masks(false, false).unwrap(), (26, 26));
        assert_eq!(found.signing_duration, Duration::from_secs(3600));
        assert_eq!(idle, "--kube-controller-manager-arg: leader-elect, concurrent-job-syncs");
        assert!(read("leader-elect").unwrap().0.told().settings.is_none());
        for (args, words) in [
            (
                "max-endpoints-per-slice=1001",
                "kube-controller-manager: max-endpoints-per-slice must not be more than 1000, but got 1001",
            ),
            (
                "node-monitor-grace-period=0s",
                "kube-controller-manager: --node-monitor-grace-period must be greater than 0",
            ),
        ] {
            assert_eq!(read(args).unwrap_err(), words);
        }
    }
}
