//! Rules of a `JobSpec`, in jobs and in the templates of cron jobs.
//!
//! Source: pkg/apis/batch/validation.

use api::complain::{Complain, NON_NEGATIVE};
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

/// More pods at a time would make `status.completedIndexes` too long.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Above this many completions, limits per index need tighter bounds.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const HIGH_COMPLETIONS_PARALLELISM_MAX: i64 = 10_000;
const HIGH_COMPLETIONS_FAILED_INDEXES_MAX: i64 = 10_000;
const POLICY_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITION_PATTERNS_MAX: usize = 20;
const MANAGED_BY_BYTES_MAX: usize = 63;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1024;

/// A `JobSpec` at `path`.
pub(super) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    numbers(spec, path, causes);
    let indexed = spec.str("completionMode") == "Indexed";
    match spec.at("completionMode").as_str() {
        Some("Indexed") => self::indexed(spec, path, causes),
        Some(mode) if mode != "NonIndexed" => {}
        _ => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if spec.has(field) {
                    let detail = "requires indexed completion mode";
                    causes.invalid(&format!("{path}.{field}"), spec.at(field), detail);
                }
            }
        }
    }
    if spec.has("podFailurePolicy") {
        failure_policy(spec, &format!("{path}.podFailurePolicy"), causes);
    }
    replacement(spec, path, causes);
    if spec.has("successPolicy") {
        let path = format!("{path}.successPolicy");
        match indexed {
            true => success_policy(spec, &path, causes),
            false => {
                let policy = spec.at("successPolicy");
                causes.invalid(&path, policy, "requires indexed completion mode");
            }
        }
    }
    let template = format!("{path}.template");
    crate::pod::validate::template(spec.at("template"), &template, &[], causes);
    let policy_path = format!("{template}.spec.restartPolicy");
    match spec.str("template.spec.restartPolicy") {
        "Always" | "" => causes.required(&policy_path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            causes.invalid(&policy_path, &"OnFailure".into(), detail);
        }
        "OnFailure" => {}
        other => causes.not_supported_in_order(&policy_path, other, &["OnFailure", "Never"]),
    }
}

fn replacement(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let known = match spec.has("podFailurePolicy") {
        true => &["Failed"][..],
        false => &["Failed", "TerminatingOrFailed"],
    };
    if let Some(policy) = spec.at("podReplacementPolicy").as_str()
        && !known.contains(&policy)
    {
        causes.not_supported(&format!("{path}.podReplacementPolicy"), policy, known);
    }
}

fn numbers(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        if let Some(number) = spec.int(field).filter(|number| *number < 0) {
            causes.invalid(&format!("{path}.{field}"), &number.into(), NON_NEGATIVE);
        }
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        causes.required(&format!("{path}.backoffLimitPerIndex"), detail);
    }
    if let Some(managed_by) = spec.at("managedBy").as_str() {
        let path = format!("{path}.managedBy");
        domain_prefixed_path(managed_by, &path, causes);
        if managed_by.len() > MANAGED_BY_BYTES_MAX {
            causes.too_long(&path, MANAGED_BY_BYTES_MAX);
        }
    }
}

/// `example.com/controller`, as `managedBy` names one.
fn domain_prefixed_path(text: &str, path: &str, causes: &mut Vec<Cause>) {
    if text.is_empty() {
        return causes.required(path, "");
    }
    let Some((host, rest)) =
        text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return causes.invalid(path, &text.into(), detail);
    };
    causes.check_name(path, host, names::subdomain);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(legal) {
        let detail =
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        causes.invalid(path, &rest.into(), detail);
    }
}

/// What counts only where every pod has an index.
fn indexed(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let at_most = |causes: &mut Vec<Cause>, field: &str, max: i64, when: &str| {
        if let Some(number) = spec.int(field).filter(|number| *number > max) {
            let detail = format!("must be less than or equal to {max}{when}");
            causes.invalid(&format!("{path}.{field}"), &number.into(), &detail);
        }
    };
    let completions = spec.int("completions");
    if completions.is_none() {
        causes.required(&format!("{path}.completions"), "when completion mode is Indexed");
    }
    let when = " when completion mode is Indexed";
    at_most(causes, "parallelism", INDEXED_PARALLELISM_MAX, when);
    if let (Some(completions), Some(failed)) = (completions, spec.int("maxFailedIndexes"))
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        causes.invalid(&format!("{path}.maxFailedIndexes"), &failed.into(), detail);
    }
    at_most(causes, "maxFailedIndexes", FAILED_INDEXES_MAX, "");
    if completions.is_some_and(|completions| completions > COMPLETIONS_SOFT_MAX)
        && spec.has("backoffLimitPerIndex")
    {
        if !spec.has("maxFailedIndexes") {
            let detail =
                format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
            causes.required(&format!("{path}.maxFailedIndexes"), &detail);
        }
        let when = format!(
            " when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
        );
        at_most(causes, "parallelism", HIGH_COMPLETIONS_PARALLELISM_MAX, &when);
        at_most(causes, "maxFailedIndexes", HIGH_COMPLETIONS_FAILED_INDEXES_MAX, &when);
    }
}

