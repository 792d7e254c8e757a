//! Objects as `kubectl describe` tells them.
//!
//! [`needs`] says what else is to be fetched for an object, the caller fetches it, [`describe`] writes the text.
//! Layout and words are those of kubectl 1.32; most of them are templates (`kinds.rs`, `volumes.rs`), the rest is a
//! section of code each. Pure: the time and the local time zone come in. What goes through maps in whatever order in
//! kubectl is in the order of its keys here.
//!
//! Knows objects as trees; what fetches them, and from where, it does not know.

mod access;
mod claims;
mod endpoints;
mod events;
mod generic;
mod kinds;
mod needs;
mod network;
mod nodes;
mod page;
mod pods;
mod scaling;
mod sections;
mod tabs;
#[cfg(test)]
mod tests;
mod volumes;
mod words;

use api::{Lens, Value};
use stdx::time::Wall;

pub use events::event_age;
pub use needs::{Answer, Failure, Need, Part, Related, needs};
pub use tabs::align;
pub use words::Zone;

/// What is described, as the server's discovery has it.
#[derive(Debug, Clone, Copy)]
pub struct Sort<'a> {
    pub group: &'a str,
    pub kind: &'a str,
}

/// The version in which an object of this sort is to be fetched, if it has a description of its own.
pub fn version(sort: Sort<'_>) -> Option<&'static str> {
    kinds::find(sort).map(|kind| kind.version)
}

/// The description of an object, which is fetched in [`version`], with what [`needs`] asked for.
///
/// # Errors
/// Why it cannot be described: what it contains is broken.
pub fn describe(
    sort: Sort<'_>,
    object: &Value,
    related: &Related,
    now: Wall,
    zone: Zone<'_>,
) -> Result<String, String> {
    let mut page = page::Page {
        text: String::new(),
        nest: 0,
        is_persistent: false,
        section: sections::write,
        related,
        now,
        zone,
    };
    match kinds::find(sort) {
        Some(kind) if kind.kind == "CertificateSigningRequest" => {
            access::signing_request(&mut page, object)?;
        }
        Some(kind) => page.render(kind.template, object),
        None => generic::write(&mut page, object),
    }
    let text = page.text;
    // What a terminal would take for more than a text.
    let text = match text.contains(['\x1b', '\r']) {
        true => text.replace('\x1b', "^[").replace('\r', "\\r"),
        false => text,
    };
    Ok(align(&text, 0, 2))
}

/// A pod's template, as a revision of its owner is told: its cells end with tabs.
pub fn pod_template(template: &Value, now: Wall, zone: Zone<'_>) -> String {
    let related = Related::default();
    let mut page = page::Page {
        text: String::new(),
        nest: 0,
        is_persistent: false,
        section: sections::write,
        related: &related,
        now,
        zone,
    };
    pods::template(&mut page, template);
    page.text
}

/// The name of the controller of an object, after its kind.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    object.list("metadata.ownerReferences").iter().find(|owner| owner.flag("controller"))
}
