//! An audit policy: for each request the first rule that matches says how much of it is told, and when.

use api::{Lens, Value, names};
use rules::pod::security::configuration::aggregate;

use crate::auth::Attributes;
use crate::files::{self, Struct};
use crate::user::User;

const STRUCTS: &[Struct] = &[
    (
        "v1.Policy",
        &[
            ("apiVersion", "string"),
            ("kind", "string"),
            ("metadata", "any"),
            ("rules", "[]v1.PolicyRule"),
            ("omitStages", "[]string"),
            ("omitManagedFields", "bool"),
        ],
    ),
    (
        "v1.PolicyRule",
        &[
            ("level", "string"),
            ("users", "[]string"),
            ("userGroups", "[]string"),
            ("verbs", "[]string"),
            ("resources", "[]v1.GroupResources"),
            ("namespaces", "[]string"),
            ("nonResourceURLs", "[]string"),
            ("omitStages", "[]string"),
            ("omitManagedFields", "bool"),
        ],
    ),
    (
        "v1.GroupResources",
        &[("group", "string"), ("resources", "[]string"), ("resourceNames", "[]string")],
    ),
];

/// How much of a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// Levels by their names, in their order.
pub(super) const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

impl Level {
    const ALL: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];

    pub(super) fn as_str(self) -> &'static str {
        LEVELS[self as usize]
    }
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    RequestReceived,
    /// Of what lasts: its answer began.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        STAGES[self as usize]
    }
}

/// A bit for each stage that is not told.
type Stages = u8;

/// What the policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    omitted: Stages,
    pub(super) omits_managed_fields: bool,
}

impl Verdict {
    pub(super) fn omits(self, stage: Stage) -> bool {
        self.omitted & 1 << stage as u8 != 0
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    /// Of requests that no rule matches.
    otherwise: Verdict,
}

#[derive(Debug)]
struct Rule {
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
    verdict: Verdict,
}

#[derive(Debug)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Policy {
    /// Reads a policy. As upstream does, a field that does not exist is told as a warning and left out.
    ///
    /// # Errors
    /// In upstream's words.
    pub(super) fn parse(text: &str) -> Result<Policy, String> {
        let read = files::lenient(text, &[("audit.k8s.io", "v1")], STRUCTS);
        let (tree, unknown) = read.map_err(|why| format!("failed decoding: {why}"))?;
        if let Err(why) = unknown {
            log::warn!("Audit policy contains errors, falling back to lenient decoding: {why}");
        }
        let mut wrong = Vec::new();
        let omitted = stages(&tree, "omitStages", &mut wrong);
        let omits_managed_fields = tree.at("omitManagedFields").as_bool() == Some(true);
        let otherwise = Verdict { level: Level::None, omitted, omits_managed_fields };
        let rules = tree.list("rules").iter().enumerate();
        let rules: Vec<Rule> = rules
            .map(|(idx, tree)| rule(tree, otherwise, &format!("rules[{idx}]"), &mut wrong))
            .collect();
        match (wrong.is_empty(), rules.is_empty()) {
            (false, _) => Err(aggregate(&wrong)),
            (true, true) => Err("loaded illegal policy with 0 rules".into()),
            (true, false) => Ok(Policy { rules, otherwise }),
        }
    }

    /// What it says of a request; `user` is nobody where it is not known who asks.
    pub(super) fn judge(&self, user: Option<&User>, asked: &Attributes) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(user, asked));
        rule.map_or(self.otherwise, |rule| rule.verdict)
    }
}

