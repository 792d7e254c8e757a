//! Requests as URLs: the path and query that a request is sent with, and the options read back from a query.

use api::Status;
use api::path::ResourcePath;
use api::query::{Query, Target};

use crate::request::{DeleteOptions, ListOptions, Request, Verb};

/// The path and query of a request. `DeleteOptions` go into the body.
pub fn target(request: &Request) -> String {
    let kind = request.kind;
    let (group, version) = match request.group_version.as_str() {
        "" => (kind.group, kind.declared.version),
        served => served.rsplit_once('/').unwrap_or(("", served)),
    };
    // What is created is named by its body; what is created below an object by that object.
    let named = request.verb != Verb::Create || !request.subresource.is_empty();
    let path = ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: if kind.namespaced() { request.namespace.clone() } else { String::new() },
        plural: kind.plural.to_owned(),
        name: if named { request.name.clone() } else { String::new() },
        subresource: request.subresource.clone(),
        ..ResourcePath::default()
    };
    let mut target = Target::new(path.to_string());
    if request.verb == Verb::Watch {
        target.push("watch", "true");
    }
    if matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        push_list_options(&mut target, &request.list);
    }
    if request.dry_run {
        target.push("dryRun", "All");
    }
    target.push_some("fieldManager", &request.field_manager);
    target.push_some("fieldValidation", &request.field_validation);
    if request.force {
        target.push("force", "true");
    }
    target.finish()
}

fn push_list_options(target: &mut Target, options: &ListOptions) {
    target.push_some("labelSelector", &options.label_selector);
    target.push_some("fieldSelector", &options.field_selector);
    target.push_some("resourceVersion", &options.resource_version);
    target.push_some("resourceVersionMatch", &options.resource_version_match);
    if options.limit > 0 {
        target.push("limit", &options.limit.to_string());
    }
    target.push_some("continue", &options.continue_token);
    if options.allow_bookmarks {
        target.push("allowWatchBookmarks", "true");
    }
    if options.send_initial_events == Some(true) {
        target.push("sendInitialEvents", "true");
    }
    if let Some(secs) = options.timeout_secs {
        target.push("timeoutSeconds", &secs.to_string());
    }
}

/// `ListOptions` of a query.
///
/// # Errors
/// If a number is not one.
pub fn list_options(query: &Query) -> Result<ListOptions, Status> {
    let positive = |key| Ok::<_, Status>(query.int(key)?.and_then(|n| u64::try_from(n).ok()));
    Ok(ListOptions {
        label_selector: query.get("labelSelector").to_owned(),
        field_selector: query.get("fieldSelector").to_owned(),
        resource_version: query.get("resourceVersion").to_owned(),
        resource_version_match: query.get("resourceVersionMatch").to_owned(),
        limit: positive("limit")?.unwrap_or(0),
        continue_token: query.get("continue").to_owned(),
        allow_bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events: query.optional_flag("sendInitialEvents"),
        timeout_secs: positive("timeoutSeconds")?,
    })
}

/// `DeleteOptions` as far as a query carries them.
///
/// # Errors
/// If a number is not one.
pub fn delete_options(query: &Query) -> Result<DeleteOptions, Status> {
    let orphan = query.optional_flag("orphanDependents");
    let propagation = match (query.get("propagationPolicy"), orphan) {
        ("", Some(true)) => "Orphan",
        ("", Some(false)) => "Background",
        (policy, _) => policy,
    };
    Ok(DeleteOptions {
        grace_secs: query.int("gracePeriodSeconds")?,
        uid: None,
        resource_version: None,
        propagation: propagation.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds::{CLUSTER_ROLE, DEPLOYMENT, NAMESPACE, POD};
    use api::path::{Route, parse};

    #[test]
    fn requests_are_written_as_upstreams_clients_write_them() {
        let selected = ListOptions {
            field_selector: "spec.nodeName=a".into(),
            resource_version: "7".into(),
            allow_bookmarks: true,
            timeout_secs: Some(300),
            ..ListOptions::default()
        };
        let with = |mut request: Request, change: &dyn Fn(&mut Request)| {
            change(&mut request);
            target(&request)
        };
        let request = Request::new;
        for (text, want) in [
            (target(&request(Verb::Get, &POD, "n", "p")), "/api/v1/namespaces/n/pods/p"),
            (target(&request(Verb::Create, &POD, "n", "p")), "/api/v1/namespaces/n/pods"),
            (target(&request(Verb::Get, &NAMESPACE, "", "n")), "/api/v1/namespaces/n"),
            (
                target(&request(Verb::Get, &CLUSTER_ROLE, "", "system:node")),
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            ),
            (
                with(request(Verb::Create, &POD, "n", "p"), &|r| r.subresource = "binding".into()),
                "/api/v1/namespaces/n/pods/p/binding",
            ),
            (
                with(request(Verb::Watch, &POD, "", ""), &|r| r.list = selected.clone()),
                "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Da&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=300",
            ),
            (
                with(request(Verb::Patch, &DEPLOYMENT, "n", "d"), &|r| {
                    r.field_manager = "k3rs".into();
                    r.force = true;
                }),
                "/apis/apps/v1/namespaces/n/deployments/d?fieldManager=k3rs&force=true",
            ),
        ] {
            assert_eq!(text, want);
            let (path, query) = want.split_once('?').unwrap_or((want, ""));
            assert!(matches!(parse(path), Route::Resource(_)), "{path}");
            let read = list_options(&Query::parse(query).unwrap()).unwrap();
            if query.contains("watch=") {
                assert_eq!(
                    (read.field_selector, read.timeout_secs),
                    (selected.field_selector.clone(), Some(300))
                );
            }
        }
    }
}
