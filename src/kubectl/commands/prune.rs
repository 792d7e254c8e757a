//! What was applied before and is not any more.

use api::selector::Selector;
use api::{Lens, Value};

use crate::call::{Call, DryRun};
use crate::failure::{Outcome, failed};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{wait, write};

/// What is looked at, as upstream has it.
const NAMESPACED: &[(&str, &str)] = &[
    ("v1", "ConfigMap"),
    ("v1", "Endpoints"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
];
const CLUSTER: &[(&str, &str)] = &[("v1", "Namespace"), ("v1", "PersistentVolume")];

/// Deletes what has the annotation of `apply`, is selected, and was not applied now.
pub(crate) fn run(call: &Call<'_>, applied: &[Info], printer: Option<&Printer>) -> Outcome {
    each(call, applied, &mut |info| one(call, &info, printer))
}

/// What would be deleted.
pub(super) fn each(
    call: &Call<'_>,
    applied: &[Info],
    then: &mut dyn FnMut(Info) -> Outcome,
) -> Outcome {
    let (own, _) = call.namespace()?;
    let mut namespaces: Vec<&str> = vec![&own];
    for info in applied.iter().filter(|info| !info.namespace.is_empty()) {
        if !namespaces.contains(&info.namespace.as_str()) {
            namespaces.push(&info.namespace);
        }
    }
    let kinds = kinds(call)?;
    let is_scoped = !call.text("namespace").is_empty();
    for (api_version, kind) in &kinds {
        let Some(resource) = call.mapper()?.of_kind(call.rest()?, api_version, kind)? else {
            continue;
        };
        let within: Vec<&str> = match resource.namespaced {
            true => namespaces.clone(),
            false if is_scoped => continue,
            false => vec![""],
        };
        for namespace in within {
            let pick = Pick { selector: call.text("selector").to_owned(), ..Pick::default() };
            let list = select::list(call, &resource, namespace, &pick)?;
            for object in select::items(&resource, list) {
                let is_ours = object.entry("metadata.annotations", write::LAST_APPLIED).is_some();
                let uid = object.str("metadata.uid");
                let is_applied = applied.iter().any(|info| info.object.str("metadata.uid") == uid);
                if !is_ours || is_applied || object.has("metadata.deletionTimestamp") {
                    continue;
                }
                let mut info = Info {
                    resource: std::rc::Rc::clone(&resource),
                    namespace: String::new(),
                    name: String::new(),
                    object: Value::Null,
                    source: String::new(),
                };
                info.refresh(object);
                then(info)?;
            }
        }
    }
    Ok(())
}

fn one(call: &Call<'_>, info: &Info, printer: Option<&Printer>) -> Outcome {
    let how = crate::commands::delete::How {
        grace: Some(call.int("grace-period")).filter(|it| *it >= 0),
        propagation: crate::commands::delete::propagation(call)?,
    };
    crate::commands::delete::delete(call, info, &how)?;
    done(call, printer, info, "pruned")?;
    if call.is("wait") && call.dry_run()? == DryRun::None {
        wait::gone(call, info, info.object.str("metadata.uid"), call.duration("timeout"))?;
    }
    Ok(())
}

fn kinds(call: &Call<'_>) -> Outcome<Vec<(String, String)>> {
    let named = call.array("prune-allowlist");
    if named.is_empty() {
        let all = NAMESPACED.iter().chain(CLUSTER);
        return Ok(all
            .map(|(version, kind)| ((*version).to_owned(), (*kind).to_owned()))
            .collect());
    }
    let mut kinds = Vec::new();
    for text in named {
        let parts: Vec<&str> = text.split('/').collect();
        let [group, version, kind] = parts.as_slice() else {
            return failed(format!(
                "invalid GroupVersionKind format: {text}, please follow <group/version/kind>"
            ));
        };
        let api_version = match *group {
            "core" | "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        };
        kinds.push((api_version, (*kind).to_owned()));
    }
    Ok(kinds)
}

/// Whether a selector means an object.
pub(crate) fn selects(selector: &str, object: &Value) -> bool {
    Selector::parse(selector)
        .is_ok_and(|selector| selector.matches_map(object.at("metadata.labels")))
}
