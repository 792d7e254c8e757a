//! Network policies: whom they allow.

use api::selector::Selector;
use api::{Lens, Value};

use crate::page::Page;
use crate::words;

pub(crate) fn policy(page: &mut Page<'_>, policy: &Value) {
    let spec = policy.at("spec");
    let selector = Selector::text(spec.at("podSelector"));
    let all = "<none> (Allowing the specific traffic to all pods in this namespace)";
    page.line(&["  PodSelector:     ", &words::or(selector, all)]);
    for (direction, name, peers, other) in [
        ("Ingress", "ingress", "From", ("from", "source")),
        ("Egress", "egress", "To", ("to", "destination")),
    ] {
        if spec.list("policyTypes").iter().any(|known| known == direction) {
            page.line(&["  Allowing ", name, " traffic:"]);
            rules(page, name, peers, other, spec.list(name));
        } else {
            page.line(&["  Not affecting ", name, " traffic"]);
        }
    }
}

fn rules(
    page: &mut Page<'_>,
    name: &str,
    title: &str,
    (field, end): (&str, &str),
    rules: &[Value],
) {
    if rules.is_empty() {
        return page.line(&["    <none> (Selected pods are isolated for ", name, " connectivity)"]);
    }
    for (idx, rule) in rules.iter().enumerate() {
        if idx > 0 {
            page.line(&["    ----------"]);
        }
        if rule.list("ports").is_empty() {
            page.line(&["    To Port: <any> (traffic allowed to all ports)"]);
        }
        for port in rule.list("ports") {
            page.render(PORT, port);
        }
        if rule.list(field).is_empty() {
            page.line(&["    ", title, ": <any> (traffic not restricted by ", end, ")"]);
        }
        for peer in rule.list(field) {
            page.line(&["    ", title, ":"]);
            page.render(PEER, peer);
        }
    }
}

const PORT: &str = "\
-endPort|    To Port: {port=<nil>}/{protocol=TCP}
?endPort|    To Port Range: {port=<nil>}-{endPort}/{protocol=TCP}";

const PEER: &str = "\
?namespaceSelector|      NamespaceSelector: {namespaceSelector@selector}
?podSelector|      PodSelector: {podSelector@selector}
?ipBlock|      IPBlock:
?ipBlock|        CIDR: {ipBlock.cidr}
?ipBlock|        Except: {ipBlock.except@list}";
