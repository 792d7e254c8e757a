//! WireGuard's device of a family: its key, which this node keeps, and its peers, which the Nodes say.
//!
//! What is private never leaves the kernel and the key's file; the public key is the kernel's answer.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use netplan::flannel::{Backend, End, PublicKey};
use netplan::overlay::Peer;
use stdx::{Arrange, Context, Error, Result, Sensitive};
use sys::netlink::Family;
use wire::rtnetlink as rtnl;
use wire::wireguard::{self as wg, Change, Device, Key};

use super::{Overlay, Way, pods_mtu};
use crate::kernel::{EEXIST, ENOENT, Kernel, Links};
use crate::node::NodeLink;
use crate::{Config, lock};

/// What is wrong where there is no device of the kind.
const KERNEL_LACKS: &str = "the kernel has no WireGuard (CONFIG_WIREGUARD, module wireguard), as --flannel-backend=wireguard-native needs it";
/// A key in base64 and a line's end, generously.
const FILE_MAX_BYTES: u64 = 256;

/// Where each peer was last said to be, by key.
pub(super) type Endpoints = Vec<(Key, SocketAddr)>;

/// Whether a device has the key in `file`; not if there is none.
pub(super) fn has_key(link: u32, file: &Path) -> bool {
    let Ok(Some(key)) = read(file) else { return false };
    let device = Generic::open().and_then(|mut generic| generic.device(link));
    device.is_ok_and(|device| device.private_key == Some(key))
}

impl Overlay {
    /// Makes the device of a family what it should be, and nothing anew that is right already; its peers are left
    /// as they are. Returns its index, and what the kernel has of it.
    pub(super) fn encrypted(
        &self,
        links: &mut Links,
        node: &NodeLink,
        way: &Way,
    ) -> Result<(u32, Device)> {
        const EOPNOTSUPP: i32 = 95;
        let name = &*self.config.tunnel.device(Backend::WireGuard, way.ipv6);
        let mtu = pods_mtu(&self.config, node);
        let mut found = links.find(name)?;
        if let Some(link) = found.take_if(|link| link.kind != "wireguard") {
            log::info!("the interface {name} is of another kind, making it anew");
            links.delete(&link)?;
        }
        let link = match found {
            Some(link) => link,
            None => {
                let make = |w: &mut wire::netlink::Writer, sequence| {
                    rtnl::create_wireguard(w, sequence, name, mtu);
                };
                let made = links.change(|| format!("make interface {name}"), &[EEXIST], make);
                made.map_err(|error| match error.errno() {
                    Some(EOPNOTSUPP) => Error::new(KERNEL_LACKS),
                    _ => error,
                })?;
                links.find(name)?.context(|| format!("interface {name} vanished"))?
            }
        };
        let key = self.private_key()?;
        let port = self.config.tunnel.wireguard_ports[usize::from(way.ipv6)];
        let mut generic = Generic::open()?;
        let mut device = generic.device(link.index)?;
        if device.private_key.as_ref() != Some(&key) || device.listen_port != port {
            let what = || format!("give {name} its key and the UDP port {port}");
            let target = (generic.family, link.index);
            generic
                .kernel
                .request(|w, s| wg::set_device(w, s, target, &key, port), |_| {})
                .context(what)?;
            device = generic.device(link.index)?;
        }
        let public = device.public_key.map(|key| wire::base64::encode(&key));
        let public = public.and_then(|text| PublicKey::parse(&text));
        let public = public.context(|| format!("read the public key of {name}"))?;
        lock(&way.nodes).set_key(public);
        self.settle(links, way, &link, mtu)?;
        Ok((link.index, device))
    }

    /// This node's, read once.
    fn private_key(&self) -> Result<Sensitive<Key>> {
        let mut held = lock(&self.key);
        if held.is_none() {
            *held = Some(read_or_make(&self.config.wireguard_key)?);
        }
        // It was set above.
        Ok(held.clone().unwrap_or_default())
    }
}

/// Gives a device the entries for `peers` and takes others away.
pub(super) fn set_peers(
    way: &Way,
    config: &Config,
    (link, device): (u32, Device),
    peers: &[Peer],
) -> Result<()> {
    let wanted = wanted(peers, config, way.ipv6);
    let mut told = lock(&way.told);
    let changes = changes(&device.peers, &wanted, &told);
    if changes.is_empty() {
        return Ok(());
    }
    let mut generic = Generic::open()?;
    let target = (generic.family, link);
    let changes: Vec<Change<'_>> = changes.iter().map(Planned::as_change).collect();
    for part in changes.chunks(wg::PEERS_IN_MESSAGE_MAX) {
        generic
            .kernel
            .request(|w, s| wg::set_peers(w, s, target, part), |_| {})
            .context(|| "tell WireGuard of the other nodes")?;
    }
    *told = wanted.iter().filter_map(|peer| Some((peer.key, peer.endpoint?))).collect();
    Ok(())
}

