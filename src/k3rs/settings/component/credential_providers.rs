//! `--image-credential-provider-config`: which programs know the credentials of which images.

use std::path::Path;
use std::time::Duration;

use api::{Lens, Value};
use kubelet::CredentialPlugin;
use stdx::{Context, Error, Result};

/// Programs that one file names.
const PROVIDERS_MAX: usize = 64;
const CONFIG_GROUP: &str = "kubelet.config.k8s.io";
/// The versions of the protocol.
const VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
];

/// Reads a `CredentialProviderConfig`, whose programs are in the directory `programs`.
///
/// # Errors
/// For what upstream refuses, and a program that is not there.
pub(super) fn read(file: &str, programs: &str) -> Result<Vec<CredentialPlugin>> {
    if file.is_empty() {
        return Err(Error::new("credential provider config path is empty"));
    }
    if !rt::fs::metadata(programs).is_ok_and(|it| it.is_dir()) {
        return Err(Error::new(format!("plugin binary directory {programs} did not exist")));
    }
    let tree = super::configuration(Path::new(file)).context(|| {
        format!("unable to read external registry credential provider configuration from {file:?}")
    })?;
    let mut plugins =
        decode(&tree, Path::new(programs)).context(|| format!("error decoding config {file}"))?;
    for plugin in &mut plugins {
        // As upstream: programs get the kubelet's environment beside what is configured for them.
        for (name, value) in std::env::vars_os() {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
                && !plugin.env.iter().any(|(known, _)| *known == name)
            {
                plugin.env.push((name, value));
            }
        }
        // A link may lead elsewhere: it is the operator's.
        if !rt::fs::metadata(&plugin.program).is_ok_and(|it| it.is_file()) {
            let program = plugin.program.display();
            return Err(Error::new(format!("plugin binary executable {program} did not exist")));
        }
    }
    Ok(plugins)
}

