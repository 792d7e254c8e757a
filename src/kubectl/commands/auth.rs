//! `kubectl auth`

use api::{Lens, LensMut, Value, json};
use http::Method;
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{switch, text};
use crate::print::Printer;
use crate::print::tabs::Tabs;
use crate::rest::Body;
use crate::{options, out};

pub(crate) static COMMAND: Command = Command {
    name: "auth",
    about: "Inspect authorization.",
    subs: &[&CAN_I, &RECONCILE, &WHO_AM_I],
    ..BLANK
};

static CAN_I: Command = Command {
    name: "can-i",
    about: "Check whether an action is allowed.",
    usage: "VERB [TYPE | TYPE/NAME | NONRESOURCEURL]",
    flags: &[
        options::ALL_NAMESPACES,
        &[
            switch("list", "Show all that is allowed"),
            switch("no-headers", "Do not print headers"),
            switch("quiet", "Only the exit code").short('q'),
            text("subresource", "", "A part of the object, as log"),
        ],
    ],
    run: Some(can_i),
    ..BLANK
};
static WHO_AM_I: Command = Command {
    name: "whoami",
    about: "Experimental: Check who you are and your attributes (groups, extra).",
    short: "Experimental: Check self subject attributes",
    flags: &[options::PRINT],
    run: Some(who_am_i),
    ..BLANK
};
static RECONCILE: Command = Command {
    name: "reconcile",
    about: "Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects.",
    usage: "-f FILENAME",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        &[
            switch("remove-extra-permissions", "Take away rules that the file has not"),
            switch("remove-extra-subjects", "Take away subjects that the file has not"),
        ],
    ],
    run: Some(super::reconcile::run),
    ..BLANK
};

const TWO: &str = "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' for help and examples.";

fn can_i(call: &Call<'_>) -> Outcome {
    if call.is("list") {
        if !call.args().is_empty() {
            return failed("list option must be specified with no arguments");
        }
        return rules(call);
    }
    let (verb, what) = match call.args() {
        [verb] => (verb.as_str(), ""),
        [verb, what] => (verb.as_str(), what.as_str()),
        _ => {
            return failed(TWO);
        }
    };
    if what.is_empty() {
        return failed(TWO);
    }
    let (word, name) = match what.split_once('/') {
        Some((word, name)) if !what.starts_with('/') => (word, name),
        _ => (what, ""),
    };
    ask(call, verb, word, name)
}