/// What the kernel should have, sorted by key, each once: a machine that came back under another name has two Nodes.
fn wanted(peers: &[Peer], config: &Config, ipv6: bool) -> Vec<wg::Peer> {
    let settings = &config.tunnel;
    let port = settings.wireguard_ports[usize::from(ipv6)];
    let mut all: Vec<wg::Peer> = Vec::with_capacity(peers.len());
    for peer in peers {
        let End::Key(key) = peer.end else { continue };
        let decoded = wire::base64::decode(key.text()).and_then(|key| Key::try_from(key).ok());
        let Some(key) = decoded else { continue };
        all.push(wg::Peer {
            key,
            preshared: settings.preshared.clone(),
            endpoint: Some(SocketAddr::new(peer.address, port)),
            keepalive_secs: settings.keepalive_secs,
            allowed: vec![(peer.block.first(), peer.block.prefix())],
        });
    }
    all.arrange_by_key(|peer| peer.key);
    all.dedup_by(|later, kept| {
        let same = later.key == kept.key;
        if same {
            kept.allowed.append(&mut later.allowed);
        }
        same
    });
    all
}

/// A change that is to come.
enum Planned {
    Set(wg::Peer),
    Remove(Key),
}

impl Planned {
    fn as_change(&self) -> Change<'_> {
        match self {
            Planned::Set(peer) => Change::Set(peer),
            Planned::Remove(key) => Change::Remove(key),
        }
    }
}

/// How to get from what is there to what is wanted. Where a peer was found to speak from stays, unless its Node says
/// another address than it did.
fn changes(present: &[wg::Peer], wanted: &[wg::Peer], told: &[(Key, SocketAddr)]) -> Vec<Planned> {
    let is_wanted = |key: &Key| wanted.binary_search_by(|peer| peer.key.cmp(key)).is_ok();
    let gone = present.iter().filter(|peer| !is_wanted(&peer.key));
    let mut changes: Vec<Planned> = gone.map(|peer| Planned::Remove(peer.key)).collect();
    let mut known: Vec<&wg::Peer> = present.iter().collect();
    known.arrange_by_key(|peer| peer.key);
    for peer in wanted {
        let found = known.binary_search_by(|old| old.key.cmp(&peer.key)).ok().map(|idx| known[idx]);
        let before = told.binary_search_by(|(key, _)| key.cmp(&peer.key)).ok();
        let before = before.map(|idx| told[idx].1).or(found.and_then(|old| old.endpoint));
        let moved = before != peer.endpoint || found.is_none_or(|old| old.endpoint.is_none());
        if !moved && found.is_some_and(|old| is_like(old, peer)) {
            continue;
        }
        let endpoint = peer.endpoint.filter(|_| moved || found.is_none());
        changes.push(Planned::Set(wg::Peer { endpoint, ..peer.clone() }));
    }
    changes
}

/// All but the endpoint, and the order of blocks.
fn is_like(old: &wg::Peer, new: &wg::Peer) -> bool {
    let sorted = |peer: &wg::Peer| {
        let mut blocks: Vec<(IpAddr, u8)> = peer.allowed.clone();
        blocks.arrange();
        blocks
    };
    old.preshared == new.preshared
        && old.keepalive_secs == new.keepalive_secs
        && sorted(old) == sorted(new)
}

/// A socket to WireGuard's part of the kernel.
struct Generic {
    kernel: Kernel,
    family: u16,
}

impl Generic {
    fn open() -> Result<Generic> {
        let mut kernel = Kernel::open(Family::Generic)?;
        let mut family = None;
        let asked = kernel.request(
            |w, sequence| wg::find_family(w, sequence, "wireguard"),
            |message| family = family.or(wg::parse_family(message)),
        );
        match asked {
            Err(error) if error.errno() == Some(ENOENT) => return Err(Error::new(KERNEL_LACKS)),
            asked => asked.context(|| "look for WireGuard in the kernel")?,
        }
        let family = family.context(|| "read the kernel's number of WireGuard")?;
        Ok(Generic { kernel, family })
    }

    fn device(&mut self, link: u32) -> Result<Device> {
        let (family, mut device) = (self.family, Device::default());
        self.kernel
            .request(
                |w, sequence| wg::dump_device(w, sequence, family, link),
                |message| wg::parse_device(message, &mut device),
            )
            .context(|| "read WireGuard's peers")?;
        Ok(device)
    }
}

fn read_or_make(file: &Path) -> Result<Sensitive<Key>> {
    if let Some(key) = read(file)? {
        return Ok(key);
    }
    let mut key: Key = [0; 32];
    rt::random(&mut key);
    let key = Sensitive::from(clamped(key));
    if let Some(directory) = file.parent() {
        rt::fs::create_dir_all(directory, 0o700)?;
    }
    let mut text = wire::base64::encode(key.reveal());
    text.push('\n');
    rt::fs::write_atomic(file, text.as_bytes(), 0o600)?;
    Ok(key)
}