fn failure_policy(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.rules");
    let rules = spec.list("podFailurePolicy.rules");
    if rules.len() > POLICY_RULES_MAX {
        causes.too_many(&path, rules.len(), POLICY_RULES_MAX);
    }
    let containers: OrdSet<&str> = ["template.spec.containers", "template.spec.initContainers"]
        .iter()
        .flat_map(|list| spec.list(list))
        .map(|container| container.str("name"))
        .collect();
    for (idx, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        match rule.str("action") {
            "" => {
                let detail = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                causes.required(&format!("{path}.action"), detail);
            }
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                let detail = "requires the backoffLimitPerIndex to be set";
                causes.invalid(&format!("{path}.action"), &"FailIndex".into(), detail);
            }
            _ => {}
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.list("onPodConditions"));
        if !codes.is_null() {
            exit_codes(codes, &format!("{path}.onExitCodes"), &containers, causes);
        }
        self::conditions(conditions, &format!("{path}.onPodConditions"), causes);
        match (codes.is_null(), conditions.is_empty()) {
            (false, false) => causes.invalid_whole(
                &path,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (true, true) => causes.invalid_whole(
                &path,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn exit_codes(rule: &Value, path: &str, containers: &OrdSet<&str>, causes: &mut Vec<Cause>) {
    if rule.str("operator").is_empty() {
        causes.required(&format!("{path}.operator"), "valid values: [\"In\" \"NotIn\"]");
    }
    if let Some(name) = rule.at("containerName").as_str().filter(|name| !containers.contains(name))
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        causes.invalid(&format!("{path}.containerName"), &name.into(), detail);
    }
    let path = format!("{path}.values");
    let values: Vec<i64> = rule.list("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        let shown = if rule.has("values") { "[]int32{}" } else { "[]int32(nil)" };
        causes.invalid_whole(&path, &format!("{shown}: at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        causes.too_many(&path, values.len(), EXIT_CODES_MAX);
    }
    let mut seen = OrdSet::new();
    for (idx, value) in values.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        if *value == 0 && rule.str("operator") == "In" {
            causes.invalid(&path, &0.into(), "must not be 0 for the In operator");
        }
        if !seen.insert(*value) {
            causes.duplicate(&path, &(*value).into());
        }
    }
    if !values.is_sorted() {
        causes.invalid(&path, rule.at("values"), "must be ordered");
    }
}

fn conditions(patterns: &[Value], path: &str, causes: &mut Vec<Cause>) {
    if patterns.len() > CONDITION_PATTERNS_MAX {
        causes.too_many(path, patterns.len(), CONDITION_PATTERNS_MAX);
    }
    for (idx, pattern) in patterns.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        causes.check_name(&format!("{path}.type"), pattern.str("type"), names::qualified);
        if pattern.str("status").is_empty() {
            let detail = "valid values: [\"False\" \"True\" \"Unknown\"]";
            causes.required(&format!("{path}.status"), detail);
        }
    }
}

fn success_policy(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.rules");
    let rules = spec.list("successPolicy.rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        causes.required(&path, detail);
    }
    if rules.len() > POLICY_RULES_MAX {
        causes.too_many(&path, rules.len(), POLICY_RULES_MAX);
    }
    // Their absence is complained about already.
    let completions = spec.int("completions").unwrap_or(0);
    for (idx, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        let indexes = rule.at("succeededIndexes").as_str();
        let count = rule.int("succeededCount");
        if indexes.is_none() && count.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            causes.required(&path, detail);
        }
        let mut n_indexes = 0;
        if let Some(indexes) = indexes {
            let path = format!("{path}.succeededIndexes");
            if indexes.len() > SUCCEEDED_INDEXES_BYTES_MAX {
                causes.too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX);
            }
            match count_indexes(indexes, completions) {
                Ok(total) => n_indexes = total,
                Err(why) => {
                    let detail = format!("error parsing succeededIndexes: {why}");
                    causes.invalid(&path, &indexes.into(), &detail);
                }
            }
        }
        let Some(count) = count else { continue };
        let path = format!("{path}.succeededCount");
        if count < 0 {
            causes.invalid(&path, &count.into(), NON_NEGATIVE);
        }
        if count > completions {
            let detail = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            causes.invalid(&path, &count.into(), &detail);
        }
        if indexes.is_some() && count > n_indexes {
            let detail = format!(
                "must be less than or equal to {n_indexes} (the number of indexes in the specified succeededIndexes field)"
            );
            causes.invalid(&path, &count.into(), &detail);
        }
    }
}

/// How many indexes `1,3-5,7` names: intervals in ascending order, apart from each other, below `completions`.
pub(crate) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut total = 0;
    let mut last: Option<i64> = None;
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let mut bounds = limits.iter().map(|limit| {
            let number: i64 = limit
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {limit:?}"))?;
            match number < completions {
                true => Ok(number),
                false => Err(format!("too large index: {limit:?}")),
            }
        });
        let low = bounds.next().unwrap_or_else(|| Err("empty interval".into()))?;
        let high = match bounds.next() {
            None => low,
            Some(high) => {
                let high = high?;
                if low >= high {
                    return Err(format!("non-increasing order, previous: {low}, current: {high}"));
                }
                high
            }
        };
        if let Some(last) = last.filter(|last| low <= *last) {
            return Err(format!("non-increasing order, previous: {last}, current: {low}"));
        }
        total += high - low + 1;
        last = Some(high);
    }
    Ok(total)
}
