//! What an `EncryptionConfiguration` says, checked as upstream checks it, in its words.

use api::{Lens, Value};
use rules::pod::security::configuration::aggregate;

use super::ciphers::Cipher;
use crate::files::{self, Struct};

const STRUCTS: &[Struct] = &[
    (
        "v1.EncryptionConfiguration",
        &[
            ("apiVersion", "string"),
            ("kind", "string"),
            ("resources", "[]v1.ResourceConfiguration"),
        ],
    ),
    (
        "v1.ResourceConfiguration",
        &[("resources", "[]string"), ("providers", "[]v1.ProviderConfiguration")],
    ),
    (
        "v1.ProviderConfiguration",
        &[
            ("aesgcm", "v1.AESConfiguration"),
            ("aescbc", "v1.AESConfiguration"),
            ("secretbox", "v1.AESConfiguration"),
            ("identity", "v1.IdentityConfiguration"),
            ("kms", "v1.KMSConfiguration"),
        ],
    ),
    ("v1.AESConfiguration", &[("keys", "[]v1.Key")]),
    ("v1.Key", &[("name", "string"), ("secret", "string")]),
    ("v1.IdentityConfiguration", &[]),
    (
        "v1.KMSConfiguration",
        &[
            ("apiVersion", "string"),
            ("name", "string"),
            ("cachesize", "int32"),
            ("endpoint", "string"),
            ("timeout", "string"),
        ],
    ),
];

/// Resources with the providers that write (the first) and read (each) them.
#[derive(Debug)]
pub(super) struct Rule {
    /// Group and resource, either of which may be `*`.
    pub(super) resources: Vec<(String, String)>,
    pub(super) providers: Vec<Provider>,
}

/// A provider; without keys it is `identity`.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) cipher: Cipher,
}

const PROVIDERS: [&str; 3] = ["aesgcm", "aescbc", "secretbox"];

/// Reads the configuration.
///
/// # Errors
/// In upstream's words.
pub(super) fn parse(text: &str, path: &str) -> Result<Vec<Rule>, String> {
    if text.is_empty() {
        return Err(format!(
            "error while loading file: encryption provider configuration file {path:?} is empty"
        ));
    }
    let tree = files::object(text, &[("apiserver.config.k8s.io", "v1")], STRUCTS);
    let tree = tree.map_err(|why| {
        format!("error decoding encryption provider configuration file {path:?}: {why}")
    })?;
    let mut wrong = Vec::new();
    let rules = tree.list("resources");
    if rules.is_empty() {
        wrong.push("resources: Required value: at least one resources is required".to_owned());
    }
    let mut read = Vec::new();
    for (idx, rule) in rules.iter().enumerate() {
        let path = format!("resources[{idx}].resources");
        let names = files::texts(rule, "resources");
        if names.is_empty() {
            wrong.push(format!("{path}: Required value: at least one {path} is required"));
        }
        check_names(&names, &path, &mut wrong);
        let path = format!("resources[{idx}].providers");
        if rule.list("providers").is_empty() {
            wrong.push(format!("{path}: Required value: at least one {path} is required"));
        }
        let providers = rule.list("providers").iter().enumerate();
        let providers = providers
            .filter_map(|(idx, tree)| provider(tree, &format!("{path}[{idx}]"), &mut wrong));
        let providers = providers.collect();
        read.push(Rule {
            resources: names.iter().map(|name| group_resource(name)).collect(),
            providers,
        });
    }
    match wrong.is_empty() {
        true => masked(&read).map_or(Ok(read), Err),
        false => Err(aggregate(&wrong)),
    }
}

/// `deployments.apps` is `deployments` of the group `apps`.
fn group_resource(name: &str) -> (String, String) {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    (group.to_owned(), resource.to_owned())
}

fn check_names(names: &[String], path: &str, wrong: &mut Vec<String>) {
    let pairs: Vec<(String, String)> = names.iter().map(|name| group_resource(name)).collect();
    let all = format!(
        "[]string{{{}}}",
        names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
    );
    let is_any = |pair: &(String, String)| pair.0 == "*" && pair.1 == "*";
    let (mut twice, mut overlap) = (false, false);
    for (i, one) in pairs.iter().enumerate() {
        for other in pairs.iter().enumerate().filter(|(j, _)| i != *j).map(|(_, other)| other) {
            match one == other && !twice {
                true => twice = true,
                false => {
                    let same_group = one.0 == other.0;
                    let star = one.1 == "*" || other.1 == "*";
                    overlap |= is_any(one) || same_group && star;
                }
            }
        }
    }
    if twice {
        wrong.push(format!(
            "{path}: Invalid value: {all}: the same resource cannot be specified multiple times"
        ));
    }
    if overlap {
        wrong.push(format!("{path}: Invalid value: {all}: using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"));
    }
    for (idx, (name, (group, resource))) in names.iter().zip(&pairs).enumerate() {
        let why = match (name.as_str(), group.as_str(), resource.as_str()) {
            _ if name.to_lowercase() != *name => "resource name should not contain capital letters",
            ("*", _, _) => {
                "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
            }
            ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _, _) => {
                "resources which do not have REST API/s cannot be encrypted"
            }
            (_, "events.k8s.io", _) => {
                "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
            }
            (_, "extensions", _) => {
                "'extensions' group has been removed and cannot be used for encryption"
            }
            (_, "*", resource) if resource != "*" => {
                "encrypting the same resource across groups is not supported"
            }
            _ => continue,
        };
        wrong.push(format!("{path}[{idx}]: Invalid value: {name:?}: {why}"));
    }
}

