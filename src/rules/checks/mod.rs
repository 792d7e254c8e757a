//! What the rules of several kinds have in common: the schema's own, selectors, claims, webhooks, names of resources.

mod claims;
mod resources;
mod selectors;
mod walk;
pub(crate) mod webhooks;

pub(crate) use claims::{claim_spec, claim_template, mixes_once_per_pod};
pub(crate) use resources::{
    COMPUTE, OBJECTS, driver_name, is_standard, limited_name, resource_name, wrong_name,
};
pub(crate) use selectors::{label_selector, label_selector_as, node_selector, node_selector_term};
#[cfg(test)]
pub(crate) use walk::JUDGED_ELSEWHERE;
pub(crate) use walk::{Walk, part_at};
