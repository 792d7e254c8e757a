//! The bandwidth plugin: what a container may receive and send in a second, by token buckets of the kernel.

use api::Lens;
use serde_json::{Value, json};
use stdx::{Context, Error, Result};
use wire::rtnetlink as rtnl;
use wire::traffic::{self, Bucket};

use super::call::{Call, Command, Failure, hash, mac_text, refused};
use super::result;
use crate::kernel::Links;

/// How long a packet may wait in a bucket.
const LATENCY_MS: u64 = 25;

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    call.refuse("bandwidth", &["shapedSubnets", "unshapedSubnets"])?;
    if call.command == Command::Del {
        let mut links = Links::open()?;
        if let Some(link) = links.find(&device(call))? {
            links.delete(&link)?;
        }
        return Ok(None);
    }
    if !matches!(call.command, Command::Add | Command::Check) {
        return Ok(None);
    }
    let limits = Limits::of(&call.conf)?;
    let Some(before) = result::before(call)? else {
        return refused("must be called as chained plugin");
    };
    let Some(limits) = limits else {
        return Ok(Some(before).filter(|_| call.command == Command::Add));
    };
    let mut links = Links::open()?;
    let peer = call.peer()?;
    let all = links.all()?;
    let is_host = |link: &&rtnl::Link| {
        let is_it = |one: &Value| one.str("name") == link.name && one.str("sandbox").is_empty();
        link.index == peer && before.list("interfaces").iter().any(is_it)
    };
    let host = all.iter().find(is_host);
    let host = host.context(|| "no veth peer of container interface found in host ns")?;
    match call.command {
        Command::Add => add(call, &mut links, host, &limits, before).map(Some),
        _ => Ok(check(call, &mut links, host, &limits).map(|()| None)?),
    }
}

/// What a container is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    /// To it, and from it.
    ingress: Option<Bucket>,
    egress: Option<Bucket>,
}

impl Limits {
    /// Those of the network, or else those of the pod.
    fn of(conf: &Value) -> Result<Option<Limits>, Failure> {
        const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
        let tree = match KEYS.iter().any(|key| conf.has(key)) {
            true => conf,
            false => conf.at("runtimeConfig.bandwidth"),
        };
        let number = |key: &str| match tree.at(key) {
            Value::Null => Ok(0),
            value => value.as_u64().context(|| format!("{key} is no number: {value}")),
        };
        let ingress = bucket(number("ingressRate")?, number("ingressBurst")?)?;
        let egress = bucket(number("egressRate")?, number("egressBurst")?)?;
        let limits = Limits { ingress, egress };
        Ok(Some(limits).filter(|limits| *limits != Limits::default()))
    }
}

/// What is told in bits as the kernel has it.
fn bucket(rate: u64, burst: u64) -> Result<Option<Bucket>> {
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => return Err(Error::new("if rate is set, burst must also be set")),
        (0, _) => return Err(Error::new("if burst is set, rate must also be set")),
        _ => {}
    }
    let rate = (rate / 8).max(1);
    let burst = u32::try_from(burst / 8).ok().filter(|burst| *burst != u32::MAX);
    let burst = burst.context(|| "burst cannot be more than 4GB")?;
    let waits = u32::try_from(rate.saturating_mul(LATENCY_MS) / 1000).unwrap_or(u32::MAX);
    Ok(Some(Bucket { rate, burst, limit: waits.saturating_add(burst) }))
}

/// The device by which goes what the container sends.
fn device(call: &Call) -> String {
    const DIGITS: usize = 12;
    format!("bwp{}", &hash(&[call.network(), &call.id, &call.interface])[..DIGITS])
}

fn add(
    call: &Call,
    links: &mut Links,
    host: &rtnl::Link,
    limits: &Limits,
    mut before: Value,
) -> Result<Value, Failure> {
    if let Some(bucket) = &limits.ingress {
        add_bucket(links, host.index, bucket)?;
    }
    let Some(bucket) = &limits.egress else { return Ok(before) };
    let name = device(call);
    links.change(
        || "adding link (CONFIG_IFB, module ifb)",
        &[],
        |w, sequence| rtnl::create_ifb(w, sequence, &name, host.mtu),
    )?;
    let made = links.find(&name)?.context(|| format!("get ifb device: {name}"))?;
    let done = (|| {
        links.change(
            || "create ingress qdisc (CONFIG_NET_SCH_INGRESS, module sch_ingress)",
            &[],
            |w, sequence| traffic::add_ingress(w, sequence, host.index),
        )?;
        links.change(
            || "add filter (CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED, modules cls_u32 and act_mirred)",
            &[],
            |w, sequence| traffic::redirect_all(w, sequence, host.index, made.index),
        )?;
        add_bucket(links, made.index, bucket).context(|| "create ifb qdisc")
    })();
    if let Err(error) = done {
        links.delete(&made)?;
        return Err(error.into());
    }
    if let Some(list) = before.get_mut("interfaces").and_then(Value::as_array_mut) {
        list.push(json!({"name": name, "mac": mac_text(&made.mac)}));
    }
    Ok(before)
}

fn add_bucket(links: &mut Links, link: u32, bucket: &Bucket) -> Result<()> {
    links.change(
        || "create qdisc (CONFIG_NET_SCH_TBF, module sch_tbf)",
        &[],
        |w, sequence| traffic::add_bucket(w, sequence, link, bucket),
    )
}

fn check(call: &Call, links: &mut Links, host: &rtnl::Link, limits: &Limits) -> Result<()> {
    let name = device(call);
    let out = links.find(&name)?;
    if limits.egress.is_some() && out.is_none() {
        return Err(Error::new(format!("get ifb device: {name}: Link not found")));
    }
    let found = links.buckets()?;
    let pairs = [(limits.ingress, Some(host.index)), (limits.egress, out.map(|link| link.index))];
    for (wanted, link) in pairs {
        let (Some(wanted), Some(link)) = (wanted, link) else { continue };
        let bucket = found.iter().find(|(index, _)| *index == link).map(|(_, bucket)| bucket);
        let bucket = bucket.context(|| "Failed to find qdisc")?;
        if bucket.rate != wanted.rate {
            return Err(Error::new("Rate doesn't match"));
        }
        if bucket.limit != wanted.limit {
            return Err(Error::new("Limit doesn't match"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_networks_or_the_pods() {
        let of = |conf: Value| Limits::of(&conf).map_err(|failure| failure.message);
        let pod = json!({"ingressRate": 8_000_000, "ingressBurst": 80_000});
        let expected = Bucket { rate: 1_000_000, burst: 10_000, limit: 35_000 };
        let limits = of(json!({"runtimeConfig": {"bandwidth": pod}})).unwrap().unwrap();
        assert_eq!(limits, Limits { ingress: Some(expected), egress: None });
        let both = json!({"egressRate": 8, "egressBurst": 8, "runtimeConfig": {"bandwidth": pod}});
        let limits = of(both).unwrap().unwrap();
        assert_eq!((limits.ingress, limits.egress.unwrap().rate), (None, 1));
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(
            of(json!({"ingressRate": 1})),
            Err("if rate is set, burst must also be set".into())
        );
        assert_eq!(
            of(json!({"egressBurst": 1})),
            Err("if burst is set, rate must also be set".into())
        );
        let large = json!({"egressRate": 1, "egressBurst": 1u64 << 40});
        assert_eq!(of(large), Err("burst cannot be more than 4GB".into()));
    }
}