/// The key in a file, as `wg genkey` writes it; `None` without the file.
fn read(file: &Path) -> Result<Option<Sensitive<Key>>> {
    let Some(bytes) = rt::fs::read_record(file, FILE_MAX_BYTES)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).unwrap_or("").trim();
    let key = wire::base64::decode(text).and_then(|key| Key::try_from(key).ok());
    let key = key.context(|| format!("{} holds no key of 32 bytes in base64", file.display()))?;
    Ok(Some(clamped(key).into()))
}

/// As the kernel keeps it: a few bits of each key are the same.
fn clamped(mut key: Key) -> Key {
    key[0] &= 248;
    key[31] = (key[31] & 127) | 64;
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8, endpoint: &str, allowed: &str) -> wg::Peer {
        wg::Peer {
            key: [n; 32],
            preshared: [0; 32].into(),
            endpoint: endpoint.parse().ok(),
            keepalive_secs: 25,
            allowed: allowed.split(' ').map(|text| (text.parse().unwrap(), 24)).collect(),
        }
    }

    fn told(planned: &[Planned]) -> String {
        let one = |planned: &Planned| match planned {
            Planned::Remove(key) => format!("-{}", key[0]),
            Planned::Set(peer) => {
                let at = peer.endpoint.map(|at| format!(" at {at}")).unwrap_or_default();
                let blocks = peer.allowed.iter().map(|(a, _)| format!(" {a}")).collect::<String>();
                format!("+{}{at}{blocks}", peer.key[0])
            }
        };
        planned.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn only_what_differs_is_changed_and_who_moved_is_not_sent_back() {
        let one = peer(1, "192.0.2.11:51820", "10.42.1.0");
        let two = peer(2, "192.0.2.12:51820", "10.42.2.0 10.42.7.0");
        let both = [one.clone(), two.clone()];
        let at = |peers: &[wg::Peer]| -> Endpoints {
            peers.iter().map(|peer| (peer.key, peer.endpoint.unwrap())).collect()
        };
        let check = |present: &[wg::Peer], wanted: &[wg::Peer], before: &Endpoints| {
            told(&changes(present, wanted, before))
        };
        let first = "+1 at 192.0.2.11:51820 10.42.1.0, +2 at 192.0.2.12:51820 10.42.2.0 10.42.7.0";
        assert_eq!(check(&[], &both, &Vec::new()), first);
        let reversed = [peer(2, "192.0.2.12:51820", "10.42.7.0 10.42.2.0"), one.clone()];
        assert_eq!(check(&reversed, &both, &Vec::new()), "", "the order says nothing");
        assert_eq!(check(&both, std::slice::from_ref(&one), &at(&both)), "-2");
        // It speaks from behind a router now; its Node says the same as before.
        let roamed = [peer(1, "203.0.113.7:9", "10.42.1.0"), two.clone()];
        assert_eq!(check(&roamed, &both, &at(&both)), "");
        let wider = [peer(1, "192.0.2.11:51820", "10.42.1.0 10.42.9.0"), two.clone()];
        assert_eq!(check(&roamed, &wider, &at(&both)), "+1 10.42.1.0 10.42.9.0");
        // Its Node says another address; after a start of k3rs the Node's word counts.
        let moved = [peer(1, "192.0.2.99:51820", "10.42.1.0"), two.clone()];
        assert_eq!(check(&roamed, &moved, &at(&both)), "+1 at 192.0.2.99:51820 10.42.1.0");
        assert_eq!(check(&roamed, &both, &Vec::new()), "+1 at 192.0.2.11:51820 10.42.1.0");
        // Somebody took it away.
        assert_eq!(
            check(std::slice::from_ref(&two), &both, &at(&both)),
            "+1 at 192.0.2.11:51820 10.42.1.0"
        );
        let mut shared = both.clone();
        shared[0].preshared = [3; 32].into();
        assert_eq!(check(&both, &shared, &at(&both)), "+1 10.42.1.0");
    }

    #[test]
    fn the_key_is_made_once_and_stays() {
        let directory = std::env::temp_dir().join(format!("k3rs-wireguard-{}", std::process::id()));
        let file = directory.join("net").join("key");
        let first = read_or_make(&file).unwrap();
        assert_eq!(read_or_make(&file).unwrap(), first);
        assert_eq!(first.reveal()[0] & 7, 0);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        rt::fs::write(&file, b"c2hvcnQ=\n", 0o600).unwrap();
        let error = read_or_make(&file).unwrap_err().to_string();
        assert_eq!(error, format!("{} holds no key of 32 bytes in base64", file.display()));
        rt::fs::remove_dir_all(&directory).unwrap();
    }
}
