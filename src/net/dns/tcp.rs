//! Cluster DNS over TCP: whose connection goes when there are too many, and one question after the other.

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::{TcpListener, TcpStream};
use stdx::{Context, Result};
use stdx::{OrdMap, time::Mono};
use wire::dns::{MESSAGE_MAX_BYTES, Query};

use super::{Dns, QUERY_MAX_BYTES, Step};
use crate::lock;

/// Open connections.
const CONNECTIONS_MAX: usize = 128;
/// Of one address: a pod that opens many closes its own.
const ADDRESS_CONNECTIONS_MAX: usize = CONNECTIONS_MAX / 8;
/// Between two questions, and from a question's first byte to the last of its answer.
const CONNECTION_IDLE: Duration = Duration::from_secs(10);

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Vec<Place>,
    next: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    address: IpAddr,
    active: Mono,
    stream: TcpStream,
}

impl Places {
    /// A place for a connection that was just accepted; another one's, if need be.
    fn take(&mut self, address: IpAddr, stream: &TcpStream, now: Mono) -> u64 {
        self.next += 1;
        let (number, address) = (self.next, address.to_canonical());
        self.taken.push(Place { number, address, active: now, stream: stream.clone() });
        while let Some(idx) = surplus(self.taken.iter().map(|place| (place.address, place.active)))
        {
            // Its task reads the end, and goes.
            let _ = self.taken.swap_remove(idx).stream.shutdown(Shutdown::Both);
        }
        number
    }

    fn touch(&mut self, number: u64, now: Mono) {
        if let Some(place) = self.taken.iter_mut().find(|place| place.number == number) {
            place.active = now;
        }
    }

    fn leave(&mut self, number: u64) {
        self.taken.retain(|place| place.number != number);
    }
}

/// The connection to be given up, if there are too many: of whoever has most, the one that did nothing for
/// longest.
fn surplus(taken: impl ExactSizeIterator<Item = (IpAddr, Mono)> + Clone) -> Option<usize> {
    let mut holders: OrdMap<IpAddr, usize> = OrdMap::new();
    for (address, _) in taken.clone() {
        *holders.entry(address).or_default() += 1;
    }
    let most = holders.values().copied().max()?;
    if taken.len() <= CONNECTIONS_MAX && most <= ADDRESS_CONNECTIONS_MAX {
        return None;
    }
    let of_most = |(_, (address, _)): &(usize, (IpAddr, Mono))| holders.get(address) == Some(&most);
    taken.enumerate().filter(of_most).min_by_key(|(_, (_, active))| *active).map(|(idx, _)| idx)
}

pub(super) async fn serve(dns: Arc<Dns>, address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.context(|| "listen on TCP")?;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::debug!("cluster DNS: accept: {error}");
                rt::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let number = lock(&dns.connections).take(peer.ip(), &stream, rt::now().mono);
        let dns = dns.clone();
        rt::spawn(async move {
            while let Ok(Ok(true)) = rt::timeout(CONNECTION_IDLE, exchange(&dns, &stream)).await {
                lock(&dns.connections).touch(number, rt::now().mono);
            }
            lock(&dns.connections).leave(number);
        })
        .detach();
    }
}

/// One question and its answer; `false` at the end of the stream.
async fn exchange(dns: &Dns, stream: &TcpStream) -> std::io::Result<bool> {
    let mut stream = stream.clone();
    let mut len = [0; 2];
    if stream.read_exact(&mut len).await.is_err() {
        return Ok(false);
    }
    let len = usize::from(u16::from_be_bytes(len));
    if len > QUERY_MAX_BYTES {
        return Ok(false);
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    let answer = match dns.step(&message, |_: &Query| MESSAGE_MAX_BYTES) {
        Step::Done(answer) => answer,
        Step::Silence => return Ok(false),
        Step::Forward(query) => dns.forward(&query, MESSAGE_MAX_BYTES).await,
    };
    let len = u16::try_from(answer.len()).unwrap_or(0);
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend(answer);
    stream.write_all(&framed).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_gives_up_what_is_idle() {
        let at = |last: u8, secs: u64| (IpAddr::from([10, 42, 0, last]), Mono(secs));
        let gone = |taken: &[(IpAddr, Mono)]| surplus(taken.iter().copied());
        assert_eq!(gone(&[]), None);
        // Within every bound nobody goes.
        let mut taken: Vec<_> =
            (0..ADDRESS_CONNECTIONS_MAX as u64).map(|n| at(1, 50 - n)).collect();
        assert_eq!(gone(&taken), None);
        // One more than its share: its own that did nothing for longest, though another's is older.
        taken.push(at(2, 0));
        taken.push(at(1, 99));
        assert_eq!(gone(&taken), Some(ADDRESS_CONNECTIONS_MAX - 1));
        // Too many in all, each within its share: of those who have most.
        let mut taken: Vec<_> = (0..CONNECTIONS_MAX).map(|n| at((n % 100) as u8, 10)).collect();
        taken.push(at(200, 1));
        let idx = gone(&taken).unwrap();
        assert!(idx % 100 < CONNECTIONS_MAX % 100 && taken[idx].0 != taken[CONNECTIONS_MAX].0);
    }
}
