//! Which issuers' tokens are believed, and who may ask without saying who it is: kube-apiserver's `--oidc-*`,
//! `--anonymous-auth` and its `AuthenticationConfiguration`.
//!
//! Source: k8s.io/kubernetes/pkg/kubeapiserver/options, k8s.io/apiserver/pkg/apis/apiserver/validation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use api::policy::{About, Wanted};
use api::{Lens, Value, json};
use http::client::Url;
use http::tls::{self, Trust};
use stdx::{Arrange, Error, Result};

use super::claims::{Mapping, Rule, Source};
use super::expressions::Expression;
use super::issuer::{self, Issuer};
use super::keys;
use crate::files::{self, Struct, Wrong};
use crate::user::User;

const ISSUERS_MAX: usize = 64;
/// Rules, mappings, audiences and paths, of each.
const ITEMS_MAX: usize = 64;
/// Upstream's, and not ours: no key of its curve can be used here.
const UNABLE: &str = "ES512";
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [(&str, &str); 2] = [(GROUP, "v1beta1"), (GROUP, "v1alpha1")];
const STRUCTS: [Struct; 11] = [
    (
        "v1.AuthenticationConfiguration",
        &[
            ("apiVersion", "string"),
            ("kind", "string"),
            ("jwt", "[]v1.JWTAuthenticator"),
            ("anonymous", "v1.AnonymousAuthConfig"),
        ],
    ),
    (
        "v1.AnonymousAuthConfig",
        &[("enabled", "bool"), ("conditions", "[]v1.AnonymousAuthCondition")],
    ),
    ("v1.AnonymousAuthCondition", &[("path", "string")]),
    (
        "v1.JWTAuthenticator",
        &[
            ("issuer", "v1.Issuer"),
            ("claimValidationRules", "[]v1.ClaimValidationRule"),
            ("claimMappings", "v1.ClaimMappings"),
            ("userValidationRules", "[]v1.UserValidationRule"),
        ],
    ),
    (
        "v1.Issuer",
        &[
            ("url", "string"),
            ("discoveryURL", "string"),
            ("certificateAuthority", "string"),
            ("audiences", "[]string"),
            ("audienceMatchPolicy", "string"),
        ],
    ),
    (
        "v1.ClaimValidationRule",
        &[
            ("claim", "string"),
            ("requiredValue", "string"),
            ("expression", "string"),
            ("message", "string"),
        ],
    ),
    (
        "v1.ClaimMappings",
        &[
            ("username", "v1.PrefixedClaimOrExpression"),
            ("groups", "v1.PrefixedClaimOrExpression"),
            ("uid", "v1.ClaimOrExpression"),
            ("extra", "[]v1.ExtraMapping"),
        ],
    ),
    (
        "v1.PrefixedClaimOrExpression",
        &[("claim", "string"), ("prefix", "string"), ("expression", "string")],
    ),
    ("v1.ClaimOrExpression", &[("claim", "string"), ("expression", "string")]),
    ("v1.ExtraMapping", &[("key", "string"), ("valueExpression", "string")]),
    ("v1.UserValidationRule", &[("expression", "string"), ("message", "string")]),
];

/// kube-apiserver's flags of these names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthenticationOptions {
    /// `oidc-*`, each by what follows that.
    pub oidc: Vec<(String, String)>,
    /// `anonymous-auth`; k3s's false if it is not said.
    pub anonymous: Option<bool>,
    /// An `AuthenticationConfiguration`.
    pub config_file: Option<PathBuf>,
}

/// Whoever knows tokens of other issuers, and who need not show one.
#[derive(Debug)]
pub struct Authenticators {
    issuers: RwLock<Arc<[Arc<Issuer>]>>,
    anonymous: Anonymous,
    /// What they are read from again, and what it said at the start.
    file: Option<(PathBuf, String)>,
    /// Who issues tokens here: nobody else may.
    own: Vec<String>,
}

/// Who says nothing of itself may ask, for these paths if there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Anonymous {
    enabled: bool,
    paths: Vec<String>,
}

