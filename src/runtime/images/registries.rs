//! `registries.yaml`: mirrors, rewrites, credentials and TLS of registries, as k3s reads it.

use std::path::Path;

use http::client::Url;
use serde_json::Value;
use stdx::{Context, Error, OrdMap, Result, Sensitive};

use super::reference::Reference;

#[derive(Debug, Default)]
pub(super) struct Registries {
    mirrors: OrdMap<String, Mirror>,
    configs: OrdMap<String, HostConfig>,
}

#[derive(Debug, Default)]
struct Mirror {
    endpoints: Vec<String>,
    rewrites: Vec<(Pattern, String)>,
}

/// Credentials and TLS files for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostConfig {
    pub(super) username: String,
    pub(super) password: Sensitive,
    /// To be exchanged for a bearer token.
    pub(super) identity_token: Sensitive,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) ca_file: String,
    pub(super) insecure_skip_verify: bool,
}

/// One place to try for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Up to and with `/v2`.
    pub(super) base: Url,
    pub(super) repository: String,
}

impl Registries {
    /// Reads the file; an absent one is empty.
    pub(super) fn read(path: &Path) -> Result<Registries> {
        match rt::fs::metadata(path).is_ok() {
            true => {
                let bytes = rt::fs::read_within(path, rt::fs::SMALL_MAX_BYTES)?;
                let text =
                    String::from_utf8(bytes).context(|| format!("read {}", path.display()))?;
                Registries::parse(&text).context(|| format!("read {}", path.display()))
            }
            false => Ok(Registries::default()),
        }
    }

    fn parse(text: &str) -> Result<Registries> {
        let tree = wire::yaml::parse_one_loose(text)?;
        let mut registries = Registries::default();
        for (host, value) in entries(&tree["mirrors"]) {
            let mut mirror = Mirror::default();
            for endpoint in value["endpoint"].as_array().into_iter().flatten() {
                let endpoint = endpoint
                    .as_str()
                    .context(|| format!("mirror {host}: an endpoint is not a text"))?;
                mirror.endpoints.push(endpoint.to_owned());
            }
            for (pattern, replacement) in entries(&value["rewrite"]) {
                let compiled = Pattern::parse(pattern)
                    .context(|| format!("mirror {host}: rewrite {pattern:?}"))?;
                let replacement = replacement
                    .as_str()
                    .context(|| format!("mirror {host}: rewrite {pattern:?} is not a text"))?;
                mirror.rewrites.push((compiled, replacement.to_owned()));
            }
            registries.mirrors.insert(host.clone(), mirror);
        }
        for (host, value) in entries(&tree["configs"]) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            let (auth, tls) = (&value["auth"], &value["tls"]);
            let mut config = HostConfig {
                username: text(&auth["username"]),
                password: text(&auth["password"]).into(),
                identity_token: text(&auth["identity_token"]).into(),
                cert_file: text(&tls["cert_file"]),
                key_file: text(&tls["key_file"]),
                ca_file: text(&tls["ca_file"]),
                insecure_skip_verify: tls["insecure_skip_verify"].as_bool().unwrap_or(false),
            };
            if config.identity_token.reveal().is_empty() {
                config.identity_token = text(&auth["token"]).into();
            }
            if let Some(both) = auth["auth"].as_str() {
                let decoded = wire::base64::decode(both.trim())
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                let decoded =
                    decoded.context(|| format!("config of {host}: auth is not base64"))?;
                let (username, password) = decoded
                    .split_once(':')
                    .context(|| format!("config of {host}: auth has no colon"))?;
                (config.username, config.password) =
                    (username.to_owned(), password.trim_end_matches('\0').into());
            }
            registries.configs.insert(host.clone(), config);
        }
        Ok(registries)
    }

    /// Where to look for an image, in order: the mirrors, then the registry itself.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let mirror = self.mirrors.get(&reference.registry).or_else(|| self.mirrors.get("*"));
        for endpoint in mirror.iter().flat_map(|mirror| &mirror.endpoints) {
            let repository = mirror.map_or_else(
                || reference.repository.clone(),
                |mirror| mirror.rewrite(&reference.repository),
            );
            places.push(Place { base: base(endpoint)?, repository });
        }
        let default = Place {
            base: base(&self.default_endpoint(&reference.registry))?,
            repository: reference.repository.clone(),
        };
        if !places.contains(&default) {
            places.push(default);
        }
        Ok(places)
    }

    /// The configuration for a host, by `host:port` or host. Docker's registry goes by its usual name, too.
    pub(super) fn config(&self, url: &Url) -> HostConfig {
        let authority = url.authority();
        let with_port = format!("{}:{}", url.host, url.port);
        let mut names = vec![authority.as_str(), with_port.as_str(), url.host.as_str()];
        if url.host == DOCKER_HOST {
            names.push("docker.io");
        }
        names.push("*");
        names.iter().find_map(|name| self.configs.get(*name)).cloned().unwrap_or_default()
    }
}

