//! Which authorizers are asked, and in which order: kube-apiserver's `--authorization-*` and its `AuthorizationConfiguration`.
//!
//! Source: k8s.io/kubernetes/pkg/kubeapiserver/{options,authorizer}, k8s.io/apiserver/pkg/apis/apiserver.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::policy::{About, Wanted};
use api::{Lens, Value, json};
use client::{Access, Hook};
use rules::pod::security::configuration::aggregate;
use stdx::{Error, Result};

use super::access_webhook::AccessWebhook;
use super::asked::Asked;
use super::expressions::Expression;
use crate::files::{self, Struct, Wrong};

/// In one file: each is asked by whoever asks anything.
const AUTHORIZERS_MAX: usize = 64;
const CONDITIONS_MAX: usize = 64;
/// Of a server that flags name.
const TIMEOUT: &str = "30s";
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Upstream's types of authorizers, in the order of the alphabet.
const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [(&str, &str); 3] = [(GROUP, "v1"), (GROUP, "v1beta1"), (GROUP, "v1alpha1")];
const STRUCTS: [Struct; 5] = [
    (
        "v1.AuthorizationConfiguration",
        &[
            ("apiVersion", "string"),
            ("kind", "string"),
            ("authorizers", "[]v1.AuthorizerConfiguration"),
        ],
    ),
    (
        "v1.AuthorizerConfiguration",
        &[("type", "string"), ("name", "string"), ("webhook", "v1.WebhookConfiguration")],
    ),
    (
        "v1.WebhookConfiguration",
        &[
            ("authorizedTTL", "string"),
            ("unauthorizedTTL", "string"),
            ("timeout", "string"),
            ("subjectAccessReviewVersion", "string"),
            ("matchConditionSubjectAccessReviewVersion", "string"),
            ("failurePolicy", "string"),
            ("connectionInfo", "v1.WebhookConnectionInfo"),
            ("matchConditions", "[]v1.WebhookMatchCondition"),
        ],
    ),
    ("v1.WebhookConnectionInfo", &[("type", "string"), ("kubeConfigFile", "string")]),
    ("v1.WebhookMatchCondition", &[("expression", "string")]),
];

/// kube-apiserver's flags of these names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationOptions {
    /// `authorization-mode`; k3s's if it is not said.
    pub modes: Option<Vec<String>>,
    /// A kubeconfig, for the mode Webhook.
    pub webhook_file: Option<PathBuf>,
    /// As they are written; upstream's where they are not.
    pub webhook_version: Option<String>,
    pub authorized_ttl: Option<String>,
    pub unauthorized_ttl: Option<String>,
    /// An `AuthorizationConfiguration`, in place of all others.
    pub config_file: Option<PathBuf>,
}

/// One authorizer.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Arc<AccessWebhook>),
}

/// Whoever is asked whether something may be done.
#[derive(Debug)]
pub struct Authorizers {
    modes: RwLock<Arc<[Mode]>>,
    /// What they are read from again, and what it said at the start.
    file: Option<(PathBuf, String)>,
    /// Types that the file had at the start: it must keep them.
    types: Vec<&'static str>,
}

