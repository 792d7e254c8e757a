//! Services, what is behind them, and Ingresses in front of them.

use api::{Lens, Value};
use stdx::OrdSet;

use crate::needs::{Answer, Part};
use crate::page::Page;
use crate::words;

/// Addresses of a load balancer, with how they are served.
pub(crate) fn balancers(page: &mut Page<'_>, service: &Value) {
    let list = service.list("status.loadBalancer.ingress");
    if list.is_empty() {
        return;
    }
    let told = list.iter().map(|ingress| match (ingress.str("ip"), ingress.str("ipMode")) {
        ("", _) => ingress.str("hostname").to_owned(),
        (ip, "") => ip.to_owned(),
        (ip, mode) => [ip, " (", mode, ")"].concat(),
    });
    page.line(&["LoadBalancer Ingress:\t", &told.collect::<Vec<_>>().join(", ")]);
}

pub(crate) fn service_ports(page: &mut Page<'_>, service: &Value) {
    let slices = answer(page, &Part::Slices(service.str("metadata.name").to_owned()));
    let slices = slices.and_then(Result::ok).unwrap_or_default();
    for port in service.list("spec.ports") {
        page.render(PORT, port);
        page.line(&["Endpoints:\t", &ready(slices.list(""), port.str("name"))]);
    }
}

const PORT: &str = "\
Port:~{name@or=<unset>}~{port=0}/{protocol}
TargetPort:~{targetPort=0}/{protocol}
+nodePort|NodePort:~{name@or=<unset>}~{nodePort}/{protocol}";

fn answer(page: &Page<'_>, part: &Part) -> Option<Answer> {
    page.related.iter().find(|(known, _)| known == part).map(|(_, answer)| answer.clone())
}

/// As many endpoints are told one by one.
const SHOWN_MAX: usize = 3;

/// The endpoints of slices that are ready, at the port of this name.
fn ready(slices: &[Value], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut shown: Vec<String> = Vec::new();
    let (mut count, mut is_more) = (0, false);
    let mut add = |endpoint: &Value, port: Option<i64>| {
        // Told by whatever endpoint comes next, ready or not, as kubectl does.
        is_more |= shown.len() == SHOWN_MAX;
        if endpoint.at("conditions.ready") == false {
            return;
        }
        count += 1;
        if !is_more {
            let address = endpoint.list("addresses").first().and_then(Value::as_str).unwrap_or("");
            shown.push(match port {
                None => address.to_owned(),
                Some(port) if address.contains(':') => format!("[{address}]:{port}"),
                Some(port) => format!("{address}:{port}"),
            });
        }
    };
    for slice in slices {
        let endpoints = slice.list("endpoints").iter();
        if slice.list("ports").is_empty() {
            endpoints.for_each(|endpoint| add(endpoint, None));
            continue;
        }
        for port in slice.list("ports").iter().filter(|port| port.str("name") == port_name) {
            let number = port.int("port").unwrap_or(0);
            endpoints.clone().for_each(|endpoint| add(endpoint, Some(number)));
        }
    }
    let list = shown.join(",");
    if is_more { format!("{list} + {} more...", count - SHOWN_MAX) } else { list }
}

pub(crate) fn subsets(page: &mut Page<'_>, endpoints: &Value) {
    for subset in endpoints.list("subsets") {
        for (title, field) in
            [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")]
        {
            let list: Vec<&str> =
                subset.list(field).iter().map(|address| address.str("ip")).collect();
            page.line(&["  ", title, ":\t", &words::or(list.join(","), "<none>")]);
        }
        page.render(SUBSET_PORTS, subset);
        page.line(&[]);
    }
}

const SUBSET_PORTS: &str = "\
+ports|  Ports:
+ports|    Name~Port~Protocol
+ports|    ----~----~--------
*ports|    {name@or=<unset>}~{port=0}~{protocol}";

pub(crate) fn slice_endpoints(page: &mut Page<'_>, slice: &Value) {
    for endpoint in slice.list("endpoints") {
        page.render(ENDPOINT, endpoint);
    }
}

const ENDPOINT: &str = "  - Addresses:~{addresses@list=<none>}
    Conditions:
      Ready:~{conditions.ready=<unset>}
    Hostname:~{hostname=<unset>}
?targetRef|    TargetRef:~{targetRef.kind}/{targetRef.name}
    NodeName:~{nodeName=<unset>}
    Zone:~{zone=<unset>}";

pub(crate) fn ingress_addresses(page: &mut Page<'_>, ingress: &Value) {
    let list = ingress.list("status.loadBalancer.ingress").iter();
    let addresses = list.map(|address| match address.str("ip") {
        "" => address.str("hostname"),
        ip => ip,
    });
    let addresses: OrdSet<&str> = addresses.filter(|address| !address.is_empty()).collect();
    page.line(&["Address:\t", &addresses.into_iter().collect::<Vec<_>>().join(",")]);
}

/// From the default backend to the rules.
pub(crate) fn ingress_rules(page: &mut Page<'_>, ingress: &Value) {
    let default = match ingress.at("spec.defaultBackend") {
        Value::Null => "<default>".to_owned(),
        given => backend(page, given),
    };
    page.line(&["Default backend:\t", &default]);
    if !ingress.list("spec.tls").is_empty() {
        page.line(&["TLS:"]);
        for tls in ingress.list("spec.tls") {
            let (secret, hosts) = (tls.str("secretName"), words::join(tls.list("hosts"), ","));
            let (secret, verb) =
                if secret.is_empty() { ("SNI", " routes ") } else { (secret, " terminates ") };
            page.line(&["  ", secret, verb, &hosts]);
        }
    }
    page.line(&["Rules:\n  Host\tPath\tBackends\n  ----\t----\t--------"]);
    let mut is_empty = true;
    for rule in ingress.list("spec.rules").iter().filter(|rule| rule.has("http")) {
        is_empty = false;
        let host = rule.str("host");
        page.line(&["  ", if host.is_empty() { "*" } else { host }, "\t"]);
        for path in rule.list("http.paths") {
            let told = backend(page, path.at("backend"));
            page.line(&["    \t", path.str("path"), " \t", &told]);
        }
    }
    if is_empty {
        page.line(&["  *\t*\t", &default]);
    }
}

/// A backend of an Ingress, and what is behind it.
fn backend(page: &Page<'_>, backend: &Value) -> String {
    let resource = backend.at("resource");
    let service = backend.at("service");
    if service.is_null() {
        if resource.is_null() {
            return String::new();
        }
        let group = resource.at("apiGroup").as_str().unwrap_or("<none>");
        return format!(
            "APIGroup: {group}, Kind: {}, Name: {}",
            resource.str("kind"),
            resource.str("name")
        );
    }
    let (name, number) = (service.str("name"), service.int("port.number").unwrap_or(0));
    let port_name = service.str("port.name");
    let port = if number == 0 { port_name.to_owned() } else { number.to_string() };
    let found = [Part::Slices(name.to_owned()), Part::Service(name.to_owned())]
        .map(|part| answer(page, &part));
    let behind = match found {
        [Some(Ok(slices)), Some(Ok(service))] => {
            let mut at = "";
            for port in service.list("spec.ports") {
                let own = port.str("name");
                if number != 0 && port.int("port") == Some(number)
                    || !port_name.is_empty() && own == port_name
                {
                    at = own;
                }
            }
            ready(slices.list(""), at)
        }
        [Some(Err(failure)), _] | [_, Some(Err(failure))] => {
            format!("<error: {}>", failure.message)
        }
        _ => "<none>".to_owned(),
    };
    format!("{name}:{port} ({behind})")
}
