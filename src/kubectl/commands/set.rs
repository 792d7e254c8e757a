//! `kubectl set`: images, variables, resources, selectors, service accounts, subjects.

use api::{Lens, LensMut, Value, json};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, array, list, text};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, out, write};

pub(crate) static COMMAND: Command = Command {
    name: "set",
    about: "Configure application resources.\n\n These commands help you make changes to existing application resources.",
    short: "Set specific features on objects",
    usage: "SUBCOMMAND",
    subs: &[&IMAGE, &RESOURCES, &SELECTOR, &SUBJECT, &SERVICE_ACCOUNT, &super::set_env::ENV],
    ..BLANK
};

/// What every one of them has.
pub(super) const COMMON: &[&[Flag]] = &[
    options::ALL,
    options::DRY_RUN,
    options::FILES,
    options::LOCAL,
    options::PRINT,
    &[text("field-manager", "kubectl-set", "Name of who manages the fields")],
];

static IMAGE: Command = Command {
    name: "image",
    about: "Update existing container image(s) of resources.",
    short: "Update the image of a pod template",
    usage: "(-f FILENAME | TYPE NAME) CONTAINER_NAME_1=CONTAINER_IMAGE_1 ... CONTAINER_NAME_N=CONTAINER_IMAGE_N",
    flags: &[COMMON[0], COMMON[1], COMMON[2], COMMON[3], COMMON[4], COMMON[5], options::SELECTOR],
    run: Some(image),
    ..BLANK
};
static RESOURCES: Command = Command {
    name: "resources",
    about: "Specify compute resource requirements (CPU, memory) for any resource that defines a pod template.",
    short: "Update resource requests/limits on objects with pod templates",
    usage: "(-f FILENAME | TYPE NAME)  ([--limits=LIMITS & --requests=REQUESTS]",
    flags: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        COMMON[4],
        COMMON[5],
        options::SELECTOR,
        &[
            text("containers", "*", "Names of containers, with *").short('c'),
            text("limits", "", "Pairs resource=quantity, between commas"),
            text("requests", "", "Pairs resource=quantity, between commas"),
        ],
    ],
    run: Some(resources),
    ..BLANK
};
static SELECTOR: Command = Command {
    name: "selector",
    about: "Set the selector on a resource.",
    usage: "(-f FILENAME | TYPE NAME) EXPRESSIONS [--resource-version=version]",
    flags: &[
        COMMON[0],
        COMMON[1],
        options::DEEP_FILES,
        COMMON[3],
        COMMON[4],
        COMMON[5],
        &[text("resource-version", "", "Only this version of the object")],
    ],
    run: Some(selector),
    ..BLANK
};
static SERVICE_ACCOUNT: Command = Command {
    name: "serviceaccount",
    aliases: &["sa"],
    about: "Update the service account of pod template resources.",
    short: "Update the service account of a resource",
    usage: "(-f FILENAME | TYPE NAME) SERVICE_ACCOUNT",
    flags: COMMON,
    run: Some(service_account),
    ..BLANK
};
static SUBJECT: Command = Command {
    name: "subject",
    about: "Update the user, group, or service account in a role binding or cluster role binding.",
    usage: "(-f FILENAME | TYPE NAME) [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        COMMON[4],
        COMMON[5],
        options::SELECTOR,
        &[
            list("group", "Groups"),
            array("serviceaccount", "Accounts, as namespace:name"),
            list("user", "Users"),
        ],
    ],
    run: Some(subject),
    ..BLANK
};

/// Where the pods of an object are described, "" for an object that has none.
pub(crate) fn pod_spec(kind: &str) -> &'static str {
    match kind {
        "Pod" => "spec",
        "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => "spec.template.spec",
        "CronJob" => "spec.jobTemplate.spec.template.spec",
        _ => "",
    }
}

/// The objects that arguments or files name.
pub(super) fn infos(call: &Call<'_>, args: &[String]) -> Outcome<Vec<Info>> {
    let pick = Pick::of(call, args);
    if call.is("local") && !pick.has_files() {
        return failed(
            "you must specify resources by --filename when --local is set.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'",
        );
    }
    some(call, args)?;
    select::all_infos(call, &pick)
}

/// Refuses a command line that names no objects.
fn some(call: &Call<'_>, args: &[String]) -> Outcome {
    match args.is_empty() && !call.has_files() {
        true => failed(write::NO_RESOURCES),
        false => Ok(()),
    }
}

