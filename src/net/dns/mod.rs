//! Cluster DNS on this node: UDP and TCP, answers from the model, the rest from upstream through a cache.

mod cache;
mod health;
mod tcp;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::controller::Cache as _;
use client::Informers;
use netplan::names::{self, RecordData, RecordKind, Zone};
use rt::lock::Semaphore;
use rt::net::UdpSocket;
use stdx::backoff::Backoff;
use stdx::{Context, Result};
use wire::dns::{Answer, CLASS_IN, Data, Name, Query, Section, Unanswerable, code, kind};

use crate::lock;
use crate::proxy::Proxy;
use cache::Cache;
use upstream::Upstream;

/// Questions on their way upstream at one time; more are refused, clients ask again.
const FORWARDS_MAX: usize = 512;
/// The largest query that is read: a name, a question, EDNS with options.
const QUERY_MAX_BYTES: usize = 4096;
/// Aliases that are followed for one answer.
const ALIASES_MAX: usize = 8;

/// What all of this node's DNS sockets share.
#[derive(Debug)]
pub(crate) struct Dns {
    proxy: Arc<Proxy>,
    zone: Zone,
    cache: Mutex<Cache>,
    upstream: Upstream,
    forwards: Arc<Semaphore>,
    connections: Mutex<tcp::Places>,
    /// Knows the Namespaces.
    namespaces: Option<Informers>,
}

/// An answer that is there, or what has to be asked elsewhere first.
enum Step {
    Done(Vec<u8>),
    Silence,
    Forward(Query),
}

impl Dns {
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        zone: Zone,
        resolv_conf: PathBuf,
        namespaces: Option<Informers>,
    ) -> Arc<Dns> {
        let own = zone.servers.clone();
        Arc::new(Dns {
            proxy,
            zone,
            cache: Mutex::default(),
            upstream: Upstream::new(resolv_conf, own),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            connections: Mutex::default(),
            namespaces,
        })
    }

    /// What the cluster itself says of a name.
    fn own(&self, name: &str, asked: u16) -> names::Answer {
        let known = self.namespaces.as_ref();
        let exists = |namespace: &str| {
            known.is_some_and(|all| all.get(&api::kinds::NAMESPACE, "", namespace).is_some())
        };
        let exists: Option<&dyn Fn(&str) -> bool> = known.is_some().then_some(&exists);
        lock(&self.proxy.model).answer(&self.zone, name, kind_of(asked), exists)
    }

    /// What can be said at once: cluster names, cached answers, refusals.
    fn step(&self, message: &[u8], limit: impl Fn(&Query) -> usize) -> Step {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unanswerable::Ignore) => return Step::Silence,
            Err(Unanswerable::Refuse { id, code }) => {
                return Step::Done(wire::dns::refusal(id, code));
            }
        };
        let limit_bytes = limit(&query);
        if query.edns_version != 0 {
            return Step::Done(Answer::new(&query, code::BAD_VERSION, false, limit_bytes).finish());
        }
        if query.class != CLASS_IN {
            return Step::Done(Answer::new(&query, code::REFUSED, false, limit_bytes).finish());
        }
        let name = query.name.to_lower_text();
        let answer = self.own(&name, query.kind);
        match answer {
            names::Answer::Elsewhere => {}
            names::Answer::Found { records, .. } if is_alias(&records, query.kind) => {
                return Step::Forward(query);
            }
            own => return Step::Done(self.encode(&query, own, limit_bytes)),
        }
        let now = rt::now().mono;
        match lock(&self.cache).get(&query, now) {
            Some((foreign, age_secs)) => {
                Step::Done(foreign.answer(&query, age_secs, cache::TTL_MAX_SECS, limit_bytes))
            }
            None => Step::Forward(query),
        }
    }

    /// Asks upstream, or follows an alias; always answers.
    async fn forward(&self, query: &Query, limit_bytes: usize) -> Vec<u8> {
        let failed = || Answer::new(query, code::SERVER_FAILURE, false, limit_bytes).finish();
        let Some(_permit) = self.forwards.try_acquire() else { return failed() };
        let name = query.name.to_lower_text();
        let own = self.own(&name, query.kind);
        if let names::Answer::Found { records, .. } = own {
            return self.follow(query, records, limit_bytes).await;
        }
        match self.ask(query).await {
            Ok((foreign, age_secs)) => {
                foreign.answer(query, age_secs, cache::TTL_MAX_SECS, limit_bytes)
            }
            Err(error) => {
                log::debug!("DNS {name}: {error}");
                failed()
            }
        }
    }

    /// A service that is an alias: the alias, and what it leads to, as stub resolvers want it.
    async fn follow(
        &self,
        query: &Query,
        records: Vec<names::Record>,
        limit_bytes: usize,
    ) -> Vec<u8> {
        let mut answer = Answer::new(query, code::NO_ERROR, true, limit_bytes);
        let mut records = records;
        for _ in 0..ALIASES_MAX {
            add_records(&mut answer, Section::Answer, &records);
            let alias = records.iter().find_map(|record| match &record.data {
                RecordData::Alias(target) => Some(target.clone()),
                _ => None,
            });
            let Some(target) = alias else { break };
            let own = self.own(&target, query.kind);
            match own {
                names::Answer::Found { records: next, .. } => records = next,
                names::Answer::NoName => break,
                names::Answer::Elsewhere => {
                    let Ok(name) = Name::from_text(&target) else { break };
                    let asked = Query { name, ..query.clone() };
                    match self.ask(&asked).await {
                        Ok((foreign, age_secs)) => foreign.copy(
                            &mut answer,
                            &asked.name,
                            Section::Answer,
                            age_secs,
                            cache::TTL_MAX_SECS,
                        ),
                        Err(error) => log::debug!("DNS {target}: {error}"),
                    }
                    break;
                }
            }
        }
        answer.finish()
    }

    /// Upstream's answer and its age in seconds.
    async fn ask(&self, query: &Query) -> Result<(Arc<wire::dns::Foreign>, u32)> {
        if let Some(found) = lock(&self.cache).get(query, rt::now().mono) {
            return Ok(found);
        }
        let foreign = Arc::new(self.upstream.ask(query).await?);
        lock(&self.cache).put(query, foreign.clone(), rt::now().mono);
        Ok((foreign, 0))
    }

    fn encode(&self, query: &Query, answer: names::Answer, limit_bytes: usize) -> Vec<u8> {
        let (code, records, additional) = match answer {
            names::Answer::Found { records, additional } => (code::NO_ERROR, records, additional),
            names::Answer::NoName => (code::NAME_ERROR, Vec::new(), Vec::new()),
            names::Answer::Elsewhere => (code::REFUSED, Vec::new(), Vec::new()),
        };
        let mut built = Answer::new(query, code, true, limit_bytes);
        match records.is_empty() {
            true => add_records(&mut built, Section::Authority, &[names::authority(&self.zone)]),
            false => add_shuffled(&mut built, &records, query.id),
        }
        add_records(&mut built, Section::Additional, &additional);
        built.finish()
    }
}