impl Authenticators {
    /// Reads what flags and their file say; nothing without any. `own` are the issuers of service accounts' tokens. Blocking.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn open(
        options: &AuthenticationOptions,
        own: &[String],
    ) -> Result<Option<Arc<Authenticators>>> {
        let mut file = None;
        let mut tree = match &options.config_file {
            Some(path) => {
                let told = |why| Error::new(format!("{}: {why}", path.display()));
                let text = files::text(path).map_err(told)?;
                let tree = read(&text).map_err(Error::new)?;
                file = Some((path.clone(), text));
                tree
            }
            None => options.tree().map_err(Error::new)?,
        };
        if let Some(enabled) = options.anonymous {
            if tree.has("anonymous") {
                return Err(Error::new(
                    "anonymous: Forbidden: --anonynous-auth flag cannot be set when anonymous field is configured in authentication configuration file",
                ));
            }
            tree["anonymous"] = json!({"enabled": enabled});
        }
        let algorithms = options.algorithms();
        let (issuers, anonymous) = authenticators(&tree, own, algorithms).map_err(Error::new)?;
        if issuers.is_empty() && file.is_none() && anonymous == Anonymous::default() {
            return Ok(None);
        }
        let issuers = RwLock::new(issuers.into());
        Ok(Some(Arc::new(Authenticators { issuers, anonymous, file, own: own.to_vec() })))
    }

    /// Whether there is a file that is to be followed.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again whenever it changes, as upstream does. What is wrong is logged and changes nothing.
    pub async fn follow(self: Arc<Authenticators>) {
        if let Some((path, text)) = &self.file {
            let known = Some(text.clone());
            files::follow(path, known, "authentication", &|| self.reload(path)).await;
        }
    }

    pub(crate) fn reload(&self, path: &Path) -> Result<()> {
        let text = files::text(path).map_err(Error::new)?;
        let tree = read(&text).map_err(Error::new)?;
        let of_file = |tree: &Value| tree.at("anonymous").clone();
        let before = self.file.as_ref().and_then(|(_, text)| read(text).ok());
        if before.is_some_and(|before| of_file(&before) != of_file(&tree)) {
            return Err(Error::new(
                "anonymous: Forbidden: changed from initial configuration file",
            ));
        }
        let (issuers, _) =
            authenticators(&tree, &self.own, keys::algorithms().collect()).map_err(Error::new)?;
        *self.issuers.write().unwrap_or_else(PoisonError::into_inner) = issuers.into();
        Ok(())
    }

    /// Whether somebody who says nothing of itself may ask for a path.
    pub(crate) fn lets_in(&self, path: &str) -> bool {
        let Anonymous { enabled, paths } = &self.anonymous;
        *enabled && (paths.is_empty() || paths.iter().any(|own| own == path))
    }

    /// As if nothing had been fetched lately.
    #[cfg(test)]
    pub(crate) fn forget_when(&self) {
        let issuers = self.issuers.read().unwrap();
        issuers.iter().for_each(|issuer| issuer.forget_when());
    }

    /// Who a token belongs to; `None` if none of the issuers made it.
    ///
    /// # Errors
    /// Why one of an issuer is not good.
    pub(crate) async fn user(&self, token: &str) -> std::result::Result<Option<User>, String> {
        let issuers = Arc::clone(&self.issuers.read().unwrap_or_else(PoisonError::into_inner));
        if issuers.is_empty() {
            return Ok(None);
        }
        let Some(url) = issuer::untrusted(token) else { return Ok(None) };
        match issuers.iter().find(|issuer| issuer.url == url) {
            None => Ok(None),
            Some(issuer) => issuer.authenticate(token).await.map(Some),
        }
    }
}

