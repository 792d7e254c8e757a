//! Names to answers: the Kubernetes DNS specification 1.1.0 over the model's Services and endpoints.

use std::net::{IpAddr, Ipv6Addr};

use stdx::Arrange;

use crate::model::{Entry, Model};
use crate::objects::{Endpoint, Service, Slice, SlicePort};
use crate::table::is_ipv6;

/// Services that an answer names: more find no room in the longest message. Each is compared with those before it.
const SERVICES_TOLD_MAX: usize = 2000;

/// The zone that is answered here, and who answers.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local`, in lower case.
    pub domain: String,
    /// The addresses of cluster DNS.
    pub servers: Vec<IpAddr>,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    A,
    Aaaa,
    Srv,
    Ptr,
    Txt,
    Ns,
    Soa,
    Cname,
    Any,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    Address(IpAddr),
    Alias(String),
    Pointer(String),
    Service { priority: u16, weight: u16, port: u16, target: String },
    Text(String),
    Nameserver(String),
    Authority { server: String, mailbox: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub data: RecordData,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Another server's business.
    Elsewhere,
    /// The name does not exist; the zone's SOA goes with it.
    NoName,
    /// The name exists. Without records: none of this kind, and the SOA goes with it.
    Found { records: Vec<Record>, additional: Vec<Record> },
}

/// Seconds that answers of ours may be kept, positive and negative: endpoints change quickly.
pub const TTL_SECS: u32 = 5;

impl Model {
    /// Answers a question about `name` (lower case, no dot at its end). `exists` knows the namespaces, which
    /// may have nothing that the model knows of; without it, those with Services are known.
    pub fn answer(
        &self,
        zone: &Zone,
        name: &str,
        kind: RecordKind,
        exists: Option<&dyn Fn(&str) -> bool>,
    ) -> Answer {
        let question = Question { model: self, zone, name, kind, exists };
        if let Some(address) = address_of_reverse(name) {
            return question.reverse(address);
        }
        match name.strip_suffix(zone.domain.as_str()) {
            Some("") => question.apex(),
            Some(rest) if rest.ends_with('.') => question.inside(&rest[..rest.len() - 1]),
            _ => Answer::Elsewhere,
        }
    }
}

/// The zone's SOA record, for negative answers.
pub fn authority(zone: &Zone) -> Record {
    let data = RecordData::Authority {
        server: format!("ns.dns.{}", zone.domain),
        mailbox: format!("hostmaster.{}", zone.domain),
    };
    Record { name: zone.domain.clone(), data }
}

struct Question<'a> {
    model: &'a Model,
    zone: &'a Zone,
    name: &'a str,
    kind: RecordKind,
    exists: Option<&'a dyn Fn(&str) -> bool>,
}

