//! What a HelmChart names beside itself: its chart, wherever that is, its values, and whom to believe.

use std::sync::Arc;

use api::{Lens, Object, Value, json, kinds};
use charts::semver::{Constraint, Version};
use client::Client;
use http::client::{Proxy, Url};
use http::tls::Identity;
use ring::digest::{SHA256, digest};
use stdx::{Context, Error, Result, Sensitive};

use crate::download::{ARCHIVE_MAX_BYTES, Access, Fetcher};
use crate::registry::{Reference, Registry};
use crate::repository::{Entry, Index};
use crate::spec::{Spec, Values, ValuesSecret};

/// What stands in a URL for the API's own host and port.
const OWN_HOST: &str = "%{KUBERNETES_API}%";
/// Certificates of authorities in a ConfigMap.
const AUTHORITIES_MAX_BYTES: usize = 1 << 20;

/// Where charts are fetched from.
pub(crate) struct Sources {
    pub(crate) client: Client,
    pub(crate) http: http::client::Client,
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// A file that the API serves below `/static/`, by its path.
    pub(crate) static_file: Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>,
}

/// The values of a HelmChart, and the Secrets that were read for them.
pub(crate) struct Gathered {
    pub(crate) values: Value,
    /// Name and revision of each that is to be followed.
    pub(crate) secrets: Vec<(String, u64)>,
    /// What of it changes the release: all but what is not followed.
    pub(crate) hashed: Vec<String>,
}

impl Sources {
    /// All values, in the order in which later ones win.
    ///
    /// # Errors
    /// If something is missing or no values.
    pub(crate) async fn values(&self, spec: &Spec) -> Result<Gathered> {
        let mut gathered = Gathered { values: json!({}), secrets: Vec::new(), hashed: Vec::new() };
        for values in &spec.values {
            match values {
                Values::Text(text) => merge(&mut gathered.values, text)?,
                Values::Tree(tree) => charts::merge_values(&mut gathered.values, tree.clone()),
                Values::Secret(secret) => self.secret(spec, secret, &mut gathered).await?,
            }
        }
        for (expression, as_string) in &spec.set {
            charts::set_value(&mut gathered.values, expression, *as_string)
                .context(|| "failed parsing --set data")?;
        }
        Ok(gathered)
    }

    async fn secret(
        &self,
        spec: &Spec,
        secret: &ValuesSecret,
        gathered: &mut Gathered,
    ) -> Result<()> {
        // Without keys it is not used.
        if secret.keys.is_empty() {
            return Ok(());
        }
        let what = || format!("read values of Secret {}/{}", spec.namespace, secret.name);
        let found = self.client.get_optional(&kinds::SECRET, &spec.namespace, &secret.name).await;
        let found = found.context(what)?;
        if !secret.ignore_updates {
            let revision = found.as_ref().map_or(0, Object::revision);
            gathered.secrets.push((secret.name.clone(), revision));
        }
        let Some(object) = found else {
            return match secret.ignore_updates {
                true => Ok(()),
                false => Err(Error::new(format!("{}: it is not there", what()))),
            };
        };
        let tree = object.tree();
        for key in &secret.keys {
            let text = match tree.entry("data", key).and_then(wire::base64::decode) {
                Some(bytes) => String::from_utf8(bytes).context(what)?,
                None if secret.ignore_updates => continue,
                None => return Err(Error::new(format!("{}: it has no key {key}", what()))),
            };
            merge(&mut gathered.values, &text).context(what)?;
            if !secret.ignore_updates {
                gathered.hashed.push(text);
            }
        }
        Ok(())
    }

    /// The archive of the chart.
    ///
    /// # Errors
    /// Why it could not be had.
    pub(crate) async fn archive(&self, spec: &Spec) -> Result<Vec<u8>> {
        if !spec.content.is_empty() {
            let compact: String = spec.content.split_ascii_whitespace().collect();
            return wire::base64::decode(&compact).context(|| "spec.chartContent is not base64");
        }
        if let Some(path) = own_path(&spec.chart) {
            return (self.static_file)(path).context(|| {
                format!("this server has no file {path} in its data directory's server{path}")
            });
        }
        let access = self.access(spec).await?;
        if spec.chart.starts_with("oci://") {
            return self.of_registry(spec, &access).await;
        }
        if spec.repo.is_empty() {
            if !spec.chart.contains("://") {
                let what = "it is neither a URL nor does spec.repo say where it is";
                return Err(Error::new(format!("chart {:?}: {what}", spec.chart)));
            }
            let url = Url::parse(&spec.chart)?;
            let fetcher = self.fetcher(&access, &url).await?;
            return fetcher.read(&url, ARCHIVE_MAX_BYTES).await;
        }
        self.of_repository(spec, &access).await
    }

