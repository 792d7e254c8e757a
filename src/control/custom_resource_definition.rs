//! CustomResourceDefinition: which names it gets, when it is served, and what goes before it does.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/controller/{status,establish,finalizer,apiapproval}

use std::time::Duration;
use stdx::OrdSet;

use api::catalog::DEFINITIONS_MAX;
use api::custom::{self, is_true, set_condition};
use api::kinds::{CUSTOM_RESOURCE_CLEANUP, CUSTOM_RESOURCE_DEFINITION, KINDS};
use api::{Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View, json};
use api::{Wakes, Watch};

use crate::support::{conditions, time_at, without_finalizer};

/// How soon it is looked again whether what was accepted is served.
const SERVED_SOON: Duration = Duration::from_millis(10);

/// Longer than this it does not take the registry to serve a kind: it has refused it.
const SERVED_MAX: Duration = Duration::from_secs(1);

/// Why a definition whose names are free is not served.
const TOO_MANY: &str = "TooManyDefinitions";

/// Everything that removes instances is an event; this is for what no event tells.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct Definitions;

impl Controller for Definitions {
    const NAME: &'static str = "customresourcedefinition-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&CUSTOM_RESOURCE_DEFINITION, Wakes::Itself),
        Watch::new(&CUSTOM_RESOURCE_DEFINITION, Wakes::With(waiting_for_names)),
    ];
    const FOLLOWS: fn(&'static Kind) -> Option<Wakes> =
        |kind| (!kind.is_built_in()).then_some(Wakes::With(removed_with));

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let old = custom::outline(&object);
        let mut new = old.clone();
        let has_finalizer =
            old.list("metadata.finalizers").iter().any(|name| name == CUSTOM_RESOURCE_CLEANUP);
        if object.deleting() && has_finalizer {
            return terminate(view, &object, new, actions);
        }
        accept_names(view, &mut new);
        let next = establish(view, &mut new);
        approve(view, &mut new);
        if new.flag("spec.preserveUnknownFields") {
            let message = "spec.preserveUnknownFields: Invalid value: true: must be false";
            set(view, &mut new, "NonStructuralSchema", "True", "Violations", message);
        } else {
            new.list_mut("status.conditions").retain(|it| it.str("type") != "NonStructuralSchema");
        }
        if new.at("status") != old.at("status") && !new.list("status.conditions").is_empty() {
            actions.patch_status_exact(&object, json!({"status": new.at("status")}));
        }
        next
    }
}

/// Those of the same group whose names another one may have given back.
fn waiting_for_names(view: &View<'_>, changed: &Object) -> Vec<Key> {
    let of_group = others_of_group(view, changed.name());
    of_group
        .into_iter()
        .filter(|it| !is_true(&custom::outline(it), "NamesAccepted"))
        .map(|it| Key::of(&it))
        .collect()
}

/// The other definitions of a group, but for those that have all their names and are served under them:
/// these are most, and what they say is known without reading them.
fn others_of_group(view: &View<'_>, name: &str) -> Vec<Object> {
    let group = name.split_once('.').map_or("", |(_, group)| group);
    let kinds = view.kinds();
    let is_settled = |plural: &str| {
        let served = kinds.definition(group, plural);
        served.is_some_and(|definition| !definition.waiting)
    };
    let is_open = |it: &Object| {
        it.name() != name
            && it
                .name()
                .split_once('.')
                .is_some_and(|(plural, it)| it == group && !is_settled(plural))
    };
    let mut all = view.list(&CUSTOM_RESOURCE_DEFINITION, None);
    all.retain(is_open);
    all
}

/// The definition that waits until an instance is gone.
fn removed_with(view: &View<'_>, instance: &Object) -> Vec<Key> {
    let name = instance.kind().qualified_plural();
    let definition = view.get(&CUSTOM_RESOURCE_DEFINITION, "", &name);
    definition.filter(Object::deleting).map(|it| Key::of(&it)).into_iter().collect()
}

fn set(view: &View<'_>, tree: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    set_condition(tree, kind, (status, reason), message, view.now.wall);
}

