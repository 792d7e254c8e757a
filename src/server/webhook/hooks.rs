//! The admission webhooks and policies that there are, and what each wants to be asked about.
//!
//! Nothing follows the configurations: each write reads the keys that there are, mostly none, and
//! only what changed is parsed again. So one counts as soon as its write was acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kinds::{
    MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
};
use api::selector::Selector;
use api::{Kind, Lens, Status, Value, json};
use store::{Bytes, Query, Store};

use super::Target;
use super::policies::{Binding, Policy};
use crate::storage;

/// Every configuration that was parsed.
#[derive(Default)]
pub(crate) struct Configurations(Mutex<Vec<Parsed>>);

struct Parsed {
    kind: &'static Kind,
    key: Bytes,
    revision: u64,
    says: Arc<Configured>,
}

/// What one object configures.
pub(crate) enum Configured {
    Hooks(Vec<Arc<Hook>>),
    Policy(Policy),
    Binding(Binding),
}

impl Configured {
    fn of(kind: &Kind, tree: &Value) -> Configured {
        if *kind == VALIDATING_ADMISSION_POLICY {
            return Configured::Policy(Policy::of(tree));
        }
        if *kind == VALIDATING_ADMISSION_POLICY_BINDING {
            return Configured::Binding(Binding::of(tree));
        }
        Configured::Hooks(Hook::all_of(kind, tree))
    }
}

impl Configurations {
    /// The webhooks of the configurations of a kind, in the order in which they are asked.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub(crate) async fn hooks(
        &self,
        store: &Store,
        kind: &'static Kind,
    ) -> Result<Vec<Arc<Hook>>, Status> {
        let mut all = Vec::new();
        for one in self.read(store, kind).await? {
            if let Configured::Hooks(hooks) = &*one {
                all.extend(hooks.iter().cloned());
            }
        }
        Ok(all)
    }

    /// What the objects of a kind configure, in the order of their names.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub(crate) async fn read(
        &self,
        store: &Store,
        kind: &'static Kind,
    ) -> Result<Vec<Arc<Configured>>, Status> {
        let range = store.range(&Query::prefix(storage::prefix(kind, ""))).await;
        let items = range.map_err(storage::status)?.items;
        // Replaced as a whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if items.is_empty() && known.is_empty() {
            return Ok(Vec::new());
        }
        let (mut old, mut kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *known).into_iter().partition(|it| it.kind == kind);
        let mut all = Vec::new();
        for item in &items {
            let same = |it: &Parsed| it.revision == item.mod_revision && it.key == item.key;
            let parsed = match old.iter().position(same) {
                Some(idx) => old.swap_remove(idx),
                None => {
                    let tree = storage::object(kind, item)?.tree();
                    let (key, revision) = (item.key.clone(), item.mod_revision);
                    Parsed { kind, key, revision, says: Arc::new(Configured::of(kind, &tree)) }
                }
            };
            all.push(Arc::clone(&parsed.says));
            kept.push(parsed);
        }
        *known = kept;
        Ok(all)
    }

    /// Keeps nothing of a kind.
    pub(crate) fn forget(&self, kind: &'static Kind) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|it| it.kind != kind);
    }
}

/// A CEL expression that must hold.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) expression: String,
    pub(crate) program: Result<cel::Program, String>,
}

/// What something applies to: rules about resources, and labels.
#[derive(Debug)]
pub(crate) struct Matches {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Its rules also apply to other versions of what they name.
    equivalent: bool,
    pub(crate) namespaces: Selector,
    pub(crate) objects: Selector,
}

