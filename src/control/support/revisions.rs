//! The history of a template as ControllerRevisions: finding, making and forgetting them.

use api::kinds::CONTROLLER_REVISION;
use api::selector::Selector;
use api::{Actions, Lens, LensMut, Object, Value, View, hash, json};
use stdx::{Arrange, OrdSet};

use super::claim::claim;
use super::{controller_reference, same};

const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// One version of a template.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) name: String,
    pub(crate) number: i64,
    /// The hash part of the name.
    pub(crate) hash: String,
    pub(crate) template: Value,
    /// Absent until the store has it.
    object: Option<Object>,
}

impl Revision {
    fn of(object: Object) -> Revision {
        let tree = object.tree();
        let mut template = tree.at("data.spec.template").clone();
        template.remove("$patch");
        let hash = [HASH_LABEL, "controller-revision-hash"]
            .iter()
            .find_map(|label| object.label(label))
            .or_else(|| object.name().rsplit_once('-').map(|(_, hash)| hash))
            .unwrap_or("");
        Revision {
            name: object.name().to_owned(),
            number: tree.int("revision").unwrap_or(0),
            hash: hash.to_owned(),
            template,
            object: Some(object),
        }
    }
}

/// All versions of one object's template, oldest first; the last is the present one.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) all: Vec<Revision>,
    /// To be written to `status.collisionCount` if it changed.
    pub(crate) collisions: Option<i64>,
}

impl History {
    /// Reads the history, and makes sure that its last entry is the present template.
    pub(crate) fn sync(
        view: &View<'_>,
        owner: &Object,
        tree: &Value,
        actions: &mut Actions,
    ) -> History {
        let selector = Selector::from_label_selector(tree.at("spec.selector"));
        let objects = claim(view, owner, &CONTROLLER_REVISION, &selector, &|_| true, actions);
        let mut all: Vec<Revision> = objects.into_iter().map(Revision::of).collect();
        all.arrange_by(|a, b| a.number.cmp(&b.number).then_with(|| a.name.cmp(&b.name)));
        let mut history = History { all, collisions: tree.int("status.collisionCount") };
        if owner.deleting() && !history.all.is_empty() {
            return history;
        }
        let next = history.all.last().map_or(1, |last| last.number + 1);
        let template = tree.at("spec.template");
        match history.all.iter().rposition(|revision| same(&revision.template, template)) {
            Some(idx) if idx + 1 == history.all.len() => {}
            Some(idx) => {
                // Back to a former template: its revision becomes the newest.
                let mut revision = history.all.remove(idx);
                revision.number = next;
                if let Some(object) = &revision.object {
                    actions.patch(object, json!({"revision": next}));
                }
                history.all.push(revision);
            }
            None => history.create(view, owner, tree, next, actions),
        }
        history
    }

    fn create(
        &mut self,
        view: &View<'_>,
        owner: &Object,
        tree: &Value,
        number: i64,
        actions: &mut Actions,
    ) {
        let template = tree.at("spec.template").clone();
        let (name, hash) = loop {
            let hash = hash::template_hash(&template, self.collisions);
            let name = format!("{}-{hash}", owner.name());
            if view.get(&CONTROLLER_REVISION, owner.namespace(), &name).is_none() {
                break (name, hash);
            }
            // Taken by another template.
            self.collisions = Some(self.collisions.unwrap_or(0) + 1);
        };
        let mut patched = template.clone();
        patched.set("$patch", "replace");
        let mut labels = template.at("metadata.labels").clone();
        labels.map_mut("").insert(HASH_LABEL.into(), hash.clone().into());
        labels.map_mut("").insert("controller-revision-hash".into(), hash.clone().into());
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "namespace": owner.namespace(),
                "labels": labels,
                "ownerReferences": [controller_reference(owner)],
            },
            "data": {"spec": {"template": patched}},
            "revision": number,
        });
        if tree.has("metadata.annotations") {
            object.set("metadata.annotations", tree.at("metadata.annotations").clone());
        }
        actions.create(&CONTROLLER_REVISION, object);
        self.all.push(Revision { name, number, hash, template, object: None });
    }

    /// The present template's revision.
    pub(crate) fn update(&self) -> &Revision {
        // `sync` made one where there was none.
        &self.all[self.all.len() - 1]
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Revision> {
        self.all.iter().find(|revision| revision.name == name)
    }

    /// Deletes the oldest revisions beyond `revisionHistoryLimit` that nothing uses.
    pub(crate) fn truncate(&self, tree: &Value, used: &OrdSet<String>, actions: &mut Actions) {
        let limit = tree.int("spec.revisionHistoryLimit").unwrap_or(10);
        let idle: Vec<&Revision> = self
            .all
            .iter()
            .filter(|r| !used.contains(&r.name) && !used.contains(&r.hash))
            .collect();
        let excess = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for revision in idle.into_iter().take(excess) {
            if let Some(object) = revision.object.as_ref().filter(|object| !object.deleting()) {
                actions.delete(object);
            }
        }
    }
}
