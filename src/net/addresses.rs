//! Host-local addresses: one small file per address in use, which also remembers the sandbox's host ports.
//!
//! A file is made before its address is used and removed after. Files need not outlive a power cut
//! (no pod does), so nothing waits for the disk. A crash between making and filling a file leaves
//! an empty one, which belongs to no live sandbox and is freed at the next start.

use std::net::IpAddr;
use std::path::PathBuf;

use netplan::{Cidr, Protocol};
use stdx::{Arrange, OrdMap, OrdSet};
use stdx::{Context, Error, Result};

use crate::HostPort;

/// What an address file says of its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sandbox_id: String,
    /// `namespace/name`, for people who look at the file.
    pub(crate) pod: String,
    pub(crate) host_ports: Vec<HostPort>,
}

/// Sandboxes by id, each with its record and addresses.
pub(crate) type Sandboxes = OrdMap<String, (Record, Vec<IpAddr>)>;

/// The addresses of this node's pods.
#[derive(Debug)]
pub(crate) struct Addresses {
    directory: PathBuf,
    cidrs: Vec<Cidr>,
    used: OrdSet<IpAddr>,
    /// Where the next search begins, per block: freed addresses rest as long as possible.
    next: Vec<u64>,
}

impl Addresses {
    /// Reads the directory. Returns the sandboxes found, with their addresses, IPv4 first.
    pub(crate) fn open(directory: PathBuf, cidrs: Vec<Cidr>) -> Result<(Addresses, Sandboxes)> {
        rt::fs::create_dir_all(&directory, 0o700)?;
        let mut found = Sandboxes::new();
        let mut used = OrdSet::new();
        for path in rt::fs::list_dir(&directory)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            let text = rt::fs::read_text(&path).unwrap_or_default();
            let Some(record) = Record::parse(&text) else {
                log::warn!("address {address}: unreadable record, freed");
                rt::fs::remove_file(&path)?;
                continue;
            };
            used.insert(address);
            let entry = found.entry(record.sandbox_id.clone()).or_insert((record, Vec::new()));
            entry.1.push(address);
            entry.1.arrange();
        }
        let next = cidrs.iter().map(|cidr| first_free_after_used(cidr, &used)).collect();
        Ok((Addresses { directory, cidrs, used, next }, found))
    }

    /// Takes one address of each block for a sandbox.
    pub(crate) fn allocate(&mut self, record: &Record) -> Result<Vec<IpAddr>> {
        let mut taken = Vec::new();
        for idx in 0..self.cidrs.len() {
            match self.allocate_in(idx, record) {
                Ok(address) => taken.push(address),
                Err(error) => {
                    self.release(&taken)?;
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Gives addresses back.
    pub(crate) fn release(&mut self, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            rt::fs::remove_file(self.directory.join(address.to_string()))
                .context(|| format!("free address {address}"))?;
            self.used.remove(address);
        }
        Ok(())
    }

    fn allocate_in(&mut self, idx: usize, record: &Record) -> Result<IpAddr> {
        let cidr = self.cidrs[idx];
        let n_hosts = host_count(&cidr);
        let from = self.next[idx];
        for step in 0..n_hosts.min(SEARCH_MAX) {
            let n = FIRST_HOST + (from - FIRST_HOST + step) % n_hosts;
            let Some(address) = cidr.nth(n) else { continue };
            if self.used.contains(&address) {
                continue;
            }
            let path = self.directory.join(address.to_string());
            if rt::fs::create_new(&path, record.to_text().as_bytes(), 0o600)? {
                self.used.insert(address);
                self.next[idx] = FIRST_HOST + (n + 1 - FIRST_HOST) % n_hosts;
                return Ok(address);
            }
        }
        Err(Error::new(format!("no free address in {cidr}")))
    }
}

/// 0 names the network and 1 is the bridge.
const FIRST_HOST: u64 = 2;
/// Addresses looked at in one allocation; a node runs far fewer pods.
const SEARCH_MAX: u64 = 1 << 17;

fn host_count(cidr: &Cidr) -> u64 {
    let bits = if cidr.is_ipv4() { 32 } else { 128 } - cidr.prefix();
    let all = 1u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX);
    // IPv4's last address is the broadcast address.
    all.saturating_sub(FIRST_HOST + u64::from(cidr.is_ipv4())).max(1)
}

fn first_free_after_used(cidr: &Cidr, used: &OrdSet<IpAddr>) -> u64 {
    let Some(last) = used.iter().rfind(|address| cidr.contains(**address)) else {
        return FIRST_HOST;
    };
    let offset = match (last, cidr.first()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(a.to_bits() - b.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => u64::try_from(a.to_bits() - b.to_bits()).unwrap_or(0),
        _ => 0,
    };
    FIRST_HOST + (offset + 1).saturating_sub(FIRST_HOST) % host_count(cidr)
}

impl Record {
    fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.sandbox_id, self.pod);
        for port in &self.host_ports {
            text.push_str(&port_text(port));
            text.push('\n');
        }
        text
    }

    fn parse(text: &str) -> Option<Record> {
        let mut lines = text.lines();
        let sandbox_id = lines.next().filter(|id| !id.is_empty())?.to_owned();
        let pod = lines.next()?.to_owned();
        let host_ports = lines.map(parse_port).collect::<Option<Vec<HostPort>>>()?;
        Some(Record { sandbox_id, pod, host_ports })
    }
}