impl Registries {
    /// The registry itself. One on this machine speaks plain HTTP, as containerd assumes too, unless
    /// its configuration has TLS settings.
    fn default_endpoint(&self, registry: &str) -> String {
        if registry == "docker.io" {
            return format!("https://{DOCKER_HOST}");
        }
        let host =
            registry.rsplit_once(':').map_or(registry, |(host, _)| host).trim_matches(['[', ']']);
        let is_local = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let secure = format!("https://{registry}");
        let has_tls = Url::parse(&secure).is_ok_and(|url| {
            let config = self.config(&url);
            !config.ca_file.is_empty()
                || !config.cert_file.is_empty()
                || config.insecure_skip_verify
        });
        if is_local && !has_tls { format!("http://{registry}") } else { secure }
    }
}

const DOCKER_HOST: &str = "registry-1.docker.io";

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// An endpoint with `/v2` at its end, once.
fn base(endpoint: &str) -> Result<Url> {
    let with_scheme =
        if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let mut url = Url::parse(&with_scheme).context(|| format!("endpoint {endpoint:?}"))?;
    let path = url.target.trim_end_matches('/');
    url.target = if path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    Ok(url)
}

impl Mirror {
    /// The first rewrite that matches counts.
    fn rewrite(&self, repository: &str) -> String {
        let found = self
            .rewrites
            .iter()
            .find_map(|(pattern, replacement)| pattern.replace(repository, replacement));
        found.unwrap_or_else(|| repository.to_owned())
    }
}

/// The part of regular expressions that rewrites use: literals, `.`, `*`, `+`, `?`, groups, `^`, `$`.
#[derive(Debug)]
struct Pattern {
    at_start: bool,
    at_end: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// A character (none: any), how often at least, and whether more.
    Repeat(Option<char>, usize, usize),
    Open(usize),
    Close(usize),
}

const GROUPS_MAX: usize = 9;

impl Pattern {
    fn parse(text: &str) -> Result<Pattern> {
        let rest = text.strip_prefix('^');
        let at_start = rest.is_some();
        let rest = rest.unwrap_or(text);
        let (rest, at_end) = match rest.strip_suffix('$') {
            Some(short) if !short.ends_with('\\') => (short, true),
            _ => (rest, false),
        };
        let mut parts = Vec::new();
        let (mut open, mut n_groups) = (Vec::new(), 0);
        let mut letters = rest.chars();
        while let Some(letter) = letters.next() {
            let part = match letter {
                '(' => {
                    n_groups += 1;
                    open.push(n_groups);
                    Part::Open(n_groups)
                }
                ')' => Part::Close(open.pop().context(|| "a group is closed that was not opened")?),
                '*' | '+' | '?' => match parts.last_mut() {
                    Some(Part::Repeat(_, least, most)) if (*least, *most) == (1, 1) => {
                        *least = usize::from(letter == '+');
                        *most = if letter == '?' { 1 } else { usize::MAX };
                        continue;
                    }
                    _ => {
                        return Err(Error::new(format!(
                            "{letter:?} after a group is not supported"
                        )));
                    }
                },
                '.' => Part::Repeat(None, 1, 1),
                '\\' => Part::Repeat(
                    Some(letters.next().context(|| "nothing follows the backslash")?),
                    1,
                    1,
                ),
                '[' | ']' | '{' | '}' | '|' => {
                    return Err(Error::new(format!("{letter:?} is not supported in rewrites")));
                }
                letter => Part::Repeat(Some(letter), 1, 1),
            };
            parts.push(part);
        }
        if !open.is_empty() || n_groups > GROUPS_MAX {
            return Err(Error::new("a group is not closed, or there are too many"));
        }
        Ok(Pattern { at_start, at_end, parts })
    }

