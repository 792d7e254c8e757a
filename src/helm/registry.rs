//! Charts in OCI registries: tags that are versions, a manifest, and one layer that is the archive.

use api::{Lens, Value};
use http::client::{Challenge, Url};
use ring::digest::{SHA256, digest};
use stdx::{Context, Error, Result};
use wire::oci::{DOCUMENT_MAX_BYTES, Manifest};

use crate::download::{ARCHIVE_MAX_BYTES, Fetcher, check_status, drain};

const CONFIG_TYPE: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART_TYPE: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const TOKEN_MAX_BYTES: usize = 256 << 10;
/// Pages of a list of tags.
const PAGES_MAX: usize = 100;

/// `oci://host[:port]/path[:tag][@digest]`
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) host: String,
    pub(crate) repository: String,
    /// A tag or a digest; "" if it names neither.
    pub(crate) object: String,
}

impl Reference {
    /// # Errors
    /// If it is none.
    pub(crate) fn parse(text: &str) -> Result<Reference> {
        let bad = || format!("{text:?} is no reference to a chart in a registry");
        let rest = text.strip_prefix("oci://").context(bad)?;
        let (host, path) = rest.split_once('/').context(bad)?;
        let (path, object) = match path.split_once('@') {
            Some((path, digest)) => {
                wire::oci::sha256_hex(digest).context(bad)?;
                (path.split(':').next().unwrap_or(path), digest)
            }
            None => path.split_once(':').unwrap_or((path, "")),
        };
        let is_plain = |text: &str| {
            text.bytes().all(|byte| wire::percent::is_unreserved(byte) || byte == b'/')
        };
        let parts = path.split('/');
        let ordinary = parts.clone().all(|part| !part.is_empty() && !part.starts_with('.'));
        let is_object = object.starts_with("sha256:") || !object.contains('/') && is_plain(object);
        if host.is_empty() || !ordinary || !is_plain(path) || !is_object {
            return Err(Error::new(bad()));
        }
        Ok(Reference {
            host: host.to_owned(),
            repository: path.to_owned(),
            object: object.to_owned(),
        })
    }

    /// Where the registry's API is.
    ///
    /// # Errors
    /// If the host is none.
    pub(crate) fn home(&self, plain_http: bool) -> Result<Url> {
        let scheme = if plain_http { "http" } else { "https" };
        // Docker's registry answers under another name.
        let host = match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        Url::parse(&format!("{scheme}://{host}/v2/{}/", self.repository))
    }
}

