//! Options that a request's query names and whose words are checked.

use api::query::Query;
use api::status::Cause;
use api::{Kind, Status};

/// Whether `dryRun=All`.
///
/// # Errors
/// If it is any other word.
pub(crate) fn dry_run(query: &Query, options: &'static str) -> Result<bool, Status> {
    check_dry_run(options, query.all("dryRun"))
}

/// Whether the list is exactly `All`.
///
/// # Errors
/// If it holds any other word.
pub(crate) fn check_dry_run<'a>(
    options: &'static str,
    values: impl Iterator<Item = &'a str>,
) -> Result<bool, Status> {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        let given: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: []string{{{}}}: supported values: \"All\"",
            given.join(", ")
        );
        return Err(invalid_options(options, "FieldValueNotSupported", "dryRun", message));
    }
    Ok(!values.is_empty())
}

/// The refusal of an option, which is a kind of its own (`DeleteOptions`, ...).
pub(crate) fn invalid_options(
    options: &'static str,
    reason: &'static str,
    field: &str,
    message: String,
) -> Status {
    let kind = Kind { group: "meta.k8s.io", name: options, ..Kind::BASE };
    Status::invalid(&kind, "", vec![Cause { reason, message, field: field.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_run_is_all_or_nothing() {
        let dry_run = |text: &str| dry_run(&Query::parse(text).unwrap(), "CreateOptions");
        assert!(dry_run("dryRun=Some").is_err());
        // Nothing is done for real that was not meant to be.
        assert!(dry_run("dryRun=").is_err());
        assert!(dry_run("dryRun=All").unwrap());
        assert!(!dry_run("").unwrap());
    }
}
