//! Getting a container's image: pull policies, credentials, one pull at a time for each image.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Object, Value};
use runtime::Runtime;
use runtime::images::{Image, PullAuth};
use stdx::OrdMap;

use crate::config::Config;
use crate::credential_plugins::Plugins;
use crate::events::Recorder;
use crate::figures::{Figures, Operation};
use crate::keyring::{self, Keyring};
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
    /// Programs that know credentials, if there are any.
    plugins: Option<Plugins>,
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
        (config, figures): (&Config, Arc<Figures>),
    ) -> Puller {
        let places = config.pulls_max.map(rt::lock::Semaphore::new);
        let plugins = (!config.credential_plugins.is_empty())
            .then(|| Plugins::new(config.credential_plugins.clone()));
        Puller { runtime, recorder, pulling: Mutex::default(), places, figures, plugins }
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
        let repository = keyring::repository(image);
        let mut credentials = Keyring::of_secrets(wanted.secrets).lookup(&repository);
        if let Some(plugins) = &self.plugins {
            credentials.extend(plugins.lookup(&repository).await);
        }
        let pulled = self.pull_with(image, &credentials).await;
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
    fn durations_read_like_go() {
        let texts =
            [5, 1234, 60_000, 62_500, 3_600_000].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["5ms", "1.234s", "1m0s", "1m2.5s", "1h0m0s"]);
    }
}