impl Question<'_> {
    fn apex(&self) -> Answer {
        let server = format!("ns.dns.{}", self.zone.domain);
        match self.kind {
            RecordKind::Soa => found(vec![authority(self.zone)]),
            RecordKind::Ns => {
                let data = RecordData::Nameserver(server.clone());
                let records = vec![Record { name: self.name.to_owned(), data }];
                let additional = self.zone.servers.iter().map(|ip| address(&server, *ip));
                Answer::Found { records, additional: additional.collect() }
            }
            _ => found(Vec::new()),
        }
    }

    /// `rest` is the name without the zone.
    fn inside(&self, rest: &str) -> Answer {
        let mut labels: Vec<&str> = rest.split('.').collect();
        labels.reverse();
        match labels[..] {
            ["dns-version"] => self.if_kind(RecordKind::Txt, || {
                vec![self.record(RecordData::Text("1.1.0".to_owned()))]
            }),
            ["dns"] | ["svc"] | ["pod"] => found(Vec::new()),
            ["dns", "ns"] => self.addresses(&self.zone.servers),
            ["pod", namespace] | ["svc", namespace] => self.exists(self.has_namespace(namespace)),
            ["pod", namespace, dashed] => match address_of_dashes(dashed) {
                Some(address) if self.exists.is_none() || self.has_namespace(namespace) => {
                    self.addresses(&[address])
                }
                _ => Answer::NoName,
            },
            ["svc", namespace, service] => self.service(namespace, service),
            ["svc", namespace, service, protocol @ ("_tcp" | "_udp" | "_sctp")] => {
                self.ports_of(namespace, service, "", &protocol[1..])
            }
            ["svc", namespace, service, host] => self.endpoint(namespace, service, host),
            ["svc", namespace, service, protocol, port]
                if protocol.starts_with('_') && port.starts_with('_') =>
            {
                self.ports_of(namespace, service, &port[1..], &protocol[1..])
            }
            _ => Answer::NoName,
        }
    }

    /// While the namespaces are being read, one with Services is known by these.
    fn has_namespace(&self, namespace: &str) -> bool {
        self.exists.is_some_and(|exists| exists(namespace)) || self.model.has_namespace(namespace)
    }

    fn service(&self, namespace: &str, name: &str) -> Answer {
        let Some((entry, service)) = self.find(namespace, name) else { return Answer::NoName };
        if let Some(target) = &service.external_name {
            if let Ok(ip) = target.parse::<IpAddr>() {
                return self.addresses(&[ip]);
            }
            let target = target.trim_end_matches('.').to_lowercase();
            return found(vec![self.record(RecordData::Alias(target))]);
        }
        if self.kind == RecordKind::Srv {
            return self.srv(namespace, name, entry, service, |_, _| true);
        }
        if !service.headless {
            return self.addresses(&service.cluster_ips);
        }
        let mut ready: Vec<IpAddr> =
            entry.ready(service).filter_map(|(_, e)| e.addresses.first().copied()).collect();
        ready.arrange();
        ready.dedup();
        match ready.is_empty() {
            true => Answer::NoName,
            false => self.addresses(&ready),
        }
    }

    /// `_port._protocol.service`; an empty port is just `_protocol.service`.
    fn ports_of(&self, namespace: &str, name: &str, port: &str, protocol: &str) -> Answer {
        let Some((entry, service)) = self.find(namespace, name) else { return Answer::NoName };
        let wanted = |p_name: &str, p_protocol: &str| {
            p_protocol == protocol && (port.is_empty() || p_name == port)
        };
        let exists = service.ports.iter().any(|p| wanted(&p.name, p.protocol.lower()));
        if !exists || service.external_name.is_some() {
            return Answer::NoName;
        }
        match self.kind {
            RecordKind::Srv if !port.is_empty() => {
                self.srv(namespace, name, entry, service, wanted)
            }
            _ => found(Vec::new()),
        }
    }

    fn srv(
        &self,
        namespace: &str,
        name: &str,
        entry: &Entry,
        service: &Service,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Answer {
        let own = format!("{name}.{namespace}.svc.{}", self.zone.domain);
        let (mut records, mut additional) = (Vec::new(), Vec::new());
        let mut add = |port: u16, target: String, weight: u16| {
            let data = RecordData::Service { priority: 0, weight, port, target };
            let record = self.record(data);
            if !records.contains(&record) {
                records.push(record);
            }
        };
        const WEIGHT_ALL: usize = 100;
        if service.headless {
            let targets: Vec<(&SlicePort, &Endpoint)> = entry
                .ready(service)
                .flat_map(|(slice, e)| slice.ports.iter().map(move |p| (p, e)))
                .filter(|(p, _)| wanted(&p.name, p.protocol.lower()))
                .take(SERVICES_TOLD_MAX)
                .collect();
            let weight = WEIGHT_ALL.checked_div(targets.len()).unwrap_or(0).max(1);
            for (port, endpoint) in targets {
                let Some(ip) = endpoint.addresses.first() else { continue };
                let target = format!("{}.{own}", host_of(endpoint, *ip));
                let record = address(&target, *ip);
                if !additional.contains(&record) {
                    additional.push(record);
                }
                add(port.port, target, u16::try_from(weight).unwrap_or(1));
            }
        } else {
            let ports: Vec<u16> = service
                .ports
                .iter()
                .filter(|p| wanted(&p.name, p.protocol.lower()))
                .take(SERVICES_TOLD_MAX)
                .map(|p| p.port)
                .collect();
            let weight = WEIGHT_ALL.checked_div(ports.len()).unwrap_or(0).max(1);
            for port in ports {
                add(port, own.clone(), u16::try_from(weight).unwrap_or(1));
            }
            additional.extend(service.cluster_ips.iter().map(|ip| address(&own, *ip)));
        }
        match records.is_empty() {
            // The name exists as long as an endpoint is ready, also one without ports.
            true if service.headless && entry.ready(service).next().is_none() => Answer::NoName,
            _ => Answer::Found { records, additional },
        }
    }

    /// `hostname.service` or `a-b-c-d.service`.
    fn endpoint(&self, namespace: &str, name: &str, host: &str) -> Answer {
        let Some((entry, service)) = self.find(namespace, name) else { return Answer::NoName };
        let is_it = |e: &Endpoint, ip: IpAddr| host_of(e, ip) == host;
        let mut addresses: Vec<IpAddr> = entry
            .ready(service)
            .flat_map(|(_, e)| e.addresses.iter().map(move |ip| (e, *ip)))
            .filter(|(e, ip)| is_it(e, *ip))
            .map(|(_, ip)| ip)
            .collect();
        addresses.arrange();
        addresses.dedup();
        match addresses.is_empty() {
            true => Answer::NoName,
            false => self.addresses(&addresses),
        }
    }

    fn reverse(&self, ip: IpAddr) -> Answer {
        let domain = &self.zone.domain;
        let mut names: Vec<String> = Vec::new();
        for (namespace, name) in self.model.services_with(ip) {
            let Some((entry, service)) = self.find(namespace, name) else { continue };
            let own = format!("{name}.{namespace}.svc.{domain}");
            if service.cluster_ips.contains(&ip) {
                names.push(own);
                continue;
            }
            let with_address = entry.ready(service).filter(|(_, e)| e.addresses.contains(&ip));
            let hosts = with_address.filter(|(_, e)| service.headless || e.hostname.is_some());
            names.extend(hosts.map(|(_, e)| format!("{}.{own}", host_of(e, ip))));
        }
        names.arrange();
        names.dedup();
        let node = self.model.node();
        let ours = node.service_cidrs.iter().chain(&node.cluster_cidrs).any(|c| c.contains(ip));
        match names.is_empty() {
            true if ours => Answer::NoName,
            true => Answer::Elsewhere,
            false => self.if_kind(RecordKind::Ptr, || {
                names.into_iter().map(|name| self.record(RecordData::Pointer(name))).collect()
            }),
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Option<(&Entry, &Service)> {
        let entry = self.model.entry(namespace, name)?;
        Some((entry, entry.service.as_ref()?))
    }

    /// Those of the family that is asked for.
    fn addresses(&self, addresses: &[IpAddr]) -> Answer {
        let wanted = |ip: &&IpAddr| match self.kind {
            RecordKind::A => !is_ipv6(**ip),
            RecordKind::Aaaa => is_ipv6(**ip),
            RecordKind::Any => true,
            _ => false,
        };
        found(addresses.iter().filter(wanted).map(|ip| address(self.name, *ip)).collect())
    }

    fn if_kind(&self, kind: RecordKind, records: impl FnOnce() -> Vec<Record>) -> Answer {
        match self.kind == kind || self.kind == RecordKind::Any {
            true => found(records()),
            false => found(Vec::new()),
        }
    }

    fn exists(&self, exists: bool) -> Answer {
        if exists { found(Vec::new()) } else { Answer::NoName }
    }

    fn record(&self, data: RecordData) -> Record {
        Record { name: self.name.to_owned(), data }
    }
}

impl Entry {
    /// The endpoints that names lead to, with their slices.
    fn ready(&self, service: &Service) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let all = service.publish_not_ready;
        self.slices()
            .flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
            .filter(move |(_, endpoint)| endpoint.ready || all)
    }

    /// The addresses whose reverse names may lead to this service.
    pub(crate) fn named_addresses(&self) -> Vec<IpAddr> {
        let Some(service) = &self.service else { return Vec::new() };
        let named = self
            .ready(service)
            .filter(|(_, endpoint)| service.headless || endpoint.hostname.is_some());
        let mut addresses: Vec<IpAddr> = named.flat_map(|(_, e)| e.addresses.clone()).collect();
        addresses.extend(&service.cluster_ips);
        addresses.arrange();
        addresses.dedup();
        addresses
    }
}

fn found(records: Vec<Record>) -> Answer {
    Answer::Found { records, additional: Vec::new() }
}

fn address(name: &str, ip: IpAddr) -> Record {
    Record { name: name.to_owned(), data: RecordData::Address(ip) }
}

/// An endpoint's own label: its hostname, or its address with dashes.
fn host_of(endpoint: &Endpoint, ip: IpAddr) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_string(),
        None => ip.to_string().replace(['.', ':'], "-"),
    }
}

fn address_of_dashes(label: &str) -> Option<IpAddr> {
    let dotted = label.replace('-', ".").parse::<IpAddr>();
    dotted.ok().or_else(|| label.replace('-', ":").parse().ok())
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn address_of_reverse(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut parts: Vec<&str> = rest.split('.').collect();
        parts.reverse();
        return parts.join(".").parse().ok().filter(|_| parts.len() == 4);
    }
    let nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if nibbles.len() != 32 {
        return None;
    }
    let mut bits: u128 = 0;
    for nibble in nibbles.iter().rev() {
        let digit = u128::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1)?;
        bits = bits << 4 | digit;
    }
    Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
}
