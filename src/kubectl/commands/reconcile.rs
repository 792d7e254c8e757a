//! `kubectl auth reconcile`: roles and bindings have at least what files say.

use api::{Lens, LensMut, Value, json};

use crate::call::{Call, DryRun};
use crate::commands::delete;
use crate::failure::{Outcome, failed};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{out, write};

/// Single permissions that the rules of one role come to; more are refused.
const PIECES_MAX: usize = 100_000;

/// What became of an object, and what was missing or too much.
#[derive(Default)]
struct Change {
    /// "" for none.
    verb: &'static str,
    missing: Vec<Value>,
    extra: Vec<Value>,
}

pub(super) fn run(call: &Call<'_>) -> Outcome {
    if !call.has_files() {
        return failed(write::NO_FILES);
    }
    if call.dry_run()? == DryRun::Server {
        return failed("--dry-run=server for command reconcile is not supported yet");
    }
    let printer = Printer::of(call, false)?;
    for info in select::all_read(call, &Pick { args: Vec::new(), ..Pick::of(call, &[]) })? {
        match info.resource.kind.as_str() {
            "Role" | "ClusterRole" => one(call, info, "rules", printer.as_ref())?,
            "RoleBinding" | "ClusterRoleBinding" => one(call, info, "subjects", printer.as_ref())?,
            kind if info.resource.group == "rbac.authorization.k8s.io" => {
                return failed(format!(
                    "only rbac.authorization.k8s.io/v1 is supported: not {kind}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn one(call: &Call<'_>, mut info: Info, field: &str, printer: Option<&Printer>) -> Outcome {
    let is_done = call.dry_run()? == DryRun::None;
    let wanted = info.object.list(field).to_vec();
    let current = match call.rest()?.get(&info.path()) {
        Ok(current) => Some(current),
        Err(failure) if failure.is_not_found() => None,
        Err(failure) => return Err(failure),
    };
    let role_of = |object: &Value| {
        (object.str("roleRef.kind").to_owned(), object.str("roleRef.name").to_owned())
    };
    let change = match current {
        None => {
            if is_done {
                let made = write::create(call, &info, "kubectl-auth")?;
                info.refresh(made);
            }
            Change { verb: "create", missing: wanted, ..Change::default() }
        }
        Some(current) if field == "subjects" && role_of(&current) != role_of(&info.object) => {
            if is_done {
                let how = delete::How { grace: None, propagation: "Background" };
                delete::delete(call, &info, &how)?;
                let made = write::create(call, &info, "kubectl-auth")?;
                info.refresh(made);
            }
            Change { verb: "recreate", ..Change::default() }
        }
        Some(current) => {
            let (merged, change) = merged(call, &current, &info.object, field)?;
            info.object = merged;
            if !change.verb.is_empty() && is_done {
                let answer = write::replace(call, &info, "kubectl-auth")?;
                info.refresh(answer);
            }
            change
        }
    };
    done(call, printer, &info, "reconciled")?;
    tell(call, &change, field);
    Ok(())
}

/// Whether what is too much goes.
fn removes(call: &Call<'_>, field: &str) -> bool {
    match field {
        "rules" => call.is("remove-extra-permissions"),
        _ => call.is("remove-extra-subjects"),
    }
}

/// The object that has what both say, and what is new in it.
fn merged(
    call: &Call<'_>,
    current: &Value,
    wanted: &Value,
    field: &str,
) -> Outcome<(Value, Change)> {
    let (own, other) = (current.list(field), wanted.list(field));
    let (missing, extra) = match field {
        "rules" => (uncovered(own, other)?, uncovered(other, own)?),
        _ => {
            let without = |from: &[Value], list: &[Value]| -> Vec<Value> {
                from.iter().filter(|it| !list.iter().any(|own| is_same(own, it))).cloned().collect()
            };
            (without(other, own), without(own, other))
        }
    };
    let mut merged = current.clone();
    let list = match removes(call, field) {
        true if !extra.is_empty() => other.to_vec(),
        _ => own.iter().chain(&missing).cloned().collect(),
    };
    merged.set(field, list);
    for map in ["labels", "annotations"] {
        for (key, value) in wanted.pairs(&format!("metadata.{map}")) {
            merged.map_mut(&format!("metadata.{map}")).insert(key.to_owned(), value.into());
        }
    }
    let verb = if merged == *current { "" } else { "update" };
    Ok((merged, Change { verb, missing, extra }))
}

fn is_same(a: &Value, b: &Value) -> bool {
    ["kind", "name", "namespace"].iter().all(|field| a.str(field) == b.str(field))
}

fn words<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    rule.list(field).iter().filter_map(Value::as_str).collect()
}

/// The single permissions of `rules` that `covering` do not give.
fn uncovered(covering: &[Value], rules: &[Value]) -> Outcome<Vec<Value>> {
    let mut missing: Vec<Value> = Vec::new();
    let mut n_pieces = 0;
    let mut look = |piece: Value| -> Outcome {
        n_pieces += 1;
        if n_pieces > PIECES_MAX {
            return failed(format!("the rules come to more than {PIECES_MAX} permissions"));
        }
        if !covering.iter().any(|rule| covers(rule, &piece)) && !missing.contains(&piece) {
            missing.push(piece);
        }
        Ok(())
    };
    for rule in rules {
        for verb in words(rule, "verbs") {
            for url in words(rule, "nonResourceURLs") {
                look(json!({"verbs": [verb], "nonResourceURLs": [url]}))?;
            }
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    let piece =
                        json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]});
                    let names = words(rule, "resourceNames");
                    if names.is_empty() {
                        look(piece.clone())?;
                    }
                    for name in names {
                        let mut piece = piece.clone();
                        piece["resourceNames"] = json!([name]);
                        look(piece)?;
                    }
                }
            }
        }
    }
    Ok(missing)
}