impl AuthenticationOptions {
    /// What is wrong with the flags as such; upstream's words.
    pub fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.config_file.is_some() {
            if !self.oidc.is_empty() {
                wrong.push(
                    "authentication-config file and oidc-* flags are mutually exclusive".into(),
                );
            }
            return wrong;
        }
        if !self.oidc.is_empty()
            && (self.flag("issuer-url").is_empty() || self.flag("client-id").is_empty())
        {
            wrong.push("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set".into());
        }
        for name in self.signing_algorithms() {
            if name == UNABLE {
                wrong.push(format!(
                    "oidc-signing-algs {UNABLE} is not supported by this version of k3rs"
                ));
            } else if !keys::algorithms().any(|known| known == name) {
                wrong.push(format!("oidc: unsupported signing alg: {name:?}"));
            }
        }
        wrong
    }

    /// The last value of a flag, or "".
    fn flag(&self, name: &str) -> &str {
        let last = self.oidc.iter().rfind(|(own, _)| own == name);
        last.map_or("", |(_, value)| value)
    }

    fn signing_algorithms(&self) -> impl Iterator<Item = &str> {
        self.flag("signing-algs").split(',').map(str::trim).filter(|name| !name.is_empty())
    }

    /// Those that tokens may be signed by.
    fn algorithms(&self) -> Vec<&'static str> {
        let wanted: Vec<&str> = match self.signing_algorithms().collect() {
            none if Vec::is_empty(&none) => vec!["RS256"],
            wanted => wanted,
        };
        let is_file = self.config_file.is_some();
        keys::algorithms().filter(|name| is_file || wanted.contains(name)).collect()
    }

    /// The file that would say the same.
    fn tree(&self) -> std::result::Result<Value, String> {
        if self.oidc.is_empty() {
            return Ok(json!({}));
        }
        let url = self.flag("issuer-url");
        let claim = match self.flag("username-claim") {
            "" => "sub",
            claim => claim,
        };
        let prefix = match self.flag("username-prefix") {
            // Names other than these addresses are told from others by who issued them.
            "" if claim != "email" => format!("{url}#"),
            "-" => String::new(),
            prefix => prefix.to_owned(),
        };
        let mut issuer = json!({"url": url, "audiences": [self.flag("client-id")]});
        let file = self.flag("ca-file");
        if !file.is_empty() {
            let text = files::text(Path::new(file)).map_err(|why| format!("{file}: {why}"))?;
            issuer["certificateAuthority"] = text.into();
        }
        let mut mappings = json!({"username": {"claim": claim, "prefix": prefix}});
        let groups = self.flag("groups-claim");
        if !groups.is_empty() {
            mappings["groups"] = json!({"claim": groups, "prefix": self.flag("groups-prefix")});
        }
        // Of several values of one claim the last counts.
        let mut required: Vec<(&str, &str)> = Vec::new();
        for (_, pair) in self.oidc.iter().filter(|(name, _)| name == "required-claim") {
            let (claim, value) = pair.split_once('=').unwrap_or((pair, ""));
            required.retain(|(own, _)| *own != claim);
            required.push((claim, value));
        }
        let rules: Vec<Value> = required
            .iter()
            .map(|(claim, value)| json!({"claim": claim, "requiredValue": value}))
            .collect();
        Ok(json!({
            "jwt": [{"issuer": issuer, "claimMappings": mappings, "claimValidationRules": rules}],
        }))
    }
}

fn read(text: &str) -> std::result::Result<Value, String> {
    if text.is_empty() {
        return Err("empty config data".into());
    }
    files::object(text, &VERSIONS, &STRUCTS)
}

/// The issuers of a configuration, and whom it lets in.
fn authenticators(
    tree: &Value,
    own: &[String],
    algorithms: Vec<&'static str>,
) -> std::result::Result<(Vec<Arc<Issuer>>, Anonymous), String> {
    let mut wrong = Wrong::default();
    let jwt = tree.list("jwt");
    if jwt.len() > ISSUERS_MAX {
        wrong.too_many("jwt", jwt.len(), ISSUERS_MAX);
        wrong.end()?;
        return Err(String::new());
    }
    let mut issuers = Vec::new();
    for (idx, one) in jwt.iter().enumerate() {
        let path = format!("jwt[{idx}]");
        let n_wrong = wrong.0.len();
        let trust = issuer_of(&mut wrong, &format!("{path}.issuer"), one.at("issuer"), own);
        let mapping = mapping(&mut wrong, &path, one);
        for field in ["url", "discoveryURL"] {
            let said = one.at("issuer").str(field);
            let same = |other: &&Value| other.at("issuer").str(field) == said;
            if jwt[..idx].iter().any(|other| same(&other)) && (field == "url" || !said.is_empty()) {
                wrong.duplicate(&format!("{path}.issuer.{field}"), said);
            }
        }
        let Some(trust) = trust.filter(|_| wrong.0.len() == n_wrong) else { continue };
        let url = one.str("issuer.url").to_owned();
        let discovery = match one.str("issuer.discoveryURL") {
            "" => format!("{}{WELL_KNOWN}", url.trim_end_matches('/')),
            own => own.to_owned(),
        };
        let tls = tls::client_config(trust, None).map_err(|why| why.to_string())?;
        let audiences = files::texts(one.at("issuer"), "audiences");
        let issuer = Issuer::new((url, discovery), audiences, algorithms.clone(), mapping, tls);
        issuers.push(Arc::new(issuer));
    }
    let said = tree.at("anonymous");
    let conditions = said.list("conditions").iter();
    let anonymous = Anonymous {
        enabled: said.flag("enabled"),
        paths: conditions.map(|one| one.str("path").to_owned()).take(ITEMS_MAX).collect(),
    };
    if said.list("conditions").len() > ITEMS_MAX {
        wrong.too_many("anonymous.conditions", said.list("conditions").len(), ITEMS_MAX);
    }
    if !anonymous.enabled && !anonymous.paths.is_empty() {
        let shown: Vec<String> = anonymous
            .paths
            .iter()
            .map(|path| format!("apiserver.AnonymousAuthCondition{{Path:{path:?}}}"))
            .collect();
        wrong.0.push(format!(
            "anonymous.conditions: Invalid value: []apiserver.AnonymousAuthCondition{{{}}}: enabled should be set to true when conditions are defined",
            shown.join(", ")
        ));
    }
    wrong.end().map(|()| (issuers, anonymous))
}

