//! NetworkPolicy: which connections the pods that it selects may have.

use std::net::IpAddr;

use api::address;
use api::complain::{Complain, PORT_RANGE};
use api::kinds::NETWORK_POLICY;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::{Value, json};

use super::Rules;
use crate::checks;
use crate::column::Column;
use crate::print::label_selector;

pub(super) static RULES: Rules = Rules {
    kind: &NETWORK_POLICY,
    columns: &[
        Column::with("Pod-Selector", |tree, _| label_selector(tree.at("spec.podSelector")).into()),
        Column::AGE,
    ],
    default,
    validate,
    on_update: "CSUV",
    ..Rules::BASE
};

/// A policy that does not say what it is about is about what comes in, and about what goes out if
/// it has rules for that.
fn default(tree: &mut Value) {
    if tree.list("spec.policyTypes").is_empty() {
        let types = match tree.list("spec.egress").is_empty() {
            true => json!(["Ingress"]),
            false => json!(["Ingress", "Egress"]),
        };
        tree.set("spec.policyTypes", types);
    }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["Ingress", "Egress"];
    let spec = new.at("spec");
    checks::label_selector(spec.at("podSelector"), "spec.podSelector", causes);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (idx, rule) in spec.list(direction).iter().enumerate() {
            let path = format!("spec.{direction}[{idx}]");
            for (idx, port) in rule.list("ports").iter().enumerate() {
                self::port(port, &format!("{path}.ports[{idx}]"), causes);
            }
            for (idx, peer) in rule.list(peers).iter().enumerate() {
                self::peer(peer, &format!("{path}.{peers}[{idx}]"), causes);
            }
        }
    }
    let types = spec.list("policyTypes");
    if types.len() > TYPES.len() {
        const SHOWN_MAX: usize = 32;
        let shown: Vec<String> = types.iter().take(SHOWN_MAX).map(Value::to_string).collect();
        let message = format!(
            "Invalid value: []networking.PolicyType{{{}}}: may not specify more than two policyTypes",
            shown.join(", ")
        );
        causes.complain("FieldValueInvalid", "spec.policyTypes", message);
        return;
    }
    for (idx, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        if !TYPES.contains(&kind) {
            causes.not_supported_in_order(&format!("spec.policyTypes[{idx}]"), kind, TYPES);
        }
    }
}

fn port(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
    if let Some(protocol) = port.at("protocol").as_str()
        && !PROTOCOLS.contains(&protocol)
    {
        causes.not_supported_in_order(&format!("{path}.protocol"), protocol, PROTOCOLS);
    }
    let first = port.at("port");
    if !first.is_null() {
        crate::pod::validate::port(first, &format!("{path}.port"), causes);
    }
    let Some(end) = port.int("endPort") else { return };
    let path = format!("{path}.endPort");
    match first {
        Value::Null => {
            causes.invalid(&path, &end.into(), "may not be specified when `port` is not specified");
        }
        Value::String(_) => {
            let detail = "may not be specified when `port` is non-numeric";
            causes.invalid(&path, &end.into(), detail);
        }
        first => {
            if first.as_i64().is_some_and(|first| end < first) {
                causes.invalid(&path, first, "must be greater than or equal to `port`");
            }
            if !(1..=65_535).contains(&end) {
                causes.invalid(&path, &end.into(), PORT_RANGE);
            }
        }
    }
}

fn peer(peer: &Value, path: &str, causes: &mut Vec<Cause>) {
    for selector in ["podSelector", "namespaceSelector"] {
        checks::label_selector(peer.at(selector), &format!("{path}.{selector}"), causes);
    }
    let block = peer.at("ipBlock");
    if !block.is_null() {
        ip_block(block, &format!("{path}.ipBlock"), causes);
    }
    let selects = peer.has("podSelector") || peer.has("namespaceSelector");
    match (selects, block.is_null()) {
        (false, true) => causes.required(path, "must specify a peer"),
        (true, false) => causes.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(block: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path_of_cidr = format!("{path}.cidr");
    let cidr = match block.str("cidr") {
        "" => return causes.required(&path_of_cidr, ""),
        text => address::cidr(text, &path_of_cidr, causes),
    };
    let Some((network, length)) = cidr else { return };
    for (idx, text) in block.list("except").iter().filter_map(Value::as_str).enumerate() {
        let path = format!("{path}.except[{idx}]");
        let Some((address, inner)) = address::cidr(text, &path, causes) else { continue };
        if length >= inner || !contains(network, length, address) {
            causes.invalid(&path, &text.into(), "must be a strict subset of `cidr`");
        }
    }
}

/// Whether the first `length` bits of two addresses of one family are the same.
fn contains(network: IpAddr, length: u32, address: IpAddr) -> bool {
    let (a, b, bits) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let differing: u128 = a ^ b;
    differing.checked_shr(bits - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses_of_their_family() {
        for (network, length, address, wanted) in [
            ("10.0.0.0", 8, "10.1.0.0", true),
            ("10.0.0.0", 8, "11.0.0.0", false),
            ("0.0.0.0", 0, "255.1.2.3", true),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("fd00::", 8, "fdff::", true),
            ("::", 0, "ffff::", true),
            ("::", 0, "10.0.0.1", false),
        ] {
            let parse = |text: &str| text.parse().unwrap();
            assert_eq!(contains(parse(network), length, parse(address)), wanted, "{address}");
        }
    }

    #[test]
    fn rules_say_what_upstream_says() {
        let policy = json!({"metadata": {"name": "p"}, "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Wrong"],
            "ingress": [{
                "ports": [
                    {"protocol": "ICMP", "port": 80, "endPort": 79},
                    {"protocol": "TCP", "port": "http", "endPort": 1},
                    {"protocol": "TCP", "endPort": 1},
                ],
                "from": [
                    {},
                    {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/9", "x"]}},
                    {"ipBlock": {"cidr": ""}},
                ],
            }],
        }});
        let mut causes = Vec::new();
        validate(&policy, None, &mut causes);
        let told: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            told,
            [
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                "spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1].ipBlock.except[1]: Invalid value: \"11.0.0.0/9\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1].ipBlock.except[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
                "spec.ingress[0].from[2].ipBlock.cidr: Required value",
                "spec.policyTypes[1]: Unsupported value: \"Wrong\": supported values: \"Ingress\", \"Egress\"",
            ]
        );
    }
}