fn ask(call: &Call<'_>, verb: &str, what: &str, name: &str) -> Outcome {
    let mut spec = json!({});
    if what.starts_with('/') {
        if !call.text("subresource").is_empty() {
            return failed("--subresource can not be used with NonResourceURL");
        }
        spec["nonResourceAttributes"] = json!({"path": what, "verb": verb});
    } else {
        let mut attributes = json!({"verb": verb});
        let (mut is_within, mut group) = (true, String::new());
        let mut plural = what.to_owned();
        if what != "*" {
            match call.mapper()?.find(call.rest()?, what) {
                Ok(resource) => {
                    is_within = resource.namespaced;
                    group.clone_from(&resource.group);
                    plural.clone_from(&resource.plural);
                    if !resource.verbs.iter().any(|own| own == verb) && !is_virtual(verb) {
                        out::tell(&format!("Warning: verb '{verb}' is not a known verb\n"));
                    }
                }
                Err(Failure::Message(_)) => {
                    let (bare, own) = what.split_once('.').unwrap_or((what, ""));
                    plural = bare.to_lowercase();
                    own.clone_into(&mut group);
                    let of =
                        if own.is_empty() { String::new() } else { format!(" in group '{own}'") };
                    out::tell(&format!(
                        "Warning: the server doesn't have a resource type '{bare}'{of}\n"
                    ));
                }
                Err(failure) => return Err(failure),
            }
        }
        let (namespace, _) = call.namespace()?;
        if is_within && !call.is("all-namespaces") {
            attributes.set("namespace", namespace);
        } else if !is_within && !call.is("all-namespaces") {
            let bare = if group.is_empty() {
                format!("'{plural}'")
            } else {
                format!("'{plural}' is not namespace scoped in group '{group}'")
            };
            out::tell(&match group.is_empty() {
                true => format!("Warning: resource {bare} is not namespace scoped\n"),
                false => format!("Warning: resource {bare}\n"),
            });
        }
        for (key, value) in [
            ("resource", plural.as_str()),
            ("group", &group),
            ("name", name),
            ("subresource", call.text("subresource")),
        ] {
            if !value.is_empty() {
                attributes.set(key, value);
            }
        }
        spec["resourceAttributes"] = attributes;
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = call.rest()?.tree(
        Method::Post,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        Body::json(&review),
    )?;
    let status = answer.at("status");
    let is_allowed = status.flag("allowed");
    if !call.is("quiet") {
        let mut text = if is_allowed { "yes" } else { "no" }.to_owned();
        if !is_allowed {
            if !status.str("reason").is_empty() {
                text.push_str(&format!(" - {}", status.str("reason")));
            }
            if !status.str("evaluationError").is_empty() {
                text.push_str(&format!(" - {}", status.str("evaluationError")));
            }
        }
        out::line(&text);
    }
    if is_allowed { Ok(()) } else { Err(Failure::Exit(1)) }
}

/// Verbs that no list of a resource's verbs has.
fn is_virtual(verb: &str) -> bool {
    matches!(
        verb,
        "*" | "use"
            | "bind"
            | "escalate"
            | "impersonate"
            | "approve"
            | "sign"
            | "attest"
            | "get"
            | "list"
            | "watch"
            | "create"
            | "update"
            | "patch"
            | "delete"
            | "deletecollection"
            | "proxy"
    )
}

fn rules(call: &Call<'_>) -> Outcome {
    let (namespace, _) = call.namespace()?;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    let answer = call.rest()?.tree(
        Method::Post,
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        Body::json(&review),
    )?;
    let status = answer.at("status");
    if status.flag("incomplete") {
        out::tell(&format!(
            "warning: the list may be incomplete: {}",
            status.str("evaluationError")
        ));
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !call.is("no-headers") {
        rows.push(
            ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    let words = |list: &[Value]| {
        let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        format!("[{}]", words.join(" "))
    };
    // Resources, paths, names, verbs; then the group and the resource that they are sorted by.
    let mut found: Vec<[String; 6]> = Vec::new();
    for rule in status.list("resourceRules") {
        for group in rule.list("apiGroups").iter().filter_map(Value::as_str) {
            for resource in rule.list("resources").iter().filter_map(Value::as_str) {
                let name = match group {
                    "" => resource.to_owned(),
                    group => format!("{resource}.{group}"),
                };
                let (names, verbs) = (words(rule.list("resourceNames")), words(rule.list("verbs")));
                let key = [format!("[{group}]"), format!("[{resource}]")];
                let [group, resource] = key;
                found.push([name, "[]".to_owned(), names, verbs, group, resource]);
            }
        }
    }
    compact(&mut found);
    for rule in status.list("nonResourceRules") {
        for url in rule.list("nonResourceURLs").iter().filter_map(Value::as_str) {
            let (none, verbs) = ("[]".to_owned(), words(rule.list("verbs")));
            found.push([
                String::new(),
                format!("[{url}]"),
                none.clone(),
                verbs,
                none.clone(),
                none,
            ]);
        }
    }
    found.arrange_by(|a, b| {
        let key =
            |row: &[String; 6]| [&row[3], &row[4], &row[5], &row[2], &row[1]].map(String::clone);
        key(a).cmp(&key(b))
    });
    rows.extend(found.into_iter().map(|row| row[..4].to_vec()));
    out::print(&Tabs::new().format(&rows));
    Ok(())
}

/// Puts the verbs of equal resources and names together.
fn compact(rows: &mut Vec<[String; 6]>) {
    let mut merged: Vec<[String; 6]> = Vec::new();
    for row in rows.drain(..) {
        match merged.iter_mut().find(|own| own[0] == row[0] && own[2] == row[2]) {
            Some(own) => {
                let inner = |text: &str| text.trim_matches(['[', ']']).to_owned();
                let (mine, more) = (inner(&own[3]), inner(&row[3]));
                let mut all: Vec<&str> = mine.split(' ').collect();
                all.extend(more.split(' ').filter(|verb| !mine.split(' ').any(|own| own == *verb)));
                own[3] = format!("[{}]", all.join(" "));
            }
            None => merged.push(row),
        }
    }
    *rows = merged;
}

fn who_am_i(call: &Call<'_>) -> Outcome {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let printer = Printer::of(call, false)?;
    let mut answer = call.rest()?.tree(
        Method::Post,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        Body::json(&review),
    )?;
    if let Some(printer) = printer {
        answer.set_default("apiVersion", "authentication.k8s.io/v1");
        answer.set_default("kind", "SelfSubjectReview");
        return printer.print(&answer);
    }
    let user = answer.at("status.userInfo");
    let mut rows = vec![["ATTRIBUTE", "VALUE"].map(str::to_owned).to_vec()];
    let mut push = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    push("Username", user.str("username").to_owned());
    push("UID", user.str("uid").to_owned());
    let list = |values: &[Value]| {
        let words: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        if words.is_empty() { String::new() } else { format!("[{}]", words.join(" ")) }
    };
    push("Groups", list(user.list("groups")));
    for (key, values) in user.at("extra").as_object().into_iter().flatten() {
        push(&format!("Extra: {key}"), list(values.as_array().map_or(&[], Vec::as_slice)));
    }
    out::print(&Tabs::new().format(&rows));
    Ok(())
}
