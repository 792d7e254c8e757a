//! PriorityLevelConfiguration: how many requests of a level are served at once, and what waits.

use api::complain::Complain;
use api::flow_control;
use api::kinds::PRIORITY_LEVEL_CONFIGURATION;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use super::flow_schema::conditions;
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &PRIORITY_LEVEL_CONFIGURATION,
    columns: COLUMNS,
    prepare_status: keep::keep_metadata,
    validate,
    unchecked: "spec.limited",
    validate_status: conditions,
    on_update: "CV",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::path("Type", "spec.type"),
    Column::with("NominalConcurrencyShares", |tree, _| {
        or_none(tree.at("spec.limited.nominalConcurrencyShares"))
    }),
    Column::with("Queues", |tree, _| or_none(tree.at("spec.limited.limitResponse.queuing.queues"))),
    Column::with("HandSize", |tree, _| {
        or_none(tree.at("spec.limited.limitResponse.queuing.handSize"))
    }),
    Column::with("QueueLengthLimit", |tree, _| {
        or_none(tree.at("spec.limited.limitResponse.queuing.queueLengthLimit"))
    }),
    Column::AGE,
];

fn or_none(number: &Value) -> Value {
    if number.is_null() { "<none>".into() } else { number.clone() }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    const FORBIDDEN_ANNOTATION: &str =
        "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    let (name, spec) = (new.str("metadata.name"), new.at("spec"));
    if new.entry("metadata.annotations", FORBIDDEN_ANNOTATION).is_some() {
        let detail = format!("annotation '{FORBIDDEN_ANNOTATION}' is forbidden");
        causes.forbidden("metadata.annotations", &detail);
    }
    let kind = spec.str("type");
    if (name == "exempt") != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        causes.invalid("spec.type", &kind.into(), detail);
    }
    let (limited, exempt) = (spec.at("limited"), spec.at("exempt"));
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                causes.forbidden("spec.limited", "must be nil if the type is not Limited");
            }
            shares(exempt, "spec.exempt", causes);
        }
        "Limited" => {
            if !exempt.is_null() {
                causes.forbidden("spec.exempt", "must be nil if the type is Limited");
            }
            match limited.is_null() {
                true => causes.required("spec.limited", "must not be empty when type is Limited"),
                false => self::limited(limited, causes),
            }
        }
        _ => {}
    }
    mandatory(name, spec, causes);
    conditions(new, causes);
}

/// Levels that every server has cannot be changed, but for the shares of the exempt one.
fn mandatory(name: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let fixed = flow_control::is_mandatory(name).then(|| flow_control::level_spec(name)).flatten();
    let Some(mut fixed) = fixed else { return };
    let mut found = spec.clone();
    let but = match name {
        "exempt" => {
            found.remove("exempt");
            fixed.remove("exempt");
            " except the 'spec.exempt' field"
        }
        _ => "",
    };
    if found != fixed {
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        causes.invalid("spec", spec, &detail);
    }
}

fn shares(of: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.nominalConcurrencyShares");
    not_negative(of, "nominalConcurrencyShares", &path, "must be a non-negative integer", causes);
}

fn not_negative(of: &Value, field: &str, path: &str, detail: &str, causes: &mut Vec<Cause>) {
    if let Some(number) = of.int(field).filter(|number| *number < 0) {
        causes.invalid(path, &number.into(), detail);
    }
}

fn limited(limited: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.limited.limitResponse.queuing";
    shares(limited, "spec.limited", causes);
    let detail = "if specified, must be a non-negative integer";
    let path = "spec.limited.borrowingLimitPercent";
    not_negative(limited, "borrowingLimitPercent", path, detail, causes);
    if let Some(share) = limited.int("lendablePercent").filter(|share| !(0..=100).contains(share)) {
        let detail = "must be between 0 and 100, inclusive";
        causes.invalid("spec.limited.lendablePercent", &share.into(), detail);
    }
    let queuing = limited.at("limitResponse.queuing");
    match (limited.str("limitResponse.type"), queuing.is_null()) {
        ("Reject", false) => {
            causes.forbidden(PATH, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", true) => {
            causes.required(PATH, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", false) => self::queuing(queuing, PATH, causes),
        ("Reject", true) => {}
        (other, _) => {
            causes.not_supported("spec.limited.limitResponse.type", other, &["Queue", "Reject"]);
        }
    }
}

fn queuing(queuing: &Value, path: &str, causes: &mut Vec<Cause>) {
    const QUEUES_MAX: i64 = 10_000_000;
    /// Hands are dealt by the bits of one hash.
    const HASH_BITS_MAX: i64 = 60;
    let number = |field: &str| queuing.int(field).unwrap_or(0);
    let mut complain = |field: &str, detail: &str| {
        causes.invalid(&format!("{path}.{field}"), queuing.at(field), detail);
    };
    let (queues, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        complain("queueLengthLimit", "must be positive");
    }
    if queues <= 0 {
        complain("queues", "must be positive");
    } else if queues > QUEUES_MAX {
        complain("queues", &format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        complain("handSize", "must be positive");
    } else if hand > queues {
        complain("handSize", &format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS_MAX {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        complain("handSize", &detail);
    }
}

/// The bits that choosing `hand` of `queues` takes, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "bounded by what an i32 holds"
)]
fn entropy_bits(queues: i64, hand: i64) -> i64 {
    ((queues as f64).log2() * hand as f64).ceil() as i64
}
