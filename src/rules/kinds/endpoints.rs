//! Endpoints: the addresses behind a service, as one list.

use api::address;
use api::complain::{Complain, PORT_RANGE};
use api::kinds::ENDPOINTS;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::print::first_three;

pub(super) static RULES: Rules =
    Rules { kind: &ENDPOINTS, validate, columns: COLUMNS, on_update: "UCV", ..Rules::BASE };

const COLUMNS: &[Column<'static>] =
    &[Column::with("Endpoints", |tree, _| endpoints(tree).into()), Column::AGE];

fn endpoints(tree: &Value) -> String {
    let mut all = Vec::new();
    for subset in tree.list("subsets") {
        let addresses = || subset.list("addresses").iter().map(|address| address.str("ip"));
        let ports = subset.list("ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = port.int("port").unwrap_or(0);
            all.extend(addresses().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    first_three(&all, "<none>")
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    for (idx, subset) in new.list("subsets").iter().enumerate() {
        let path = format!("subsets[{idx}]");
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            causes.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (idx, address) in subset.list(field).iter().enumerate() {
                let path = format!("{path}.{field}[{idx}]");
                let ip = address.str("ip");
                address::ip(ip, &format!("{path}.ip"), causes);
                if !address.str("hostname").is_empty() {
                    let path = format!("{path}.hostname");
                    causes.check_name(&path, address.str("hostname"), names::label);
                }
                if let Some(node) = address.at("nodeName").as_str() {
                    causes.check_name(&format!("{path}.nodeName"), node, names::subdomain);
                }
                address::endpoint(ip, &format!("{path}.ip"), causes);
            }
        }
        for (idx, port) in subset.list("ports").iter().enumerate() {
            let path = format!("{path}.ports[{idx}]");
            if subset.list("ports").len() > 1 && port.str("name").is_empty() {
                causes.required(&format!("{path}.name"), "");
            } else if !port.str("name").is_empty() {
                causes.check_name(&format!("{path}.name"), port.str("name"), names::label);
            }
            if !(1..=65_535).contains(&port.int("port").unwrap_or(0)) {
                causes.invalid(&format!("{path}.port"), port.at("port"), PORT_RANGE);
            }
            if let Some(protocol) = port.at("appProtocol").as_str() {
                causes.check_name(&format!("{path}.appProtocol"), protocol, names::qualified);
            }
        }
    }
}