fn provider(tree: &Value, path: &str, wrong: &mut Vec<String>) -> Option<Provider> {
    let given = |name: &&&str| tree.get(**name).is_some_and(|value| !value.is_null());
    let own = ["kms", "aesgcm", "aescbc", "secretbox", "identity"];
    let found: Vec<&&str> = own.iter().filter(given).collect();
    let named = "apiserver.ProviderConfiguration{...}";
    match found.as_slice() {
        [] => wrong.push(format!("{path}: Invalid value: {named}: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity")),
        [_] => {}
        _ => wrong.push(format!("{path}: Invalid value: {named}: more than one provider specified in a single element, should split into different list elements")),
    }
    if tree.has("kms") {
        wrong.push(format!("{path}.kms: Forbidden: the KMS provider {:?} is not supported by this version of k3rs yet", tree.str("kms.name")));
        return None;
    }
    let Some(name) = PROVIDERS.into_iter().find(|name| tree.has(name)) else {
        return Some(Provider { name: "identity", keys: Vec::new() });
    };
    let path = format!("{path}.{name}.keys");
    let list = tree.at(name).list("keys");
    if list.is_empty() {
        wrong.push(format!("{path}: Required value: at least one keys is required"));
    }
    let keys = list.iter().enumerate();
    let keys = keys.filter_map(|(idx, key)| read_key(name, key, &format!("{path}[{idx}]"), wrong));
    Some(Provider { name, keys: keys.collect() })
}

fn read_key(provider: &str, tree: &Value, path: &str, wrong: &mut Vec<String>) -> Option<Key> {
    let (name, secret) = (tree.str("name"), tree.str("secret"));
    for (field, text) in [("name", name), ("secret", secret)] {
        if text.is_empty() {
            wrong.push(format!(
                "{path}.{field}: Required value: {field} is a mandatory field for a key"
            ));
        }
    }
    if secret.is_empty() {
        return None;
    }
    let mut invalid = |why: String| {
        wrong.push(format!("{path}.secret: Invalid value: \"REDACTED\": {why}"));
        None
    };
    let Some(bytes) = wire::base64::decode(secret) else {
        return invalid("secrets must be base64 encoded".into());
    };
    let Some(cipher) = Cipher::new(provider, &bytes) else {
        let sizes = if provider == "secretbox" { "[32]" } else { "[16 24 32]" };
        let n_bytes = bytes.len();
        return invalid(format!(
            "secret is not of the expected length, got {n_bytes}, expected one of {sizes}"
        ));
    };
    Some(Key { name: name.to_owned(), cipher })
}