/// Whether a rule gives a single permission.
fn covers(rule: &Value, piece: &Value) -> bool {
    let has = |field: &str, fits: &dyn Fn(&str, &str) -> bool| {
        let wanted = piece.str(&format!("{field}.0"));
        rule.list(field).iter().filter_map(Value::as_str).any(|own| fits(own, wanted))
    };
    let plain = |own: &str, wanted: &str| own == "*" || own == wanted;
    if !has("verbs", &plain) {
        return false;
    }
    if piece.has("nonResourceURLs") {
        return has("nonResourceURLs", &|own, wanted| {
            plain(own, wanted) || own.strip_suffix('*').is_some_and(|own| wanted.starts_with(own))
        });
    }
    let of_part = |own: &str, wanted: &str| {
        let part = own.strip_prefix("*/");
        plain(own, wanted) || part.is_some_and(|own| wanted.split('/').nth(1) == Some(own))
    };
    let named = rule.list("resourceNames").is_empty()
        || piece.has("resourceNames") && has("resourceNames", &|own, wanted| own == wanted);
    has("apiGroups", &plain) && has("resources", &of_part) && named
}

/// Says what was missing or too much, where messages go.
fn tell(call: &Call<'_>, change: &Change, field: &str) {
    if change.verb.is_empty() {
        return;
    }
    out::tell(&format!("\treconciliation required {}", change.verb));
    let list = |what: &str, items: &[Value]| {
        if !items.is_empty() {
            out::tell(&format!("\t{what}:"));
        }
        for item in items {
            out::tell(&format!(
                "\t\t{}",
                if field == "rules" { rule(item) } else { subject(item) }
            ));
        }
    };
    list(&format!("missing {field} added"), &change.missing);
    if removes(call, field) {
        list(&format!("extra {field} removed"), &change.extra);
    }
}

/// A rule as Go prints it.
fn rule(tree: &Value) -> String {
    let all = |field: &str| words(tree, field).join(" ");
    format!(
        "{{Verbs:[{}] APIGroups:[{}] Resources:[{}] ResourceNames:[{}] NonResourceURLs:[{}]}}",
        all("verbs"),
        all("apiGroups"),
        all("resources"),
        all("resourceNames"),
        all("nonResourceURLs")
    )
}

/// A subject as Go prints it.
fn subject(tree: &Value) -> String {
    format!(
        "{{Kind:{} APIGroup:{} Name:{} Namespace:{}}}",
        tree.str("kind"),
        tree.str("apiGroup"),
        tree.str("name"),
        tree.str("namespace")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_do_not_give() {
        let own = [
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/status"]}),
            json!({"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["a"]}),
            json!({"verbs": ["get"], "nonResourceURLs": ["/x/*"]}),
        ];
        let wanted = [
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "nodes/status"]}),
            json!({"verbs": ["put"], "apiGroups": ["apps"], "resources": ["x"], "resourceNames": ["a", "b"]}),
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["x"]}),
            json!({"verbs": ["get"], "nonResourceURLs": ["/x/y", "/y"]}),
        ];
        let missing: Vec<String> = uncovered(&own, &wanted).unwrap().iter().map(rule).collect();
        assert_eq!(
            missing,
            [
                "{Verbs:[list] APIGroups:[] Resources:[pods] ResourceNames:[] NonResourceURLs:[]}",
                "{Verbs:[list] APIGroups:[] Resources:[nodes/status] ResourceNames:[] NonResourceURLs:[]}",
                "{Verbs:[put] APIGroups:[apps] Resources:[x] ResourceNames:[b] NonResourceURLs:[]}",
                "{Verbs:[get] APIGroups:[apps] Resources:[x] ResourceNames:[] NonResourceURLs:[]}",
                "{Verbs:[get] APIGroups:[] Resources:[] ResourceNames:[] NonResourceURLs:[/y]}",
            ]
        );
    }
}