impl Authorizers {
    /// Reads what flags say; nothing if it is the default. Blocking.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn open(options: &AuthorizationOptions) -> Result<Option<Arc<Authorizers>>> {
        let (tree, file) = match &options.config_file {
            Some(path) => {
                let told = |why| Error::new(format!("{}: {why}", path.display()));
                let text = files::text(path).map_err(told)?;
                let tree = read(&text).map_err(Error::new)?;
                (tree, Some((path.clone(), text)))
            }
            None => match options.tree().map_err(Error::new)? {
                Some(tree) => (tree, None),
                None => return Ok(None),
            },
        };
        let (modes, types) = modes(&tree).map_err(Error::new)?;
        Ok(Some(Arc::new(Authorizers { modes: RwLock::new(modes.into()), file, types })))
    }

    /// Whether the file is to be followed.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again whenever it changes, as upstream does. What is wrong is logged and changes nothing.
    pub async fn follow(self: Arc<Authorizers>) {
        if let Some((path, text)) = &self.file {
            let known = Some(text.clone());
            files::follow(path, known, "authorization", &|| self.reload(path)).await;
        }
    }

    pub(crate) fn reload(&self, path: &Path) -> Result<()> {
        let text = files::text(path).map_err(Error::new)?;
        let (modes, types) = read(&text).and_then(|tree| modes(&tree)).map_err(Error::new)?;
        let lacking: Vec<&str> =
            self.types.iter().filter(|own| !types.contains(own)).copied().collect();
        if !lacking.is_empty() {
            return Err(Error::new(format!("missing required types: [{}]", lacking.join(" "))));
        }
        let new =
            ["Node", "RBAC"].iter().find(|own| types.contains(own) && !self.types.contains(own));
        if let Some(new) = new {
            return Err(Error::new(format!(
                "authorizer type {new} is not allowed if it was not enabled at initial server startup"
            )));
        }
        *self.modes.write().unwrap_or_else(PoisonError::into_inner) = modes.into();
        Ok(())
    }

    pub(crate) fn modes(&self) -> Arc<[Mode]> {
        Arc::clone(&self.modes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuthorizationOptions {
    /// Whether something is said beside a file.
    pub(crate) fn has_flags(&self) -> bool {
        self != &AuthorizationOptions {
            config_file: self.config_file.clone(),
            ..Default::default()
        }
    }

    /// What is wrong with the flags as such; upstream's words, each of its own.
    pub fn complaints(&self) -> Vec<String> {
        if self.config_file.is_some() {
            let why = "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined";
            return self.has_flags().then(|| why.to_owned()).into_iter().collect();
        }
        let mut wrong = Vec::new();
        let none = Vec::new();
        let modes = self.modes.as_ref().unwrap_or(&none);
        if self.modes.as_ref().is_some_and(Vec::is_empty) {
            wrong.push("at least one authorization-mode must be passed".to_owned());
        }
        for mode in modes {
            match mode.as_str() {
                "ABAC" => wrong.push(
                    "authorization-mode ABAC is not supported by this version of k3rs yet".into(),
                ),
                "Webhook" if self.webhook_file.is_none() => wrong.push(
                    "authorization-mode Webhook's authorization config file not passed".into(),
                ),
                mode if !TYPES.contains(&mode) => {
                    wrong.push(format!("authorization-mode {mode:?} is not a valid mode"));
                }
                _ => {}
            }
        }
        if self.webhook_file.is_some() && !modes.iter().any(|mode| mode == "Webhook") {
            wrong.push(
                "cannot specify --authorization-webhook-config-file without mode Webhook".into(),
            );
        }
        if modes.iter().enumerate().any(|(idx, mode)| modes[..idx].contains(mode)) {
            let told: Vec<String> = modes.iter().map(|mode| format!("{mode:?}")).collect();
            wrong.push(format!(
                "authorization-mode [{}] has mode specified more than once",
                told.join(" ")
            ));
        }
        wrong
    }

    /// The file that would say the same; nothing where it says the default.
    fn tree(&self) -> Result<Option<Value>, String> {
        let Some(modes) = self.modes.as_ref().filter(|modes| modes[..] != ["Node", "RBAC"]) else {
            return Ok(None);
        };
        let text =
            |said: &Option<String>, default: &str| said.as_deref().unwrap_or(default).to_owned();
        let version = text(&self.webhook_version, "v1beta1");
        if self.webhook_file.is_some() && !["v1", "v1beta1"].contains(&version.as_str()) {
            return Err(format!(
                "unsupported webhook authorizer version {version:?}, supported versions are \"v1\", \"v1beta1\""
            ));
        }
        let authorizers = modes.iter().map(|mode| match mode.as_str() {
            "Webhook" => json!({"type": mode, "name": "default", "webhook": {
                "authorizedTTL": text(&self.authorized_ttl, "5m0s"),
                "unauthorizedTTL": text(&self.unauthorized_ttl, "30s"),
                "timeout": TIMEOUT,
                "subjectAccessReviewVersion": version,
                "failurePolicy": "NoOpinion",
                "connectionInfo": {
                    "type": "KubeConfigFile",
                    "kubeConfigFile": self.webhook_file.as_deref().unwrap_or(Path::new("")).to_string_lossy(),
                },
            }}),
            mode => json!({"type": mode, "name": mode.to_ascii_lowercase()}),
        });
        let authorizers: Vec<Value> = authorizers.collect();
        Ok(Some(json!({"authorizers": authorizers, "byFlags": true})))
    }
}

fn read(text: &str) -> Result<Value, String> {
    files::object(text, &VERSIONS, &STRUCTS)
        .map_err(|why| format!("failed to load AuthorizationConfiguration from file: {why}"))
}

/// The authorizers that a configuration names, and the types of those that are no webhooks.
fn modes(tree: &Value) -> Result<(Vec<Mode>, Vec<&'static str>), String> {
    let (mut modes, mut types, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut wrong, mut misnamed) = (Wrong::default(), Vec::new());
    let authorizers = tree.list("authorizers");
    if authorizers.is_empty() {
        wrong.required("authorizers", "at least one authorization mode must be defined");
    }
    if authorizers.len() > AUTHORIZERS_MAX {
        wrong.too_many("authorizers", authorizers.len(), AUTHORIZERS_MAX);
    }
    for (idx, one) in authorizers.iter().take(AUTHORIZERS_MAX).enumerate() {
        let path = format!("authorizers[{idx}]");
        let of = |field: &str| format!("{path}.{field}");
        let own = one.str("type");
        if own.is_empty() {
            wrong.required(&of("type"), "");
            continue;
        }
        let Some(known) = TYPES.into_iter().find(|known| *known == own) else {
            wrong.not_supported(&of("type"), &format!("{own:?}"), &TYPES);
            continue;
        };
        if types.contains(&known) {
            wrong.duplicate(&of("type"), own);
            continue;
        }
        let name = one.str("name");
        if name.is_empty() {
            wrong.required(&of("name"), "");
        } else if names.contains(&name) {
            wrong.duplicate(&of("name"), name);
        } else if let Err(why) = api::names::subdomain(name) {
            let detail = format!("authorizer name is invalid: {}", why.replace('\n', ", "));
            wrong.invalid(&of("name"), name, &detail);
        }
        names.push(name);
        let webhook = one.at("webhook");
        if known == "Webhook" {
            match webhook.is_null() {
                true => wrong.required(&of("webhook"), "required when type=Webhook"),
                false => modes.extend(webhook_of(&mut wrong, &path, webhook, tree.flag("byFlags"))),
            }
            continue;
        }
        if !webhook.is_null() {
            wrong.invalid(&of("webhook"), "non-null", "may only be specified when type=Webhook");
        }
        types.push(known);
        if name != known.to_ascii_lowercase() {
            misnamed.push(format!(
                "expected name {} for authorizer {known} instead of {name}",
                known.to_ascii_lowercase()
            ));
        }
        match known {
            "Node" => modes.push(Mode::Node),
            "RBAC" => modes.push(Mode::Rbac),
            "AlwaysAllow" => modes.push(Mode::AlwaysAllow),
            "AlwaysDeny" => modes.push(Mode::AlwaysDeny),
            _ => wrong.forbidden(&of("type"), "ABAC is not supported by this version of k3rs yet"),
        }
    }
    wrong.end()?;
    match misnamed.is_empty() {
        true => Ok((modes, types)),
        false => Err(aggregate(&misnamed)),
    }
}

/// A time of a webhook: the default where it is not said.
fn time(
    wrong: &mut Wrong,
    path: &str,
    text: &str,
    default: &str,
    max: Option<Duration>,
) -> Duration {
    let said = if text.is_empty() { default } else { text };
    let Some(nanos) = stdx::duration::parse(said) else {
        if text.is_empty() {
            wrong.required(path, "");
        } else {
            wrong.invalid(path, text, &format!("time: invalid duration {text:?}"));
        }
        return Duration::ZERO;
    };
    let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    match max {
        Some(_) if nanos == 0 => wrong.required(path, ""),
        Some(max) if nanos < 0 || time > max => {
            wrong.invalid(path, text, "must be > 0s and <= 30s");
        }
        None if nanos < 0 => wrong.invalid(path, text, "must be > 0s"),
        _ => {}
    }
    time
}

/// One webhook, unless something is wrong with it. Flags say more of times than a file may: that nothing is kept.
fn webhook_of(wrong: &mut Wrong, path: &str, tree: &Value, by_flags: bool) -> Option<Mode> {
    let n_wrong = wrong.0.len();
    let of = |field: &str| format!("{path}.{field}");
    let timeout = time(wrong, &of("timeout"), tree.str("timeout"), "", Some(TIMEOUT_MAX));
    // A file that says 0 says nothing.
    let said = |field: &str| match tree.str(field) {
        text if !by_flags && stdx::duration::parse(text) == Some(0) => "",
        text => text,
    };
    let authorized_ttl = time(wrong, &of("authorizedTTL"), said("authorizedTTL"), "5m", None);
    let unauthorized_ttl =
        time(wrong, &of("unauthorizedTTL"), said("unauthorizedTTL"), "30s", None);
    let version = tree.str("subjectAccessReviewVersion");
    match version {
        "" => wrong.required(&of("subjectAccessReviewVersion"), ""),
        "v1" | "v1beta1" => {}
        other => wrong.not_supported(
            &of("subjectAccessReviewVersion"),
            &format!("{other:?}"),
            &["v1", "v1beta1"],
        ),
    }
    let conditions = tree.list("matchConditions");
    let field = "matchConditionSubjectAccessReviewVersion";
    match tree.str(field) {
        "" if conditions.is_empty() => {}
        "" => wrong.required(&of(field), "required if match conditions are specified"),
        "v1" => {}
        other => wrong.not_supported(&of(field), &format!("{other:?}"), &["v1"]),
    }
    let policy = tree.str("failurePolicy");
    match policy {
        "" => wrong.required(&of("failurePolicy"), ""),
        "NoOpinion" | "Deny" => {}
        other => {
            wrong.not_supported(&of("failurePolicy"), &format!("{other:?}"), &["NoOpinion", "Deny"])
        }
    }
    let file = connection(wrong, path, tree.at("connectionInfo"), by_flags);
    let conditions = compiled(wrong, &of("matchConditions"), conditions);
    if wrong.0.len() > n_wrong {
        return None;
    }
    let hook = Access::from_kubeconfig_file(Path::new(file))
        .and_then(|access| Hook::new(access, "kube-apiserver"));
    let hook = hook.map_err(|why| wrong.0.push(why.to_string())).ok()?;
    let question = ("SubjectAccessReview", format!("authorization.k8s.io/{version}"));
    Some(Mode::Webhook(Arc::new(AccessWebhook {
        asked: Asked::new(hook, question, "authorizer", timeout),
        authorized_ttl,
        unauthorized_ttl,
        denies_on_failure: policy == "Deny",
        is_beta: version == "v1beta1",
        conditions,
    })))
}

/// The kubeconfig that a webhook is reached by.
fn connection<'a>(wrong: &mut Wrong, path: &str, tree: &'a Value, by_flags: bool) -> &'a str {
    const TYPES: [&str; 2] = ["InClusterConfig", "KubeConfigFile"];
    let (kind_path, path) =
        (format!("{path}.connectionInfo.type"), format!("{path}.connectionInfo.kubeConfigFile"));
    let file = tree.str("kubeConfigFile");
    match tree.str("type") {
        "" => wrong.required(&kind_path, ""),
        "InClusterConfig" if !tree.at("kubeConfigFile").is_null() => {
            wrong.invalid(&path, file, "can only be set when type=KubeConfigFile");
        }
        // A server that is no pod has no account to show.
        "InClusterConfig" => {
            wrong.forbidden(&kind_path, "InClusterConfig is not supported by this version of k3rs")
        }
        "KubeConfigFile" if file.is_empty() => wrong.required(&path, ""),
        "KubeConfigFile" if by_flags => {}
        "KubeConfigFile" if !file.starts_with('/') => {
            wrong.invalid(&path, file, "must be an absolute path");
        }
        "KubeConfigFile" => match Path::new(file).metadata() {
            Ok(found) if found.is_file() => {}
            Ok(_) => wrong.invalid(&path, file, "must be a regular file"),
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => "no such file or directory".into(),
                    _ => error.to_string(),
                };
                let why = format!("stat {file}: {why}");
                wrong.invalid(&path, file, &format!("error loading file: {why}"));
            }
        },
        other => {
            // As Go shows the struct.
            let shown = format!(
                "apiserver.WebhookConnectionInfo{{Type:{other:?}, KubeConfigFile:(*string)(nil)}}"
            );
            wrong.not_supported(&kind_path, &shown, &TYPES);
        }
    }
    file
}

