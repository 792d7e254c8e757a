//! Requests to the kernel over netlink, with its answers and errors.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rt::fs::File;
use stdx::{Context, Error, Result};
use sys::netlink::{Family, Netlink};
use wire::netlink::{Message, NLMSG_DONE, NLMSG_ERROR, Writer, messages};
use wire::rtnetlink as rtnl;
use wire::traffic::{self, Bucket};

pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENODEV: i32 = 19;
pub(crate) const ENOENT: i32 = 2;
/// How the kernel says that there is no such route.
const ESRCH: i32 = 3;
const EINTR: i32 = 4;

/// The kernel answers at once; this only keeps a broken one from blocking us for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A socket for one request at a time.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Netlink,
    buf: Vec<u8>,
    sequence: u32,
}

impl Kernel {
    pub(crate) fn open(family: Family) -> Result<Kernel> {
        let what = || match family {
            Family::Route => "open a netlink socket",
            Family::Netfilter => {
                "open a netlink socket for nftables (CONFIG_NF_TABLES, module nf_tables)"
            }
            Family::Generic => "open a generic netlink socket",
            Family::Uevent => "open a netlink socket of device events",
        };
        let socket = Netlink::open(family, ANSWER_TIMEOUT).context(what)?;
        Ok(Kernel { socket, buf: Vec::new(), sequence: 0 })
    }

    /// A socket inside the network namespace at `netns`.
    pub(crate) fn open_in(netns: &File, family: Family) -> Result<Kernel> {
        sys::netns::run_in(netns.as_fd(), || Kernel::open(family))
            .context(|| "enter a network namespace")?
    }

    pub(crate) fn port(&self) -> Result<u32> {
        self.socket.port().context(|| "read a netlink socket's address")
    }

    /// Sends what `write` writes with a sequence number; gives each answer to `each`; ends at the
    /// acknowledgement or the end of the dump.
    pub(crate) fn request(
        &mut self,
        write: impl FnOnce(&mut Writer, u32),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut writer = Writer::new();
        write(&mut writer, self.sequence);
        let bytes = writer.finish()?;
        self.exchange(&bytes, self.sequence, |_, message| each(message))
    }

    /// Sends `bytes` and reads until the acknowledgement of `last`. An error answer to an earlier
    /// message is remembered, and returned at the end.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        last: u32,
        each: impl FnMut(u32, &Message<'_>),
    ) -> Result<()> {
        let answered = self.answers(bytes, last, each);
        // A node changes its network rarely.
        self.buf = Vec::new();
        answered
    }

