//! Sockets for datagrams that say when there is something, and give and take it without waiting: whoever has many of them
//! needs one buffer.

use std::io::Result;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use smol::Async;

/// A UDP socket that never waits but where it says so.
#[derive(Debug)]
pub struct Datagrams(Async<UdpSocket>);

impl Datagrams {
    /// At an address of this machine.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn bind(address: SocketAddr) -> Result<Datagrams> {
        Async::<UdpSocket>::bind(address).map(Datagrams)
    }

    /// At a port of its own, for datagrams to and from one address.
    ///
    /// # Errors
    /// If there is no socket or no way there.
    pub fn to(address: SocketAddr) -> Result<Datagrams> {
        let any = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let own = Datagrams::bind(any)?;
        own.0.get_ref().connect(address)?;
        Ok(own)
    }

    /// Waits for a datagram, or an error.
    ///
    /// # Errors
    /// If the socket cannot be waited for.
    pub async fn readable(&self) -> Result<()> {
        self.0.readable().await
    }

    /// The next datagram, its length and whose it is; what is longer than `buffer` is cut.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; what the network says about an earlier one.
    pub fn try_receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
        self.0.get_ref().recv_from(buffer)
    }

    /// Sends to the address that it is for.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; what the network says about an earlier one.
    pub fn try_send(&self, datagram: &[u8]) -> Result<()> {
        self.0.get_ref().send(datagram).map(drop)
    }

    /// Sends to an address.
    ///
    /// # Errors
    /// As `try_send`.
    pub fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> Result<()> {
        self.0.get_ref().send_to(datagram, to).map(drop)
    }

    /// Where it is.
    ///
    /// # Errors
    /// If the socket does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}
