//! Getting a container's image: pull policies, credentials, one pull at a time for each image.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Lens, Object, Value};
use runtime::Runtime;
use runtime::images::{Image, PullAuth};
use stdx::Sensitive;
use stdx::{Arrange, OrdMap};

use crate::events::Recorder;
use crate::figures::{Figures, Operation};
use podplan::Told;

/// Pulls images for pods.
#[derive(Debug)]
pub(crate) struct Puller {
    runtime: Runtime,
    recorder: Recorder,
    /// One lock for each image that is being pulled now.
    pulling: Mutex<OrdMap<String, Arc<rt::lock::Mutex<()>>>>,
    /// Where no more than so many may be pulled at a time.
    places: Option<rt::lock::Semaphore>,
    figures: Arc<Figures>,
}

/// What is wanted, and whom to tell.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub image: &'a str,
    /// `Always`, `IfNotPresent`, `Never`.
    pub policy: &'a str,
    /// Contents of the pod's pull secrets.
    pub secrets: &'a [Value],
    pub about: &'a Object,
    pub field: &'a str,
}

impl Puller {
    /// At most so many pulls at a time, if there is a bound.
    pub(crate) fn new(
        runtime: Runtime,
        recorder: Recorder,
        (pulls_max, figures): (Option<usize>, Arc<Figures>),
    ) -> Puller {
        let places = pulls_max.map(rt::lock::Semaphore::new);
        Puller { runtime, recorder, pulling: Mutex::default(), places, figures }
    }

    /// The image, present; or why it cannot be had.
    pub(crate) async fn ensure(&self, wanted: &Wanted<'_>) -> Result<Image, Told> {
        let Wanted { image, policy, .. } = wanted;
        if let Err(why) = check_reference(image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {why}"
            );
            self.tell(wanted, true, "InspectFailed", message.clone());
            return Err(self.failed(wanted, "InvalidImageName", message));
        }
        let policy = match *policy {
            "" if is_latest(image) => "Always",
            "" => "IfNotPresent",
            policy => policy,
        };
        let present = self.runtime.images().get(image);
        match (present, policy) {
            (Some(found), "IfNotPresent" | "Never") => {
                let message = format!("Container image \"{image}\" already present on machine");
                self.tell(wanted, false, "Pulled", message);
                return Ok(found);
            }
            (None, "Never") => {
                let message =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                self.tell(wanted, true, "ErrImageNeverPull", message.clone());
                return Err(self.failed(wanted, "ErrImageNeverPull", message));
            }
            _ => {}
        }
        self.pull(wanted, policy == "Always").await
    }

    async fn pull(&self, wanted: &Wanted<'_>, always: bool) -> Result<Image, Told> {
        let image = wanted.image;
        let begun = rt::now().mono;
        self.tell(wanted, false, "Pulling", format!("Pulling image \"{image}\""));
        let lock = {
            let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
            pulling.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(pulling.entry(image.to_owned()).or_default())
        };
        let guard = lock.lock().await;
        let _place = match &self.places {
            Some(places) => Some(places.acquire().await),
            None => None,
        };
        let got_lock = rt::now().mono;
        // Someone else may have pulled it while this one waited.
        if !always && let Some(found) = self.runtime.images().get(image) {
            let message = format!("Container image \"{image}\" already present on machine");
            self.tell(wanted, false, "Pulled", message);
            return Ok(found);
        }
        let pulled = self.pull_with(image, &credentials(wanted.secrets, image)).await;
        drop(guard);
        let now = rt::now().mono;
        self.figures.count(Operation::PullImage, now.since(got_lock), pulled.is_ok());
        match pulled {
            Ok(found) => {
                let message = format!(
                    "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                    go_duration(now.since(got_lock)),
                    go_duration(now.since(begun)),
                    found.size_bytes
                );
                self.tell(wanted, false, "Pulled", message);
                Ok(found)
            }
            Err(error) => {
                let message = format!("Failed to pull image \"{image}\": {error}");
                self.tell(wanted, true, "Failed", message);
                Err(self.failed(wanted, "ErrImagePull", error))
            }
        }
    }

    /// Tries each credential in turn, then none.
    async fn pull_with(&self, image: &str, credentials: &[PullAuth]) -> Result<Image, String> {
        let mut failure = String::new();
        let attempts = credentials.iter().cloned().map(Some).chain(
            // Anonymously only where no credential is known, as upstream.
            credentials.is_empty().then_some(None),
        );
        for auth in attempts {
            match self.runtime.images().pull(image, auth).await {
                Ok(found) => return Ok(found),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    fn tell(&self, wanted: &Wanted<'_>, warning: bool, reason: &'static str, message: String) {
        self.recorder.tell(wanted.about, wanted.field, warning, reason, message);
    }

    fn failed(&self, wanted: &Wanted<'_>, reason: &str, message: String) -> Told {
        self.tell(wanted, true, "Failed", format!("Error: {reason}"));
        Told::new(reason, message)
    }
}

/// True without a tag and digest, or with the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// The grammar of image references, as far as users get it wrong.
fn check_reference(image: &str) -> Result<(), String> {
    let name = image.split('@').next().unwrap_or("");
    let (path, tag) = match name.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let repository = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => path,
    };
    let part_is_fine = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        let shown = if path.contains('/') {
            repository.to_owned()
        } else {
            format!("library/{repository}")
        };
        return Err(format!(
            "invalid reference format: repository name ({shown}) must be lowercase"
        ));
    }
    let tag_is_fine = tag.is_none_or(|tag| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !tag.starts_with(['.', '-'])
    });
    match repository.split('/').all(part_is_fine) && tag_is_fine {
        true => Ok(()),
        false => Err("invalid reference format".into()),
    }
}

