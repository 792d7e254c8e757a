//! ValidatingAdmissionPolicy: expressions of policies that refuse, warn, and leave notes.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/policy/{generic,validating}.

pub(super) mod grants;
mod trial;

use std::sync::Arc;

use api::kinds::{NAMESPACE, VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING};
use api::status::Reason;
use api::{Object, Resource, Status, Value, json};
use cel::OBJECT_MAX;

use super::evaluation::Seen;
use super::webhooks::{Subject, covered, name, resources};
use super::{Act, Notes};
use crate::webhook::hooks::Configured;
use crate::webhook::policies::{Binding, Param, Policy};
use crate::{conversion, storage};
use trial::{Denial, Trial, Verdict};

/// What all policies about one attempt may cost together: each parameter makes one more evaluation.
const ATTEMPT_MAX: u64 = 10 * OBJECT_MAX;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Kinds that only answer; to come between would break the cluster.
const REVIEWS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// Policies are not asked about themselves, so that a bad one can be taken away.
pub(super) fn handles(act: &Act<'_>) -> bool {
    let kind = act.kind;
    !(kind.is_built_in() && REVIEWS.contains(&kind.group)
        || *kind == VALIDATING_ADMISSION_POLICY
        || *kind == VALIDATING_ADMISSION_POLICY_BINDING)
}

/// Lets policies refuse the attempt.
pub(super) async fn validate(act: &Act<'_>, tree: &Value, notes: &mut Notes) -> Result<(), Status> {
    let (store, configured) = (&act.core.store, &act.core.webhooks);
    let bindings = configured.read(store, &VALIDATING_ADMISSION_POLICY_BINDING).await?;
    if bindings.is_empty() {
        configured.forget(&VALIDATING_ADMISSION_POLICY);
        return Ok(());
    }
    let policies = configured.read(store, &VALIDATING_ADMISSION_POLICY).await?;
    // What there is for one write with policies does not make every write bigger.
    Box::pin(validate_by(act, &policies, &bindings, tree, notes)).await
}

async fn validate_by(
    act: &Act<'_>,
    policies: &[Arc<Configured>],
    bindings: &[Arc<Configured>],
    tree: &Value,
    notes: &mut Notes,
) -> Result<(), Status> {
    let resources = resources(act);
    let mut asked = Attempt { act, tree, resources: &resources, denied: None, left: ATTEMPT_MAX };
    for policy in policies {
        let Configured::Policy(policy) = &**policy else { continue };
        let own = bindings.iter().filter_map(|binding| match &**binding {
            Configured::Binding(binding) if binding.policy == policy.name => Some(binding),
            _ => None,
        });
        let own: Vec<&Binding> = own.collect();
        if !own.is_empty() {
            asked.judge(policy, &own, notes).await?;
        }
    }
    asked.denied.map_or(Ok(()), Err)
}

/// One attempt before all policies.
struct Attempt<'a> {
    act: &'a Act<'a>,
    tree: &'a Value,
    resources: &'a [Resource],
    /// The first refusal; policies after it still warn.
    denied: Option<Status>,
    /// What further evaluations may cost.
    left: u64,
}

