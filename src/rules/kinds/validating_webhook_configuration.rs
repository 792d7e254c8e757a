//! ValidatingWebhookConfiguration: HTTPS servers that may refuse what is attempted.

use api::kinds::VALIDATING_WEBHOOK_CONFIGURATION;

use super::Rules;
use crate::checks::webhooks;
use crate::checks::webhooks::COLUMNS;

pub(super) static RULES: Rules = Rules {
    kind: &VALIDATING_WEBHOOK_CONFIGURATION,
    validate: webhooks::validate,
    columns: COLUMNS,
    on_update: "CV",
    ..Rules::BASE
};