/// A host port as files have it.
pub(crate) fn port_text(port: &HostPort) -> String {
    let host_ip = port.host_ip.map_or("-".to_owned(), |ip| ip.to_string());
    format!("{} {host_ip} {} {}", port.protocol.lower(), port.host_port, port.container_port)
}

/// Reads what [`port_text`] wrote.
pub(crate) fn parse_port(line: &str) -> Option<HostPort> {
    let mut words = line.split(' ');
    let protocol = Protocol::from_name(&words.next()?.to_uppercase())?;
    let host_ip = match words.next()? {
        "-" => None,
        ip => Some(ip.parse().ok()?),
    };
    let host_port = words.next()?.parse().ok()?;
    let container_port = words.next()?.parse().ok()?;
    Some(HostPort { host_ip, protocol, host_port, container_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("k3rs-addresses-{name}-{}", std::process::id()))
    }

    fn record(id: &str) -> Record {
        Record { sandbox_id: id.into(), pod: "ns/pod".into(), host_ports: Vec::new() }
    }

    #[test]
    fn addresses_rotate_survive_and_are_never_given_twice() {
        let dir = scratch("rotate");
        let cidrs: Vec<Cidr> = vec!["10.9.0.0/29".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let (mut all, _) = Addresses::open(dir.clone(), cidrs.clone()).unwrap();
        let text = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        let a = all.allocate(&record("a")).unwrap();
        assert_eq!(text(&a), "10.9.0.2 fd00::2");
        let mut ported = record("b");
        ported.host_ports.push(HostPort {
            host_ip: "127.0.0.1".parse().ok(),
            protocol: Protocol::Udp,
            host_port: 53,
            container_port: 5353,
        });
        all.allocate(&ported).unwrap();
        all.release(&a).unwrap();
        assert_eq!(text(&all.allocate(&record("c")).unwrap()), "10.9.0.4 fd00::4");
        drop(all);
        rt::fs::create_new(dir.join("10.9.0.6"), b"", 0o600).unwrap();
        let (mut all, found) = Addresses::open(dir.clone(), cidrs).unwrap();
        assert_eq!(found["b"].0, ported);
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["b", "c"]);
        // 5, 6 (its empty record was freed), then round to 2; then the block is full.
        for expected in ["10.9.0.5", "10.9.0.6", "10.9.0.2"] {
            assert_eq!(all.allocate(&record("d")).unwrap()[0].to_string(), expected);
        }
        let error = all.allocate(&record("e")).unwrap_err();
        assert_eq!(error.to_string(), "no free address in 10.9.0.0/29");
        rt::fs::remove_dir_all(&dir).unwrap();
    }
}