/// What the pull secrets know about the image's registry, the most specific first.
fn credentials(secrets: &[Value], image: &str) -> Vec<PullAuth> {
    let registry_path = match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("index.docker.io/{image}"),
        None => format!("index.docker.io/library/{image}"),
    };
    let mut found: Vec<(usize, PullAuth)> = Vec::new();
    for secret in secrets {
        let entry = |key: &str| {
            secret
                .entry("data", key)
                .and_then(wire::base64::decode)
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        };
        let auths = match entry(".dockerconfigjson") {
            Some(config) => config.at("auths").clone(),
            None => entry(".dockercfg").unwrap_or_default(),
        };
        for (place, auth) in auths.as_object().into_iter().flatten() {
            if let (Some(len), Some(auth)) = (matches(place, &registry_path), read_auth(auth)) {
                found.push((len, auth));
            }
        }
    }
    found.arrange_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// How much of the image's path a credential's place covers, if it does.
fn matches(place: &str, registry_path: &str) -> Option<usize> {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    let place = place.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let place = if place == "docker.io" { "index.docker.io" } else { place };
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let (their_host, their_path) = registry_path.split_once('/')?;
    let host_fits = match host.strip_prefix("*.") {
        Some(domain) => their_host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => host == their_host,
    };
    let rest = their_path.strip_prefix(path)?;
    let path_fits = path.is_empty() || rest.is_empty() || rest.starts_with(['/', ':', '@']);
    (host_fits && path_fits).then_some(place.len())
}

fn read_auth(tree: &Value) -> Option<PullAuth> {
    let token = tree.str("identitytoken");
    if !token.is_empty() {
        return Some(PullAuth { token: token.into(), ..PullAuth::default() });
    }
    let (mut username, mut password) =
        (tree.str("username").to_owned(), Sensitive::from(tree.str("password")));
    if username.is_empty() {
        let joined = wire::base64::decode(tree.str("auth"))?;
        let joined = String::from_utf8(joined).ok()?;
        let (name, secret) = joined.split_once(':')?;
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').into());
    }
    Some(PullAuth { username, password, ..PullAuth::default() })
}

/// As Go prints durations, rounded to milliseconds: `1.234s`, `56ms`, `1m2.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = |millis: u128| {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000) {
        (0, 0, rest) => format!("{}s", seconds(rest)),
        (0, minutes, rest) => format!("{minutes}m{}s", seconds(rest)),
        (hours, minutes, rest) => format!("{hours}h{minutes}m{}s", seconds(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn references_are_checked() {
        for good in [
            "nginx",
            "nginx:1.27",
            "a/b/c",
            "localhost:5000/x:y",
            "r.io/a@sha256:00",
            "a__b",
            "x/y-z",
        ] {
            assert_eq!(check_reference(good), Ok(()), "{good}");
        }
        assert_eq!(
            check_reference("Nginx").unwrap_err(),
            "invalid reference format: repository name (library/Nginx) must be lowercase"
        );
        for bad in ["", "a//b", "a:", "-a", "a b", "a/:x"] {
            assert_eq!(check_reference(bad).unwrap_err(), "invalid reference format", "{bad}");
        }
        assert!(
            is_latest("a")
                && is_latest("r:5/a:latest")
                && !is_latest("a:1")
                && !is_latest("a@sha256:0")
        );
    }

    #[test]
    fn secrets_match_registries() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "r.io": {"username": "a", "password": "b"},
            "r.io/team": {"username": "c", "password": "d"},
            "*.e.com": {"identitytoken": "t"}}});
        let secret = json!({"data": {".dockerconfigjson": wire::base64::encode(config.to_string().as_bytes())}});
        let names = |image: &str| -> Vec<String> {
            credentials(std::slice::from_ref(&secret), image)
                .into_iter()
                .map(|auth| {
                    [auth.username.as_str(), auth.password.reveal(), auth.token.reveal()].concat()
                })
                .collect()
        };
        assert_eq!(names("nginx"), ["up"]);
        assert_eq!(names("r.io/team/x:1"), ["cd", "ab"]);
        assert_eq!(names("r.io/teamx"), ["ab"]);
        assert_eq!(names("x.e.com/a"), ["t"]);
        assert!(names("other.io/a").is_empty());
    }

    #[test]
    fn durations_read_like_go() {
        let texts =
            [5, 1234, 60_000, 62_500, 3_600_000].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["5ms", "1.234s", "1m0s", "1m2.5s", "1h0m0s"]);
    }
}
