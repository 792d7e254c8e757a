//! What a HelmChart and its HelmChartConfig ask for, read from their trees.

use std::time::Duration;

use api::{Lens, Value};
use stdx::{Arrange, Context, Error, Result};

/// Whoever has no annotation of these is claimed.
pub(crate) const MANAGED_BY: &str = "helmcharts.cattle.io/managed-by";
pub(crate) const MANAGER: &str = "helm-controller";
const UNMANAGED: &str = "helmcharts.helm.cattle.io/unmanaged";

/// Helm's own.
const TIMEOUT: Duration = Duration::from_secs(300);
const BACK_OFF_LIMIT: u32 = 1000;
/// Secrets that values may come from.
const SECRETS_MAX: usize = 64;

/// What is done with a release that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailurePolicy {
    Reinstall,
    Abort,
    Retry,
}

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSide {
    True,
    False,
    /// As the release was before; a new one by the server.
    Auto,
}

/// Where releases are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Secret,
    ConfigMap,
}

/// Values in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValuesSecret {
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
    /// It may be missing, and its changes change nothing.
    pub(crate) ignore_updates: bool,
}

/// A text of values, or where one is, in the order in which later ones win.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Text(String),
    Tree(Value),
    Secret(ValuesSecret),
}

/// What a HelmChart asks for, its HelmChartConfig included.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) chart: String,
    /// A `.tgz` in base64; it wins.
    pub(crate) content: String,
    pub(crate) repo: String,
    pub(crate) version: String,
    pub(crate) target_namespace: String,
    pub(crate) create_namespace: bool,
    pub(crate) values: Vec<Values>,
    /// `--set` expressions, and whether their values stay texts.
    pub(crate) set: Vec<(String, bool)>,
    pub(crate) repo_ca: String,
    pub(crate) repo_ca_config_map: String,
    pub(crate) auth_secret: String,
    pub(crate) pass_credentials: bool,
    pub(crate) docker_secret: String,
    pub(crate) insecure: bool,
    pub(crate) plain_http: bool,
    pub(crate) timeout: Duration,
    pub(crate) back_off_limit: u32,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) take_ownership: bool,
    /// `None`: it does not say.
    pub(crate) server_side: Option<ServerSide>,
    pub(crate) force_conflicts: bool,
    pub(crate) driver: Driver,
    pub(crate) helm_version: String,
}

impl Spec {
    /// Reads a HelmChart and the HelmChartConfig of its name.
    ///
    /// # Errors
    /// If a field is not what it should be.
    pub(crate) fn read(tree: &Value, config: Option<&Value>) -> Result<Spec> {
        let spec = tree.at("spec");
        let text = |path: &str| spec.str(path).to_owned();
        let own_namespace = tree.str("metadata.namespace");
        let mut values = Vec::new();
        read_values(spec, &mut values)?;
        let config = config.map(|config| config.at("spec"));
        if let Some(config) = config {
            read_values(config, &mut values)?;
        }
        // A config overrides what it names.
        let said = |path: &str| {
            let own = spec.str(path);
            config.map_or("", |config| config.str(path)).pipe_or(own)
        };
        let failure_policy = match said("failurePolicy") {
            "" | "reinstall" => FailurePolicy::Reinstall,
            "abort" => FailurePolicy::Abort,
            "retry" => FailurePolicy::Retry,
            other => return Err(Error::new(format!("spec.failurePolicy {other:?} is unknown"))),
        };
        let server_side = match said("serverSide") {
            "" => None,
            "true" => Some(ServerSide::True),
            "false" => Some(ServerSide::False),
            "auto" => Some(ServerSide::Auto),
            other => return Err(Error::new(format!("spec.serverSide {other:?} is unknown"))),
        };
        let driver = match spec.str("driver") {
            "" | "secret" => Driver::Secret,
            "configmap" => Driver::ConfigMap,
            other => return Err(Error::new(format!("spec.driver {other:?} is unknown"))),
        };
        let timeout = match spec.str("timeout") {
            "" => TIMEOUT,
            text => {
                let nanos = stdx::duration::parse(text).and_then(|it| u64::try_from(it).ok());
                let what = || format!("spec.timeout {text:?} is no duration");
                Duration::from_nanos(nanos.context(what)?)
            }
        };
        let target = spec.str("targetNamespace").pipe_or(own_namespace);
        let limit = spec.int("backOffLimit").and_then(|limit| u32::try_from(limit).ok());
        Ok(Spec {
            namespace: own_namespace.to_owned(),
            name: tree.str("metadata.name").to_owned(),
            chart: text("chart"),
            content: text("chartContent"),
            repo: text("repo"),
            version: text("version"),
            target_namespace: target.to_owned(),
            create_namespace: spec.flag("createNamespace"),
            values,
            set: read_set(spec),
            repo_ca: text("repoCA"),
            repo_ca_config_map: text("repoCAConfigMap.name"),
            auth_secret: text("authSecret.name"),
            pass_credentials: spec.flag("authPassCredentials"),
            docker_secret: text("dockerRegistrySecret.name"),
            insecure: spec.flag("insecureSkipTLSVerify"),
            plain_http: spec.flag("plainHTTP"),
            timeout,
            back_off_limit: limit.unwrap_or(BACK_OFF_LIMIT),
            failure_policy,
            take_ownership: spec.flag("takeOwnership"),
            server_side,
            force_conflicts: spec.flag("forceConflicts")
                || config.is_some_and(|config| config.flag("forceConflicts")),
            driver,
            helm_version: text("helmVersion"),
        })
    }
}

