//! RBAC rules: matching one action, covering another rule, and how they are written in messages.

use api::{Lens, Value, json};

use super::Attributes;

/// A `PolicyRule`, with `*` as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Words,
    pub(crate) groups: Words,
    pub(crate) resources: Words,
    pub(crate) names: Words,
    pub(crate) urls: Words,
}

/// A list of words in one block of memory, each with an end mark: a cluster has some thousand of
/// them, all looked at in order and hardly any of more than ten letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words(Box<str>);

/// Not in any name, verb or path. A word that holds it matches nothing: it must not become two.
const END: char = '\n';

pub(crate) fn words<'a>(texts: impl IntoIterator<Item = &'a str>) -> Words {
    let mut joined = String::new();
    for text in texts {
        joined.extend(text.chars().map(|c| if c == END { char::REPLACEMENT_CHARACTER } else { c }));
        joined.push(END);
    }
    Words(joined.into())
}

impl Words {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(END)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, wanted: &str) -> bool {
        self.iter().any(|word| word == wanted)
    }

    fn has_or_all(&self, wanted: &str) -> bool {
        self.iter().any(|word| word == wanted || word == "*")
    }

    pub(crate) fn to_tree(&self) -> Value {
        self.iter().collect()
    }
}

impl Rule {
    pub(crate) fn of(tree: &Value) -> Rule {
        let list = |field| words(tree.list(field).iter().filter_map(Value::as_str));
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// Everything that there is.
    pub(crate) fn everything() -> [Rule; 2] {
        let (verbs, groups, resources) = (words(["*"]), words(["*"]), words(["*"]));
        let on_paths = Rule { verbs: words(["*"]), urls: words(["*"]), ..Rule::default() };
        [Rule { verbs, groups, resources, ..Rule::default() }, on_paths]
    }

    /// The rules of a role's tree.
    pub(crate) fn all_of(role: &Value) -> Box<[Rule]> {
        role.list("rules").iter().map(Rule::of).collect()
    }

    pub(crate) fn to_tree(&self) -> Value {
        let mut tree = json!({"verbs": self.verbs.to_tree()});
        for (field, words) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !words.is_empty() {
                tree[field] = words.to_tree();
            }
        }
        tree
    }

    pub(crate) fn allows(&self, attributes: &Attributes) -> bool {
        if !self.verbs.has_or_all(&attributes.verb) {
            return false;
        }
        if !attributes.is_resource() {
            return self.urls.iter().any(|url| url_covers(url, &attributes.path));
        }
        self.groups.has_or_all(&attributes.group)
            && self.resources.iter().any(|r| resource_matches(r, attributes))
            && (self.names.is_empty() || self.names.has(&attributes.name))
    }

    /// Whether everything that `other` allows is allowed by this rule alone; `other` is simple:
    /// one verb, one group, one resource and at most one name (see `split`).
    pub(crate) fn covers(&self, other: &Rule) -> bool {
        let all = |own: &Words, wanted: &Words| wanted.iter().all(|word| own.has_or_all(word));
        let resources = other.resources.iter().all(|wanted| {
            let sub = wanted.split_once('/').map(|(_, sub)| sub);
            self.resources.iter().any(|own| {
                own == wanted
                    || own == "*"
                    || sub.is_some_and(|sub| own.strip_prefix("*/") == Some(sub))
            })
        });
        let names = match other.names.is_empty() {
            true => self.names.is_empty(),
            false => self.names.is_empty() || other.names.iter().all(|name| self.names.has(name)),
        };
        all(&self.verbs, &other.verbs)
            && all(&self.groups, &other.groups)
            && resources
            && names
            && other.urls.iter().all(|wanted| self.urls.iter().any(|own| url_covers(own, wanted)))
    }

    /// How many simple rules [`Rule::split`] makes.
    pub(crate) fn n_simple(&self) -> usize {
        let n = |words: &Words| words.iter().count();
        let objects = n(&self.groups)
            .saturating_mul(n(&self.resources))
            .saturating_mul(n(&self.names).max(1));
        n(&self.verbs).saturating_mul(objects.saturating_add(n(&self.urls)))
    }

    /// The bytes of its words: what it costs to look at.
    pub(crate) fn n_bytes(&self) -> usize {
        let all = [&self.verbs, &self.groups, &self.resources, &self.names, &self.urls];
        all.into_iter().map(|words| words.0.len()).sum()
    }