fn decode(tree: &Value, programs: &Path) -> Result<Vec<CredentialPlugin>> {
    let (api_version, kind) = (tree.str("apiVersion"), tree.str("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or_default();
    if kind != "CredentialProviderConfig" {
        return Err(Error::new(format!("failed to decode {kind:?} (wrong Kind)")));
    }
    if group != CONFIG_GROUP || !["v1", "v1beta1", "v1alpha1"].contains(&version) {
        return Err(Error::new(format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme"
        )));
    }
    fields(tree, "", &["apiVersion", "kind", "providers"])?;
    let mut all = Vec::new();
    let mut faults = Vec::new();
    let providers = tree.list("providers");
    if providers.is_empty() {
        faults.push("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    if providers.len() > PROVIDERS_MAX {
        return Err(Error::new(format!("more than {PROVIDERS_MAX} providers")));
    }
    for (n, provider) in providers.iter().enumerate() {
        fields(
            provider,
            &format!("providers[{n}]."),
            &["name", "matchImages", "defaultCacheDuration", "apiVersion", "args", "env"],
        )?;
        for (at, pair) in provider.list("env").iter().enumerate() {
            fields(pair, &format!("providers[{n}].env[{at}]."), &["name", "value"])?;
        }
        let name = provider.str("name");
        if all.iter().any(|known: &CredentialPlugin| known.name == name) {
            faults.push(format!("providers.name: Duplicate value: {name:?}"));
        }
        check(provider, &mut faults);
        let texts = |field: &str| -> Vec<String> {
            provider.list(field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let pair = |pair: &Value| (pair.str("name").to_owned(), pair.str("value").to_owned());
        all.push(CredentialPlugin {
            name: name.to_owned(),
            program: programs.join(name),
            api_version: provider.str("apiVersion").to_owned(),
            images: texts("matchImages"),
            cache: lasts(provider).unwrap_or_default(),
            args: texts("args"),
            env: provider.list("env").iter().map(pair).collect(),
        });
    }
    match faults.as_slice() {
        [] => Ok(all),
        [one] => Err(Error::new(format!("failed to validate credential provider config: {one}"))),
        many => Err(Error::new(format!(
            "failed to validate credential provider config: [{}]",
            many.join(", ")
        ))),
    }
}

fn lasts(provider: &Value) -> Option<Duration> {
    let nanos = stdx::duration::parse(provider.str("defaultCacheDuration"))?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// What upstream's validation says of one.
fn check(provider: &Value, faults: &mut Vec<String>) {
    let name = provider.str("name");
    for (is_wrong, why) in [
        (name.contains('/'), "provider name cannot contain '/'"),
        (name.contains(' '), "provider name cannot contain spaces"),
        (name == ".", "provider name cannot be '.'"),
        (name == "..", "provider name cannot be '..'"),
        // Without one the directory itself would be the program.
        (name.is_empty(), "provider name cannot be empty"),
    ] {
        if is_wrong {
            faults.push(format!("providers.name: Invalid value: {name:?}: {why}"));
        }
    }
    match provider.str("apiVersion") {
        "" => {
            faults.push("providers.apiVersion: Required value: apiVersion is required".to_owned())
        }
        version if VERSIONS.contains(&version) => {}
        version => faults.push(format!(
            "providers.apiVersion: Unsupported value: {version:?}: supported values: {}",
            VERSIONS.map(|one| format!("{one:?}")).join(", ")
        )),
    }
    if provider.list("matchImages").is_empty() {
        faults.push(
            "providers.matchImages: Required value: at least 1 item in matchImages is required"
                .to_owned(),
        );
    }
    match (provider.has("defaultCacheDuration"), lasts(provider)) {
        (false, _) => faults.push(
            "providers.defaultCacheDuration: Required value: defaultCacheDuration is required"
                .to_owned(),
        ),
        (true, None) => faults.push(format!(
            "providers.defaultCacheDuration: Invalid value: {:?}: defaultCacheDuration must be greater than or equal to 0",
            provider.str("defaultCacheDuration")
        )),
        (true, Some(_)) => {}
    }
}

fn fields(tree: &Value, at: &str, known: &[&str]) -> Result<()> {
    let names = tree.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    match names.into_iter().find(|name| !known.contains(name)) {
        Some(name) => {
            Err(Error::new(format!("strict decoding error: unknown field \"{at}{name}\"")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<CredentialPlugin>, String> {
        let tree = wire::yaml::parse(text).unwrap().swap_remove(0);
        decode(&tree, Path::new("/bin")).map_err(|error| error.to_string())
    }

    #[test]
    fn providers_are_read() {
        let text = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: ecr\n  matchImages: ['*.amazonaws.com', r.io/a]\n  defaultCacheDuration: 12h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [get]\n  env: [{name: A, value: b}]\n";
        let [plugin] = decoded(text).unwrap().try_into().unwrap();
        assert_eq!(plugin.program, Path::new("/bin/ecr"));
        assert_eq!((plugin.images.len(), plugin.args.len()), (2, 1));
        assert_eq!(plugin.cache, Duration::from_secs(12 * 3600));
        assert_eq!(plugin.env, [("A".to_owned(), "b".to_owned())]);
        for (from, to, why) in [
            (
                "v1\nkind",
                "v2\nkind",
                "no kind \"CredentialProviderConfig\" is registered for version \"kubelet.config.k8s.io/v2\" in scheme",
            ),
            ("kind: C", "kind: D", "failed to decode \"DredentialProviderConfig\" (wrong Kind)"),
            ("args:", "argv:", "strict decoding error: unknown field \"providers[0].argv\""),
            (
                "value: b",
                "valu: b",
                "strict decoding error: unknown field \"providers[0].env[0].valu\"",
            ),
            (
                "name: ecr",
                "name: ../ecr",
                "failed to validate credential provider config: providers.name: Invalid value: \"../ecr\": provider name cannot contain '/'",
            ),
            (
                "  defaultCacheDuration: 12h\n",
                "",
                "failed to validate credential provider config: providers.defaultCacheDuration: Required value: defaultCacheDuration is required",
            ),
            (
                "12h",
                "-1s",
                "failed to validate credential provider config: providers.defaultCacheDuration: Invalid value: \"-1s\": defaultCacheDuration must be greater than or equal to 0",
            ),
            (
                "credentialprovider.kubelet.k8s.io/v1\n",
                "x/v1\n",
                "failed to validate credential provider config: providers.apiVersion: Unsupported value: \"x/v1\": supported values: \"credentialprovider.kubelet.k8s.io/v1\", \"credentialprovider.kubelet.k8s.io/v1alpha1\", \"credentialprovider.kubelet.k8s.io/v1beta1\"",
            ),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(decoded(&text.replacen(from, to, 1)).unwrap_err(), why);
        }
    }
}
