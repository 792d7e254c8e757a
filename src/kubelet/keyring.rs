//! Which credentials a registry gets for an image: by the place that each is for, the most specific first.
//!
//! The rules are those of upstream's `pkg/credentialprovider`: a place is a host, in which `*` stands for what is between
//! two dots, with a port and the beginning of a path.

use api::{Lens, Value};
use runtime::images::PullAuth;
use stdx::{Arrange, Sensitive};

/// Where images without a host come from, and how Docker's tools call it where they keep credentials.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_REGISTRY_KEY: &str = "index.docker.io";

/// Credentials, each for a place.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    entries: Vec<(String, PullAuth)>,
}

impl Keyring {
    /// Of pull secrets, of both forms; what is none is passed over.
    pub(crate) fn of_secrets(secrets: &[Value]) -> Keyring {
        let mut ring = Keyring::default();
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
                if let Some(auth) = read_auth(auth) {
                    ring.add(place, auth);
                }
            }
        }
        ring
    }

    /// Adds a credential for a place as Docker's files name it: a scheme and the version of the registry's API are no
    /// part of it.
    pub(crate) fn add(&mut self, place: &str, auth: PullAuth) {
        let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://"));
        let (host, path) = split(bare.unwrap_or(place));
        let path = match path {
            "/v1/" | "/v2/" | "/" => "",
            _ => path
                .strip_prefix("/v1")
                .or_else(|| path.strip_prefix("/v2"))
                .filter(|rest| rest.starts_with('/'))
                .unwrap_or(path),
        };
        self.entries.push((format!("{host}{path}"), auth));
    }

    /// What is known for a [`repository`], the most specific place first.
    pub(crate) fn lookup(mut self, repository: &str) -> Vec<PullAuth> {
        self.entries.arrange_by_key(|(place, _)| std::cmp::Reverse(place.clone()));
        let is_default = split(repository).0 == DEFAULT_REGISTRY;
        let any = self.entries.iter().any(|(place, _)| covers(place, repository));
        self.entries.retain(|(place, _)| match any {
            true => covers(place, repository),
            false => is_default && place == DEFAULT_REGISTRY_KEY,
        });
        self.entries.into_iter().map(|(_, auth)| auth).collect()
    }
}

/// An image's name in full, without its tag and digest: `docker.io/library/nginx`.
pub(crate) fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    match name.split_once('/') {
        Some((DEFAULT_REGISTRY | DEFAULT_REGISTRY_KEY, rest)) if rest.contains('/') => {
            format!("{DEFAULT_REGISTRY}/{rest}")
        }
        Some((DEFAULT_REGISTRY | DEFAULT_REGISTRY_KEY, rest)) => {
            format!("{DEFAULT_REGISTRY}/library/{rest}")
        }
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
        None => format!("{DEFAULT_REGISTRY}/library/{name}"),
    }
}

/// Whether a place with `*` in its host covers a [`repository`].
pub(crate) fn covers(place: &str, repository: &str) -> bool {
    let ((host, path), (their_host, their_path)) = (split(place), split(repository));
    let ((name, port), (their_name, their_port)) = (port_of(host), port_of(their_host));
    port == their_port
        && their_path.starts_with(path)
        && name.split('.').count() == their_name.split('.').count()
        && name.split('.').zip(their_name.split('.')).all(|(glob, part)| fits(glob, part))
}

/// The host, and the path with the slash that begins it.
fn split(place: &str) -> (&str, &str) {
    place.split_at(place.find('/').unwrap_or(place.len()))
}

fn port_of(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// Whether a part of a host is what a part with `*` says.
fn fits(glob: &str, part: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == part };
    let Some(mut left) = part.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return left.ends_with(piece);
        }
        match left.split_once(piece) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn places_cover_repositories() {
        for (place, repository, want) in [
            ("r.io", "r.io/a", true),
            ("r.io", "r.io:5000/a", false),
            ("r.io:5000", "r.io:5000/a", true),
            ("r.io:5000", "r.io/a", false),
            ("*.r.io", "x.r.io/a", true),
            ("*.r.io", "r.io/a", false),
            ("*.r.io", "x.y.r.io/a", false),
            ("*.*.r.io", "x.y.r.io/a", true),
            ("123.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.eu-1.amazonaws.com/a/b", true),
            ("a*c*e.io", "abcde.io/x", true),
            ("a*c*e.io", "abcd.io/x", false),
            ("a*.io", "a.io/x", true),
            ("*.io/team", "r.io/team/x", true),
            // As upstream: the path is the beginning of the text.
            ("*.io/team", "r.io/teams/x", true),
            ("*.io/team/", "r.io/teams/x", false),
            ("r.io/team", "r.io/other/team", false),
        ] {
            assert_eq!(covers(place, repository), want, "{place} {repository}");
        }
    }

    #[test]
    fn images_have_repositories() {
        for (image, want) in [
            ("nginx", "docker.io/library/nginx"),
            ("me/nginx:1", "docker.io/me/nginx"),
            ("docker.io/library/nginx:1@sha256:00", "docker.io/library/nginx"),
            ("index.docker.io/me/a", "docker.io/me/a"),
            ("docker.io/nginx:1", "docker.io/library/nginx"),
            ("localhost:5000/x:y", "localhost:5000/x"),
            ("r.io/a/b", "r.io/a/b"),
        ] {
            assert_eq!(repository(image), want, "{image}");
        }
    }

    #[test]
    fn secrets_match_registries() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "r.io": {"username": "a", "password": "b"},
            "r.io/team": {"username": "c", "password": "d"},
            "https://v.io/v2/team": {"username": "e", "password": "f"},
            "*.e.com": {"identitytoken": "t"}}});
        let secret = json!({"data": {".dockerconfigjson": wire::base64::encode(config.to_string().as_bytes())}});
        let names = |image: &str| -> Vec<String> {
            Keyring::of_secrets(std::slice::from_ref(&secret))
                .lookup(&repository(image))
                .into_iter()
                .map(|auth| {
                    [auth.username.as_str(), auth.password.reveal(), auth.token.reveal()].concat()
                })
                .collect()
        };
        assert_eq!(names("nginx"), ["up"]);
        assert_eq!(names("r.io/team/x:1"), ["cd", "ab"]);
        assert_eq!(names("r.io/other"), ["ab"]);
        assert_eq!(names("v.io/team/a"), ["ef"]);
        assert_eq!(names("x.e.com/a"), ["t"]);
        assert!(names("other.io/a").is_empty());
    }
}
