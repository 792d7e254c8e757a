//! Image references: `[registry/]repository[:tag][@digest]`, with Docker's defaults filled in.

use std::fmt;

use stdx::{Error, Result};

/// A reference with nothing left out: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    /// Empty only with a digest.
    pub tag: String,
    pub digest: Option<String>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest repository name that registries take.
const NAME_MAX_BYTES: usize = 255;
const TAG_MAX_BYTES: usize = 128;

impl Reference {
    /// # Errors
    /// In the words that Kubernetes users know: `invalid reference format`.
    pub fn parse(text: &str) -> Result<Reference> {
        parse(text).ok_or_else(|| {
            Error::new(format!("couldn't parse image name {text:?}: invalid reference format"))
        })
    }

    /// `docker.io/library/nginx`
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What to ask a registry for: the digest if there is one.
    pub fn object(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }
}

impl fmt::Display for Reference {
    /// With the digest alone if there is one, as images are listed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}/{}@{digest}", self.registry, self.repository),
            None => write!(f, "{}/{}:{}", self.registry, self.repository, self.tag),
        }
    }
}

fn parse(text: &str) -> Option<Reference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            wire::oci::sha256_hex(digest)?;
            (rest, Some(digest.to_owned()))
        }
        None => (text, None),
    };
    // A colon after the last slash is a tag's, before it a port's.
    let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[last_slash..].find(':') {
        Some(at) => (&rest[..last_slash + at], Some(&rest[last_slash + at + 1..])),
        None => (rest, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, repository))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, repository)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository = match repository.contains('/') || registry != DEFAULT_REGISTRY {
        true => repository.to_owned(),
        false => format!("library/{repository}"),
    };
    let tag = match (tag, &digest) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "",
        (None, None) => "latest",
    };
    let valid = is_registry(registry)
        && repository.len() <= NAME_MAX_BYTES
        && repository.split('/').all(is_path_component)
        && (is_tag(tag) || (tag.is_empty() && digest.is_some() && !text.contains(":@")));
    // A bare digest is an image id, not a reference.
    let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (valid && !is_id).then(|| Reference {
        registry: registry.to_owned(),
        repository,
        tag: tag.to_owned(),
        digest,
    })
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => ("ipv6", rest.strip_prefix(':').or(Some("1").filter(|_| rest.is_empty()))),
            Err(_) => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case words joined by `.`, `_`, `__` or dashes.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    let separators = bytes.split(|byte| is_word(*byte)).filter(|run| !run.is_empty());
    separators
        .into_iter()
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX_BYTES
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let rows = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("rancher/pause:3.6", "docker.io/rancher/pause:3.6"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("k3rs.io/userspace", "k3rs.io/userspace:latest"),
            ("a__b/c-d.e:T_1", "docker.io/a__b/c-d.e:T_1"),
        ];
        for (text, expected) in rows {
            assert_eq!(Reference::parse(text).unwrap().to_string(), expected, "{text}");
        }
        let pinned = Reference::parse(&format!("nginx:1@{digest}")).unwrap();
        assert_eq!((pinned.tag.as_str(), pinned.object()), ("1", digest.as_str()));
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{digest}"));
        let long = format!("a/{}", "b".repeat(300));
        let bad = [
            "",
            "Nginx",
            "a b",
            "a:",
            "a/",
            "/a",
            "a//b",
            "a:b:c",
            "nginx@sha256:12",
            "-a",
            "a..b",
            "a:-x",
            "x.y:99999/a",
            &long,
        ];
        for text in bad {
            assert!(Reference::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_panic() {
        let mut prng = stdx::prng::Prng::new(9);
        let letters: Vec<char> = "ab0.:/@-_[]A sha256é".chars().collect();
        for _ in 0..20_000 {
            let n = prng.below(24);
            let text: String = (0..n)
                .map(|_| letters[usize::try_from(prng.below(letters.len() as u64)).unwrap()])
                .collect();
            if let Ok(reference) = Reference::parse(&text) {
                let again = Reference::parse(&reference.to_string()).unwrap();
                assert_eq!(again.to_string(), reference.to_string());
            }
        }
    }
}