    /// The text with its first match replaced (`$1` is the first group); `None` without a match.
    fn replace(&self, text: &str, replacement: &str) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let starts = if self.at_start { 0..=0 } else { 0..=letters.len() };
        for start in starts {
            let mut groups = [(0, 0); GROUPS_MAX + 1];
            // Names are short, but nested repeats could still take long.
            let mut steps_left = 100_000;
            if let Some(end) = self.matches(0, &letters, start, &mut groups, &mut steps_left) {
                groups[0] = (start, end);
                let mut out: String = letters[..start].iter().collect();
                let mut rest = replacement.chars().peekable();
                while let Some(letter) = rest.next() {
                    let digit =
                        rest.peek().and_then(|next| next.to_digit(10)).filter(|_| letter == '$');
                    match digit {
                        Some(digit) => {
                            rest.next();
                            let (from, to) = groups[digit as usize];
                            out.extend(&letters[from..to]);
                        }
                        None => out.push(letter),
                    }
                }
                out.extend(&letters[end..]);
                return Some(out);
            }
        }
        None
    }

    fn matches(
        &self,
        part: usize,
        letters: &[char],
        at: usize,
        groups: &mut [(usize, usize); GROUPS_MAX + 1],
        steps_left: &mut u32,
    ) -> Option<usize> {
        *steps_left = steps_left.checked_sub(1)?;
        match self.parts.get(part) {
            None => (!self.at_end || at == letters.len()).then_some(at),
            Some(Part::Open(group)) => {
                groups[*group].0 = at;
                self.matches(part + 1, letters, at, groups, steps_left)
            }
            Some(Part::Close(group)) => {
                groups[*group].1 = at;
                self.matches(part + 1, letters, at, groups, steps_left)
            }
            Some(Part::Repeat(wanted, least, most)) => {
                let fits = |letter: &&char| wanted.is_none_or(|wanted| wanted == **letter);
                let n_most = letters[at..].iter().take(*most).take_while(fits).count();
                (*least..=n_most)
                    .rev()
                    .find_map(|n| self.matches(part + 1, letters, at + n, groups, steps_left))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_configs() {
        let text = r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000/v2/", "http://10.0.0.1"]
    rewrite:
      "^library/(.*)": "proxy/library/$1"
  "*":
    endpoint: ["https://all.example/prefix"]
configs:
  "mirror.example:5000":
    auth: {username: u, password: p}
    tls: {ca_file: /ca, insecure_skip_verify: true}
  docker.io:
    auth: {auth: dTpw}
"#;
        let registries = Registries::parse(text).unwrap();
        let places = |name: &str| -> Vec<String> {
            let reference = Reference::parse(name).unwrap();
            let places = registries.places(&reference).unwrap();
            places
                .iter()
                .map(|place| {
                    format!(
                        "{}:{}{} {}",
                        place.base.host, place.base.port, place.base.target, place.repository
                    )
                })
                .collect()
        };
        assert_eq!(
            places("nginx"),
            [
                "mirror.example:5000/v2 proxy/library/nginx",
                "10.0.0.1:80/v2 proxy/library/nginx",
                "registry-1.docker.io:443/v2 library/nginx"
            ]
        );
        assert_eq!(places("quay.io/a/b"), ["all.example:443/prefix/v2 a/b", "quay.io:443/v2 a/b"]);
        assert_eq!(places("localhost:5000/a")[1], "localhost:5000/v2 a");
        let config = |url: &str| registries.config(&Url::parse(url).unwrap());
        assert_eq!(config("https://mirror.example:5000/").ca_file, "/ca");
        assert_eq!(config("https://registry-1.docker.io/").password.reveal(), "p");
        assert_eq!(config("https://other/"), HostConfig::default());
        assert!(Registries::parse("mirrors: {a: {rewrite: {'[a-z]': b}}}").is_err());
        assert_eq!(registries.default_endpoint("127.0.0.1:5000"), "http://127.0.0.1:5000");
        let local = Registries::parse("configs: {'127.0.0.1:5000': {tls: {ca_file: /c}}}").unwrap();
        assert_eq!(local.default_endpoint("127.0.0.1:5000"), "https://127.0.0.1:5000");
    }

    #[test]
    fn rewrites() {
        let rows = [
            ("^rancher/(.*)", "mirror/rancher-$1", "rancher/pause", Some("mirror/rancher-pause")),
            ("(.+)/(.+)$", "$2/$1", "a/b/c", Some("c/a/b")),
            ("^x", "y", "ax", None),
            ("b?c", "-", "abcd", Some("a-d")),
            ("a\\.b", "z", "a.b", Some("z")),
        ];
        for (pattern, replacement, text, expected) in rows {
            assert_eq!(
                Pattern::parse(pattern).unwrap().replace(text, replacement).as_deref(),
                expected,
                "{pattern}"
            );
        }
    }
}
