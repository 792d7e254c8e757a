//! Links, addresses and routes of this machine, asked of the kernel over netlink.

use std::net::IpAddr;
use std::time::Duration;

use stdx::Arrange;
use stdx::{Context, Error, Result};
use sys::netlink::{Family, Netlink};
use wire::netlink::{Message, NLMSG_DONE, NLMSG_ERROR, Writer, messages};
use wire::rtnetlink::{self as rtnl, Link, Route};

const EEXIST: i32 = 17;
const EADDRNOTAVAIL: i32 = 99;
const ESRCH: i32 = 3;

/// One socket for one request at a time.
#[derive(Debug)]
pub(crate) struct Links {
    socket: Netlink,
    sequence: u32,
}

impl Links {
    pub(crate) fn open() -> Result<Links> {
        const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
        let socket = Netlink::open(Family::Route, ANSWER_TIMEOUT);
        Ok(Links { socket: socket.context(|| "open a netlink socket")?, sequence: 0 })
    }

    /// All links.
    pub(crate) fn all(&mut self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        self.request(rtnl::dump_links, |message| links.extend(rtnl::parse_link(message)))
            .context(|| "list network interfaces")?;
        Ok(links)
    }

    pub(crate) fn set_up(&mut self, link: &Link) -> Result<()> {
        self.request(|w, sequence| rtnl::set_up(w, sequence, link.index), |_| {})
            .context(|| format!("set interface {} up", link.name))
    }

    pub(crate) fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<()> {
        self.request(|w, sequence| rtnl::set_mtu(w, sequence, link, mtu), |_| {})
            .context(|| format!("set the MTU {mtu}"))
    }

    pub(crate) fn add_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let set = self
            .request(|w, sequence| rtnl::set_address(w, sequence, link, address, prefix), |_| {});
        fine(set, EEXIST).context(|| format!("set address {address}/{prefix}"))
    }

    pub(crate) fn remove_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let removed = self.request(
            |w, sequence| rtnl::delete_address(w, sequence, link, address, prefix),
            |_| {},
        );
        fine(removed, EADDRNOTAVAIL).context(|| format!("remove address {address}/{prefix}"))
    }

    pub(crate) fn add_route(&mut self, route: &Route) -> Result<()> {
        self.request(|w, sequence| rtnl::set_route(w, sequence, route), |_| {})
            .context(|| format!("set {}", describe(route)))
    }

    pub(crate) fn remove_route(&mut self, route: &Route) -> Result<()> {
        let removed = self.request(|w, sequence| rtnl::delete_route(w, sequence, route), |_| {});
        fine(removed, ESRCH).context(|| format!("remove {}", describe(route)))
    }

    fn request(
        &mut self,
        write: impl FnOnce(&mut Writer, u32),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut writer = Writer::new();
        write(&mut writer, self.sequence);
        self.socket.drain();
        self.socket.send(&writer.finish()?).context(|| "send a netlink request")?;
        let mut buf = Vec::new();
        loop {
            self.socket.receive(&mut buf).context(|| "receive a netlink answer")?;
            for message in messages(&buf) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE if message.errno() == 0 => return Ok(()),
                    NLMSG_ERROR | NLMSG_DONE => {
                        let error = std::io::Error::from_raw_os_error(message.errno());
                        let text = message.extended_text().unwrap_or("kernel").to_owned();
                        return Err(Error::wrap(text, error));
                    }
                    _ => each(&message),
                }
            }
        }
    }
}

/// An error that says what was wanted is so already is none.
fn fine(result: Result<()>, errno: i32) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        result => result,
    }
}

fn describe(route: &Route) -> String {
    let destination = match route.destination {
        Some((address, prefix)) => format!("route to {address}/{prefix}"),
        None => "default route".into(),
    };
    match route.gateway {
        Some(gateway) => format!("{destination} by {gateway}"),
        None => destination,
    }
}

/// The network cards: hardware with an Ethernet address, wireless included; no bridges, tunnels or pods' ends.
pub(crate) fn cards(links: Vec<Link>) -> Vec<Link> {
    let is_card = |link: &Link| {
        link.flags & rtnl::IFF_LOOPBACK == 0 && link.kind.is_empty() && link.mac.len() == 6
    };
    let mut cards: Vec<Link> = links.into_iter().filter(is_card).collect();
    cards.arrange_by_key(|link| link.index);
    cards
}