fn compiled(wrong: &mut Wrong, path: &str, conditions: &[Value]) -> Vec<Expression> {
    if conditions.len() > CONDITIONS_MAX {
        wrong.too_many(path, conditions.len(), CONDITIONS_MAX);
        return Vec::new();
    }
    let mut known: Vec<&str> = Vec::new();
    let mut compiled = Vec::new();
    for (idx, condition) in conditions.iter().enumerate() {
        let path = format!("{path}[{idx}].expression");
        let text = condition.str("expression");
        if text.trim().is_empty() {
            wrong.required(&path, "");
        } else if known.contains(&text) {
            wrong.duplicate(&path, text);
        } else {
            known.push(text);
            match Expression::compile(About::Access, text, Wanted::Bool) {
                Ok(expression) => compiled.push(expression),
                Err(why) => wrong.invalid(&path, text, &why),
            }
        }
    }
    compiled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{text}"
        );
        read(&text).and_then(|tree| modes(&tree)).map(drop).unwrap_err()
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_in_upstreams_words() {
        let webhook = "- type: Webhook\n  name: w\n  webhook:\n";
        let whole = "    timeout: 3s\n    authorizedTTL: 1m\n    unauthorizedTTL: 1s\n    subjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /nowhere/at/all}\n";
        let missing = "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/nowhere/at/all\": error loading file: stat /nowhere/at/all: no such file or directory";
        for (text, wanted) in [
            (" []", "authorizers: Required value: at least one authorization mode must be defined"),
            ("- {}", "authorizers[0].type: Required value"),
            (
                "- {type: Magic, name: m}",
                "authorizers[0].type: Unsupported value: \"Magic\": supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
            ),
            (
                "- {type: ABAC, name: abac}",
                "authorizers[0].type: Forbidden: ABAC is not supported by this version of k3rs yet",
            ),
            (
                "- {type: RBAC, name: rbac}\n- {type: RBAC, name: r}",
                "authorizers[1].type: Duplicate value: \"RBAC\"",
            ),
            ("- {type: RBAC}\n- {type: Node, name: node}", "authorizers[0].name: Required value"),
            ("- {type: RBAC, name: r}", "expected name rbac for authorizer RBAC instead of r"),
            (
                "- {type: RBAC, name: rbac, webhook: {}}",
                "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
            ),
            (
                "- {type: Webhook, name: w}\n- {type: Webhook, name: w}",
                "[authorizers[0].webhook: Required value: required when type=Webhook, authorizers[1].name: Duplicate value: \"w\", authorizers[1].webhook: Required value: required when type=Webhook]",
            ),
            (
                "- {type: Webhook, name: w, webhook: {}}",
                "[authorizers[0].timeout: Required value, authorizers[0].subjectAccessReviewVersion: Required value, authorizers[0].failurePolicy: Required value, authorizers[0].connectionInfo.type: Required value]",
            ),
            (&format!("{webhook}{whole}"), missing),
            (
                &format!("{webhook}{}", whole.replace("3s", "31s").replace("1m", "-1s")),
                &format!(
                    "[authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s, authorizers[0].authorizedTTL: Invalid value: \"-1s\": must be > 0s, {missing}]"
                ),
            ),
            (
                &format!(
                    "{webhook}{}",
                    whole
                        .replace("v1", "v2")
                        .replace("Deny", "Maybe")
                        .replace("/nowhere/at/all", "here")
                ),
                "[authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\", authorizers[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"NoOpinion\", \"Deny\", authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"here\": must be an absolute path]",
            ),
            (
                &format!(
                    "{webhook}{}    matchConditions: [{{expression: 'request.user'}}, {{expression: ' '}}, {{expression: 'true'}}, {{expression: 'true'}}]",
                    whole.replace("/nowhere/at/all", "/dev")
                ),
                "[authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified, authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/dev\": must be a regular file, authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string, authorizers[0].matchConditions[1].expression: Required value, authorizers[0].matchConditions[3].expression: Duplicate value: \"true\"]",
            ),
            (
                &format!(
                    "{webhook}{}",
                    whole.replace(
                        "KubeConfigFile, kubeConfigFile: /nowhere/at/all",
                        "InClusterConfig"
                    )
                ),
                "authorizers[0].connectionInfo.type: Forbidden: InClusterConfig is not supported by this version of k3rs",
            ),
            (
                "- {type: RBAC, name: rbac, nope: 1}",
                "failed to load AuthorizationConfiguration from file: strict decoding error: unknown field \"authorizers[0].nope\"",
            ),
        ] {
            assert_eq!(said(text), wanted, "{text}");
        }
        let many =
            (0..70).map(|n| format!("- {{type: Webhook, name: w{n}}}\n")).collect::<String>();
        assert!(said(&many).contains("authorizers: Too many: 70: must have at most 64 items"));
    }

    #[test]
    fn flags_are_checked_as_upstream_checks_them() {
        let of = |modes: &[&str], file: bool, config: bool| AuthorizationOptions {
            modes: (!modes.is_empty()).then(|| modes.iter().map(|&mode| mode.to_owned()).collect()),
            webhook_file: file.then(|| "/w".into()),
            config_file: config.then(|| "/c".into()),
            ..AuthorizationOptions::default()
        };
        for (options, wanted) in [
            (of(&[], false, false), ""),
            (of(&["Node", "RBAC"], false, false), ""),
            (of(&["RBAC", "Webhook"], true, false), ""),
            (
                of(&["RBAC", "Webhook"], false, false),
                "authorization-mode Webhook's authorization config file not passed",
            ),
            (
                of(&["Magic", "RBAC", "RBAC"], true, false),
                "authorization-mode \"Magic\" is not a valid mode, cannot specify --authorization-webhook-config-file without mode Webhook, authorization-mode [\"Magic\" \"RBAC\" \"RBAC\"] has mode specified more than once",
            ),
            (
                of(&["ABAC"], false, false),
                "authorization-mode ABAC is not supported by this version of k3rs yet",
            ),
            (
                of(&["RBAC"], false, true),
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined",
            ),
            (of(&[], false, true), ""),
        ] {
            assert_eq!(options.complaints().join(", "), wanted, "{options:?}");
        }
        assert!(Authorizers::open(&of(&["Node", "RBAC"], false, false)).unwrap().is_none());
        let open = |options| Authorizers::open(&options).map(drop).unwrap_err().to_string();
        let version = AuthorizationOptions {
            webhook_version: Some("v2".into()),
            ..of(&["Webhook"], true, false)
        };
        assert_eq!(
            open(version),
            "unsupported webhook authorizer version \"v2\", supported versions are \"v1\", \"v1beta1\""
        );
        assert!(open(of(&["Webhook"], true, false)).contains("/w"));
        let chain = Authorizers::open(&of(&["AlwaysDeny", "RBAC"], false, false)).unwrap().unwrap();
        assert!(matches!(chain.modes()[..], [Mode::AlwaysDeny, Mode::Rbac]));
    }
}