fn rule(tree: &Value, default: Verdict, path: &str, wrong: &mut Vec<String>) -> Rule {
    let level = match tree.str("level") {
        "" => {
            wrong.push(format!("{path}.level: Required value"));
            None
        }
        own => {
            let level = Level::ALL.into_iter().find(|level| level.as_str() == own);
            if level.is_none() {
                let known: Vec<String> = LEVELS.iter().map(|name| format!("{name:?}")).collect();
                wrong.push(format!(
                    "{path}.level: Unsupported value: {own:?}: supported values: {}",
                    known.join(", ")
                ));
            }
            level
        }
    };
    let paths = files::texts(tree, "nonResourceURLs");
    check_paths(&paths, &format!("{path}.nonResourceURLs"), wrong);
    let resources: Vec<Resources> = tree
        .list("resources")
        .iter()
        .map(|tree| resources(tree, &format!("{path}.resources"), wrong))
        .collect();
    let omitted = default.omitted | stages(tree, &format!("{path}.omitStages"), wrong);
    let namespaces = files::texts(tree, "namespaces");
    if !(paths.is_empty() || resources.is_empty() && namespaces.is_empty()) {
        wrong.push(format!("{path}.nonResourceURLs: Invalid value: {}: rules cannot apply to both regular resources and non-resource URLs", listed(&paths)));
    }
    Rule {
        users: files::texts(tree, "users"),
        groups: files::texts(tree, "userGroups"),
        verbs: files::texts(tree, "verbs"),
        resources,
        namespaces,
        paths,
        verdict: Verdict {
            level: level.unwrap_or(default.level),
            omitted,
            omits_managed_fields: tree
                .at("omitManagedFields")
                .as_bool()
                .unwrap_or(default.omits_managed_fields),
        },
    }
}

fn resources(tree: &Value, path: &str, wrong: &mut Vec<String>) -> Resources {
    let group = tree.str("group");
    if !group.is_empty()
        && let Err(why) = names::subdomain(group)
    {
        let why = why.replace('\n', ",");
        wrong.push(format!("{path}.group: Invalid value: {group:?}: {why}"));
    }
    let (resources, names) = (files::texts(tree, "resources"), files::texts(tree, "resourceNames"));
    if !names.is_empty() && resources.is_empty() {
        wrong.push(format!("{path}.resourceNames: Invalid value: {}: using resourceNames requires at least one resource", listed(&names)));
    }
    Resources { group: group.to_owned(), resources, names }
}

fn check_paths(paths: &[String], path: &str, wrong: &mut Vec<String>) {
    for (idx, url) in paths.iter().enumerate().filter(|(_, url)| *url != "*") {
        let mut invalid =
            |why: &str| wrong.push(format!("{path}[{idx}]: Invalid value: {url:?}: {why}"));
        if !url.starts_with('/') {
            invalid("non-resource URL rules must begin with a '/' character");
        }
        if url.find('*').is_some_and(|at| at + 1 < url.len()) {
            invalid("non-resource URL wildcards '*' must be the final character of the rule");
        }
    }
}

fn stages(tree: &Value, path: &str, wrong: &mut Vec<String>) -> Stages {
    let mut omitted = 0;
    for (idx, name) in files::texts(tree, "omitStages").iter().enumerate() {
        match STAGES.iter().position(|stage| stage == name) {
            Some(stage) => omitted |= 1 << stage,
            None => wrong.push(format!(
                "{path}[{idx}]: Invalid value: {name:?}: allowed stages are {}",
                STAGES.join(",")
            )),
        }
    }
    omitted
}