    async fn fetcher<'a>(&'a self, access: &'a Access, home: &Url) -> Result<Fetcher<'a>> {
        Fetcher::new(&self.http, self.proxy.clone(), access, home.clone()).await
    }

    async fn of_repository(&self, spec: &Spec, access: &Access) -> Result<Vec<u8>> {
        let mut home = Url::parse(&spec.repo)?;
        // `join` takes the last part of a path for a file.
        let (path, query) = match home.target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (home.target.as_str(), String::new()),
        };
        let base = format!("{}/", path.trim_end_matches('/'));
        home.target = format!("{base}index.yaml{query}");
        let fetcher = self.fetcher(access, &home).await?;
        let mut choice = Choice::new(&spec.version)?;
        let mut found = |entry: Entry| choice.consider(entry);
        let mut index = Index::new(&spec.chart, &mut found);
        fetcher.index(&home, &mut |piece| index.push(piece)).await?;
        index.finish()?;
        let entry = choice.best.context(|| {
            format!(
                "chart {:?} matching {} not found in {} index",
                spec.chart,
                if spec.version.is_empty() { "any version" } else { &spec.version },
                spec.repo
            )
        })?;
        if entry.url.is_empty() {
            return Err(Error::new(format!("chart {:?} has no downloadable URLs", spec.chart)));
        }
        home.target = format!("{base}index.yaml");
        let url = home.join(&entry.url)?;
        let archive = fetcher.read(&url, ARCHIVE_MAX_BYTES).await?;
        // Helm does not look, so this is no reason to refuse it.
        let found = wire::hex::encode(digest(&SHA256, &archive).as_ref());
        if !entry.digest.is_empty() && entry.digest != found {
            log::warn!(
                "HelmChart {}/{}: the index of {} says that the archive has the digest {}, and it has {found}",
                spec.namespace,
                spec.name,
                home.authority(),
                entry.digest
            );
        }
        Ok(archive)
    }

    async fn of_registry(&self, spec: &Spec, access: &Access) -> Result<Vec<u8>> {
        let reference = Reference::parse(&spec.chart)?;
        let home = reference.home(spec.plain_http)?;
        let fetcher = self.fetcher(access, &home).await?;
        let mut version = spec.version.clone();
        let names_version = !reference.object.is_empty();
        let mut registry = Registry::new(fetcher, reference, home);
        // A whole version is a tag; anything else is chosen among tags.
        if !names_version && (version.split('.').count() < 3 || Version::parse(&version).is_err()) {
            let mut choice = Choice::new(&spec.version)?;
            registry
                .tags(&mut |tag| {
                    choice.consider(Entry { version: tag, ..Entry::default() });
                })
                .await?;
            let best = choice
                .best
                .context(|| format!("no version of {} matches {:?}", spec.chart, spec.version))?;
            version = best.version;
        }
        registry.chart(&version).await
    }

    /// Whom to believe, and who asks.
    async fn access(&self, spec: &Spec) -> Result<Access> {
        let mut access = Access {
            authorities: spec.repo_ca.clone(),
            insecure: spec.insecure,
            pass_credentials: spec.pass_credentials,
            ..Access::default()
        };
        if !spec.repo_ca_config_map.is_empty() {
            let map = self.object(spec, &kinds::CONFIG_MAP, &spec.repo_ca_config_map).await?;
            for (_, text) in map.pairs("data") {
                access.authorities.push('\n');
                access.authorities.push_str(text);
            }
            if access.authorities.len() > AUTHORITIES_MAX_BYTES {
                return Err(Error::new("spec.repoCAConfigMap is too large"));
            }
        }
        if !spec.auth_secret.is_empty() {
            let secret = self.object(spec, &kinds::SECRET, &spec.auth_secret).await?;
            if let (Some(chain), Some(key)) = (entry(&secret, "tls.crt"), entry(&secret, "tls.key"))
            {
                access.identity = Some(Identity::from_pem(&chain, &key)?);
            }
            let text = |key: &str| entry(&secret, key).and_then(|it| String::from_utf8(it).ok());
            access.username = text("username").unwrap_or_default();
            access.password = Sensitive::from(text("password").unwrap_or_default());
        }
        if !spec.docker_secret.is_empty() {
            let secret = self.object(spec, &kinds::SECRET, &spec.docker_secret).await?;
            let config = entry(&secret, ".dockerconfigjson").context(|| {
                format!("Secret {}/{} is no dockerconfigjson", spec.namespace, spec.docker_secret)
            })?;
            access.docker_config =
                Sensitive::from(String::from_utf8(config).context(|| "read the dockerconfigjson")?);
        }
        Ok(access)
    }

    async fn object(&self, spec: &Spec, kind: &'static api::Kind, name: &str) -> Result<Value> {
        let found = self.client.get(kind, &spec.namespace, name).await;
        let what = || format!("read {} {}/{name}", kind.name, spec.namespace);
        Ok(found.context(what)?.tree())
    }
}

