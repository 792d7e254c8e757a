//! What `--kubelet-arg` and its like say: flags of upstream's components, of which k3rs honours what has a meaning here.
//!
//! A component takes from [`Args`] the flags that it honours, and what is left does nothing here: one warning names all of
//! that. What upstream does not know is an error in its words, and so is a value that does not parse.

pub(crate) mod controller_manager;
mod credential_providers;
pub(crate) mod extenders;
pub(crate) mod gates;
mod known;
pub(crate) mod kubelet;
pub(crate) mod proxy;
pub(crate) mod scheduler;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stdx::{Context, Error, Result};

use controller_manager::ControllerManager;
use known::Takes;
use kubelet::KubeletArgs;

/// What all components are told.
#[derive(Debug, Clone)]
pub(crate) struct Components {
    pub(crate) manager: ControllerManager,
    /// The scheduler's; `None`: the default one.
    pub(crate) profiles: Option<Arc<sched::Profiles>>,
    pub(crate) kubelet: KubeletArgs,
    pub(crate) proxy: proxy::ProxyArgs,
    /// What nothing here acts on, for one warning.
    pub(crate) idle: Vec<String>,
}

/// The arguments as they came.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) manager: Vec<String>,
    pub(crate) scheduler: Vec<String>,
    pub(crate) cloud: Vec<String>,
    pub(crate) kubelet: Vec<String>,
    pub(crate) proxy: Vec<String>,
}

impl Components {
    /// # Errors
    /// For what upstream refuses.
    pub(crate) fn read(given: &Given, mut idle: Vec<String>) -> Result<Components> {
        let manager = ControllerManager::read(&given.manager, &mut idle)?;
        let profiles = scheduler::read(&given.scheduler, &mut idle)?;
        idle.extend(Args::read(Component::CloudControllerManager, &given.cloud)?.idle());
        let kubelet = KubeletArgs::read(&given.kubelet, &mut idle)?;
        let proxy = proxy::read(&given.proxy, &mut idle)?;
        Ok(Components { manager, profiles, kubelet, proxy, idle })
    }

    /// Says once what was asked for and does nothing.
    pub(crate) fn warn(&self) {
        if !self.idle.is_empty() {
            log::warn!("Arguments of components that do nothing in k3rs: {}", self.idle.join("; "));
        }
    }
}

/// Whose arguments they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Apiserver,
    ControllerManager,
    Scheduler,
    CloudControllerManager,
    Kubelet,
    Proxy,
}

impl Component {
    /// Its name, and its letter in the table.
    const fn facts(self) -> (&'static str, u8) {
        match self {
            Component::Apiserver => ("kube-apiserver", b'A'),
            Component::ControllerManager => ("kube-controller-manager", b'C'),
            Component::Scheduler => ("kube-scheduler", b'S'),
            Component::CloudControllerManager => ("kube-cloud-controller-manager", b'L'),
            Component::Kubelet => ("kubelet", b'K'),
            Component::Proxy => ("kube-proxy", b'P'),
        }
    }
}

/// What k3s gives components by itself, which `name+=value` adds to.
const INITIAL: [(&str, &str); 2] = [
    ("controllers", "*,tokencleaner"),
    ("eviction-hard", "imagefs.available<5%,nodefs.available<5%"),
];

/// The arguments of one component, each flag once.
#[derive(Debug)]
pub(crate) struct Args {
    component: Component,
    given: Vec<Flag>,
    /// Feature gates that are wanted otherwise than this version has them.
    gates: Vec<String>,
}

#[derive(Debug)]
struct Flag {
    name: String,
    takes: Takes,
    /// Of lists and maps, all of them with commas between.
    value: String,
}

impl Args {
    /// Of several values of one flag the last counts; lists and maps add up. As in k3s, `name+=value` adds to what
    /// it gives by itself, and `name-=value` goes before that.
    ///
    /// # Errors
    /// For flags and feature gates that upstream does not know, and values that do not parse.
    pub(crate) fn read(component: Component, args: &[String]) -> Result<Args> {
        let mut read = Args { component, given: Vec::new(), gates: Vec::new() };
        for arg in args {
            read.add(arg).context(|| component.facts().0)?;
        }
        if let Some(wanted) = read.text("feature-gates") {
            read.gates = gates::idle(&wanted)
                .map_err(|why| invalid("feature-gates", &wanted, &why))
                .context(|| component.facts().0)?;
        }
        Ok(read)
    }

