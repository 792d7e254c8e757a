//! Generators of small objects.

use api::selector::{Requirement, Selector};
use api::{LensMut, Value, json};

use super::{GENERATOR, finish, name, object};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{int, switch, text};
use crate::options;

pub(super) static NAMESPACE: Command = Command {
    name: "namespace",
    aliases: &["ns"],
    about: "Create a namespace with the specified name.",
    usage: "NAME [--dry-run=server|client|none]",
    flags: GENERATOR,
    run: Some(|call| {
        let mut tree = object("v1", "Namespace", name(call)?);
        tree["spec"] = json!({});
        tree["status"] = json!({});
        finish(call, tree)
    }),
    ..BLANK
};

pub(super) static SERVICE_ACCOUNT: Command = Command {
    name: "serviceaccount",
    aliases: &["sa"],
    about: "Create a service account with the specified name.",
    usage: "NAME [--dry-run=server|client|none]",
    flags: GENERATOR,
    run: Some(|call| finish(call, object("v1", "ServiceAccount", name(call)?))),
    ..BLANK
};

pub(super) static QUOTA: Command = Command {
    name: "quota",
    aliases: &["resourcequota"],
    about: "Create a resource quota with the specified name, hard limits, and optional scopes.",
    short: "Create a quota with the specified name",
    usage: "NAME [--hard=key1=value1,key2=value2] [--scopes=Scope1,Scope2] [--dry-run=server|client|none]",
    flags: &[
        options::DRY_RUN,
        options::PRINT,
        options::SAVE_CONFIG,
        options::VALIDATE,
        &[
            text("field-manager", "", "Name of who manages the fields"),
            text("hard", "", "Pairs resource=quantity, between commas"),
            text("scopes", "", "Scopes, between commas"),
        ],
    ],
    run: Some(quota),
    ..BLANK
};

pub(super) static DISRUPTION_BUDGET: Command = Command {
    name: "poddisruptionbudget",
    aliases: &["pdb"],
    about: "Create a pod disruption budget with the specified name, selector, and desired minimum available pods.",
    short: "Create a pod disruption budget with the specified name",
    usage: "NAME --selector=SELECTOR --min-available=N [--dry-run=server|client|none]",
    flags: &[
        options::DRY_RUN,
        options::PRINT,
        options::SAVE_CONFIG,
        options::VALIDATE,
        &[
            text("field-manager", "", "Name of who manages the fields"),
            text("max-unavailable", "", "How many may be missing, or a percentage"),
            text("min-available", "", "How many must be there, or a percentage"),
            text("selector", "", "Labels of the pods"),
        ],
    ],
    run: Some(budget),
    ..BLANK
};

pub(super) static PRIORITY_CLASS: Command = Command {
    name: "priorityclass",
    aliases: &["pc"],
    about: "Create a priority class with the specified name, value, globalDefault and description.",
    short: "Create a priority class with the specified name",
    usage: "NAME --value=VALUE --global-default=BOOL [--dry-run=server|client|none]",
    flags: &[
        options::DRY_RUN,
        options::PRINT,
        options::SAVE_CONFIG,
        options::VALIDATE,
        &[
            text("description", "", "When to use the class"),
            text("field-manager", "", "Name of who manages the fields"),
            switch("global-default", "The class of pods that name none"),
            text("preemption-policy", "PreemptLowerPriority", "Never or PreemptLowerPriority"),
            int("value", "0", "The value of the class"),
        ],
    ],
    run: Some(priority),
    ..BLANK
};

fn quota(call: &Call<'_>) -> Outcome {
    let mut tree = object("v1", "ResourceQuota", name(call)?);
    let mut hard = json!({});
    for pair in call.text("hard").split(',').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            return failed(format!("Invalid argument syntax {pair}, expected <resource>=<value>"));
        };
        let Ok(amount) = value.parse::<api::Quantity>() else {
            return failed(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            );
        };
        hard[key] = amount.to_string().into();
    }
    tree["spec"] = json!({});
    if hard.as_object().is_some_and(|map| !map.is_empty()) {
        tree["spec"]["hard"] = hard;
    }
    let scopes: Vec<&str> =
        call.text("scopes").split(',').filter(|scope| !scope.is_empty()).collect();
    if !scopes.is_empty() {
        tree["spec"]["scopes"] = json!(scopes);
    }
    tree["status"] = json!({});
    finish(call, tree)
}

fn budget(call: &Call<'_>) -> Outcome {
    let mut tree = object("policy/v1", "PodDisruptionBudget", name(call)?);
    if call.text("selector").is_empty() {
        return failed("a selector must be specified");
    }
    let (min, max) = (call.text("min-available"), call.text("max-unavailable"));
    let value = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    for (flag, text) in [("min-available", min), ("max-unavailable", max)] {
        let digits = text.strip_suffix('%').unwrap_or(text);
        if !text.is_empty() && (digits.is_empty() || digits.contains(|c: char| !c.is_ascii_digit()))
        {
            return failed(format!("invalid format specified for {flag}"));
        }
    }
    tree["spec"] = json!({"selector": selector(call.text("selector"))?});
    match (min, max) {
        ("", "") => return failed("one of min-available or max-unavailable must be specified"),
        (min, "") => tree["spec"]["minAvailable"] = value(min),
        ("", max) => tree["spec"]["maxUnavailable"] = value(max),
        _ => return failed("min-available and max-unavailable cannot be both specified"),
    }
    tree["status"] = json!({
        "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
    });
    finish(call, tree)
}

/// A label selector as objects have it.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn selector(text: &str) -> Outcome<Value> {
    let parsed = Selector::parse(text).map_err(|why| {
        Failure::Message(format!("couldn't parse the selector string {text:?}: {why}"))
    })?;
    let mut labels = api::Map::new();
    let mut expressions: Vec<Value> = Vec::new();
    let mut put = |key: String, operator: &str, values: Vec<String>| {
        let mut own = json!({"key": key, "operator": operator});
        if !values.is_empty() {
            own["values"] = json!(values);
        }
        expressions.push(own);
    };
    for requirement in parsed.requirements {
        match requirement {
            // Of one value equality is said, as far as the text tells.
            Requirement::In(key, values) if values.len() == 1 && !has_in(text, &key) => {
                labels.insert(key, values.into_iter().next().unwrap_or_default().into());
            }
            Requirement::In(key, values) => put(key, "In", values),
            Requirement::NotIn(key, values) => put(key, "NotIn", values),
            Requirement::Exists(key) => put(key, "Exists", Vec::new()),
            Requirement::NotExists(key) => put(key, "DoesNotExist", Vec::new()),
            Requirement::Greater(..) | Requirement::Less(..) => {
                return failed(format!("{text:?} is not a valid label selector operator"));
            }
        }
    }
    let mut tree = json!({});
    if !labels.is_empty() {
        tree["matchLabels"] = Value::Object(labels);
    }
    if !expressions.is_empty() {
        tree.set("matchExpressions", expressions);
    }
    Ok(tree)
}

/// Whether the text says `key in (...)`.
fn has_in(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let rest = text[at + key.len()..].trim_start();
        rest.strip_prefix("in").is_some_and(|rest| rest.trim_start().starts_with('('))
    })
}

fn priority(call: &Call<'_>) -> Outcome {
    let mut tree = object("scheduling.k8s.io/v1", "PriorityClass", name(call)?);
    tree.set("value", call.int("value"));
    tree.set("preemptionPolicy", call.text("preemption-policy"));
    if call.is("global-default") {
        tree.set("globalDefault", true);
    }
    if !call.text("description").is_empty() {
        tree.set("description", call.text("description"));
    }
    finish(call, tree)
}