/// That something cannot be said of an object.
fn unfit<T>(info: &Info, why: &str) -> Outcome<T> {
    failed(format!("{}/{} {why}", info.resource.qualified(), info.name))
}

/// The same of one without pods.
fn podless<T>(info: &Info) -> Outcome<T> {
    let kind = &info.resource.kind;
    unfit(info, &format!("the object is not a pod or does not have a pod template: *v1.{kind}"))
}

/// Changes each object by `change`, which says whether it did, and tells it.
pub(super) fn each(
    call: &Call<'_>,
    infos: Vec<Info>,
    verb: &str,
    change: &dyn Fn(&mut Info) -> Outcome<bool>,
) -> Outcome {
    let printer = Printer::of(call, false)?;
    let mut failures = Vec::new();
    for info in infos {
        failures.extend(one(call, info, verb, change, printer.as_ref()).err());
    }
    Failure::all(failures)
}

fn one(
    call: &Call<'_>,
    mut info: Info,
    verb: &str,
    change: &dyn Fn(&mut Info) -> Outcome<bool>,
    printer: Option<&Printer>,
) -> Outcome {
    let old = info.object.clone();
    let is_changed = change(&mut info)?;
    if !is_changed {
        return match printer {
            Some(_) if verb != "subjects updated" => done(call, printer, &info, verb),
            _ => Ok(()),
        };
    }
    if call.is("local") || call.dry_run()? == DryRun::Client {
        return done(call, printer, &info, verb);
    }
    let patch = write::merge_patch(&old, &info.object);
    if patch.as_object().is_none_or(api::Map::is_empty) {
        // As upstream, which sends what changes nothing.
        return done(call, printer, &info, verb);
    }
    let what = match verb {
        "env updated" => "env",
        "image updated" => "image",
        "resource requirements updated" => "resources",
        _ => "",
    };
    let answer = write::patch(call, &info, "", write::MERGE, &patch, "kubectl-set");
    let answer = answer.map_err(|failure| match what {
        "" => failure,
        what => {
            let text = match &failure {
                Failure::Status(status) => status.str("message").to_owned(),
                other => other.text(),
            };
            // As upstream, where one of them lacks the colon.
            let colon = if what == "resources" { "" } else { ":" };
            Failure::Message(format!("failed to patch {what} update to pod template{colon} {text}"))
        }
    })?;
    info.refresh(answer);
    done(call, printer, &info, verb)
}

/// All containers of an object's pods.
pub(super) fn containers(info: &mut Info, with_init: bool) -> Outcome<Vec<&mut Value>> {
    let path = pod_spec(&info.resource.kind);
    if path.is_empty() {
        return podless(info);
    }
    let mut found: Vec<&mut Value> = Vec::new();
    let Some(Value::Object(spec)) = info.object.at_mut(path) else { return Ok(found) };
    for (key, value) in spec.iter_mut() {
        let fits = key == "containers" || with_init && key == "initContainers";
        if let (true, Value::Array(items)) = (fits, value) {
            found.extend(items.iter_mut());
        }
    }
    Ok(found)
}

/// Divides the arguments into names and `key=value` pairs.
fn divide(call: &Call<'_>) -> (Vec<String>, Vec<String>) {
    call.args().iter().cloned().partition(|arg| arg.find('=').is_none_or(|at| at == 0))
}

fn image(call: &Call<'_>) -> Outcome {
    let (names, pairs) = divide(call);
    if names.is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    if pairs.is_empty() {
        return failed("at least one image update is required");
    }
    let has_all = pairs.iter().any(|pair| pair.starts_with("*="));
    if has_all && pairs.len() > 1 {
        return failed(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        );
    }
    each(call, infos(call, &names)?, "image updated", &|info| {
        let mut is_changed = false;
        for pair in &pairs {
            let (name, image) = pair.split_once('=').unwrap_or((pair, ""));
            let mut is_found = false;
            for container in containers(info, true)? {
                if name != "*" && container.str("name") != name {
                    continue;
                }
                is_found = true;
                if container.str("image") != image {
                    container.set("image", image);
                    is_changed = true;
                }
            }
            if !is_found {
                return failed(format!("unable to find container named {name:?}"));
            }
        }
        Ok(is_changed)
    })
}

/// `cpu=1,memory=2Gi` as a map.
fn amounts(text: &str) -> Outcome<Value> {
    let mut map = json!({});
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return failed(format!("Invalid argument syntax {pair}, expected <resource>=<value>"));
        };
        let Ok(amount) = value.parse::<api::Quantity>() else {
            return failed(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            );
        };
        map[key] = amount.to_string().into();
    }
    Ok(map)
}