/// Which names the group has given away: resources and kinds.
fn taken(view: &View<'_>, own: &Value) -> [OrdSet<String>; 2] {
    let (group, name) = (own.str("spec.group"), own.str("metadata.name"));
    let [mut resources, mut kinds] = [OrdSet::new(), OrdSet::new()];
    // Also those that are only bodies of others.
    for form in KINDS.iter().flat_map(|kind| kind.forms()) {
        if form.group() == group {
            resources.extend([form.kind.plural.to_owned(), form.singular()]);
            resources.extend(form.short().into_iter().map(str::to_owned));
            kinds.extend([form.kind.name.to_owned(), form.list_kind()]);
        }
    }
    // Only what shares a name with it can be in its way, and that is known of those that are served.
    let names = own.at("spec.names");
    let own_names: OrdSet<&str> = ["plural", "singular", "kind", "listKind"]
        .iter()
        .map(|field| names.str(field))
        .chain(names.list("shortNames").iter().filter_map(Value::as_str))
        .collect();
    let shares = |it: &&std::sync::Arc<api::Definition>| {
        let short = it.short.iter().map(|name| &**name);
        let mut names =
            [it.kind.plural, &*it.singular, it.kind.name, &*it.list_kind].into_iter().chain(short);
        !it.waiting && names.any(|name| own_names.contains(name))
    };
    let served = view.kinds();
    let served = served.definitions_of(group).iter().filter(shares).map(|it| it.name());
    let served = served.filter(|other| other != name);
    // The view tells whether it is still so.
    let served: Vec<Object> =
        served.filter_map(|other| view.get(&CUSTOM_RESOURCE_DEFINITION, "", &other)).collect();
    for other in served.into_iter().chain(others_of_group(view, name)) {
        let tree = custom::outline(&other);
        let names = tree.at("status.acceptedNames");
        let short = names.list("shortNames").iter().filter_map(Value::as_str);
        resources.extend([names.str("plural"), names.str("singular")].map(str::to_owned));
        resources.extend(short.map(str::to_owned));
        kinds.extend([names.str("kind"), names.str("listKind")].map(str::to_owned));
    }
    [resources, kinds]
}

/// Gives it the names that nobody else of its group has.
fn accept_names(view: &View<'_>, tree: &mut Value) {
    let wanted = tree.at("spec.names").clone();
    if wanted == *tree.at("status.acceptedNames") && is_true(tree, "NamesAccepted") {
        return;
    }
    let [resources, kinds] = taken(view, tree);
    let mut accepted = tree.at("status.acceptedNames").clone();
    let mut refused: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (field, taken, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let name = wanted.str(field);
        match name != accepted.str(field) && taken.contains(name) {
            true => refused = Some((reason, in_use(name))),
            false => accepted.set(field, name),
        }
        // Upstream's order: the last conflict is told, short names between resources and kinds.
        if field == "singular" {
            let own = accepted.list("shortNames").to_vec();
            let lost: Vec<String> = wanted
                .list("shortNames")
                .iter()
                .filter(|name| !own.contains(name))
                .filter_map(Value::as_str)
                .filter(|name| resources.contains(*name))
                .map(in_use)
                .collect();
            match lost.as_slice() {
                [] => replace(&mut accepted, &wanted, "shortNames"),
                [one] => refused = Some(("ShortNamesConflict", one.clone())),
                more => {
                    refused = Some(("ShortNamesConflict", format!("[{}]", more.join(", "))));
                }
            }
        }
    }
    replace(&mut accepted, &wanted, "categories");
    let served = view.kinds();
    let is_known = served.definition(tree.str("spec.group"), wanted.str("plural")).is_some();
    if refused.is_none() && !is_known && served.n_defined() >= DEFINITIONS_MAX {
        let message = format!("no more than {DEFINITIONS_MAX} kinds may be defined");
        refused = Some((TOO_MANY, message));
    }
    let is_accepted = refused.is_none();
    tree.set("status.acceptedNames", accepted);
    let (status, reason, message) = match refused {
        Some((reason, message)) => ("False", reason, message),
        None => ("True", "NoConflicts", "no conflicts found".into()),
    };
    set(view, tree, "NamesAccepted", status, reason, &message);
    if is_true(tree, "Established") {
        return;
    }
    let (reason, message) = match is_accepted {
        true => ("Installing", "the initial names have been accepted"),
        false => ("NotAccepted", "not all names are accepted"),
    };
    set(view, tree, "Established", "False", reason, message);
}

/// Puts what is wanted in a list, or takes the list away.
fn replace(accepted: &mut Value, wanted: &Value, field: &str) {
    match wanted.at(field) {
        Value::Null => drop(accepted.remove(field)),
        list => accepted.set(field, list.clone()),
    }
}

/// Says that the kind is served, once it is.
fn establish(view: &View<'_>, tree: &mut Value) -> Next {
    if is_true(tree, "Established") {
        return Next::Done;
    }
    let accepted = conditions::find(tree, "NamesAccepted").unwrap_or(&Value::Null);
    if accepted.str("status") != "True" {
        // Names come free with a change that wakes this; room for kinds does not.
        let is_full = accepted.str("reason") == TOO_MANY;
        return if is_full { Next::After(LOOK_AGAIN) } else { Next::Done };
    }
    let names = tree.at("status.acceptedNames");
    if view.kinds().definition(tree.str("spec.group"), names.str("plural")).is_none() {
        // The registry serves it within milliseconds, or has refused it.
        let since = time_at(accepted, "lastTransitionTime");
        let is_new = since.is_none_or(|since| view.now.age(since) < SERVED_MAX);
        return Next::After(if is_new { SERVED_SOON } else { LOOK_AGAIN });
    }
    let message = "the initial names have been accepted";
    set(view, tree, "Established", "True", "InitialNamesAccepted", message);
    Next::Done
}

fn approve(view: &View<'_>, tree: &mut Value) {
    if let Some(approval) = custom::approval::approval_of(tree) {
        let (status, reason) = (approval.status, approval.reason);
        let kind = "KubernetesAPIApprovalPolicyConformant";
        set(view, tree, kind, status, reason, &approval.message);
    }
}

