//! Label selectors: `metav1.LabelSelector` trees, plain maps, and the query-string syntax.

mod syntax;

use serde_json::Value;
use stdx::Arrange;

use crate::lens::Lens;

pub use syntax::{FieldTerm, parse_fields};

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    NotExists(String),
    Greater(String, i64),
    Less(String, i64),
}

/// All requirements must hold. An empty selector matches everything; `nothing()` matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
    pub nothing: bool,
}

impl Selector {
    pub fn everything() -> Selector {
        Selector::default()
    }

    pub fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// A map of labels that must all be equal (`spec.selector` of a Service).
    pub fn from_map(tree: &Value) -> Selector {
        let pairs = tree.pairs("").map(|(k, v)| Requirement::In(k.into(), vec![v.into()]));
        Selector { requirements: pairs.collect(), nothing: false }
    }

    /// A `metav1.LabelSelector`. Null (absent) selects nothing, `{}` everything, as upstream's
    /// `LabelSelectorAsSelector`. An unknown operator, which validation refuses, selects nothing.
    pub fn from_label_selector(tree: &Value) -> Selector {
        if tree.is_null() {
            return Selector::nothing();
        }
        let mut selector = Selector::from_map(tree.at("matchLabels"));
        for expression in tree.list("matchExpressions") {
            let key = expression.str("key").to_owned();
            let values = || {
                expression
                    .list("values")
                    .iter()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect()
            };
            selector.requirements.push(match expression.str("operator") {
                "In" => Requirement::In(key, values()),
                "NotIn" => Requirement::NotIn(key, values()),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::NotExists(key),
                _ => return Selector::nothing(),
            });
        }
        selector
    }

    /// The query-string syntax: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`. Empty selects everything.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Selector, String> {
        syntax::parse(text)
    }

    /// A label selector, or a map of labels, in the query-string form.
    pub fn text(selector: &Value) -> String {
        if selector.as_object().is_some_and(|map| map.values().all(Value::is_string)) {
            let terms = selector.pairs("").map(|(key, value)| format!("{key}={value}"));
            return terms.collect::<Vec<_>>().join(",");
        }
        let mut terms: Vec<(String, String)> = selector
            .pairs("matchLabels")
            .map(|(key, value)| (key.to_owned(), format!("{key}={value}")))
            .collect();
        for expression in selector.list("matchExpressions") {
            let key = expression.str("key");
            let mut values: Vec<&str> =
                expression.list("values").iter().filter_map(Value::as_str).collect();
            values.arrange();
            let text = match expression.str("operator") {
                "In" => format!("{key} in ({})", values.join(",")),
                "NotIn" => format!("{key} notin ({})", values.join(",")),
                "Exists" => key.to_owned(),
                _ => format!("!{key}"),
            };
            terms.push((key.to_owned(), text));
        }
        terms.arrange();
        terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
    }

    /// True when nothing is required.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn matches<'a>(
        &self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    ) -> bool {
        let find = |key: &str| labels.clone().into_iter().find(|(k, _)| *k == key).map(|(_, v)| v);
        !self.nothing
            && self.requirements.iter().all(|requirement| match requirement {
                Requirement::In(key, values) => {
                    find(key).is_some_and(|v| values.iter().any(|want| want == v))
                }
                Requirement::NotIn(key, values) => {
                    find(key).is_none_or(|v| values.iter().all(|not| not != v))
                }
                Requirement::Exists(key) => find(key).is_some(),
                Requirement::NotExists(key) => find(key).is_none(),
                Requirement::Greater(key, than) => {
                    find(key).and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *than)
                }
                Requirement::Less(key, than) => {
                    find(key).and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *than)
                }
            })
    }

    /// Matches a tree's `metadata.labels`, or any map of strings.
    pub fn matches_map(&self, labels: &Value) -> bool {
        let pairs: Vec<(&str, &str)> = labels.pairs("").collect();
        self.matches(pairs.iter().copied())
    }
}
