//! MutatingWebhookConfiguration: HTTPS servers that may change objects on their way in.

use api::kinds::MUTATING_WEBHOOK_CONFIGURATION;

use super::Rules;
use crate::checks::webhooks;
use crate::checks::webhooks::COLUMNS;

pub(super) static RULES: Rules = Rules {
    kind: &MUTATING_WEBHOOK_CONFIGURATION,
    validate: webhooks::validate,
    columns: COLUMNS,
    on_update: "CV",
    ..Rules::BASE
};