/// Deletes the instances, and lets the definition go when none is left.
fn terminate(view: &View<'_>, object: &Object, mut tree: Value, actions: &mut Actions) -> Next {
    let finished = |reason: &str, message: &str, tree: &mut Value, actions: &mut Actions| {
        set(view, tree, "Terminating", "False", reason, message);
        let patch = without_finalizer(tree, CUSTOM_RESOURCE_CLEANUP);
        let mut patch = patch.unwrap_or_else(|| json!({}));
        patch.set("status", tree.at("status").clone());
        actions.patch_status_exact(object, patch);
    };
    // Names that are accepted are served before anybody says so: then there may be instances.
    let plural = tree.str("status.acceptedNames.plural").to_owned();
    let is_served = view.kinds().definition(tree.str("spec.group"), &plural).is_some();
    if !is_true(&tree, "Established") && !is_served {
        let message = "resource was never established";
        finished("NeverEstablished", message, &mut tree, actions);
        return Next::Done;
    }
    let in_progress = tree
        .list("status.conditions")
        .iter()
        .any(|it| it.str("reason") == "InstanceDeletionInProgress");
    if !in_progress {
        let message = "CustomResource deletion is in progress";
        set(view, &mut tree, "Terminating", "True", "InstanceDeletionInProgress", message);
        actions.patch_status_exact(object, json!({"status": tree.at("status")}));
        return Next::Done;
    }
    let kinds = view.kinds();
    let Some(definition) = kinds.definition(tree.str("spec.group"), &plural) else {
        return Next::After(LOOK_AGAIN);
    };
    let kind = definition.kind;
    let instances = view.list(kind, None);
    for instance in instances.iter().filter(|instance| !instance.deleting()) {
        actions.delete(instance);
    }
    if !instances.is_empty() {
        return Next::After(LOOK_AGAIN);
    }
    actions.expect(Expect::Empty { kind, namespace: String::new() });
    finished("InstanceDeletionCompleted", "removed all instances", &mut tree, actions);
    Next::Done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::reconcile;

    fn definition(plural: &str, kind: &str, more: &Value) -> Value {
        let mut tree = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.example.com"), "uid": plural},
            "spec": {"group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
                "versions": [{"name": "v1", "served": true, "storage": true}]},
            "status": {"storedVersions": ["v1"]},
        });
        for (path, value) in more.as_object().into_iter().flatten() {
            tree.set(path, value.clone());
        }
        tree
    }

    fn accepted(plural: &str, kind: &str) -> Value {
        let tree = definition(plural, kind, &json!({}));
        let names = tree.at("spec.names").clone();
        definition(plural, kind, &json!({"status.acceptedNames": names}))
    }

    fn said(trees: Vec<Value>) -> String {
        let key = (&CUSTOM_RESOURCE_DEFINITION, "", "gadgets.example.com");
        let text = reconcile::<Definitions>(trees, key, 0);
        text.replace(",\"lastTransitionTime\":\"2024-01-01T00:00:00Z\"", "")
    }

    #[test]
    fn names_are_given_to_the_first() {
        let told = |text: &str, part: &str| assert!(text.contains(part), "{text}\nwithout {part}");
        let alone = said(vec![definition("gadgets", "Gadget", &json!({}))]);
        told(&alone, r#""reason":"NoConflicts","status":"True","type":"NamesAccepted""#);
        told(&alone, r#""reason":"Installing","status":"False","type":"Established""#);
        told(
            &alone,
            r#""acceptedNames":{"kind":"Gadget","listKind":"GadgetList","plural":"gadgets","singular":"gadget"}"#,
        );
        told(&alone, "after 0s");
        let second =
            said(vec![definition("gadgets", "Gadget", &json!({})), accepted("others", "Gadget")]);
        told(
            &second,
            r#""message":"\"GadgetList\" is already in use","reason":"ListKindConflict","status":"False""#,
        );
        told(&second, r#""reason":"NotAccepted","status":"False","type":"Established""#);
        told(&second, r#""plural":"gadgets""#);
        let other_group = definition("gadgets", "Gadget", &json!({}));
        let mut elsewhere = accepted("others", "Gadget");
        elsewhere.set("metadata.name", "others.example.org");
        told(&said(vec![other_group, elsewhere]), "NoConflicts");
        let short = json!({"spec.names.shortNames": ["ot", "others"]});
        let short =
            said(vec![definition("gadgets", "Gadget", &short), accepted("others", "Other")]);
        told(&short, r#""message":"\"others\" is already in use","reason":"ShortNamesConflict""#);
    }

    #[test]
    fn it_goes_when_it_was_never_served() {
        let more = json!({"metadata.deletionTimestamp": "2024-01-01T00:00:00Z", "metadata.finalizers": [CUSTOM_RESOURCE_CLEANUP]});
        let text = said(vec![definition("gadgets", "Gadget", &more)]);
        assert!(text.contains(r#""metadata":{"finalizers":[]}"#), "{text}");
        assert!(text.contains("NeverEstablished"), "{text}");
    }
}
