//! What Gateway API's objects are told in their status.

use api::{Lens, Value, json};

use super::listener::{State, Verdict};
use crate::gateway_objects::{CONTROLLER, Class, GROUP, Gateway, Route, Told};

/// Addresses of one Gateway.
const ADDRESSES_MAX: usize = 16;
/// A message in bytes.
const MESSAGE_MAX_BYTES: usize = 1024;

/// The status that a GatewayClass should have; `None` if it has it.
pub(super) fn of_class(class: &Class, now: &str) -> Option<Value> {
    let accepted = match class.has_parameters {
        true => (false, "InvalidParameters", "parameters are not supported".to_owned()),
        false => (true, "Accepted", "Handled by this ingress".to_owned()),
    };
    let own = [("Accepted", &accepted)];
    let conditions = conditions(&class.told.status, &own, class.told.generation, now);
    changed(&class.told, json!({"conditions": conditions}))
}

/// The status that a Gateway should have; `None` if it has it.
pub(super) fn of_gateway(
    gateway: &Gateway,
    listeners: &[State<'_>],
    addresses: &[Value],
    now: &str,
) -> Option<Value> {
    let Told { status: before, generation } = &gateway.told;
    let of_listeners: Vec<Value> = listeners
        .iter()
        .map(|state| {
            let all = before.list("listeners").iter();
            let mut old = all.filter(|old| old.str("name") == &*state.listener.name);
            let programmed = match (state.is_programmed(), state.accepted.0) {
                (true, _) => (true, "Programmed", String::new()),
                (false, true) if state.refused => {
                    (false, "Invalid", "the Gateway is not accepted".to_owned())
                }
                (false, true) => (false, "Invalid", state.resolved.2.clone()),
                (false, false) => (false, "Invalid", state.accepted.2.clone()),
            };
            let accepted = match state.conflicted.0 {
                true => (false, state.conflicted.1, state.conflicted.2.clone()),
                false => state.accepted.clone(),
            };
            let own = [
                ("Accepted", &accepted),
                ("Programmed", &programmed),
                ("ResolvedRefs", &state.resolved),
                ("Conflicted", &state.conflicted),
            ];
            let kinds = state.sorts.iter().map(|sort| sort.kind().name);
            let kinds: Vec<Value> =
                kinds.map(|kind| json!({"group": GROUP, "kind": kind})).collect();
            json!({
                "name": state.listener.name,
                "attachedRoutes": state.n_attached,
                "supportedKinds": kinds,
                "conditions": conditions(old.next().unwrap_or(&Value::Null), &own, *generation, now),
            })
        })
        .collect();
    let n_good = listeners.iter().filter(|it| it.accepted.0 && !it.conflicted.0).count();
    let accepted = if let Some((reason, text)) = gateway.refused {
        (false, reason, text.to_owned())
    } else if n_good == listeners.len() {
        let text = match gateway.has_marks {
            true => {
                "infrastructure's labels and annotations do nothing here: nothing is made for it"
            }
            false => "",
        };
        (true, "Accepted", text.to_owned())
    } else {
        let text = format!("{n_good} of {} listeners are valid", listeners.len());
        (n_good > 0, "ListenersNotValid", text)
    };
    let programmed = if !accepted.0 || !listeners.iter().any(State::is_programmed) {
        (false, "Invalid", "no listener is served".to_owned())
    } else if addresses.is_empty() {
        (false, "AddressNotAssigned", "the load balancer has no address yet".to_owned())
    } else {
        (true, "Programmed", String::new())
    };
    let addresses: Vec<Value> = addresses
        .iter()
        .take(ADDRESSES_MAX)
        .map(|address| match address.str("ip") {
            "" => json!({"type": "Hostname", "value": address.str("hostname")}),
            ip => json!({"type": "IPAddress", "value": ip}),
        })
        .collect();
    let own = [("Accepted", &accepted), ("Programmed", &programmed)];
    let conditions = conditions(before, &own, *generation, now);
    let status =
        json!({"addresses": addresses, "conditions": conditions, "listeners": of_listeners});
    changed(&gateway.told, status)
}

/// The status that a route should have, with what other controllers say left as it is; `None` if it has it.
pub(super) fn of_route(
    route: &Route,
    parents: &[(&Value, Verdict)],
    resolved: &Verdict,
    now: &str,
) -> Option<Value> {
    let Told { status: before, generation } = &route.told;
    let known = before.list("parents");
    let is_ours = |entry: &&Value| entry.str("controllerName") == CONTROLLER;
    if parents.is_empty() && !known.iter().any(|entry| is_ours(&entry)) {
        return None;
    }
    let mut all: Vec<Value> = known.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    for (parent, accepted) in parents {
        let mut old = known.iter().filter(is_ours).filter(|old| old.at("parentRef") == *parent);
        let own = [("Accepted", accepted), ("ResolvedRefs", resolved)];
        all.push(json!({
            "parentRef": parent,
            "controllerName": CONTROLLER,
            "conditions": conditions(old.next().unwrap_or(&Value::Null), &own, *generation, now),
        }));
    }
    changed(&route.told, json!({"parents": all}))
}

/// Our conditions, each with the time since when it stands so, and those of others.
fn conditions(before: &Value, own: &[(&str, &Verdict)], generation: i64, now: &str) -> Vec<Value> {
    let known = before.list("conditions");
    let mut all: Vec<Value> = Vec::new();
    for (kind, (is, reason, message)) in own {
        let status = if *is { "True" } else { "False" };
        let old = known.iter().find(|old| old.str("type") == *kind && old.str("status") == status);
        let since = old.map_or(now, |old| old.str("lastTransitionTime"));
        all.push(json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": &message[..message.floor_char_boundary(MESSAGE_MAX_BYTES)],
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }));
    }
    let others = known.iter().filter(|old| own.iter().all(|(kind, _)| old.str("type") != *kind));
    all.extend(others.cloned());
    all
}

/// `wanted`, if the status says something else.
fn changed(told: &Told, wanted: Value) -> Option<Value> {
    let fields = wanted.as_object()?;
    let same = fields.iter().all(|(name, value)| told.status.at(name) == value);
    (!same).then_some(wanted)
}