impl Matches {
    /// Reads a webhook's part of it, or `MatchResources`, whose rules have another name.
    pub(crate) fn of(tree: &Value, rules_field: &str) -> Matches {
        let everything = json!({});
        let selector = |field: &str| match tree.at(field) {
            Value::Null => Selector::from_label_selector(&everything),
            selector => Selector::from_label_selector(selector),
        };
        let rules = |field: &str| tree.list(field).iter().map(Rule::of).collect();
        Matches {
            rules: rules(rules_field),
            excluded: rules("excludeResourceRules"),
            equivalent: tree.str("matchPolicy") != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The first of the resources that a rule is about; the one that was asked for is before the others.
    /// Without rules it is about all.
    pub(crate) fn wants(&self, attempt: &Attempt<'_>, resources: &[Named<'_>]) -> Option<usize> {
        if self.first(&self.excluded, attempt, resources).is_some() {
            return None;
        }
        if self.rules.is_empty() {
            return Some(0);
        }
        self.first(&self.rules, attempt, resources)
    }

    fn first(
        &self,
        rules: &[Rule],
        attempt: &Attempt<'_>,
        resources: &[Named<'_>],
    ) -> Option<usize> {
        let of = |idx: usize| rules.iter().any(|rule| rule.covers(attempt, &resources[idx]));
        let n_looked_at = if self.equivalent { resources.len() } else { resources.len().min(1) };
        if n_looked_at > 0 && of(0) {
            return Some(0);
        }
        // Earlier rules come before earlier versions.
        rules
            .iter()
            .find_map(|rule| (1..n_looked_at).find(|idx| rule.covers(attempt, &resources[*idx])))
    }
}

/// One webhook.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) configuration: String,
    pub(crate) name: String,
    pub(crate) matches: Matches,
    /// Where it cannot be asked, it is as if it had allowed.
    pub(crate) fails_open: bool,
    /// Asking it has no effect where nothing is to have one.
    pub(crate) takes_dry_run: bool,
    pub(crate) time_max: Duration,
    /// It is asked again after others changed what it saw.
    pub(crate) reinvoked: bool,
    /// The version of the question, if the server speaks one that it takes.
    pub(crate) review: Option<&'static str>,
    /// What must hold.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) target: Target,
}

impl Hook {
    fn all_of(kind: &Kind, configuration: &Value) -> Vec<Arc<Hook>> {
        let name = configuration.str("metadata.name");
        let mutating = *kind == MUTATING_WEBHOOK_CONFIGURATION;
        let hooks = configuration.list("webhooks").iter();
        hooks.map(|hook| Arc::new(Hook::of(name, hook, mutating))).collect()
    }

    fn of(configuration: &str, hook: &Value, mutating: bool) -> Hook {
        let versions = hook.list("admissionReviewVersions").iter().filter_map(Value::as_str);
        let known = |version: &str| ["v1", "v1beta1"].into_iter().find(|own| *own == version);
        let secs = hook.int("timeoutSeconds").unwrap_or(10).clamp(1, 30);
        let condition = |c: &Value| {
            let expression = c.str("expression").trim().to_owned();
            let program = api::policy::condition(&expression);
            Condition { expression, program }
        };
        Hook {
            configuration: configuration.to_owned(),
            name: hook.str("name").to_owned(),
            matches: Matches::of(hook, "rules"),
            fails_open: hook.str("failurePolicy") == "Ignore",
            takes_dry_run: matches!(hook.str("sideEffects"), "None" | "NoneOnDryRun"),
            time_max: Duration::from_secs(u64::try_from(secs).unwrap_or(10)),
            reinvoked: mutating && hook.str("reinvocationPolicy") == "IfNeeded",
            review: versions.into_iter().find_map(known),
            conditions: hook.list("matchConditions").iter().map(condition).collect(),
            target: Target::of(hook.at("clientConfig")),
        }
    }
}

/// What is attempted on which part of a resource, in the words of rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) operation: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// It lies in a namespace; a namespace itself does not.
    pub(crate) namespaced: bool,
}

/// A resource's names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) plural: &'a str,
}

