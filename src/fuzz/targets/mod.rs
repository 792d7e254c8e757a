//! What is fuzzed: each target with its seeds and the words of its format.

mod api;
mod charts;
mod front;
mod network;
mod requests;
mod wire;

/// A function of bytes that must take whatever comes.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics if what must hold does not.
    pub run: fn(&[u8]),
    /// Inputs to begin with, each of which leads somewhere.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What mutations put in.
    pub words: &'static [&'static [u8]],
    /// Whether an input may make it connect to somebody: it wants a network that leads nowhere.
    pub dials: bool,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
        Target { name, run, seeds, words: &[], dials: false }
    }
}

pub const ALL: &[Target] = &[
    Target::new("json", wire::json, wire::json_seeds),
    Target::new("yaml", wire::yaml, wire::yaml_seeds),
    Target::new("http1", wire::http1, wire::http1_seeds),
    Target::new("http2", wire::http2, wire::http2_seeds),
    Target::new("spdy", wire::spdy, wire::spdy_seeds),
    Target::new("dns", wire::dns, wire::dns_seeds),
    Target::new("dhcp", wire::dhcp, wire::dhcp_seeds),
    Target::new("beginnings", wire::beginnings, wire::beginnings_seeds),
    Target::new("template", charts::template, charts::template_seeds),
    Target::new("chart", charts::chart, charts::chart_seeds),
    Target::new("versions", charts::versions, charts::versions_seeds),
    Target::new("set", charts::set, charts::set_seeds),
    Target::new("etcd", wire::etcd, wire::etcd_seeds),
    Target::new("kine", front::calls, front::seeds),
    Target::new("cri", wire::runtime, wire::runtime_seeds),
    Target::new("databases", wire::databases, wire::databases_seeds),
    Target::new("layer", wire::layer, wire::layer_seeds),
    Target::new("tunnel", network::tunnel, network::tunnel_seeds),
    Target::new("registry", network::registry, network::registry_seeds),
    Target {
        words: network::RULE_WORDS,
        ..Target::new("rule", network::rule, network::rule_seeds)
    },
    Target::new("texts", api::texts, api::texts_seeds),
    Target::new("certificate", api::certificate, api::certificate_seeds),
    Target::new("protobuf", api::protobuf, api::protobuf_seeds),
    Target::new("object", api::object, api::object_seeds),
    Target::new("patch", api::patch, api::patch_seeds),
    Target { words: api::CEL_WORDS, ..Target::new("cel", api::cel, api::cel_seeds) },
    Target {
        words: requests::WORDS,
        dials: true,
        ..Target::new("request", requests::request, requests::seeds)
    },
    Target {
        dials: true,
        ..Target::new("connection", requests::connection, requests::connection_seeds)
    },
];

/// Texts as inputs.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
