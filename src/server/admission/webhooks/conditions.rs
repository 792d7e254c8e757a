//! `matchConditions`: what must hold of an attempt before a webhook is asked, in CEL.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions.

use std::cell::RefCell;

use api::{Status, Value, policy};
use cel::{CALL_MAX, CONDITIONS_MAX, Decision, Host, Input, Query, Spent, UNANSWERED, Val};

use super::review::Failure;
use super::{Subject, review};
use crate::auth::Attributes;
use crate::user::{SERVICE_ACCOUNTS, User};
use crate::webhook::hooks::{Condition, Hook};

/// How often one expression may ask the authorizer; each answer costs a third of what it may cost.
const QUESTIONS_MAX: usize = 4;

/// Answers of the authorizer, as far as they are known.
#[derive(Default)]
struct Answers {
    known: RefCell<Vec<(Query, Decision)>>,
    asked: RefCell<Option<Query>>,
}

impl Host for Answers {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        api::violations(format, text)
    }

    fn authorize(&self, query: &Query) -> Option<Decision> {
        let known = self.known.borrow();
        let found = known.iter().find(|(known, _)| known == query);
        if found.is_none() {
            *self.asked.borrow_mut() = Some(query.clone());
        }
        found.map(|(_, decision)| decision.clone())
    }
}

/// Whether all conditions of a webhook hold. Where some cannot be evaluated and none is false, its
/// failure policy decides.
///
/// # Errors
/// 403 with what could not be evaluated.
pub(super) async fn hold(subject: &Subject<'_>, hook: &Hook, tree: &Value) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let told = |failure| match failure {
        Failure::Status(status) => status,
        Failure::Calling(why) => Status::internal(why),
    };
    let object = subject.object(tree).map_err(told)?;
    let old = subject.old().map_err(told)?;
    let request = review::request(subject, &Value::Null, "").map_err(told)?;
    let mut budget = CONDITIONS_MAX;
    let mut failed = Vec::new();
    for Condition { expression, program } in &hook.conditions {
        let spare = "validation failed due to running out of cost budget, no further validation rules will be run";
        let found = match program {
            Err(why) => Err(format!("compilation error: {why}")),
            Ok(program) => {
                let values = [&object, &old, &request];
                let (found, cost) = evaluate(subject, program, values).await;
                let Some(left) = budget.checked_sub(cost) else {
                    failed = vec![spare.to_owned()];
                    break;
                };
                budget = left;
                found.map_err(|why| format!("expression '{expression}' resulted in error: {why}"))
            }
        };
        match found {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => failed.push(why),
        }
    }
    if failed.is_empty() || hook.fails_open {
        return Ok(failed.is_empty());
    }
    let why = match &failed[..] {
        [only] => only.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    Err(subject.act.forbidden(tree, why))
}

/// The value of one condition and its cost. It is evaluated again for each answer that it asks the authorizer for.
async fn evaluate(
    subject: &Subject<'_>,
    program: &cel::Program,
    [object, old, request]: [&Value; 3],
) -> (Result<bool, String>, u64) {
    let answers = Answers::default();
    loop {
        let mut spent = Spent::up_to(CALL_MAX);
        let found = run(subject, program, [object, old, request], &answers, &mut spent);
        let asked = answers.asked.borrow_mut().take();
        let known = answers.known.borrow().len();
        match (asked, &found) {
            (Some(query), Err(why)) if why == UNANSWERED && known < QUESTIONS_MAX => {
                let decision = decide(subject, &query).await;
                answers.known.borrow_mut().push((query, decision));
            }
            _ => return (found, spent.cost),
        }
    }
}

fn run(
    subject: &Subject<'_>,
    program: &cel::Program,
    [object, old, request]: [&Value; 3],
    answers: &Answers,
    spent: &mut Spent,
) -> Result<bool, String> {
    let act = subject.act;
    let own = Query {
        group: act.form.group().into(),
        resource: act.kind.plural.into(),
        subresource: act.subresource().into(),
        namespace: super::namespace(act, object).into(),
        name: super::name(act, object).into(),
        ..Query::default()
    };
    let request = Val::typed(request, policy::request_schema()).map_err(|why| why.message)?;
    let mut values = [const { Val::Null }; policy::VARIABLES];
    values[policy::OBJECT] = Val::json(object);
    values[policy::OLD_OBJECT] = Val::json(old);
    values[policy::REQUEST] = request;
    values[policy::AUTHORIZER] = Val::authorizer(Query::default());
    values[policy::REQUEST_RESOURCE] = Val::resource_check(own);
    let input = Input { variables: &values, host: answers };
    match program.run(&input, spent) {
        Ok(Val::Bool(is)) => Ok(is),
        Ok(_) => Err("no such overload".into()),
        Err(why) => Err(why.message.into_owned()),
    }
}

/// Asks the authorizer about the caller, or the service account that is named.
async fn decide(subject: &Subject<'_>, query: &Query) -> Decision {
    let act = subject.act;
    let account = query.account.as_ref().map(|(namespace, name)| User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")],
        ..User::default()
    });
    let user = account.as_ref().unwrap_or(&act.caller.user);
    let attributes = match &query.path {
        Some(path) => Attributes::path(&query.verb, path),
        None => Attributes {
            verb: query.verb.clone(),
            group: query.group.clone(),
            version: "*".into(),
            resource: query.resource.clone(),
            subresource: query.subresource.clone(),
            namespace: query.namespace.clone(),
            name: query.name.clone(),
            field_selector: query.field_selector.clone(),
            path: String::new(),
        },
    };
    let decision = act.core.authorizer.decide(&act.core.store, user, &attributes).await;
    Decision { allowed: decision.allowed, reason: decision.reason, error: None }
}