/// A list as Go writes it.
fn listed(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

/// An empty list is everything.
fn allows(list: &[String], text: &str) -> bool {
    list.is_empty() || list.iter().any(|own| own == text)
}

impl Rule {
    fn matches(&self, user: Option<&User>, asked: &Attributes) -> bool {
        let of_user =
            self.users.is_empty() || user.is_some_and(|user| self.users.contains(&user.name));
        let of_group = self.groups.is_empty()
            || user.is_some_and(|user| self.groups.iter().any(|group| user.in_group(group)));
        if !of_user || !of_group || !allows(&self.verbs, &asked.verb) {
            return false;
        }
        if !(self.namespaces.is_empty() && self.resources.is_empty()) {
            return asked.is_resource()
                && allows(&self.namespaces, &asked.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.has(asked)));
        }
        self.paths.is_empty()
            || !asked.is_resource() && self.paths.iter().any(|path| covers(path, &asked.path))
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*'))
}

impl Resources {
    fn has(&self, asked: &Attributes) -> bool {
        if self.group != asked.group || self.resources.is_empty() {
            return self.group == asked.group;
        }
        if !allows(&self.names, &asked.name) {
            return false;
        }
        let whole = asked.resource_text();
        self.resources.iter().any(|own| {
            own == "*"
                || *own == whole
                || own
                    .strip_prefix("*/")
                    .is_some_and(|sub| !asked.subresource.is_empty() && sub == asked.subresource)
                || own.strip_suffix("/*") == Some(&asked.resource)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

    fn parse(rest: &str) -> Result<Policy, String> {
        Policy::parse(&format!("{HEAD}{rest}"))
    }

    /// The words are upstream's (k8s.io/apiserver v0.32).
    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (text, wanted) in [
            ("", "loaded illegal policy with 0 rules"),
            ("rules: [{}]", "rules[0].level: Required value"),
            (
                "rules: [{level: All}]",
                r#"rules[0].level: Unsupported value: "All": supported values: "None", "Metadata", "Request", "RequestResponse""#,
            ),
            (
                "omitStages: [Before]\nrules: [{level: None, omitStages: [RequestReceived, After]}]",
                r#"[omitStages[0]: Invalid value: "Before": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic, rules[0].omitStages[1]: Invalid value: "After": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic]"#,
            ),
            (
                "rules: [{level: None, nonResourceURLs: ['*', '/a*', a, '/a*b'], namespaces: [x]}]",
                r#"[rules[0].nonResourceURLs[2]: Invalid value: "a": non-resource URL rules must begin with a '/' character, rules[0].nonResourceURLs[3]: Invalid value: "/a*b": non-resource URL wildcards '*' must be the final character of the rule, rules[0].nonResourceURLs: Invalid value: []string{"*", "/a*", "a", "/a*b"}: rules cannot apply to both regular resources and non-resource URLs]"#,
            ),
            (
                "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
                r#"rules[0].resources.resourceNames: Invalid value: []string{"a"}: using resourceNames requires at least one resource"#,
            ),
            (
                "rules: [{level: 1}]",
                "failed decoding: json: cannot unmarshal number into Go struct field PolicyRule.rules.level of type string",
            ),
        ] {
            assert_eq!(parse(text).map(drop).unwrap_err(), wanted, "{text}");
        }
        let group =
            parse("rules: [{level: None, resources: [{group: rbac.authorization.k8s.io/v1}]}]");
        let group = group.map(drop).unwrap_err();
        assert!(group.starts_with("rules[0].resources.group: Invalid value: \"rbac.authorization.k8s.io/v1\": a lowercase RFC 1123"), "{group}");
        for (text, wanted) in [
            ("kind: Policy\nrules: []", "failed decoding: Object 'apiVersion' is missing"),
            (
                "apiVersion: audit.k8s.io/v1beta1\nkind: Policy",
                "failed decoding: no kind \"Policy\" is registered for version \"audit.k8s.io/v1beta1\"",
            ),
            ("{", "failed decoding: "),
        ] {
            let why = Policy::parse(text).map(drop).unwrap_err();
            assert!(why.starts_with(wanted), "{why}");
        }
        // As upstream, which reads it a second time without looking at names.
        assert!(parse("rules: [{level: None, colour: red}]").is_ok());
    }

    fn asked(text: &str) -> Attributes {
        if let Some((verb, path)) = text.split_once(" /") {
            return Attributes::path(verb, &format!("/{path}"));
        }
        // verb namespace group resource subresource name
        let mut words = text.split(' ').map(|word| word.trim_matches('-').to_owned());
        let mut word = || words.next().unwrap_or_default();
        Attributes {
            verb: word(),
            namespace: word(),
            group: word(),
            resource: word(),
            subresource: word(),
            name: word(),
            ..Attributes::default()
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        for (rule, asked_of, matches) in [
            ("{}", "get a - pods - x", true),
            ("{}", "get /version", true),
            ("{users: [alice]}", "get a - pods - x", true),
            ("{users: [bob]}", "get a - pods - x", false),
            ("{userGroups: [nobodies, 'system:authenticated']}", "get /version", true),
            ("{userGroups: [nobodies]}", "get /version", false),
            ("{verbs: [watch, get]}", "get /version", true),
            ("{verbs: [watch]}", "get a - pods - x", false),
            ("{namespaces: [a]}", "get a - pods - x", true),
            ("{namespaces: [b]}", "get a - pods - x", false),
            ("{namespaces: ['']}", "get - - nodes - x", true),
            ("{namespaces: ['']}", "get /version", false),
            ("{resources: [{group: ''}]}", "get a - pods log x", true),
            ("{resources: [{group: apps}]}", "get a - pods - x", false),
            (
                "{resources: [{group: apps, resources: [deployments]}]}",
                "get a apps deployments - x",
                true,
            ),
            ("{resources: [{resources: [pods]}]}", "get a - pods - x", true),
            ("{resources: [{resources: [pods]}]}", "get a - pods log x", false),
            ("{resources: [{resources: [pods/log]}]}", "get a - pods log x", true),
            ("{resources: [{resources: [pods/log]}]}", "get a - pods - x", false),
            ("{resources: [{resources: ['*']}]}", "get a - pods log x", true),
            ("{resources: [{resources: ['*']}]}", "get a apps deployments - x", false),
            // As upstream: it matches the resource itself, too.
            ("{resources: [{resources: ['pods/*']}]}", "get a - pods - x", true),
            ("{resources: [{resources: ['pods/*']}]}", "create a - pods exec x", true),
            ("{resources: [{resources: ['pods/*']}]}", "get a - services proxy x", false),
            (
                "{resources: [{group: apps, resources: ['*/scale']}]}",
                "get a apps deployments scale x",
                true,
            ),
            (
                "{resources: [{group: apps, resources: ['*/scale']}]}",
                "get a apps deployments - x",
                false,
            ),
            (
                "{resources: [{group: apps, resources: ['*/scale']}]}",
                "get a apps deployments status x",
                false,
            ),
            (
                "{resources: [{resources: [configmaps], resourceNames: [c]}]}",
                "get a - configmaps - c",
                true,
            ),
            (
                "{resources: [{resources: [configmaps], resourceNames: [c]}]}",
                "get a - configmaps - d",
                false,
            ),
            (
                "{resources: [{resources: [configmaps], resourceNames: [c]}]}",
                "list a - configmaps",
                false,
            ),
            ("{nonResourceURLs: [/version]}", "get /version", true),
            ("{nonResourceURLs: [/version]}", "get /version/x", false),
            ("{nonResourceURLs: ['/healthz*']}", "get /healthz/etcd", true),
            ("{nonResourceURLs: ['*']}", "get /anything", true),
            ("{nonResourceURLs: ['*']}", "get a - pods - x", false),
        ] {
            let text = format!("rules: [{}]", rule.replacen('{', "{level: Request, ", 1));
            let policy = parse(&text).unwrap();
            let verdict = policy.judge(Some(&User::new("alice", &[])), &asked(asked_of));
            assert_eq!(verdict.level == Level::Request, matches, "{rule} of {asked_of}");
        }
        let policy = parse("omitStages: [RequestReceived]\nomitManagedFields: true\nrules: [{level: None, users: [alice]}, {level: Metadata, verbs: [get], omitStages: [Panic], omitManagedFields: false}]").unwrap();
        let get = asked("get a - pods - x");
        let alice = policy.judge(Some(&User::new("alice", &[])), &get);
        assert_eq!(alice.level, Level::None);
        let nobody = policy.judge(None, &get);
        assert_eq!((nobody.level, nobody.omits_managed_fields), (Level::Metadata, false));
        assert!(nobody.omits(Stage::RequestReceived) && nobody.omits(Stage::Panic));
        assert!(!nobody.omits(Stage::ResponseComplete) && !nobody.omits(Stage::ResponseStarted));
        let other = policy.judge(None, &asked("list a - pods"));
        assert_eq!((other.level, other.omits_managed_fields), (Level::None, true));
    }
}
