//! Forgets UDP connections that lead where no endpoint is any more.
//!
//! UDP has no end that the kernel could see: a client that keeps one socket would go on talking to
//! a pod that is gone, or, from before there was any endpoint, to nobody.

use std::net::IpAddr;

use netplan::{Cidr, Protocol, UdpFrontend};
use stdx::Result;
use sys::netlink::Family;
use wire::conntrack::{self, Connection};

use crate::kernel::{ENOENT, Kernel, Links};

/// Deletes the tracked connections to `frontends` that are not answered by one of their endpoints.
/// Returns how many there were.
pub(crate) fn forget_stale(frontends: &[UdpFrontend]) -> Result<usize> {
    let mut n_forgotten = 0;
    let mut kernel = Kernel::open(Family::Netfilter)?;
    let here: Vec<IpAddr> = match frontends.iter().any(|frontend| frontend.address.is_none()) {
        true => Links::open()?.addresses()?.into_iter().map(|a| a.address).collect(),
        false => Vec::new(),
    };
    for ipv6 in [false, true] {
        let of_family: Vec<&UdpFrontend> = frontends.iter().filter(|f| f.ipv6 == ipv6).collect();
        if of_family.is_empty() {
            continue;
        }
        let mut stale: Vec<Connection> = Vec::new();
        kernel.request(
            |w, sequence| conntrack::dump(w, sequence, ipv6),
            |message| {
                let connection = conntrack::parse(message);
                stale
                    .extend(connection.filter(|c| of_family.iter().any(|f| is_stale(f, c, &here))));
            },
        )?;
        forget_in(&mut kernel, &stale)?;
        n_forgotten += stale.len();
    }
    Ok(n_forgotten)
}

/// The tracked UDP connections that one of `pods` has.
pub(crate) fn of_udp(pods: &[Cidr]) -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    let mut kernel = Kernel::open(Family::Netfilter)?;
    for cidr in pods {
        let is_theirs = |c: &Connection| {
            c.protocol == Protocol::Udp.number()
                && (cidr.contains(c.source.ip()) || cidr.contains(c.reply_source.ip()))
        };
        kernel.request(
            |w, sequence| conntrack::dump(w, sequence, !cidr.is_ipv4()),
            |message| found.extend(conntrack::parse(message).filter(is_theirs)),
        )?;
    }
    Ok(found)
}

/// Deletes tracked connections.
pub(crate) fn forget(connections: &[Connection]) -> Result<()> {
    match connections {
        [] => Ok(()),
        all => forget_in(&mut Kernel::open(Family::Netfilter)?, all),
    }
}

fn forget_in(kernel: &mut Kernel, connections: &[Connection]) -> Result<()> {
    for connection in connections {
        match kernel.request(|w, s| conntrack::delete(w, s, connection), |_| {}) {
            Err(error) if error.errno() == Some(ENOENT) => {}
            result => result?,
        }
    }
    Ok(())
}

fn is_stale(frontend: &UdpFrontend, connection: &Connection, here: &[IpAddr]) -> bool {
    connection.protocol == Protocol::Udp.number()
        && connection.destination.port() == frontend.port
        && match frontend.address {
            Some(address) => address == connection.destination.ip(),
            // A node port or host port: any address of the node.
            None => here.contains(&connection.destination.ip()),
        }
        && !frontend.endpoints.contains(&connection.reply_source)
}