impl Attempt<'_> {
    async fn judge(
        &mut self,
        policy: &Policy,
        bindings: &[&Binding],
        notes: &mut Notes,
    ) -> Result<(), Status> {
        let (act, tree) = (self.act, self.tree);
        let idx = match covered(act, &policy.matches, self.resources, tree).await {
            Ok(None) => return Ok(()),
            Ok(Some(idx)) => idx,
            Err(status) => {
                self.misconfigured(policy, None, status.message());
                return Ok(());
            }
        };
        let params = match policy.params.as_ref().map(|(version, kind)| find(act, version, kind)) {
            None => None,
            Some(Ok(resource)) => Some(resource),
            Some(Err(why)) => {
                self.misconfigured(policy, None, &why);
                return Ok(());
            }
        };
        let mut seen = None;
        let mut annotations: Vec<(String, Vec<String>)> = Vec::new();
        for binding in bindings {
            if let Some(matches) = &binding.matches {
                match covered(act, matches, self.resources, tree).await {
                    Ok(None) => continue,
                    Ok(Some(_)) => {}
                    Err(status) => {
                        self.misconfigured(policy, Some(binding), status.message());
                        continue;
                    }
                }
            }
            let given = match given(act, params.as_ref(), binding.param.as_ref()).await {
                Ok(given) => given,
                Err(why) => {
                    self.misconfigured(policy, Some(binding), &why);
                    continue;
                }
            };
            if seen.is_none() {
                let subject = Subject { act, resource: &self.resources[idx], stored: true };
                let namespace = namespace(act).await?;
                seen = Some((Seen::of(&subject, tree).await?, namespace));
            }
            let Some((seen, namespace)) = &seen else { continue };
            for param in given {
                if self.left == 0 {
                    let trial = Trial { policy, seen, namespace, param: &Value::Null };
                    self.tell(policy, binding, &trial.exhausted(), notes);
                    break;
                }
                let param = match param {
                    None => Value::Null,
                    Some(param) => match shown(act, &param, params.as_ref()).await {
                        Ok(tree) => tree,
                        Err(status) => {
                            self.misconfigured(policy, Some(binding), status.message());
                            continue;
                        }
                    },
                };
                let budget = self.left.min(OBJECT_MAX);
                let trial = Trial { policy, seen, namespace, param: &param };
                let (verdict, cost) = trial.run(act, budget).await;
                self.left = self.left.saturating_sub(cost);
                self.tell(policy, binding, &verdict, notes);
                for (key, value) in verdict.annotations {
                    match annotations.iter_mut().find(|(known, _)| *known == key) {
                        None => annotations.push((key, vec![value])),
                        Some((_, values)) if values.contains(&value) => {}
                        Some((_, values)) => values.push(value),
                    }
                }
            }
        }
        for (key, values) in annotations {
            notes.annotate(format!("{}/{key}", policy.name).into(), values.join(", "));
        }
        Ok(())
    }

    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        if policy.fails_open {
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        let message = format!("failed to configure {what}: {why}");
        self.deny(policy, binding, &Denial { message, reason: String::new() });
    }

    /// Does what a binding says about what was found.
    fn tell(&mut self, policy: &Policy, binding: &Binding, found: &Verdict, notes: &mut Notes) {
        for (idx, denial) in &found.denials {
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => self.deny(policy, Some(binding), denial),
                    "Warn" => {
                        let warning = format!(
                            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                            policy.name, binding.name, denial.message
                        );
                        if !notes.warnings.contains(&warning) {
                            notes.warnings.push(warning);
                        }
                    }
                    _ => {
                        let failure = json!([{"message": denial.message, "policy": policy.name,
                            "binding": binding.name, "expressionIndex": idx,
                            "validationActions": binding.actions}]);
                        notes.annotate(FAILURE.into(), failure.to_string());
                    }
                }
            }
        }
        for denial in &found.broken {
            self.deny(policy, Some(binding), denial);
        }
    }

    fn deny(&mut self, policy: &Policy, binding: Option<&Binding>, denial: &Denial) {
        if self.denied.is_some() {
            return;
        }
        let with = binding.map(|it| format!(" with binding '{}'", it.name)).unwrap_or_default();
        let message = format!(
            "ValidatingAdmissionPolicy '{}'{with} denied request: {}",
            policy.name, denial.message
        );
        let reason = match denial.reason.as_str() {
            "Forbidden" => Reason::Forbidden,
            "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
            _ => Reason::Invalid,
        };
        let whole = self.act.forbidden(self.tree, &message);
        let object = name(self.act, self.tree);
        let status = Status::new(reason, whole.message()).about(self.act.kind, object);
        self.denied = Some(status.detail("causes", json!([{"message": message}])));
    }
}

/// The kind of parameters in their version.
fn find(act: &Act<'_>, api_version: &str, kind: &str) -> Result<Resource, String> {
    let kinds = act.core.kinds.current();
    let is_it = |it: &&Resource| it.kind.name == kind && it.form().api_version() == api_version;
    kinds.resources().iter().find(is_it).cloned().ok_or_else(|| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")
    })
}

/// The objects that are parameters; a policy without any is evaluated once.
async fn given(
    act: &Act<'_>,
    kind: Option<&Resource>,
    param: Option<&Param>,
) -> Result<Vec<Option<Object>>, String> {
    let (Some(resource), Some(param)) = (kind, param) else { return Ok(vec![None]) };
    let (kind, store) = (resource.kind, &act.core.store);
    let namespace = match (kind.namespaced(), param.namespace.as_str()) {
        (true, "") if act.request.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "") => &act.request.namespace,
        (false, "") => "",
        (true, own) => own,
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()
            );
        }
    };
    let told = |status: Status| status.message().to_owned();
    let found: Vec<Option<Object>> = match param.name.as_str() {
        "" => {
            let all = storage::all(store, kind, namespace).await.map_err(told)?.1;
            all.into_iter().filter(|it| param.selector.matches(it.labels())).map(Some).collect()
        }
        name => {
            let one = storage::find(store, kind, namespace, name).await.map_err(told)?;
            one.into_iter().map(Some).collect()
        }
    };
    if found.is_empty() && param.must_be {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

/// A parameter as expressions see it.
async fn shown(act: &Act<'_>, param: &Object, kind: Option<&Resource>) -> Result<Value, Status> {
    use api::LensMut;
    let mut tree = param.tree();
    if let Some(resource) = kind {
        let form = resource.form();
        if form.webhook().is_some() {
            tree = conversion::tree(act.core, form, param).await?;
            tree.remove("metadata.managedFields");
            return Ok(tree);
        }
        form.convert_from_stored(&mut tree);
        tree.set("apiVersion", form.api_version());
        tree.set("kind", form.kind.name);
    }
    Ok(tree)
}

/// The namespace that an attempt is in; a namespace is in none.
async fn namespace(act: &Act<'_>) -> Result<Value, Status> {
    let name = act.request.namespace.as_str();
    if name.is_empty() || *act.kind == NAMESPACE {
        return Ok(Value::Null);
    }
    Ok(storage::get(&act.core.store, &NAMESPACE, "", name).await?.tree())
}