trait PipeOr {
    /// This, or `other` if it is empty.
    fn pipe_or<'a>(&'a self, other: &'a str) -> &'a str;
}

impl PipeOr for str {
    fn pipe_or<'a>(&'a self, other: &'a str) -> &'a str {
        if self.is_empty() { other } else { self }
    }
}

/// Whether a HelmChart is ours: `None` if nobody has claimed it yet.
pub(crate) fn is_ours(tree: &Value) -> Option<bool> {
    let annotation = |key: &str| tree.entry("metadata.annotations", key);
    let asks = !tree.str("spec.chart").is_empty() || !tree.str("spec.chartContent").is_empty();
    if !asks || annotation(UNMANAGED).is_some() {
        return Some(false);
    }
    annotation(MANAGED_BY).map(|by| by == MANAGER)
}

/// In the order in which later ones win.
fn read_values(spec: &Value, values: &mut Vec<Values>) -> Result<()> {
    match spec.str("valuesContent") {
        "" => {}
        text => values.push(Values::Text(text.to_owned())),
    }
    match spec.at("values") {
        Value::Null => {}
        tree => values.push(Values::Tree(tree.clone())),
    }
    for secret in spec.list("valuesSecrets") {
        if values.len() >= SECRETS_MAX {
            return Err(Error::new(format!(
                "spec.valuesSecrets may name at most {SECRETS_MAX} Secrets"
            )));
        }
        values.push(Values::Secret(ValuesSecret {
            name: secret.str("name").to_owned(),
            keys: secret.list("keys").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            ignore_updates: secret.flag("ignoreUpdates"),
        }));
    }
    Ok(())
}

/// Sorted by key. What looks like a number, a truth value or null has its type, all else stays a text.
fn read_set(spec: &Value) -> Vec<(String, bool)> {
    let mut pairs: Vec<(&String, &Value)> =
        spec.at("set").as_object().into_iter().flatten().collect();
    pairs.arrange_by_key(|(key, _)| (*key).clone());
    let expressions = pairs.into_iter().map(|(key, value)| match value {
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "false" | "null" => (format!("{key}={text}"), false),
            _ => (format!("{key}={}", commas_escaped(text)), true),
        },
        other => (format!("{key}={other}"), false),
    });
    expressions.collect()
}

/// A comma that an even number of backslashes precedes gets one more.
fn commas_escaped(text: &str) -> String {
    let mut escaped = String::new();
    let mut n_slashes = 0;
    for letter in text.chars() {
        if letter == ',' && n_slashes % 2 == 0 {
            escaped.push('\\');
        }
        n_slashes = if letter == '\\' { n_slashes + 1 } else { 0 };
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn values_have_an_order_and_a_config_overrides() {
        let chart = json!({
            "metadata": {"name": "a", "namespace": "kube-system"},
            "spec": {
                "chart": "x", "valuesContent": "a: 1", "values": {"b": 1},
                "valuesSecrets": [{"name": "s", "keys": ["k"]}], "failurePolicy": "abort",
                "set": {"z": "1,2", "b": "TRUE", "a": 5, "c": "null", "d": "x\\,y"},
                "timeout": "1m30s",
            },
        });
        let config = json!({"spec": {
            "valuesContent": "a: 2", "valuesSecrets": [{"name": "t", "ignoreUpdates": true}],
            "failurePolicy": "reinstall", "serverSide": "true",
        }});
        let spec = Spec::read(&chart, Some(&config)).unwrap();
        let secret = |name: &str, keys: &[&str], ignore_updates| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            Values::Secret(ValuesSecret { name: name.into(), keys, ignore_updates })
        };
        let wanted = [
            Values::Text("a: 1".into()),
            Values::Tree(json!({"b": 1})),
            secret("s", &["k"], false),
            Values::Text("a: 2".into()),
            secret("t", &[], true),
        ];
        assert_eq!(spec.values, wanted);
        assert_eq!(spec.failure_policy, FailurePolicy::Reinstall);
        assert_eq!(spec.server_side, Some(ServerSide::True));
        assert_eq!(spec.timeout, Duration::from_secs(90));
        assert_eq!(spec.target_namespace, "kube-system");
        let set: Vec<(&str, bool)> = spec.set.iter().map(|(it, text)| (&**it, *text)).collect();
        let wanted = [
            ("a=5", false),
            ("b=TRUE", false),
            ("c=null", false),
            ("d=x\\,y", true),
            ("z=1\\,2", true),
        ];
        assert_eq!(set, wanted);
        let alone = Spec::read(&chart, None).unwrap();
        assert_eq!((alone.failure_policy, alone.server_side), (FailurePolicy::Abort, None));
        assert_eq!(alone.values.len(), 3);
    }

    #[test]
    fn charts_are_claimed_once() {
        let chart = |annotations: Value, chart: &str| json!({"metadata": {"annotations": annotations}, "spec": {"chart": chart}});
        for (tree, wanted) in [
            (chart(json!({}), "x"), None),
            (chart(json!({}), ""), Some(false)),
            (chart(json!({MANAGED_BY: "helm-controller"}), "x"), Some(true)),
            (chart(json!({MANAGED_BY: "another"}), "x"), Some(false)),
            (chart(json!({UNMANAGED: ""}), "x"), Some(false)),
        ] {
            assert_eq!(is_ours(&tree), wanted, "{tree}");
        }
    }
}