#[derive(Debug)]
struct Rule {
    /// Of objects; none for any.
    names: Vec<String>,
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

impl Rule {
    fn of(tree: &Value) -> Rule {
        let words = |field: &str| -> Vec<String> {
            tree.list(field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            names: words("resourceNames"),
            operations: words("operations"),
            groups: words("apiGroups"),
            versions: words("apiVersions"),
            resources: words("resources"),
            scope: tree.str("scope").to_owned(),
        }
    }

    fn covers(&self, attempt: &Attempt<'_>, resource: &Named<'_>) -> bool {
        let has = |words: &[String], word: &str| words.iter().any(|own| own == "*" || own == word);
        let in_scope = match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => attempt.namespaced,
            "Cluster" => !attempt.namespaced,
            _ => false,
        };
        let is_it = |own: &String| {
            let (name, sub) = own.split_once('/').unwrap_or((own, ""));
            (name == "*" || name == resource.plural) && (sub == "*" || sub == attempt.subresource)
        };
        in_scope
            && (self.names.is_empty() || self.names.iter().any(|name| name == attempt.name))
            && has(&self.operations, attempt.operation)
            && has(&self.groups, resource.group)
            && has(&self.versions, resource.version)
            && self.resources.iter().any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_a_webhook_is_asked_about() {
        let pods = |version| Named { group: "", version, plural: "pods" };
        for (field, value, wanted) in [
            ("operations", json!(["CREATE", "UPDATE"]), true),
            ("operations", json!(["*"]), true),
            ("operations", json!(["DELETE"]), false),
            ("apiGroups", json!(["apps"]), false),
            ("apiGroups", json!(["apps", "*"]), true),
            ("apiVersions", json!(["v2"]), false),
            ("resources", json!(["*"]), true),
            ("resources", json!(["*/*"]), true),
            ("resources", json!(["pods/*"]), true),
            ("resources", json!(["pods/exec", "*/exec"]), false),
            ("resources", json!(["services", "pods"]), true),
            ("scope", json!("Namespaced"), true),
            ("scope", json!("Cluster"), false),
            ("resourceNames", json!(["b", "a"]), true),
            ("resourceNames", json!(["b"]), false),
        ] {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "*"});
            rule[field] = value;
            let hook = Hook::of("c", &json!({"rules": [rule]}), true);
            let attempt =
                Attempt { operation: "CREATE", subresource: "", name: "a", namespaced: true };
            assert_eq!(hook.matches.wants(&attempt, &[pods("v1")]).is_some(), wanted, "{rule}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_wanted() {
        let rule = |resource: &str| json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]});
        let pods = Named { group: "", version: "v1", plural: "pods" };
        let attempt = Attempt { operation: "CREATE", subresource: "", name: "", namespaced: true };
        for (rules, excluded, wanted) in [
            (vec![rule("*")], vec![], true),
            (vec![], vec![], true),
            (vec![rule("*")], vec![rule("pods")], false),
            (vec![], vec![rule("pods")], false),
            (vec![rule("*")], vec![rule("services")], true),
        ] {
            let tree = json!({"resourceRules": rules, "excludeResourceRules": excluded});
            let found = Matches::of(&tree, "resourceRules").wants(&attempt, &[pods]);
            assert_eq!(found.is_some(), wanted, "{tree}");
        }
    }

    #[test]
    fn other_versions_are_equivalent_unless_they_must_be_exact() {
        let rule = |version: &str| json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": [version], "resources": ["events"]});
        let (v1, beta) = (
            Named { group: "", version: "v1", plural: "events" },
            Named { group: "events.k8s.io", version: "v1beta1", plural: "events" },
        );
        let attempt = Attempt { operation: "DELETE", subresource: "", name: "", namespaced: true };
        for (policy, rules, wanted) in [
            ("Equivalent", vec![rule("v1beta1")], Some(1)),
            ("Exact", vec![rule("v1beta1")], None),
            ("Equivalent", vec![rule("v1beta1"), rule("v1")], Some(0)),
            ("Exact", vec![rule("v1beta1"), rule("*")], Some(0)),
        ] {
            let hook = json!({"matchPolicy": policy, "rules": rules});
            assert_eq!(
                Hook::of("c", &hook, true).matches.wants(&attempt, &[v1, beta]),
                wanted,
                "{hook}"
            );
        }
    }
}