    fn add(&mut self, arg: &str) -> Result<()> {
        let arg = arg.strip_prefix("--").unwrap_or(arg);
        let (said, value) = arg.split_once('=').unwrap_or((arg, "true"));
        let is_added = said.ends_with(['+', '-']);
        // As upstream's parser has it.
        let name = said.trim_end_matches(['+', '-']).replace('_', "-");
        let Some(takes) = known::find(self.component.facts().1, &name) else {
            return Err(Error::new(format!("unknown flag: --{name}")));
        };
        check(takes, value).map_err(|why| invalid(&name, value, &why))?;
        let slot = self.given.iter_mut().find(|given| given.name == name);
        match slot {
            Some(given) if matches!(takes, Takes::List | Takes::Map) => {
                given.value = match said.ends_with('-') {
                    true => format!("{value},{}", given.value),
                    false => format!("{},{value}", given.value),
                };
            }
            Some(given) => value.clone_into(&mut given.value),
            None => {
                let initial = INITIAL.iter().find(|(flag, _)| is_added && *flag == name);
                let value = match (initial, said.ends_with('-')) {
                    (None, _) => value.to_owned(),
                    (Some((_, initial)), true) => format!("{value},{initial}"),
                    (Some((_, initial)), false) => format!("{initial},{value}"),
                };
                self.given.push(Flag { name, takes, value });
            }
        }
        Ok(())
    }

    /// Takes a flag, which thereby is honoured.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        debug_assert!(known::find(self.component.facts().1, name).is_some(), "{name}");
        let idx = self.given.iter().position(|given| given.name == name)?;
        Some(self.given.remove(idx).value)
    }

    pub(crate) fn switch(&mut self, name: &str) -> Option<bool> {
        self.text(name).and_then(|value| bool_of(&value))
    }

    pub(crate) fn int(&mut self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| int_of(&value).ok())
    }

    pub(crate) fn float(&mut self, name: &str) -> Option<f64> {
        self.text(name).and_then(|value| value.parse().ok())
    }

    /// A duration; one below nothing is none.
    pub(crate) fn duration(&mut self, name: &str) -> Option<Duration> {
        let nanos = self.text(name).and_then(|value| stdx::duration::parse(&value))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    /// The values of a list.
    pub(crate) fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.text(name)?;
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
        Some(items.map(str::to_owned).collect())
    }

    /// A value that parses and means nothing good.
    pub(crate) fn wrong(&self, why: &str) -> Error {
        Error::new(format!("{}: {why}", self.component.facts().0))
    }

    /// Takes the gates that are to be otherwise than upstream has them, of those that `is_known` knows: their names.
    pub(crate) fn gates(&mut self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        let name = |pair: &String| pair.split('=').next().unwrap_or(pair).to_owned();
        let (taken, left) = self.gates.drain(..).partition(|pair| is_known(&name(pair)));
        self.gates = left;
        let taken: Vec<String> = taken;
        taken.iter().map(name).collect()
    }

    /// What nobody took, for the warning: `--kubelet-arg: a, b`.
    pub(crate) fn idle(self) -> Option<String> {
        let names = self.given.into_iter().map(|given| given.name);
        let gates = self.gates.into_iter().map(|gate| format!("feature-gates={gate}"));
        let names: Vec<String> = names.chain(gates).collect();
        let name = self.component.facts().0;
        (!names.is_empty()).then(|| format!("--{name}-arg: {}", names.join(", ")))
    }

    /// The names and values that are left.
    pub(crate) fn left(&self) -> impl Iterator<Item = (&str, Takes, &str)> {
        self.given.iter().map(|given| (given.name.as_str(), given.takes, given.value.as_str()))
    }
}

/// The one document of a component's configuration file.
fn configuration(path: &Path) -> Result<api::Value> {
    /// The most that it may hold.
    const FILE_MAX_BYTES: u64 = 1 << 20;
    let size = path.metadata().context(|| format!("open {}", path.display()))?.len();
    if size > FILE_MAX_BYTES {
        return Err(Error::new(format!("{} is larger than 1 MiB", path.display())));
    }
    let mut trees = wire::yaml::parse(&rt::fs::read_text(path)?)?;
    match trees.len() {
        1 => Ok(trees.swap_remove(0)),
        _ => Err(Error::new("want one document")),
    }
}

fn invalid(name: &str, value: &str, why: &str) -> Error {
    Error::new(format!("invalid argument {value:?} for \"--{name}\" flag: {why}"))
}