/// The complaint about a resource that an earlier rule's wildcard hides.
fn masked(rules: &[Rule]) -> Option<String> {
    let mut earlier: Vec<&(String, String)> = Vec::new();
    let written = |(group, resource): &(String, String)| match (group.as_str(), resource.as_str()) {
        ("", "*") => "*.".to_owned(),
        ("", resource) => resource.to_owned(),
        (group, resource) => format!("{resource}.{group}"),
    };
    for pair in rules.iter().flat_map(|rule| &rule.resources) {
        let hides =
            |other: &&&(String, String)| other.1 == "*" && (other.0 == pair.0 || other.0 == "*");
        if let Some(rule) = earlier.iter().find(hides) {
            return Some(format!(
                "error while building transformers: resource {:?} is masked by earlier rule {:?}",
                written(pair),
                written(rule)
            ));
        }
        earlier.push(pair);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn read(rest: &str) -> String {
        match parse(&format!("{HEAD}{rest}"), "/e.yaml") {
            Ok(rules) => {
                let keys = |p: &Provider| p.keys.iter().map(|k| k.name.clone()).collect::<Vec<_>>();
                let shown = |p: &Provider| format!("{}{:?}", p.name, keys(p));
                let rule = |r: &Rule| {
                    format!(
                        "{:?} {}",
                        r.resources,
                        r.providers.iter().map(shown).collect::<Vec<_>>().join(" ")
                    )
                };
                rules.iter().map(rule).collect::<Vec<_>>().join("; ")
            }
            Err(why) => why,
        }
    }

    /// The words are upstream's (k8s.io/apiserver v0.32).
    #[test]
    fn configurations_are_read_strictly() {
        for (text, wanted) in [
            (
                format!("resources: [{{resources: [secrets, '*.apps'], providers: [{{aescbc: {{keys: [{{name: a, secret: {SECRET}}}, {{name: b, secret: {SECRET}}}]}}}}, {{identity: {{}}}}]}}]"),
                r#"[("", "secrets"), ("apps", "*")] aescbc["a", "b"] identity[]"#.to_owned(),
            ),
            (
                format!("resources: [{{resources: ['*.*'], providers: [{{secretbox: {{keys: [{{name: a, secret: {SECRET}}}]}}}}]}}]"),
                r#"[("*", "*")] secretbox["a"]"#.into(),
            ),
            (String::new(), "resources: Required value: at least one resources is required".into()),
            (
                "resources: [{}]".into(),
                "[resources[0].resources: Required value: at least one resources[0].resources is required, resources[0].providers: Required value: at least one resources[0].providers is required]".into(),
            ),
            (
                "resources: [{resources: [secrets, secrets, Pods, '*', a.extensions, b.events.k8s.io, 'c.*'], providers: [{identity: {}}]}]".into(),
                "[resources[0].resources: Invalid value: []string{\"secrets\", \"secrets\", \"Pods\", \"*\", \"a.extensions\", \"b.events.k8s.io\", \"c.*\"}: the same resource cannot be specified multiple times, resources[0].resources: Invalid value: []string{\"secrets\", \"secrets\", \"Pods\", \"*\", \"a.extensions\", \"b.events.k8s.io\", \"c.*\"}: using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked, resources[0].resources[2]: Invalid value: \"Pods\": resource name should not contain capital letters, resources[0].resources[3]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources, resources[0].resources[4]: Invalid value: \"a.extensions\": 'extensions' group has been removed and cannot be used for encryption, resources[0].resources[5]: Invalid value: \"b.events.k8s.io\": '*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file, resources[0].resources[6]: Invalid value: \"c.*\": encrypting the same resource across groups is not supported]".into(),
            ),
            (
                format!("resources: [{{resources: [secrets], providers: [{{aesgcm: {{keys: []}}}}, {{aesgcm: {{keys: [{{name: a}}, {{name: b, secret: '!'}}, {{secret: YWJj}}]}}}}, {{secretbox: {{keys: [{{name: c, secret: YWJj}}]}}}}, {{}}, {{identity: {{}}, aescbc: {{keys: [{{name: d, secret: {SECRET}}}]}}}}]}}]"),
                "[resources[0].providers[0].aesgcm.keys: Required value: at least one keys is required, resources[0].providers[1].aesgcm.keys[0].secret: Required value: secret is a mandatory field for a key, resources[0].providers[1].aesgcm.keys[1].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded, resources[0].providers[1].aesgcm.keys[2].name: Required value: name is a mandatory field for a key, resources[0].providers[1].aesgcm.keys[2].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [16 24 32], resources[0].providers[2].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [32], resources[0].providers[3]: Invalid value: apiserver.ProviderConfiguration{...}: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity, resources[0].providers[4]: Invalid value: apiserver.ProviderConfiguration{...}: more than one provider specified in a single element, should split into different list elements]".into(),
            ),
            (
                "resources: [{resources: [secrets], providers: [{kms: {apiVersion: v2, name: vault, endpoint: 'unix:///x'}}]}]".into(),
                "resources[0].providers[0].kms: Forbidden: the KMS provider \"vault\" is not supported by this version of k3rs yet".into(),
            ),
            (
                "resources: [{resources: ['*.'], providers: [{identity: {}}]}, {resources: [secrets], providers: [{identity: {}}]}]".into(),
                "error while building transformers: resource \"secrets\" is masked by earlier rule \"*.\"".into(),
            ),
            (
                "resources: [{resources: [secrets], providers: [{aescbc: {key: 1}, foo: 2}]}]\nbar: 1".into(),
                "error decoding encryption provider configuration file \"/e.yaml\": strict decoding error: unknown field \"bar\", unknown field \"resources[0].providers[0].aescbc.key\", unknown field \"resources[0].providers[0].foo\"".into(),
            ),
            (
                "resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: 5}]}}]}]".into(),
                "error decoding encryption provider configuration file \"/e.yaml\": json: cannot unmarshal number into Go struct field Key.resources.providers.aescbc.keys.name of type string".into(),
            ),
        ] {
            assert_eq!(read(&text), wanted, "{text}");
        }
        assert!(parse("", "/e.yaml").unwrap_err().contains("\"/e.yaml\" is empty"));
        assert!(parse("kind: X", "/e.yaml").unwrap_err().contains("'apiVersion' is missing"));
    }
}
