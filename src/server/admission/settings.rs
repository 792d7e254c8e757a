//! Which admission plugins run, and the file that configures them.

use std::path::Path;

use api::{Lens, Value};
use rules::pod::security::{Configuration, configuration};
use stdx::Arrange;
use stdx::{Error, Result};

use super::plugins::{LATER, PLUGINS, Plugin};
use crate::config::Admission;

/// Of a configuration file; what is longer is none.
const FILE_MAX_BYTES: u64 = 1 << 20;

impl Default for Admission {
    /// The plugins that run unless they are disabled, without configuration.
    fn default() -> Admission {
        let on = PLUGINS.iter().enumerate().filter(|(_, plugin)| plugin.on);
        let enabled = on.fold(0, |bits, (idx, _)| bits | 1 << idx);
        Admission { enabled, pod_security: Configuration::default() }
    }
}

impl Admission {
    /// From what upstream's `--enable-admission-plugins`, `--disable-admission-plugins` and
    /// `--admission-control-config-file` say.
    ///
    /// # Errors
    /// For unknown plugins, and for a file that cannot be read or says something wrong.
    pub fn new(enable: &[String], disable: &[String], file: Option<&Path>) -> Result<Admission> {
        let mut admission = Admission::default();
        let mut wrong = Vec::new();
        for (flag, names) in
            [("enable-admission-plugins", enable), ("disable-admission-plugins", disable)]
        {
            for name in names {
                let place = PLUGINS.iter().position(|plugin| plugin.name == name);
                match place.map(|idx| 1 << idx) {
                    Some(bit) if flag.starts_with("enable") => admission.enabled |= bit,
                    Some(bit) => admission.enabled &= !bit,
                    // It does nothing, as was asked for.
                    None if LATER.contains(&name.as_str()) && flag.starts_with("disable") => {}
                    None if LATER.contains(&name.as_str()) => {
                        wrong.push(format!("{flag} plugin {name:?} is not in this version"));
                    }
                    None => wrong.push(format!("{flag} plugin {name:?} is unknown")),
                }
            }
        }
        let mut both: Vec<&str> =
            enable.iter().filter(|name| disable.contains(name)).map(String::as_str).collect();
        both.arrange();
        both.dedup();
        if !both.is_empty() {
            wrong.push(format!(
                "[{}] in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(" ")
            ));
        }
        if !wrong.is_empty() {
            return Err(Error::new(configuration::aggregate(&wrong)));
        }
        if let Some(file) = file {
            let apply = |why: String| Error::new(format!("failed to apply admission: {why}"));
            admission.read(file).map_err(apply)?;
        }
        Ok(admission)
    }

    /// The plugins that run, in order.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &'static Plugin> {
        let enabled = self.enabled;
        PLUGINS.iter().enumerate().filter(move |(idx, _)| enabled >> idx & 1 == 1).map(|(_, p)| p)
    }

    pub(super) fn pod_security(&self) -> &Configuration {
        &self.pod_security
    }
}

/// What nothing here reads yet of plugins that run: who relies on it is told instead of ignored.
const UNREAD: [(&str, &str); 3] = [
    ("MutatingAdmissionWebhook", "kubeConfigFile"),
    ("ValidatingAdmissionWebhook", "kubeConfigFile"),
    ("ResourceQuota", "limitedResources"),
];

impl Admission {
    fn has(&self, name: &str) -> bool {
        self.plugins().any(|plugin| plugin.name == name)
    }

    /// Takes over what an `AdmissionConfiguration` says; parts about plugins that do not run are not looked at.
    fn read(&mut self, file: &Path) -> Result<(), String> {
        let read = |why: String| format!("failed to read plugin config: {why}");
        let tree = read_yaml(file)
            .map_err(|why| {
                format!(
                    "unable to read admission control configuration from {:?} [{why}]",
                    file.display().to_string()
                )
            })
            .and_then(parse)
            .map_err(read)?;
        for plugin in tree.list("plugins") {
            let name = plugin.str("name");
            let unread = UNREAD.iter().filter(|(known, _)| *known == name);
            let is_read = name == "PodSecurity" || unread.clone().next().is_some();
            if !is_read || !self.has(name) {
                continue;
            }
            let Some(own) = own_part(plugin, file)? else { continue };
            if let Some((_, field)) = unread.into_iter().find(|(_, field)| own.has(field)) {
                return Err(format!(
                    "couldn't init admission plugin {name:?}: {field} is not in this version"
                ));
            }
            if name == "PodSecurity" {
                self.pod_security = Configuration::parse(&own)?;
            }
        }
        Ok(())
    }
}