/// What is wrong with a URL; `others` are those that it may not be.
fn check_url(wrong: &mut Wrong, path: &str, text: &str, others: &[String]) {
    if others.iter().any(|own| own == text) {
        let mut others = others.to_vec();
        others.arrange();
        let detail =
            format!("URL must not overlap with disallowed issuers: [{}]", others.join(" "));
        wrong.invalid(path, text, &detail);
    }
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    if !scheme.eq_ignore_ascii_case("https") {
        return wrong.invalid(path, text, "URL scheme must be https");
    }
    match Url::parse(text) {
        Err(why) => wrong.invalid(path, text, &why.to_string()),
        Ok(url) => {
            if url.userinfo.is_some() {
                wrong.invalid(path, text, "URL must not contain a username or password");
            }
            if url.target.split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
                wrong.invalid(path, text, "URL must not contain a query");
            }
            if text.split_once('#').is_some_and(|(_, fragment)| !fragment.is_empty()) {
                wrong.invalid(path, text, "URL must not contain a fragment");
            }
        }
    }
}

/// Whom to believe that it is the issuer, unless its certificates cannot be read.
fn issuer_of(wrong: &mut Wrong, path: &str, tree: &Value, own: &[String]) -> Option<Trust> {
    let of = |field: &str| format!("{path}.{field}");
    let url = tree.str("url");
    match url {
        "" => wrong.required(&of("url"), "URL is required"),
        url => check_url(wrong, &of("url"), url, own),
    }
    let discovery = tree.str("discoveryURL");
    if !discovery.is_empty() {
        if !url.is_empty() && url.trim_end_matches('/') == discovery.trim_end_matches('/') {
            wrong.invalid(
                &of("discoveryURL"),
                discovery,
                "discoveryURL must be different from URL",
            );
        }
        check_url(wrong, &of("discoveryURL"), discovery, &[]);
    }
    let audiences = files::texts(tree, "audiences");
    let policy = tree.str("audienceMatchPolicy");
    if audiences.is_empty() {
        wrong.required(&of("audiences"), &format!("at least one {} is required", of("audiences")));
    } else {
        for (idx, audience) in audiences.iter().enumerate() {
            let path = format!("{path}.audiences[{idx}]");
            if audience.is_empty() {
                wrong.required(&path, "audience can't be empty");
            }
            if audiences[..idx].contains(audience) {
                wrong.duplicate(&path, audience);
            }
        }
        let detail = match (audiences.len(), policy) {
            (1, "") | (_, "MatchAny") => "",
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        if !detail.is_empty() {
            wrong.invalid(&of("audienceMatchPolicy"), policy, detail);
        }
    }
    let authority = tree.str("certificateAuthority");
    if authority.is_empty() {
        return Some(Trust::Roots(tls::public_roots()));
    }
    let trust = tls::listed(authority.as_bytes());
    trust
        .map_err(|_| {
            let detail = "data does not contain any valid RSA or ECDSA certificates";
            wrong.invalid(&of("certificateAuthority"), "<omitted>", detail);
        })
        .ok()
}

/// An expression about claims, or about the user.
fn compile(
    wrong: &mut Wrong,
    path: &str,
    text: &str,
    about: About,
    wanted: Wanted,
) -> Option<Expression> {
    let compiled = Expression::compile(about, text, wanted);
    compiled
        .map_err(|why| {
            // Upstream does not say here what it is instead.
            let why = match why.split_once(" but got ") {
                Some((beginning, _)) if beginning.starts_with("must evaluate") => beginning,
                _ => &why,
            };
            wrong.invalid(path, text, why);
        })
        .ok()
}

fn mapping(wrong: &mut Wrong, path: &str, tree: &Value) -> Mapping {
    let mut mapping = Mapping::default();
    claim_rules(wrong, &mut mapping, path, tree.list("claimValidationRules"));
    let (own, said) = (format!("{path}.claimMappings"), tree.at("claimMappings"));
    mapping.username = source(wrong, &format!("{own}.username"), said.at("username"), true);
    mapping.groups = source(wrong, &format!("{own}.groups"), said.at("groups"), true);
    mapping.uid = source(wrong, &format!("{own}.uid"), said.at("uid"), false);
    if said.str("username.claim").is_empty() && said.str("username.expression").is_empty() {
        wrong.required(&format!("{own}.username"), "claim or expression is required");
    }
    extra(wrong, &mut mapping, &own, said.list("extra"));
    if let Source::Expression(name) = &mapping.username
        && name.selects("email")
    {
        let rules = mapping.rules.iter().map(|rule| &rule.expression);
        let mut all = rules.chain(mapping.extra.iter().map(|(_, expression)| expression));
        if !name.selects("email_verified") && !all.any(|one| one.selects("email_verified")) {
            wrong.invalid(
                &format!("{own}.username.expression"),
                &name.text,
                "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            );
        }
    }
    let rules = tree.list("userValidationRules");
    let path = format!("{path}.userValidationRules");
    if rules.len() > ITEMS_MAX {
        wrong.too_many(&path, rules.len(), ITEMS_MAX);
    }
    for (idx, rule) in rules.iter().take(ITEMS_MAX).enumerate() {
        let (path, text) = (format!("{path}[{idx}].expression"), rule.str("expression"));
        if text.is_empty() {
            wrong.required(&path, "expression is required");
        } else if rules[..idx].iter().any(|other| other.str("expression") == text) {
            wrong.duplicate(&path, text);
        } else if let Some(expression) = compile(wrong, &path, text, About::User, Wanted::Bool) {
            mapping.user_rules.push(Rule { expression, message: rule.str("message").to_owned() });
        }
    }
    mapping
}

fn claim_rules(wrong: &mut Wrong, mapping: &mut Mapping, path: &str, rules: &[Value]) {
    if rules.len() > ITEMS_MAX {
        wrong.too_many(&format!("{path}.claimValidationRules"), rules.len(), ITEMS_MAX);
    }
    for (idx, rule) in rules.iter().take(ITEMS_MAX).enumerate() {
        let path = format!("{path}.claimValidationRules[{idx}]");
        let (claim, text) = (rule.str("claim"), rule.str("expression"));
        let (value, message) = (rule.str("requiredValue"), rule.str("message"));
        let is_known =
            |field: &str, own: &str| rules[..idx].iter().any(|other| other.str(field) == own);
        match (claim, text) {
            ("", "") => wrong.required(&path, "claim or expression is required"),
            (claim, "") => {
                if !message.is_empty() {
                    let detail = "message can't be set when claim is set";
                    wrong.invalid(&format!("{path}.message"), message, detail);
                }
                if is_known("claim", claim) {
                    wrong.duplicate(&format!("{path}.claim"), claim);
                }
                mapping.required.push((claim.to_owned(), value.to_owned()));
            }
            ("", text) => {
                if !value.is_empty() {
                    let detail = "requiredValue can't be set when expression is set";
                    wrong.invalid(&format!("{path}.requiredValue"), value, detail);
                }
                let path = format!("{path}.expression");
                if is_known("expression", text) {
                    wrong.duplicate(&path, text);
                } else if let Some(expression) =
                    compile(wrong, &path, text, About::Claims, Wanted::Bool)
                {
                    mapping.rules.push(Rule { expression, message: message.to_owned() });
                }
            }
            _ => wrong.invalid(&path, claim, "claim and expression can't both be set"),
        }
    }
}

/// Where a text of the user comes from. Names and groups have prefixes, which must be said where there is a claim.
fn source(wrong: &mut Wrong, path: &str, tree: &Value, has_prefix: bool) -> Source {
    let prefix = tree.at("prefix").as_str();
    match (tree.str("claim"), tree.str("expression")) {
        ("", "") => Source::None,
        ("", text) => {
            if let Some(prefix) = prefix {
                let detail = "prefix can't be set when expression is set";
                wrong.invalid(&format!("{path}.prefix"), prefix, detail);
            }
            let path = format!("{path}.expression");
            let compiled = compile(wrong, &path, text, About::Claims, Wanted::Anything);
            compiled.map_or(Source::None, Source::Expression)
        }
        (claim, "") => {
            if has_prefix && prefix.is_none() {
                wrong.required(
                    &format!("{path}.prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                );
            }
            let prefix = prefix.unwrap_or("").to_owned();
            Source::Claim { claim: claim.to_owned(), prefix }
        }
        _ => {
            wrong.invalid(path, "", "claim and expression can't both be set");
            Source::None
        }
    }
}

fn extra(wrong: &mut Wrong, mapping: &mut Mapping, path: &str, extra: &[Value]) {
    if extra.len() > ITEMS_MAX {
        wrong.too_many(&format!("{path}.extra"), extra.len(), ITEMS_MAX);
    }
    for (idx, one) in extra.iter().take(ITEMS_MAX).enumerate() {
        let path = format!("{path}.extra[{idx}]");
        let (key, text) = (one.str("key"), one.str("valueExpression"));
        let key_path = format!("{path}.key");
        check_key(wrong, &key_path, key);
        if extra[..idx].iter().any(|other| other.str("key") == key) {
            wrong.duplicate(&key_path, key);
            continue;
        }
        let path = format!("{path}.valueExpression");
        if text.is_empty() {
            wrong.required(&path, "valueExpression is required");
        } else if let Some(expression) =
            compile(wrong, &path, text, About::Claims, Wanted::Anything)
        {
            mapping.extra.push((key.to_owned(), expression));
        }
    }
}

/// `example.com/key`, of a domain that is not Kubernetes' own.
fn check_key(wrong: &mut Wrong, path: &str, key: &str) {
    match key.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) {
        _ if key.is_empty() => wrong.required(path, ""),
        None => {
            wrong.invalid(path, key, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
        Some((host, rest)) => {
            for why in api::names::subdomain(host).err().iter().flat_map(|why| why.lines()) {
                wrong.invalid(path, host, why);
            }
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !rest.bytes().all(legal) {
                wrong.invalid(
                    path,
                    rest,
                    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                );
            }
        }
    }
    if key != key.to_lowercase() {
        wrong.invalid(path, key, "key must be lowercase");
    }
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_of = |own: &str| {
        domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if is_of("kubernetes.io") || is_of("k8s.io") {
        let detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        wrong.invalid(path, key, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(jwt: &str) -> String {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\n{jwt}"
        );
        let own = ["https://own".to_owned()];
        let read = read(&text).and_then(|tree| authenticators(&tree, &own, Vec::new()));
        read.map(drop).err().unwrap_or_default()
    }

    /// An entry with one part changed, as YAML.
    fn with(issuer: &str, mappings: &str, more: &str) -> String {
        format!("jwt: [{{issuer: {issuer}, claimMappings: {mappings}, {more}}}]")
    }

    const ISSUER: &str = "{url: 'https://a', audiences: [x]}";
    const MAPPINGS: &str = "{username: {claim: sub, prefix: ''}}";

    #[test]
    fn what_is_wrong_with_a_file_is_told_in_upstreams_words() {
        let issuer = |text: &str| with(text, MAPPINGS, "");
        let mapped = |text: &str| with(ISSUER, text, "");
        let more = |text: &str| with(ISSUER, MAPPINGS, text);
        for (text, wanted) in [
            ("".into(), ""),
            (issuer(ISSUER), ""),
            (
                issuer("{}"),
                "[jwt[0].issuer.url: Required value: URL is required, jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required]",
            ),
            (
                issuer("{url: 'http://a', audiences: [x]}"),
                "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
            ),
            (
                issuer("{url: 'https://u@a/?q=1#f', audiences: [x]}"),
                "[jwt[0].issuer.url: Invalid value: \"https://u@a/?q=1#f\": URL must not contain a username or password, jwt[0].issuer.url: Invalid value: \"https://u@a/?q=1#f\": URL must not contain a query, jwt[0].issuer.url: Invalid value: \"https://u@a/?q=1#f\": URL must not contain a fragment]",
            ),
            (
                issuer("{url: 'https://own', audiences: [x]}"),
                "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
            ),
            (
                issuer("{url: 'https://a/', discoveryURL: 'https://a', audiences: [x]}"),
                "jwt[0].issuer.discoveryURL: Invalid value: \"https://a\": discoveryURL must be different from URL",
            ),
            (
                issuer("{url: 'https://a', audiences: [x, '', x]}"),
                "[jwt[0].issuer.audiences[1]: Required value: audience can't be empty, jwt[0].issuer.audiences[2]: Duplicate value: \"x\", jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences]",
            ),
            (
                issuer(
                    "{url: 'https://a', audiences: [x], audienceMatchPolicy: All, certificateAuthority: none}",
                ),
                "[jwt[0].issuer.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be empty or MatchAny for single audience, jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA certificates]",
            ),
            (
                mapped("{}"),
                "jwt[0].claimMappings.username: Required value: claim or expression is required",
            ),
            (
                mapped("{username: {claim: sub}, groups: {claim: g, expression: 'claims.g'}}"),
                "[jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing, jwt[0].claimMappings.groups: Invalid value: \"\": claim and expression can't both be set]",
            ),
            (
                mapped(
                    "{username: {expression: claims.sub, prefix: p}, uid: {claim: a, expression: b}}",
                ),
                "[jwt[0].claimMappings.username.prefix: Invalid value: \"p\": prefix can't be set when expression is set, jwt[0].claimMappings.uid: Invalid value: \"\": claim and expression can't both be set]",
            ),
            (
                mapped("{username: {expression: 'claims.?email.orValue(claims.sub)'}}"),
                "jwt[0].claimMappings.username.expression: Invalid value: \"claims.?email.orValue(claims.sub)\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            ),
            (
                with(
                    ISSUER,
                    "{username: {expression: 'claims.email'}}",
                    "claimValidationRules: [{expression: 'has(claims.email_verified)'}]",
                ),
                "",
            ),
            (
                mapped(
                    "{username: {claim: sub, prefix: ''}, extra: [{key: A, valueExpression: '1'}, {key: 'k8s.io/a', valueExpression: ''}, {key: 'x.k8s.io/a', valueExpression: 'true'}, {key: 'x.io/a', valueExpression: \"'a'\"}, {key: 'x.io/a'}]}",
                ),
                "[jwt[0].claimMappings.extra[0].key: Invalid value: \"A\": must be a domain-prefixed path (such as \"acme.io/foo\"), jwt[0].claimMappings.extra[0].key: Invalid value: \"A\": key must be lowercase, jwt[0].claimMappings.extra[1].key: Invalid value: \"k8s.io/a\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use, jwt[0].claimMappings.extra[1].valueExpression: Required value: valueExpression is required, jwt[0].claimMappings.extra[2].key: Invalid value: \"x.k8s.io/a\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use, jwt[0].claimMappings.extra[4].key: Duplicate value: \"x.io/a\"]",
            ),
            (
                more(
                    "claimValidationRules: [{}, {claim: a, message: m}, {claim: a}, {expression: 'claims.sub', requiredValue: v}, {claim: b, expression: c}]",
                ),
                "[jwt[0].claimValidationRules[0]: Required value: claim or expression is required, jwt[0].claimValidationRules[1].message: Invalid value: \"m\": message can't be set when claim is set, jwt[0].claimValidationRules[2].claim: Duplicate value: \"a\", jwt[0].claimValidationRules[3].requiredValue: Invalid value: \"v\": requiredValue can't be set when expression is set, jwt[0].claimValidationRules[3].expression: Invalid value: \"claims.sub\": must evaluate to bool, jwt[0].claimValidationRules[4]: Invalid value: \"b\": claim and expression can't both be set]",
            ),
            (
                more("userValidationRules: [{}, {expression: 'true'}, {expression: 'true'}]"),
                "[jwt[0].userValidationRules[0].expression: Required value: expression is required, jwt[0].userValidationRules[2].expression: Duplicate value: \"true\"]",
            ),
            (
                format!(
                    "jwt: [{{issuer: {ISSUER}, claimMappings: {MAPPINGS}}}, {{issuer: {ISSUER}, claimMappings: {MAPPINGS}}}]"
                ),
                "jwt[1].issuer.url: Duplicate value: \"https://a\"",
            ),
            (
                "anonymous: {enabled: false, conditions: [{path: /x}]}".into(),
                "anonymous.conditions: Invalid value: []apiserver.AnonymousAuthCondition{apiserver.AnonymousAuthCondition{Path:\"/x\"}}: enabled should be set to true when conditions are defined",
            ),
            ("jwt: [{nope: 1}]".into(), "strict decoding error: unknown field \"jwt[0].nope\""),
            (
                format!("jwt: [{}]", "{},".repeat(65)),
                "jwt: Too many: 65: must have at most 64 items",
            ),
        ] {
            assert_eq!(said(&text), wanted, "{text}");
        }
        let more = "userValidationRules: [{expression: 'user.name == 1'}]";
        let said = said(&with(ISSUER, MAPPINGS, more));
        assert!(said.contains("compilation failed: ") && said.contains("undefined field 'name'"));
    }

    fn options(flags: &[(&str, &str)]) -> AuthenticationOptions {
        let oidc = flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AuthenticationOptions { oidc: oidc.collect(), ..Default::default() }
    }

    #[test]
    fn flags_are_the_file_that_would_say_the_same() {
        let both = [("issuer-url", "https://a"), ("client-id", "c")];
        let flags = |more: &[(&str, &str)]| options(&[&both, more].concat());
        let whole = flags(&[
            ("username-claim", "email"),
            ("groups-claim", "g"),
            ("groups-prefix", "p:"),
            ("required-claim", "a=1"),
            ("required-claim", "b=x=y"),
            ("required-claim", "a=2"),
            ("signing-algs", "ES256, RS512"),
        ]);
        assert_eq!(
            whole.tree().unwrap(),
            json!({"jwt": [{
                "issuer": {"url": "https://a", "audiences": ["c"]},
                "claimMappings": {"username": {"claim": "email", "prefix": ""}, "groups": {"claim": "g", "prefix": "p:"}},
                "claimValidationRules": [{"claim": "b", "requiredValue": "x=y"}, {"claim": "a", "requiredValue": "2"}],
            }]})
        );
        assert_eq!(whole.algorithms(), ["ES256", "RS512"]);
        assert_eq!(flags(&[]).algorithms(), ["RS256"]);
        for (more, prefix) in [
            (vec![], "https://a#"),
            (vec![("username-prefix", "-")], ""),
            (vec![("username-prefix", "p")], "p"),
        ] {
            let tree = flags(&more).tree().unwrap();
            assert_eq!(tree.str("jwt.0.claimMappings.username.prefix"), prefix);
        }
        let file = AuthenticationOptions { config_file: Some("/f".into()), ..flags(&[]) };
        for (options, wanted) in [
            (whole, ""),
            (
                options(&both[..1]),
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
            ),
            (file, "authentication-config file and oidc-* flags are mutually exclusive"),
            (
                flags(&[("signing-algs", "HS256,ES512")]),
                "oidc: unsupported signing alg: \"HS256\", oidc-signing-algs ES512 is not supported by this version of k3rs",
            ),
        ] {
            assert_eq!(options.complaints().join(", "), wanted);
        }
    }

    #[test]
    fn nobody_is_let_in_unless_it_is_said() {
        let open = |anonymous| {
            Authenticators::open(&AuthenticationOptions { anonymous, ..Default::default() }, &[])
        };
        assert!(open(None).unwrap().is_none());
        assert!(open(Some(false)).unwrap().is_none());
        assert!(open(Some(true)).unwrap().unwrap().lets_in("/api"));
        let path = std::env::temp_dir().join(format!("k3rs-anonymous-{}.yaml", std::process::id()));
        let text = "apiVersion: apiserver.config.k8s.io/v1alpha1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /x}]}\n";
        rt::fs::write(&path, text.as_bytes(), 0o600).unwrap();
        let with = |anonymous| {
            let config_file = Some(path.clone());
            Authenticators::open(
                &AuthenticationOptions { anonymous, config_file, ..Default::default() },
                &[],
            )
        };
        let opened = with(None).unwrap().unwrap();
        assert!(opened.lets_in("/x") && !opened.lets_in("/x/") && !opened.lets_in("/"));
        assert_eq!(
            with(Some(false)).unwrap_err().to_string(),
            "anonymous: Forbidden: --anonynous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
        );
        rt::fs::remove_file(&path).unwrap();
    }
}