    /// Calls `see` with each of the simple rules that the rule is, until it answers false. Two hundred words make a million.
    pub(crate) fn split(&self, see: &mut dyn FnMut(Rule) -> bool) -> bool {
        let names: Vec<Words> = match self.names.is_empty() {
            true => vec![Words::default()],
            false => self.names.iter().map(|name| words([name])).collect(),
        };
        for verb in self.verbs.iter() {
            let verbs = words([verb]);
            for url in self.urls.iter() {
                if !see(Rule { verbs: verbs.clone(), urls: words([url]), ..Rule::default() }) {
                    return false;
                }
            }
            for group in self.groups.iter() {
                for resource in self.resources.iter() {
                    for names in &names {
                        let simple = Rule {
                            verbs: verbs.clone(),
                            groups: words([group]),
                            resources: words([resource]),
                            names: names.clone(),
                            ..Rule::default()
                        };
                        if !see(simple) {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }

    /// As upstream's messages write it.
    pub(crate) fn text(&self) -> String {
        let mut parts = Vec::new();
        for (field, words) in [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ] {
            if !words.is_empty() {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                parts.push(format!("{field}:[{}]", quoted.join(" ")));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }
}

fn resource_matches(own: &str, attributes: &Attributes) -> bool {
    if own == "*" {
        return true;
    }
    match attributes.subresource.as_str() {
        "" => own == attributes.resource,
        sub => match own.split_once('/') {
            Some((resource, own_sub)) => {
                own_sub == sub && (resource == "*" || resource == attributes.resource)
            }
            None => false,
        },
    }
}

/// `*` at the end stands for any rest.
fn url_covers(own: &str, wanted: &str) -> bool {
    own == "*"
        || own == wanted
        || own.strip_suffix('*').is_some_and(|head| wanted.starts_with(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: sub.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let split = |text: &str| match text {
            "" => Words::default(),
            text => words(text.split(',').map(|word| if word == "core" { "" } else { word })),
        };
        Rule {
            verbs: split(verbs),
            groups: split(groups),
            resources: split(resources),
            names: split(names),
            urls: Words::default(),
        }
    }

    #[test]
    fn rules_match_as_upstream() {
        for (own, wanted, allowed) in [
            (rule("get", "core", "pods", ""), attributes("get", "", "pods", "a"), true),
            (rule("get", "core", "pods", ""), attributes("list", "", "pods", ""), false),
            (rule("get", "core", "pods", ""), attributes("get", "", "pods/log", "a"), false),
            (rule("get", "core", "pods/log", ""), attributes("get", "", "pods/log", "a"), true),
            (rule("get", "core", "*/log", ""), attributes("get", "", "pods/log", "a"), true),
            (rule("get", "core", "*/log", ""), attributes("get", "", "pods", "a"), false),
            (rule("*", "*", "*", ""), attributes("x", "y", "z/w", ""), true),
            (rule("get", "core", "pods", "a"), attributes("get", "", "pods", "a"), true),
            (rule("get", "core", "pods", "a"), attributes("get", "", "pods", "b"), false),
            (rule("get", "core", "pods", "a"), attributes("list", "", "pods", ""), false),
            (rule("get", "apps", "pods", ""), attributes("get", "", "pods", "a"), false),
        ] {
            assert_eq!(own.allows(&wanted), allowed, "{} {wanted:?}", own.text());
        }
        let urls =
            Rule { verbs: words(["get"]), urls: words(["/api/*", "/version"]), ..Rule::default() };
        assert!(urls.allows(&Attributes::path("get", "/api/v1")));
        assert!(!urls.allows(&Attributes::path("get", "/apis")));
    }

    #[test]
    fn a_word_is_never_two() {
        let sly = Rule { verbs: words(["get\n*"]), urls: words(["/x"]), ..Rule::default() };
        assert!(!sly.allows(&Attributes::path("get", "/x")));
        assert_eq!(words(["", "a"]).iter().collect::<Vec<_>>(), ["", "a"]);
        assert!(!words([""]).is_empty() && words([]).is_empty());
    }

    #[test]
    fn covering_is_by_simple_rules() {
        let own = rule("get,list", "core,apps", "pods,*/scale", "");
        let mut split = Vec::new();
        let whole = rule("get,list", "core", "pods", "");
        whole.split(&mut |one| {
            split.push(one);
            true
        });
        assert_eq!(split.len(), whole.n_simple());
        assert_eq!(split.len(), 2);
        assert!(split.iter().all(|one| own.covers(one)));
        assert!(own.covers(&rule("get", "apps", "deployments/scale", "")));
        assert!(!own.covers(&rule("get", "apps", "deployments", "")));
        assert!(own.covers(&rule("get", "core", "pods", "x")));
        assert!(!rule("get", "core", "pods", "x").covers(&rule("get", "core", "pods", "")));
        assert_eq!(
            rule("get", "core", "pods", "").text(),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#
        );
    }
}