    fn answers(
        &mut self,
        bytes: &[u8],
        last: u32,
        mut each: impl FnMut(u32, &Message<'_>),
    ) -> Result<()> {
        // Answers that a failed exchange left unread must not pass for ours.
        self.socket.drain();
        self.socket.send(bytes).context(|| "send a netlink request")?;
        let mut first_error = None;
        loop {
            match self.socket.receive(&mut self.buf) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(EINTR) => continue,
                Err(error) => {
                    // What was refused explains a missing acknowledgement better.
                    return Err(first_error
                        .unwrap_or_else(|| Error::wrap("receive a netlink answer", error)));
                }
            }
            for message in messages(&self.buf) {
                let message = message?;
                let errno = match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => message.errno(),
                    _ => {
                        each(message.sequence, &message);
                        continue;
                    }
                };
                if errno != 0 {
                    let error = answer_error(&message, errno);
                    // A failed commit is told in the name of the batch's beginning.
                    if message.sequence == 0 || message.sequence == last {
                        return Err(first_error.unwrap_or(error));
                    }
                    let mut what = wire::nft::describe(bytes, message.sequence);
                    if errno == ENOENT && what.starts_with("add rule") {
                        what.push_str(
                            " (the kernel may lack what it uses: CONFIG_NFT_*, modules nft_*)",
                        );
                    }
                    first_error.get_or_insert(Error::wrap(what, error));
                } else if message.sequence == last {
                    return first_error.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn answer_error(message: &Message<'_>, errno: i32) -> Error {
    let io = io::Error::from_raw_os_error(errno);
    match message.extended_text() {
        Some(text) => Error::wrap(text.to_owned(), io),
        None => Error::wrap("kernel", io),
    }
}

/// Links, addresses and routes of one network namespace.
#[derive(Debug)]
pub(crate) struct Links(Kernel);

impl Links {
    pub(crate) fn open() -> Result<Links> {
        Kernel::open(Family::Route).map(Links)
    }

    pub(crate) fn open_in(netns: &File) -> Result<Links> {
        Kernel::open_in(netns, Family::Route).map(Links)
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<Option<rtnl::Link>> {
        let mut found = None;
        let asked = self.0.request(
            |w, sequence| rtnl::find_link(w, sequence, name),
            |message| found = rtnl::parse_link(message),
        );
        match asked {
            Err(error) if error.errno() == Some(ENODEV) => Ok(None),
            Err(error) => Err(error).context(|| format!("look up interface {name}")),
            Ok(()) => Ok(found),
        }
    }

    pub(crate) fn all(&mut self) -> Result<Vec<rtnl::Link>> {
        let mut links = Vec::new();
        self.0
            .request(rtnl::dump_links, |message| links.extend(rtnl::parse_link(message)))
            .context(|| "list interfaces")?;
        Ok(links)
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<rtnl::Address>> {
        let mut addresses = Vec::new();
        self.0
            .request(rtnl::dump_addresses, |message| addresses.extend(rtnl::parse_address(message)))
            .context(|| "list addresses")?;
        Ok(addresses)
    }

    pub(crate) fn routes(&mut self) -> Result<Vec<rtnl::Route>> {
        let mut routes = Vec::new();
        self.0
            .request(rtnl::dump_routes, |message| routes.extend(rtnl::parse_route(message)))
            .context(|| "list routes")?;
        routes.retain(rtnl::is_main_table);
        Ok(routes)
    }

    /// Makes a change described by `what`; an error with one of the `fine` errnos is none.
    pub(crate) fn change<S: Into<String>>(
        &mut self,
        what: impl FnOnce() -> S,
        fine: &[i32],
        write: impl FnOnce(&mut Writer, u32),
    ) -> Result<()> {
        match self.0.request(write, |_| {}) {
            Err(error) if error.errno().is_some_and(|errno| fine.contains(&errno)) => Ok(()),
            result => result.context(what),
        }
    }

    pub(crate) fn set_up(&mut self, link: u32, name: &str) -> Result<()> {
        self.change(
            || format!("set interface {name} up"),
            &[],
            |w, sequence| rtnl::set_up(w, sequence, link),
        )
    }

    pub(crate) fn set_address(
        &mut self,
        link: u32,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<()> {
        self.change(
            || format!("give {name} the address {address}/{prefix}"),
            &[EEXIST],
            |w, sequence| rtnl::set_address(w, sequence, link, address, prefix),
        )
    }

    pub(crate) fn set_route(&mut self, route: &rtnl::Route) -> Result<()> {
        let what = || match route.destination {
            Some((address, prefix)) => format!("add the route to {address}/{prefix}"),
            None => "add the default route".to_owned(),
        };
        self.change(what, &[EEXIST], |w, sequence| rtnl::set_route(w, sequence, route))
    }

    /// The token buckets of links, by the links' indexes.
    pub(crate) fn buckets(&mut self) -> Result<Vec<(u32, Bucket)>> {
        let mut all = Vec::new();
        self.0
            .request(traffic::dump, |message| all.extend(traffic::parse_bucket(message)))
            .context(|| "list what limits interfaces")?;
        Ok(all)
    }

    /// The tunnel that a link of this name is; its second part is `None` if it is none such as ours are.
    pub(crate) fn find_vxlan(
        &mut self,
        name: &str,
    ) -> Result<Option<(rtnl::Link, Option<rtnl::Vxlan>)>> {
        let mut found = None;
        let asked = self.0.request(
            |w, sequence| rtnl::find_link(w, sequence, name),
            |message| {
                found = rtnl::parse_link(message).map(|link| (link, rtnl::parse_vxlan(message)));
            },
        );
        match asked {
            Err(error) if error.errno() == Some(ENODEV) => Ok(None),
            Err(error) => Err(error).context(|| format!("look up interface {name}")),
            Ok(()) => Ok(found),
        }
    }

    /// The lasting neighbours and forwarding entries of a tunnel.
    pub(crate) fn neighbours(&mut self, link: u32, ipv6: bool) -> Result<Vec<rtnl::Neighbour>> {
        let mut all = Vec::new();
        self.0
            .request(
                |w, sequence| rtnl::dump_neighbours(w, sequence, ipv6),
                |message| all.extend(rtnl::parse_neighbour(message)),
            )
            .context(|| "list neighbours")?;
        self.0
            .request(
                |w, sequence| rtnl::dump_forwarding(w, sequence, link),
                |message| all.extend(rtnl::parse_neighbour(message)),
            )
            .context(|| "list forwarding entries")?;
        all.retain(|neighbour| neighbour.link == link && neighbour.address.is_ipv6() == ipv6);
        Ok(all)
    }

    pub(crate) fn set_neighbour(&mut self, neighbour: &rtnl::Neighbour) -> Result<()> {
        self.change(
            || format!("set the neighbour {}", neighbour.address),
            &[],
            |w, sequence| rtnl::set_neighbour(w, sequence, neighbour),
        )
    }

    pub(crate) fn delete_neighbour(&mut self, neighbour: &rtnl::Neighbour) -> Result<()> {
        self.change(
            || format!("remove the neighbour {}", neighbour.address),
            &[ENOENT],
            |w, sequence| rtnl::delete_neighbour(w, sequence, neighbour),
        )
    }

    pub(crate) fn delete_route(&mut self, route: &rtnl::Route) -> Result<()> {
        self.change(
            || format!("remove a route to {:?}", route.destination),
            &[ESRCH],
            |w, sequence| rtnl::delete_route(w, sequence, route),
        )
    }

    pub(crate) fn delete(&mut self, link: &rtnl::Link) -> Result<()> {
        self.change(
            || format!("delete interface {}", link.name),
            &[ENODEV],
            |w, sequence| rtnl::delete_link(w, sequence, link.index),
        )
    }
}