/// A plugin's own configuration: inline, or in a file beside.
fn own_part(plugin: &Value, file: &Path) -> Result<Option<Value>, String> {
    match plugin.at("configuration") {
        Value::Null if plugin.str("path").is_empty() => Ok(None),
        Value::Null => {
            let path = file.parent().unwrap_or(Path::new("")).join(plugin.str("path"));
            let own = read_yaml(&path).and_then(parse_yaml).map_err(|why| {
                let path = path.display();
                format!("couldn't open admission plugin configuration {path}: {why}")
            })?;
            Ok(Some(own))
        }
        own => Ok(Some(own.clone())),
    }
}

fn read_yaml(path: &Path) -> Result<String, String> {
    let bytes = rt::fs::read_beginning(path, FILE_MAX_BYTES + 1).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("more than {FILE_MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn parse_yaml(text: String) -> Result<Value, String> {
    wire::yaml::parse_one(&text).map_err(|error| format!("strict decoding error: {error}"))
}

fn parse(text: String) -> Result<Value, String> {
    let tree = parse_yaml(text)?;
    let versions = [("apiserver.config.k8s.io", "v1"), ("apiserver.k8s.io", "v1alpha1")];
    configuration::check_kind(&tree, "AdmissionConfiguration", &versions)?;
    let mut unknown: Vec<String> = Vec::new();
    let keys = |tree: &Value| -> Vec<String> {
        tree.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    unknown.extend(
        keys(&tree)
            .into_iter()
            .filter(|key| !["apiVersion", "kind", "plugins"].contains(&key.as_str())),
    );
    match tree.at("plugins") {
        Value::Null => {}
        Value::Array(plugins) => {
            for (idx, plugin) in plugins.iter().enumerate() {
                if !plugin.is_object() {
                    let field = "AdmissionConfiguration.plugins";
                    let wanted = "v1.AdmissionPluginConfiguration";
                    return Err(configuration::mistyped(plugin, field, wanted));
                }
                for key in ["name", "path"] {
                    match plugin.at(key) {
                        Value::Null | Value::String(_) => {}
                        other => {
                            let field = format!("AdmissionPluginConfiguration.plugins.{key}");
                            return Err(configuration::mistyped(other, &field, "string"));
                        }
                    }
                }
                let own = keys(plugin).into_iter();
                let own = own
                    .filter(|key| !["name", "path", "configuration"].contains(&key.as_str()))
                    .map(|key| format!("plugins[{idx}].{key}"));
                unknown.extend(own);
            }
        }
        other => {
            let field = "AdmissionConfiguration.plugins";
            return Err(configuration::mistyped(other, field, "[]v1.AdmissionPluginConfiguration"));
        }
    }
    configuration::unknown_fields(unknown)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
    const OWN: &str = "plugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n";

    fn read(text: &str) -> Result<Admission> {
        let path = std::env::temp_dir().join(format!("k3rs-admission-{}.yaml", std::process::id()));
        rt::fs::write(&path, text.as_bytes(), 0o600).unwrap();
        let read = Admission::new(&[], &[], Some(&path));
        rt::fs::remove_file(&path).unwrap();
        read
    }

    /// The words are those of a stock kube-apiserver, given these files.
    #[test]
    fn configuration_files_are_read_strictly() {
        let scheme = "in scheme \"pkg/runtime/scheme.go:100\"";
        for (text, wanted) in [
            (
                format!("{HEAD}{OWN}    defaults: {{enforce: bad, warn-version: v2}}\n"),
                "failed to initialize admission plugin \"PodSecurity\": PodSecurity configuration error: [enforce: must be one of privileged, baseline, restricted, warn-version: must be \"latest\" or \"v1.x\"]".to_owned(),
            ),
            (
                format!("{HEAD}{OWN}    defaults: {{enforcex: bad}}\n    foo: 1\n    exemptions: {{users: []}}\n"),
                "couldn't init admission plugin \"PodSecurity\": strict decoding error: unknown field \"defaults.enforcex\", unknown field \"exemptions.users\", unknown field \"foo\"".into(),
            ),
            (
                format!("{HEAD}{OWN}    exemptions: {{usernames: ['', a, a], namespaces: [x, x]}}\n"),
                "failed to initialize admission plugin \"PodSecurity\": PodSecurity invalid: [exemptions.namespaces[1]: Duplicate value: \"x\", exemptions.usernames[0]: Invalid value: \"\": username must not be empty, exemptions.usernames[2]: Duplicate value: \"a\"]".into(),
            ),
            (
                format!("{}{OWN}", HEAD.replace("AdmissionConfiguration", "AdmissionConfig")),
                format!("failed to read plugin config: no kind \"AdmissionConfig\" is registered for version \"apiserver.config.k8s.io/v1\" {scheme}"),
            ),
            (
                format!("{HEAD}{OWN}  other: 1\nbla: 2\n"),
                "failed to read plugin config: strict decoding error: unknown field \"bla\", unknown field \"plugins[0].other\"".into(),
            ),
            (
                format!("{HEAD}{}", OWN.replace("k8s.io/v1", "k8s.io/v2")),
                format!("couldn't init admission plugin \"PodSecurity\": no kind \"PodSecurityConfiguration\" is registered for version \"pod-security.admission.config.k8s.io/v2\" {scheme}"),
            ),
            (
                format!("{HEAD}plugins: [{{name: ResourceQuota, configuration: {{limitedResources: []}}}}]\n"),
                "couldn't init admission plugin \"ResourceQuota\": limitedResources is not in this version".into(),
            ),
            (
                format!("{HEAD}plugins: [{{name: PodSecurity}}, {{name: ValidatingAdmissionWebhook, configuration: {{kubeConfigFile: x}}}}]\n"),
                "couldn't init admission plugin \"ValidatingAdmissionWebhook\": kubeConfigFile is not in this version".into(),
            ),
            (
                format!("{HEAD}{OWN}    defaults: {{enforce: 1}}\n"),
                "couldn't init admission plugin \"PodSecurity\": json: cannot unmarshal number into Go struct field PodSecurityDefaults.defaults.enforce of type string".into(),
            ),
            (
                format!("{HEAD}plugins: 5\n"),
                "failed to read plugin config: json: cannot unmarshal number into Go struct field AdmissionConfiguration.plugins of type []v1.AdmissionPluginConfiguration".into(),
            ),
            (
                format!("{HEAD}plugins:\n- name: PodSecurity\n  configuration: {{kind: PodSecurityConfiguration}}\n"),
                "couldn't init admission plugin \"PodSecurity\": Object 'apiVersion' is missing in '{\"kind\":\"PodSecurityConfiguration\"}'".into(),
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert_eq!(error, format!("failed to apply admission: {wanted}"), "{text}");
        }
        let missing = Admission::new(&[], &[], Some(Path::new("/nowhere.yaml"))).unwrap_err();
        assert!(
            missing.to_string().starts_with("failed to apply admission: failed to read plugin config: unable to read admission control configuration from \"/nowhere.yaml\" ["),
            "{missing}"
        );
        let fine = read(&format!(
            "{HEAD}{OWN}    defaults: {{enforce: baseline, enforce-version: v1.30, audit: restricted}}\n    exemptions: {{usernames: [alice], namespaces: [kube-system], runtimeClasses: [kata]}}\n"
        ))
        .unwrap();
        let policy = fine.pod_security.defaults;
        assert_eq!(
            (policy.enforce.to_string(), policy.audit.to_string(), policy.warn.to_string()),
            ("baseline:v1.30".into(), "restricted:latest".into(), "privileged:latest".into())
        );
        assert_eq!(fine.pod_security.exemptions.namespaces, ["kube-system"]);
        // What is for plugins that are not here is theirs to read.
        assert!(
            read(&format!("{HEAD}plugins: [{{name: EventRateLimit, path: e.yaml}}]\n")).is_ok()
        );
    }
}