fn entry(secret: &Value, key: &str) -> Option<Vec<u8>> {
    secret.entry("data", key).and_then(wire::base64::decode)
}

/// The path of a chart that the API itself serves.
fn own_path(chart: &str) -> Option<&str> {
    let rest = chart.strip_prefix("https://").or_else(|| chart.strip_prefix("http://"))?;
    rest.strip_prefix(OWN_HOST).filter(|path| path.starts_with("/static/"))
}

/// One file of values over others.
fn merge(values: &mut Value, text: &str) -> Result<()> {
    match wire::yaml::parse_one_loose(text).context(|| "failed to parse values")? {
        Value::Null => Ok(()),
        tree @ Value::Object(_) => {
            charts::merge_values(values, tree);
            Ok(())
        }
        _ => Err(Error::new("failed to parse values: they are no map")),
    }
}

/// The newest version that is wanted, of those that were seen.
struct Choice<'a> {
    wanted: &'a str,
    constraint: Constraint,
    best: Option<Entry>,
    version: Option<Version>,
    is_exact: bool,
}

impl<'a> Choice<'a> {
    fn new(wanted: &'a str) -> Result<Choice<'a>> {
        // Anything but what comes before a release.
        let text = if wanted.is_empty() { ">0.0.0" } else { wanted };
        let constraint = Constraint::parse(text)
            .context(|| format!("spec.version {wanted:?}: improper constraint"))?;
        Ok(Choice { wanted, constraint, best: None, version: None, is_exact: false })
    }

    fn consider(&mut self, entry: Entry) {
        if self.is_exact {
            return;
        }
        let Ok(version) = Version::parse(&entry.version) else { return };
        // What was written as it is wanted is meant, whatever else fits.
        self.is_exact = entry.version == self.wanted;
        let is_newer = self.version.as_ref().is_none_or(|best| version > *best);
        if self.is_exact || (is_newer && self.constraint.allows(&version)) {
            self.best = Some(entry);
            self.version = Some(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: &str, versions: &[&str]) -> Option<String> {
        let mut choice = Choice::new(wanted).unwrap();
        for version in versions {
            choice.consider(Entry { version: (*version).to_owned(), ..Entry::default() });
        }
        choice.best.map(|entry| entry.version)
    }

    #[test]
    fn the_newest_version_that_fits_is_chosen() {
        let all = ["1.2.3", "2.0.0-rc.1", "1.10.0", "nonsense", "1.9.9", "v1.3.0"];
        for (wanted, found) in [
            ("", Some("1.10.0")),
            ("1.2.3", Some("1.2.3")),
            ("~1.9", Some("1.9.9")),
            (">=2.0.0-0", Some("2.0.0-rc.1")),
            ("2.0.0-rc.1", Some("2.0.0-rc.1")),
            ("v1.3.0", Some("v1.3.0")),
            ("^3", None),
        ] {
            assert_eq!(chosen(wanted, &all).as_deref(), found, "{wanted}");
        }
        assert!(Choice::new("one").is_err());
    }

    #[test]
    fn own_charts() {
        let own = own_path("https://%{KUBERNETES_API}%/static/charts/a.tgz");
        assert_eq!(own, Some("/static/charts/a.tgz"));
        assert_eq!(own_path("https://%{KUBERNETES_API}%/other"), None);
        assert_eq!(own_path("https://example.com/static/charts/a.tgz"), None);
    }
}