fn resources(call: &Call<'_>) -> Outcome {
    some(call, call.args())?;
    let (limits, requests) = (call.text("limits"), call.text("requests"));
    if limits.is_empty() && requests.is_empty() {
        return failed(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        );
    }
    let (limits, requests) = (amounts(limits)?, amounts(requests)?);
    let wanted = call.text("containers");
    each(call, infos(call, call.args())?, "resource requirements updated", &|info| {
        let mut is_found = false;
        for container in containers(info, false)? {
            if !is_like(wanted, container.str("name")) {
                continue;
            }
            is_found = true;
            for (field, amounts) in [("limits", &limits), ("requests", &requests)] {
                for (key, amount) in amounts.as_object().into_iter().flatten() {
                    let map = container.map_mut(&format!("resources.{field}"));
                    map.insert(key.clone(), amount.clone());
                }
            }
        }
        match is_found {
            true => Ok(true),
            false => failed(format!("unable to find container named {wanted}")),
        }
    })
}

/// Whether a name fits a pattern with `*`.
pub(super) fn is_like(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn selector(call: &Call<'_>) -> Outcome {
    let Some((text, names)) = call.args().split_last() else {
        return failed("one selector is required");
    };
    let wanted = super::create::selector(text)?;
    each(call, infos(call, names)?, "selector updated", &|info| match info.resource.kind.as_str() {
        "Service" => {
            let expressions = wanted.list("matchExpressions");
            if !expressions.is_empty() {
                let shown: Vec<String> = expressions.iter().map(expression).collect();
                return failed(format!(
                    "match expression [{}] not supported on this object",
                    shown.join(" ")
                ));
            }
            info.object.set("spec.selector", wanted.at("matchLabels").clone());
            if !call.text("resource-version").is_empty() {
                info.object.set("metadata.resourceVersion", call.text("resource-version"));
            }
            Ok(true)
        }
        _ => failed("setting a selector is only supported for Services"),
    })
}

/// A requirement as Go prints it.
fn expression(tree: &Value) -> String {
    let values: Vec<&str> = tree.list("values").iter().filter_map(Value::as_str).collect();
    format!("{{{} {} [{}]}}", tree.str("key"), tree.str("operator"), values.join(" "))
}

fn service_account(call: &Call<'_>) -> Outcome {
    let Some((account, names)) = call.args().split_last() else {
        return failed("serviceaccount is required");
    };
    each(call, infos(call, names)?, "serviceaccount updated", &|info| {
        let path = pod_spec(&info.resource.kind);
        if path.is_empty() {
            return podless(info);
        }
        info.object.set(&format!("{path}.serviceAccountName"), account.as_str());
        if info.object.has(&format!("{path}.serviceAccount")) {
            info.object.set(&format!("{path}.serviceAccount"), account.as_str());
        }
        Ok(true)
    })
}

fn subject(call: &Call<'_>) -> Outcome {
    const GROUP: &str = "rbac.authorization.k8s.io";
    some(call, call.args())?;
    let mut wanted: Vec<Value> = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        for name in call.list(flag) {
            wanted.push(json!({"apiGroup": GROUP, "kind": kind, "name": name}));
        }
    }
    for account in call.array("serviceaccount") {
        let Some((namespace, name)) =
            account.split_once(':').filter(|(a, b)| !a.is_empty() && !b.is_empty())
        else {
            return failed("serviceaccount must be <namespace>:<name>");
        };
        wanted.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    if wanted.is_empty() {
        return failed("you must specify at least one value of user, group or serviceaccount");
    }
    each(call, infos(call, call.args())?, "subjects updated", &|info| {
        if !matches!(info.resource.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            return unfit(
                info,
                "setting subjects is only supported for RoleBinding/ClusterRoleBinding",
            );
        }
        let subjects = info.object.list_mut("subjects");
        let n_before = subjects.len();
        for subject in &wanted {
            let is_same = |own: &&Value| {
                ["kind", "name", "namespace"]
                    .iter()
                    .all(|field| own.str(field) == subject.str(field))
            };
            if !subjects.iter().any(|own| is_same(&own)) {
                subjects.push(subject.clone());
            }
        }
        if subjects.len() == n_before {
            if call.text("output").is_empty() {
                out::line(&format!("{} was not changed", info.result_name()));
            }
            return Ok(false);
        }
        Ok(true)
    })
}
