//! What a list or watch selects: label and field selectors together.

use std::sync::Arc;

use api::kinds::EVENT;
use api::selector::Selector;
use api::selector::{FieldTerm, parse_fields};
use api::{Form, Object, Status};
use client::ListOptions;

/// A parsed pair of selectors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection(Arc<Terms>);

#[derive(Debug, Default)]
struct Terms {
    labels: Selector,
    fields: Vec<FieldTerm>,
}

impl Selection {
    /// # Errors
    /// 400 in upstream's words.
    pub(crate) fn parse(form: Form<'_>, options: &ListOptions) -> Result<Selection, Status> {
        let labels = Selector::parse(&options.label_selector).map_err(Status::bad_request)?;
        let mut fields = parse_fields(&options.field_selector).map_err(Status::bad_request)?;
        for term in &mut fields {
            if matches!(term.path.as_str(), "metadata.name" | "metadata.namespace") {
                continue;
            }
            match (form.selectable(&term.path), form.has_selectable()) {
                (Some(stored), _) => term.path = stored.to_owned(),
                (None, false) => {
                    return Err(Status::bad_request(format!(
                        "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                        term.path
                    )));
                }
                (None, true) => {
                    let why = match form.kind.name {
                        "Job" if form.group() == "batch" => {
                            format!("field label {:?} not supported for Job", term.path)
                        }
                        _ => format!("field label not supported: {}", term.path),
                    };
                    return Err(Status::bad_request(why));
                }
            }
        }
        Ok(Selection(Arc::new(Terms { labels, fields })))
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.0.labels.is_everything() && self.0.fields.is_empty()
    }

    /// Whether what it selects depends on more than name and namespace, which are the same in every version.
    pub(crate) fn reads_content(&self) -> bool {
        let is_name =
            |term: &FieldTerm| matches!(&*term.path, "metadata.name" | "metadata.namespace");
        !self.0.labels.is_everything() || !self.0.fields.iter().all(is_name)
    }

    /// Makes options select by no more than name and namespace.
    pub(crate) fn widen(&self, options: &mut ListOptions) {
        let is_plain = |term: &&FieldTerm| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            matches!(&*term.path, "metadata.name" | "metadata.namespace")
                && term.value.chars().all(plain)
        };
        let terms = self.0.fields.iter().filter(is_plain);
        let terms: Vec<String> = terms
            .map(|term| {
                format!("{}{}{}", term.path, if term.equal { "=" } else { "!=" }, term.value)
            })
            .collect();
        options.field_selector = terms.join(",");
        options.label_selector.clear();
    }

    /// The one name that is selected, if it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// A field other than name and namespace that must have one value, if there is one, and the value.
    pub(crate) fn field(&self) -> Option<(&str, &str)> {
        let is_indexed = |term: &&FieldTerm| {
            term.equal && !matches!(&*term.path, "metadata.name" | "metadata.namespace")
        };
        self.0.fields.iter().find(is_indexed).map(|term| (&*term.path, &*term.value))
    }

    fn exact(&self, path: &str) -> Option<&str> {
        let term = self.0.fields.iter().find(|term| term.equal && term.path == path)?;
        Some(&term.value)
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        if !self.0.labels.is_everything() && !self.0.labels.matches(object.labels()) {
            return false;
        }
        self.0.fields.iter().all(|term| {
            let equal = match term.path.as_str() {
                "metadata.name" => object.name() == term.value,
                "metadata.namespace" => object.namespace() == term.value,
                path => field(object, path) == term.value,
            };
            equal == term.equal
        })
    }
}

/// A field's text as upstream's selectable fields give it.
pub(crate) fn field(object: &Object, path: &str) -> String {
    if *object.kind() == EVENT && path == "source" {
        return match api::field::text(object, "source.component") {
            text if text.is_empty() => api::field::text(object, "reportingComponent"),
            text => text,
        };
    }
    match api::field::text(object, path) {
        text if !text.is_empty() => text,
        // Booleans and counts that are not written are these.
        _ if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        _ if path.ends_with(".successful") => "0".into(),
        text => text,
    }
}
