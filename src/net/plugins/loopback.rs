//! The loopback plugin: a container's own `lo`.

use serde_json::{Value, json};
use stdx::{Context, Error};
use wire::rtnetlink as rtnl;

use super::call::{Call, Command, Failure};
use super::result;
use crate::kernel::Links;

const NAME: &str = "lo";

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    match call.command {
        Command::Add => add(call).map(Some),
        Command::Del if call.is_gone() => Ok(None),
        Command::Del => Ok(call.inside(|| {
            let mut links = Links::open()?;
            let link = found(&mut links)?;
            links.change(
                || "set interface lo down",
                &[],
                |w, sequence| rtnl::set_flags(w, sequence, link.index, 0, rtnl::IFF_UP),
            )?;
            Ok(None)
        })?),
        Command::Check => {
            Ok(call.inside(|| match found(&mut Links::open()?)?.flags & rtnl::IFF_UP {
                0 => Err(Error::new("loopback interface is down")),
                _ => Ok(None),
            })?)
        }
        Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

fn add(call: &Call) -> Result<Value, Failure> {
    let before = result::before(call)?;
    let addresses = call.inside(|| {
        let mut links = Links::open()?;
        let link = found(&mut links)?;
        links.set_up(link.index, NAME)?;
        let mut addresses = links.addresses()?;
        addresses.retain(|address| address.link == link.index);
        Ok(addresses)
    })?;
    if let Some(other) = addresses.iter().find(|address| !address.address.is_loopback()) {
        let why = format!(
            "loopback interface found with non-loopback address {:?}",
            other.address.to_string()
        );
        return Err(Error::new(why).into());
    }
    if let Some(before) = before {
        return Ok(before);
    }
    let of_family = |ipv6: bool| addresses.iter().find(|found| found.address.is_ipv6() == ipv6);
    let ips = [of_family(false), of_family(true)].into_iter().flatten();
    let ips =
        ips.map(|ip| json!({"interface": 0, "address": format!("{}/{}", ip.address, ip.prefix)}));
    Ok(json!({
        "interfaces": [{"name": NAME, "mac": "00:00:00:00:00:00", "sandbox": call.netns}],
        "ips": ips.collect::<Vec<Value>>(),
    }))
}

fn found(links: &mut Links) -> Result<rtnl::Link, Error> {
    links.find(NAME)?.context(|| "failed to find \"lo\": Link not found")
}