/// Serves until its task is dropped; a socket that cannot be had is tried again.
pub(crate) async fn serve(dns: Arc<Dns>, address: SocketAddr) {
    const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut failures = 0;
    loop {
        let udp = serve_udp(dns.clone(), address);
        let tcp = tcp::serve(dns.clone(), address);
        let error = match rt::future::try_zip(udp, tcp).await {
            Ok(((), ())) => return,
            Err(error) => error,
        };
        failures += 1;
        log::warn!("cluster DNS on {address}: {error}");
        rt::sleep(RETRY.delay(failures)).await;
    }
}

async fn serve_udp(dns: Arc<Dns>, address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address).await.context(|| "listen on UDP")?;
    let mut buf = vec![0; QUERY_MAX_BYTES];
    let mut n_served = 0u32;
    loop {
        let (n, peer) = match socket.recv_from(&mut buf).await {
            Ok(received) => received,
            // An ICMP error about an earlier answer: the client is gone.
            Err(error) if error.kind() == rt::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context(|| "receive over UDP"),
        };
        match dns.step(&buf[..n], Query::udp_limit_bytes) {
            // An answer that cannot be sent is asked for again.
            Step::Done(answer) => drop(socket.send_to(&answer, peer).await),
            Step::Silence => {}
            Step::Forward(query) => {
                let (dns, socket) = (dns.clone(), socket.clone());
                rt::spawn(async move {
                    let answer = dns.forward(&query, query.udp_limit_bytes()).await;
                    drop(socket.send_to(&answer, peer).await);
                })
                .detach();
            }
        }
        // A flood of queries must not keep everyone else from the executor.
        n_served = n_served.wrapping_add(1);
        if n_served.is_multiple_of(64) {
            rt::future::yield_now().await;
        }
    }
}

fn is_alias(records: &[names::Record], asked: u16) -> bool {
    asked != kind::CNAME && records.iter().any(|record| matches!(record.data, RecordData::Alias(_)))
}

/// Address records begin at another one for each query, so that simple clients spread.
fn add_shuffled(answer: &mut Answer, records: &[names::Record], id: u16) {
    let start = usize::from(id).checked_rem(records.len()).unwrap_or(0);
    add_records(answer, Section::Answer, &records[start..]);
    add_records(answer, Section::Answer, &records[..start]);
}

fn add_records(answer: &mut Answer, section: Section, records: &[names::Record]) {
    for record in records {
        // A name that DNS cannot carry (too long) is left out rather than refused as a whole.
        let (Ok(name), Ok(data)) = (Name::from_text(&record.name), data_of(&record.data)) else {
            log::debug!("DNS {}: a name in its record is too long", record.name);
            continue;
        };
        answer.record(section, &name, names::TTL_SECS, &data);
    }
}

fn data_of(data: &RecordData) -> Result<Data> {
    Ok(match data {
        RecordData::Address(ip) => Data::Address(*ip),
        RecordData::Alias(name) => Data::Cname(Name::from_text(name)?),
        RecordData::Pointer(name) => Data::Ptr(Name::from_text(name)?),
        RecordData::Nameserver(name) => Data::Ns(Name::from_text(name)?),
        RecordData::Text(text) => Data::Txt(text.clone()),
        RecordData::Service { priority, weight, port, target } => Data::Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: Name::from_text(target)?,
        },
        RecordData::Authority { server, mailbox } => Data::Soa {
            server: Name::from_text(server)?,
            mailbox: Name::from_text(mailbox)?,
            serial: u32::try_from(rt::now().wall.secs()).unwrap_or(0),
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: names::TTL_SECS,
        },
    })
}

fn kind_of(number: u16) -> RecordKind {
    match number {
        kind::A => RecordKind::A,
        kind::AAAA => RecordKind::Aaaa,
        kind::SRV => RecordKind::Srv,
        kind::PTR => RecordKind::Ptr,
        kind::TXT => RecordKind::Txt,
        kind::NS => RecordKind::Ns,
        kind::SOA => RecordKind::Soa,
        kind::CNAME => RecordKind::Cname,
        kind::ANY => RecordKind::Any,
        _ => RecordKind::Other,
    }
}
