//! Brings the slices of one service in line with the endpoints that it should have, touching few.

use api::kinds::{ENDPOINT_SLICE, SERVICE_NAME_LABEL};
use api::{Actions, Lens, LensMut, Object, Value, View, json};
use stdx::Arrange;

use crate::support::names::Names;
use crate::support::{controller_reference, same};
use crate::tuning::Tuning;

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The endpoints that share one address type and one list of ports.
#[derive(Debug)]
pub(super) struct Desired {
    pub(super) family: &'static str,
    pub(super) ports: Vec<Value>,
    pub(super) endpoints: Vec<Value>,
}

/// A slice in the store and what becomes of it.
struct Slice {
    object: Object,
    tree: Value,
    /// Serves one of the desired groups.
    wanted: bool,
    changed: bool,
}

/// Makes the slices of `owner` that `controller` manages hold exactly `desired`.
pub(super) fn sync(
    view: &View<'_>,
    owner: &Object,
    service: &str,
    controller: &str,
    mut labels: Value,
    desired: Vec<Desired>,
    actions: &mut Actions,
) {
    let map = labels.map_mut("");
    map.insert(SERVICE_NAME_LABEL.into(), service.into());
    map.insert(MANAGED_BY.into(), controller.into());
    let reference = controller_reference(owner);
    let mut slices: Vec<Slice> = view
        .owned(&ENDPOINT_SLICE, owner.namespace(), owner.uid())
        .into_iter()
        .filter(|slice| slice.label(MANAGED_BY) == Some(controller) && !slice.deleting())
        .map(|object| {
            let tree = object.tree();
            Slice { object, tree, wanted: false, changed: false }
        })
        .collect();
    let mut made = Vec::new();
    let endpoints_max = Tuning::of(view).endpoints_per_slice_max;
    for group in desired {
        let rest = place(&mut slices, &group, endpoints_max);
        // An empty group still has its one slice.
        let empty = group.endpoints.is_empty() && !slices.iter().any(|slice| fits(slice, &group));
        let empty_chunk: &[Value] = &[];
        for chunk in rest.chunks(endpoints_max).chain(empty.then_some(empty_chunk)) {
            made.push(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": owner.namespace(),
                    "labels": labels.clone(),
                    "ownerReferences": [reference.clone()],
                },
                "addressType": group.family,
                "ports": group.ports.clone(),
                "endpoints": chunk,
            }));
        }
    }
    let mut names = Names::new(view, owner);
    // A slice that is no longer wanted is turned into one that is, where there is one.
    let mut spare: Vec<usize> = Vec::new();
    for (idx, slice) in slices.iter_mut().enumerate() {
        let metadata = slice.tree.slot("metadata");
        if !slice.wanted {
            spare.push(idx);
        } else if !same(metadata.at("labels"), &labels) {
            metadata.set("labels", labels.clone());
            slice.changed = true;
        }
    }
    for mut tree in made {
        let same_family =
            |idx: &usize| slices[*idx].tree.str("addressType") == tree.str("addressType");
        if let Some(place) = spare.iter().position(same_family) {
            let slice = &mut slices[spare.remove(place)];
            for field in ["ports", "endpoints"] {
                slice.tree.set(field, tree.at(field).clone());
            }
            slice.tree.set("metadata.labels", labels.clone());
            (slice.wanted, slice.changed) = (true, true);
            continue;
        }
        let prefix = format!("{service}-");
        tree.set("metadata.name", names.next(&ENDPOINT_SLICE, &prefix));
        tree.set("metadata.generateName", prefix);
        actions.create(&ENDPOINT_SLICE, tree);
    }
    for slice in slices {
        if !slice.wanted {
            actions.delete(&slice.object);
        } else if slice.changed {
            actions.update(&ENDPOINT_SLICE, slice.tree);
        }
    }
}

fn fits(slice: &Slice, group: &Desired) -> bool {
    slice.tree.str("addressType") == group.family
        && slice.tree.list("ports") == group.ports.as_slice()
}

/// The same endpoint, whatever its state.
fn is_same_endpoint(a: &Value, b: &Value) -> bool {
    ["addresses", "targetRef", "hostname", "nodeName"].iter().all(|f| same(a.at(f), b.at(f)))
}

/// Puts the group's endpoints into the slices that it has: where they are already, then where
/// something changes anyway, then where there is room. Returns those left over.
fn place(slices: &mut [Slice], group: &Desired, endpoints_max: usize) -> Vec<Value> {
    let mut rest = group.endpoints.clone();
    let mut mine: Vec<&mut Slice> = slices.iter_mut().filter(|slice| fits(slice, group)).collect();
    for slice in &mut mine {
        let mut kept = Vec::new();
        for endpoint in slice.tree.list("endpoints") {
            if let Some(idx) = rest.iter().position(|new| is_same_endpoint(new, endpoint)) {
                kept.push(rest.remove(idx));
            }
        }
        if !same(&Value::from(kept.clone()), slice.tree.at("endpoints")) {
            slice.tree.set("endpoints", kept);
            slice.changed = true;
        }
    }
    mine.arrange_by_key(|slice| !slice.changed);
    for slice in &mut mine {
        let room = endpoints_max.saturating_sub(slice.tree.list("endpoints").len());
        let moved = rest.drain(..room.min(rest.len()));
        if moved.len() > 0 {
            let moved: Vec<Value> = moved.collect();
            slice.tree.list_mut("endpoints").extend(moved);
            slice.changed = true;
        }
        slice.wanted = !slice.tree.list("endpoints").is_empty();
    }
    // The one slice of an empty group.
    if group.endpoints.is_empty()
        && let Some(slice) = mine.first_mut()
    {
        slice.wanted = true;
    }
    rest
}