/// A repository in a registry, with what it has authorised us to do.
pub(crate) struct Registry<'a> {
    fetcher: Fetcher<'a>,
    reference: Reference,
    home: Url,
    authorization: Option<String>,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(fetcher: Fetcher<'a>, reference: Reference, home: Url) -> Registry<'a> {
        Registry { fetcher, reference, home, authorization: None }
    }

    /// Hands over every tag, as versions write them.
    pub(crate) async fn tags(&mut self, found: &mut (dyn FnMut(String) + Send)) -> Result<()> {
        let what = || "list the versions in the registry";
        let mut url = self.home.clone();
        url.target.push_str("tags/list?n=1000");
        for _ in 0..PAGES_MAX {
            let response = Box::pin(self.get(&url, "application/json")).await.context(what)?;
            let next = response.headers.get("link").and_then(next_page).map(str::to_owned);
            let mut bytes = Vec::new();
            drain(response, DOCUMENT_MAX_BYTES, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .await
            .context(what)?;
            let page: Value = serde_json::from_slice(&bytes).context(what)?;
            let tags = page.list("tags").iter().filter_map(Value::as_str);
            // A tag has no plus, so `_` is written in its place.
            tags.for_each(|tag| found(tag.replace('_', "+")));
            let Some(next) = next else { return Ok(()) };
            let next = url.join(&next).context(what)?;
            if (&next.host, next.port) != (&self.home.host, self.home.port) {
                return Err(Error::new("the list of tags goes on at another host"));
            }
            url = next;
        }
        Err(Error::new(format!("the registry lists more than {PAGES_MAX} pages of tags")))
    }

    /// The archive of a version.
    pub(crate) async fn chart(&mut self, version: &str) -> Result<Vec<u8>> {
        let object = match self.reference.object.is_empty() {
            true => version.replace('+', "_"),
            false => self.reference.object.clone(),
        };
        let what = || format!("get the manifest of {object}");
        let mut url = self.home.clone();
        url.target.push_str(&format!("manifests/{object}"));
        let bytes = self.document(&url, MANIFEST_TYPE, DOCUMENT_MAX_BYTES).await.context(what)?;
        if object.starts_with("sha256:") {
            check_digest(&bytes, &object)?;
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).context(what)?;
        let config = manifest.config.as_ref().map_or("", |config| config.media_type.as_str());
        let layer = manifest.layers.iter().find(|layer| layer.media_type == CHART_TYPE);
        let layer = layer.filter(|_| config == CONFIG_TYPE).context(|| {
            format!("{} is no chart: its config is {config:?}", self.reference.repository)
        })?;
        wire::oci::sha256_hex(&layer.digest).context(|| "the chart's digest is not valid")?;
        let mut url = self.home.clone();
        url.target.push_str(&format!("blobs/{}", layer.digest));
        let archive = self.document(&url, "*/*", ARCHIVE_MAX_BYTES).await;
        let archive = archive.context(|| format!("get the archive of {object}"))?;
        check_digest(&archive, &layer.digest)?;
        Ok(archive)
    }

    async fn document(&mut self, url: &Url, accept: &str, max_bytes: usize) -> Result<Vec<u8>> {
        let response = Box::pin(self.get(url, accept)).await?;
        let mut bytes = Vec::new();
        drain(response, max_bytes, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// An answer of the registry, with the authorisation that it asks for.
    async fn get(&mut self, url: &Url, accept: &str) -> Result<http::Response> {
        let authorization = self.authorization.clone();
        // Nothing is said before it is asked for.
        let said = authorization.as_deref().unwrap_or("");
        let mut response = Box::pin(self.fetcher.get(url, accept, Some(said))).await?;
        if response.status == 401 {
            let challenges: Vec<String> =
                response.headers.get_all("www-authenticate").map(str::to_owned).collect();
            let authorization = Box::pin(self.authorize(&challenges)).await?;
            response = Box::pin(self.fetcher.get(url, accept, Some(&authorization))).await?;
            self.authorization = Some(authorization);
        }
        check_status(&mut response).await?;
        Ok(response)
    }

    async fn authorize(&self, challenges: &[String]) -> Result<String> {
        let (username, password) = self.credentials();
        let basic = || {
            let both = wire::base64::encode(format!("{username}:{password}").as_bytes());
            (!username.is_empty()).then(|| format!("Basic {both}"))
        };
        for challenge in challenges.iter().filter_map(|text| Challenge::parse(text)) {
            match (challenge.scheme.as_str(), basic()) {
                ("bearer", basic) => return Box::pin(self.token(&challenge, basic)).await,
                ("basic", Some(basic)) => return Ok(basic),
                _ => {}
            }
        }
        Err(Error::new(
            "the registry wants authorisation, and no credentials for it are known (401 Unauthorized)",
        ))
    }

    async fn token(&self, challenge: &Challenge, basic: Option<String>) -> Result<String> {
        let realm = challenge.parameter("realm");
        let what = || format!("get a token from {realm:?}");
        let mut url = Url::parse(realm).context(what)?;
        if self.home.is_tls() && !url.is_tls() {
            return Err(Error::new(format!("{}: it is not https", what())));
        }
        let scope = match challenge.parameter("scope") {
            "" => format!("repository:{}:pull", self.reference.repository),
            scope => scope.to_owned(),
        };
        let service = challenge.parameter("service");
        let escaped = |text: &str| wire::percent::escape(text, wire::percent::is_unreserved);
        let joint = if url.target.contains('?') { '&' } else { '?' };
        url.target.push_str(&format!(
            "{joint}service={}&scope={}",
            escaped(service),
            escaped(&scope)
        ));
        let asking = Box::pin(self.fetcher.ask_token(&url, basic.as_deref()));
        let mut response = asking.await.context(what)?;
        check_status(&mut response).await.context(what)?;
        let bytes = response.body.read_all(TOKEN_MAX_BYTES).await.context(what)?;
        let answer: Value = serde_json::from_slice(&bytes).context(what)?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        Ok(format!("Bearer {}", token.context(what)?))
    }

    /// Name and password for this registry: the Docker configuration's, or else those of the HelmChart.
    fn credentials(&self) -> (String, String) {
        let access = self.fetcher.access;
        let found = docker_credentials(access.docker_config.reveal(), &self.reference.host);
        found.unwrap_or_else(|| (access.username.clone(), access.password.reveal().to_owned()))
    }
}

fn check_digest(bytes: &[u8], wanted: &str) -> Result<()> {
    let found = format!("sha256:{}", wire::hex::encode(digest(&SHA256, bytes).as_ref()));
    match found == wanted {
        true => Ok(()),
        false => Err(Error::new(format!("what was received has digest {found}, not {wanted}"))),
    }
}

/// `</v2/x/tags/list?last=a>; rel="next"`
fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(target)
}

/// What `.dockerconfigjson` has for a host.
fn docker_credentials(text: &str, host: &str) -> Option<(String, String)> {
    let tree: Value = serde_json::from_str(text).ok()?;
    let names: Vec<String> = match host {
        "docker.io" => vec!["https://index.docker.io/v1/".into(), "docker.io".into()],
        host => vec![host.into(), format!("https://{host}"), format!("https://{host}/")],
    };
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    let entry = names.iter().find_map(|name| tree.at("auths").get(*name))?;
    match (entry.str("username"), entry.str("auth")) {
        ("", "") => None,
        ("", both) => {
            let both = String::from_utf8(wire::base64::decode(both)?).ok()?;
            let (username, password) = both.split_once(':')?;
            Some((username.to_owned(), password.to_owned()))
        }
        (username, _) => Some((username.to_owned(), entry.str("password").to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, wanted) in [
            ("oci://ghcr.io/a/b", Some(("ghcr.io", "a/b", ""))),
            ("oci://localhost:5000/b:1.2", Some(("localhost:5000", "b", "1.2"))),
            (&format!("oci://h/b:1@{digest}"), Some(("h", "b", digest.as_str()))),
            ("oci://h", None),
            ("oci:///b", None),
            ("oci://h/a//b", None),
            ("oci://h/../b", None),
            ("oci://h/b?x=y", None),
            ("oci://h/b:1/2", None),
            ("oci://h/b@sha256:1", None),
            ("https://h/b", None),
        ] {
            let found = Reference::parse(text).ok();
            let found = found.as_ref().map(|it| (&*it.host, &*it.repository, &*it.object));
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn any_text_is_taken_or_refused_without_panic() {
        let mut prng = stdx::prng::Prng::new(12);
        let letters: Vec<char> = "oci:/a@.%?<>;=\"sha256:\u{e4} ".chars().collect();
        for _ in 0..5000 {
            let n = prng.below(30);
            let letter = |_| letters[usize::try_from(prng.below(letters.len() as u64)).unwrap()];
            let text: String = (0..n).map(letter).collect();
            let _ = (Reference::parse(&format!("oci://{text}")), next_page(&text));
            if let Ok(reference) = Reference::parse(&text) {
                assert!(
                    reference.home(false).is_ok()
                        || reference.host.contains(['%', '?', '@', ' ', '<', ':']),
                    "{text}"
                );
            }
            let _ = docker_credentials(&text, "a");
        }
    }

    #[test]
    fn credentials_and_pages() {
        let both = wire::base64::encode(b"u:p:q");
        let text = format!(
            r#"{{"auths": {{"r:5": {{"auth": "{both}"}}, "https://x/": {{"username": "a", "password": "b"}}, "e": {{}}}}}}"#
        );
        let found = |host: &str| docker_credentials(&text, host);
        assert_eq!(found("r:5"), Some(("u".into(), "p:q".into())));
        assert_eq!(found("x"), Some(("a".into(), "b".into())));
        assert_eq!((found("e"), found("y"), docker_credentials("", "x")), (None, None, None));
        assert_eq!(next_page("</v2/a?last=b>; rel=\"next\""), Some("/v2/a?last=b"));
        assert_eq!(next_page("</v2/a>; rel=\"first\""), None);
    }
}
