//! Whether an aggregated API is available, in the words of its APIService's condition.

use api::{Lens, LensMut, Value, json};

/// What is found of an API: a reason, and a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Found {
    pub(super) fn passed() -> Found {
        Found { available: true, reason: "Passed", message: "all checks passed".into() }
    }

    pub(super) fn failed(reason: &'static str, message: String) -> Found {
        Found { available: false, reason, message }
    }
}

/// Why a Service cannot be asked, as far as the API knows: upstream's checks before the one over the network.
pub(super) fn unready(
    (namespace, name, port): (&str, &str, u16),
    service: Option<&Value>,
    endpoints: Option<&Value>,
) -> Option<Found> {
    let what = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        return Some(Found::failed("ServiceNotFound", format!("{what} is not present")));
    };
    if !matches!(service.str("spec.type"), "" | "ClusterIP") {
        return None;
    }
    let found = service.list("spec.ports").iter().find(|one| one.int("port") == Some(port.into()));
    let Some(found) = found else {
        let message = format!("{what} is not listening on port {port}");
        return Some(Found::failed("ServicePortError", message));
    };
    let Some(endpoints) = endpoints else {
        let message = format!("cannot find endpoints for {what}");
        return Some(Found::failed("EndpointsNotFound", message));
    };
    let port_name = found.str("name");
    let has = endpoints.list("subsets").iter().any(|subset| {
        let named = subset.list("ports").iter().any(|port| port.str("name") == port_name);
        named && !subset.list("addresses").is_empty()
    });
    (!has).then(|| {
        let message =
            format!("endpoints for {what} have no addresses with port name {port_name:?}");
        Found::failed("MissingEndpoints", message)
    })
}

/// The condition of an APIService.
pub(super) fn find(tree: &Value) -> Option<&Value> {
    tree.list("status.conditions").iter().find(|one| one.str("type") == "Available")
}

/// Writes down what was found; false if the APIService says so already.
pub(super) fn set(tree: &mut Value, found: &Found, now: &str) -> bool {
    let status = if found.available { "True" } else { "False" };
    let old = find(tree);
    let same = |field: &str, value: &str| old.is_some_and(|old| old.str(field) == value);
    if same("status", status) && same("reason", found.reason) && same("message", &found.message) {
        return false;
    }
    let since = match old.filter(|old| old.str("status") == status) {
        Some(old) => old.str("lastTransitionTime").to_owned(),
        None => now.to_owned(),
    };
    let condition = json!({
        "type": "Available", "status": status, "lastTransitionTime": since,
        "reason": found.reason, "message": found.message,
    });
    let conditions = tree.list_mut("status.conditions");
    match conditions.iter_mut().find(|one| one.str("type") == "Available") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_knows_is_looked_at_first() {
        let service = |kind: &str, port: i64| json!({"spec": {"type": kind, "ports": [{"name": "p", "port": port}]}});
        let endpoints = |name: &str, addresses: Value| json!({"subsets": [{"addresses": addresses, "ports": [{"name": name, "port": 1}]}]});
        let some = json!([{"ip": "10.0.0.1"}]);
        for (service, endpoints, wanted) in [
            (None, None, "ServiceNotFound service/s in \"n\" is not present"),
            (
                Some(service("ClusterIP", 80)),
                None,
                "ServicePortError service/s in \"n\" is not listening on port 443",
            ),
            (
                Some(service("ClusterIP", 443)),
                None,
                "EndpointsNotFound cannot find endpoints for service/s in \"n\"",
            ),
            (
                Some(service("ClusterIP", 443)),
                Some(endpoints("p", json!([]))),
                "MissingEndpoints endpoints for service/s in \"n\" have no addresses with port name \"p\"",
            ),
            (
                Some(service("ClusterIP", 443)),
                Some(endpoints("q", some.clone())),
                "MissingEndpoints endpoints for service/s in \"n\" have no addresses with port name \"p\"",
            ),
            (Some(service("ClusterIP", 443)), Some(endpoints("p", some)), ""),
            (Some(service("ExternalName", 80)), None, ""),
            (Some(service("NodePort", 80)), None, ""),
        ] {
            let found = unready(("n", "s", 443), service.as_ref(), endpoints.as_ref());
            let said = found.map(|found| format!("{} {}", found.reason, found.message));
            assert_eq!(said.unwrap_or_default(), wanted);
        }
    }

    #[test]
    fn a_condition_changes_in_its_place() {
        let mut tree = json!({"status": {"conditions": [{"type": "Other"}]}});
        assert!(set(&mut tree, &Found::failed("ServiceNotFound", "m".into()), "t1"));
        assert!(!set(&mut tree, &Found::failed("ServiceNotFound", "m".into()), "t2"));
        assert!(set(&mut tree, &Found::failed("MissingEndpoints", "m".into()), "t2"));
        let found = find(&tree).unwrap();
        assert_eq!(
            (found.str("lastTransitionTime"), found.str("reason")),
            ("t1", "MissingEndpoints")
        );
        assert!(set(&mut tree, &Found::passed(), "t3"));
        let found = find(&tree).unwrap();
        assert_eq!((found.str("lastTransitionTime"), found.str("status")), ("t3", "True"));
        assert_eq!(tree.list("status.conditions").len(), 2);
        assert_eq!(tree.str("status.conditions.0.type"), "Other");
    }
}