/// Whether a value is one of its kind; otherwise why not, as Go says it.
fn check(takes: Takes, value: &str) -> Result<(), String> {
    let syntax = |what: &str| format!("strconv.{what}: parsing {value:?}: invalid syntax");
    match takes {
        Takes::Bool => bool_of(value).map(drop).ok_or_else(|| syntax("ParseBool")),
        Takes::Int => int_of(value).map(drop),
        Takes::Int32 => {
            let range = || format!("strconv.ParseInt: parsing {value:?}: value out of range");
            int_of(value).and_then(|n| i32::try_from(n).map(drop).map_err(|_| range()))
        }
        Takes::Float => value.parse::<f64>().map(drop).map_err(|_| syntax("ParseFloat")),
        Takes::Duration => match stdx::duration::parse(value) {
            Some(_) => Ok(()),
            None if value.parse::<f64>().is_ok() => {
                Err(format!("time: missing unit in duration {value:?}"))
            }
            None => Err(format!("time: invalid duration {value:?}")),
        },
        Takes::Map => {
            let sign = |pair: &str| pair.contains(['=', '<']);
            match value.split(',').all(|pair| pair.is_empty() || sign(pair)) {
                true => Ok(()),
                false => Err("malformed pair, expect string=string".into()),
            }
        }
        _ => Ok(()),
    }
}

fn bool_of(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Base 0 as Go reads it, as far as anyone writes a flag.
fn int_of(value: &str) -> Result<i64, String> {
    let hex = value.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    match (hex, value.parse::<i64>()) {
        (Some(n), _) | (None, Ok(n)) => Ok(n),
        (None, Err(why)) => {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match why.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(format!("strconv.ParseInt: parsing {value:?}: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(component: Component, args: &str) -> Result<Args, String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        Args::read(component, &args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_taken_is_honoured_and_the_rest_is_named() {
        let mut args = read(
            Component::Kubelet,
            "--max-pods=5 max_pods=7 oom-score-adj=-999 fail-swap-on cluster-dns=1.1.1.1 cluster-dns+=2.2.2.2,3.3.3.3 cluster-dns-=0.0.0.0 feature-gates=NodeSwap=false,WatchList=true,AllAlpha=true",
        )
        .unwrap();
        assert_eq!(args.int("max-pods"), Some(7));
        assert_eq!(args.int("max-pods"), None);
        assert_eq!(args.switch("fail-swap-on"), Some(true));
        assert_eq!(args.list("cluster-dns").unwrap().join(" "), "0.0.0.0 1.1.1.1 2.2.2.2 3.3.3.3");
        assert_eq!(
            args.idle().unwrap(),
            "--kubelet-arg: oom-score-adj, feature-gates=NodeSwap=false, feature-gates=AllAlpha=true"
        );
        assert_eq!(read(Component::Proxy, "").unwrap().idle(), None);
    }

    #[test]
    fn upstreams_words_for_what_is_wrong() {
        for (component, args, words) in [
            (Component::Kubelet, "x=1", "kubelet: unknown flag: --x"),
            (Component::Scheduler, "max-pods=1", "kube-scheduler: unknown flag: --max-pods"),
            (
                Component::Kubelet,
                "max-pods=many",
                "kubelet: invalid argument \"many\" for \"--max-pods\" flag: strconv.ParseInt: parsing \"many\": invalid syntax",
            ),
            (
                Component::Kubelet,
                "max-pods",
                "kubelet: invalid argument \"true\" for \"--max-pods\" flag: strconv.ParseInt: parsing \"true\": invalid syntax",
            ),
            (
                Component::Kubelet,
                "max-pods=3000000000",
                "kubelet: invalid argument \"3000000000\" for \"--max-pods\" flag: strconv.ParseInt: parsing \"3000000000\": value out of range",
            ),
            (
                Component::ControllerManager,
                "node-monitor-period=5",
                "kube-controller-manager: invalid argument \"5\" for \"--node-monitor-period\" flag: time: missing unit in duration \"5\"",
            ),
            (
                Component::ControllerManager,
                "leader-elect=perhaps",
                "kube-controller-manager: invalid argument \"perhaps\" for \"--leader-elect\" flag: strconv.ParseBool: parsing \"perhaps\": invalid syntax",
            ),
            (
                Component::Kubelet,
                "kube-reserved=cpu",
                "kubelet: invalid argument \"cpu\" for \"--kube-reserved\" flag: malformed pair, expect string=string",
            ),
            (
                Component::Scheduler,
                "feature-gates=Nonsense=true",
                "kube-scheduler: invalid argument \"Nonsense=true\" for \"--feature-gates\" flag: unrecognized feature gate: Nonsense",
            ),
        ] {
            assert_eq!(read(component, args).unwrap_err(), words, "{args}");
        }
    }
}
