//! Which kinds are served: an immutable snapshot with an epoch, found by group, version and plural.

use std::sync::{Arc, OnceLock};

use stdx::Arrange;

use crate::definition::{Definition, Held};
use crate::form::{Form, Resource};
use crate::kind::Kind;
use crate::kinds::KINDS;

/// How many kinds may be defined at run time.
pub const DEFINITIONS_MAX: usize = 1024;

/// Every kind that is served, at one moment. What is derived from it (documents, watches) is kept with
/// its epoch, and is made anew once there is another one.
#[derive(Debug)]
pub struct Kinds {
    epoch: u64,
    /// In discovery order: kinds in code, then the others by group and plural.
    resources: Vec<Resource>,
    /// Places in `resources` by group, version and plural.
    by_plural: Vec<u32>,
    /// By group and name. Kinds that only appear as bodies are here too.
    by_name: Vec<(&'static str, &'static str, &'static Kind)>,
    /// By group and plural.
    defined: Vec<Arc<Definition>>,
    /// A group of kinds in code that is not served: somebody else may serve it.
    left_out: Option<&'static str>,
}

impl Kinds {
    /// The kinds in code.
    pub fn built_in() -> Arc<Kinds> {
        static BUILT_IN: OnceLock<Arc<Kinds>> = OnceLock::new();
        Arc::clone(BUILT_IN.get_or_init(|| Arc::new(Kinds::of(0, Vec::new(), None))))
    }

    /// The kinds in code but those of a group.
    pub fn built_in_but(group: &'static str) -> Arc<Kinds> {
        Arc::new(Kinds::of(0, Vec::new(), Some(group)))
    }

    fn of(epoch: u64, defined: Vec<Arc<Definition>>, left_out: Option<&'static str>) -> Kinds {
        let served = KINDS.iter().filter(|kind| Some(kind.group) != left_out);
        let in_code = served.clone().filter(|kind| !kind.declared.subresource_body);
        let mut resources: Vec<Resource> =
            in_code.flat_map(|kind| kind.forms()).map(Resource::from).collect();
        let mut by_name: Vec<_> = served
            .flat_map(|kind| kind.forms())
            .map(|form| (form.group(), form.kind.name, form.kind))
            .collect();
        for definition in &defined {
            let kind = definition.kind;
            by_name.push((kind.group, kind.name, kind));
            let served = definition.versions.iter().enumerate().filter(|(_, it)| it.served);
            resources.extend(served.map(|(idx, _)| Resource {
                kind,
                served: None,
                defined: Some(Held::new(Arc::clone(definition), idx)),
            }));
        }
        by_name.arrange_by_key(|(group, name, _)| (*group, *name));
        by_name.dedup_by_key(|(group, name, _)| (*group, *name));
        // Far below: kinds and versions are bounded.
        let mut by_plural: Vec<u32> =
            (0..resources.len()).filter_map(|idx| u32::try_from(idx).ok()).collect();
        by_plural.arrange_by(|a, b| {
            plural_of(&resources[*a as usize]).cmp(&plural_of(&resources[*b as usize]))
        });
        Kinds { epoch, resources, by_plural, by_name, defined, left_out }
    }

    /// These kinds and another one, or the same one defined anew.
    ///
    /// # Errors
    /// If the definition does not hold together, or there is no room for it.
    pub fn with(&self, definition: Definition) -> Result<Kinds, String> {
        let name = definition.name();
        let (kinds, mut refused) = self.replacing(vec![(name, Some(definition))]);
        refused.pop().map_or(Ok(kinds), |(_, why)| Err(why))
    }

    /// These kinds after changes, each by the name of a definition (`gadgets.example.com`): `None` is
    /// for one that is gone. Also answers what was refused, and why; nothing is served of that.
    pub fn replacing(
        &self,
        changes: Vec<(String, Option<Definition>)>,
    ) -> (Kinds, Vec<(String, String)>) {
        let mut defined = self.defined.clone();
        let mut refused = Vec::new();
        for (name, definition) in changes {
            // Plurals have no dots.
            let (plural, group) = name.split_once('.').unwrap_or((&name, ""));
            if let Ok(old) = place(&defined, group, plural) {
                defined.remove(old);
            }
            let Some(definition) = definition else { continue };
            let checked = definition.check().and_then(|()| {
                match group_of(&defined, definition.kind.group)
                    .iter()
                    .find(|it| it.kind.name == definition.kind.name)
                {
                    Some(other) => Err(format!("{} is served already", other.name())),
                    None if defined.len() >= DEFINITIONS_MAX => {
                        Err(format!("no more than {DEFINITIONS_MAX} kinds may be defined"))
                    }
                    None => Ok(()),
                }
            });
            match checked.map(|()| place(&defined, definition.kind.group, definition.kind.plural)) {
                Ok(Err(at)) => defined.insert(at, Arc::new(definition)),
                Ok(Ok(at)) => defined[at] = Arc::new(definition),
                Err(why) => refused.push((name, why)),
            }
        }
        (Kinds::of(self.epoch + 1, defined, self.left_out), refused)
    }

    /// These kinds but one that was defined at run time.
    #[must_use]
    pub fn without(&self, kind: &Kind) -> Kinds {
        let mut defined = self.defined.clone();
        defined.retain(|other| other.kind != kind);
        Kinds::of(self.epoch + 1, defined, self.left_out)
    }

    /// Grows with each change.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is served at `/apis/<group>/<version>/<plural>`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        let order = |idx: &u32| plural_of(&self.resources[*idx as usize]);
        let at = self.by_plural.binary_search_by(|idx| order(idx).cmp(&(group, version, plural)));
        Some(&self.resources[self.by_plural[at.ok()?] as usize])
    }

    /// The kind stored or served under this group and name, whatever the version.
    pub fn by_name(&self, group: &str, name: &str) -> Option<&'static Kind> {
        let at =
            self.by_name.binary_search_by_key(&(group, name), |(group, name, _)| (group, name));
        Some(self.by_name[at.ok()?].2)
    }

    /// A kind in a version, or, for "", in the version it is stored in; `None` if it is not served.
    pub fn of_kind(&self, kind: &'static Kind, group: &str, version: &str) -> Option<Resource> {
        if Some(kind.group) == self.left_out {
            return None;
        }
        if kind.is_built_in() {
            return match version {
                "" => Some(Form::from(kind).into()),
                version => kind.form(group, version).map(Resource::from),
            };
        }
        let definition = self.at(kind)?;
        let idx = definition.versions.iter().position(|it| match version {
            "" => it.stored,
            version => it.served && *it.name == *version && group == kind.group,
        });
        Some(Resource {
            kind,
            served: None,
            defined: Some(Held::new(Arc::clone(definition), idx?)),
        })
    }

    /// How the kind of this group and plural is defined, if it is at run time.
    pub fn definition(&self, group: &str, plural: &str) -> Option<&Definition> {
        Some(&*self.defined[place(&self.defined, group, plural).ok()?])
    }

    /// The definitions of a group, by plural.
    pub fn definitions_of(&self, group: &str) -> &[Arc<Definition>] {
        group_of(&self.defined, group)
    }

    fn at(&self, kind: &Kind) -> Option<&Arc<Definition>> {
        let at = place(&self.defined, kind.group, kind.plural).ok()?;
        Some(&self.defined[at]).filter(|it| it.kind == kind)
    }

    /// The kinds that were defined at run time since `before`, in any way, and then those that were and are no more.
    pub fn changes_since(&self, before: &Kinds) -> (Vec<&'static Kind>, Vec<&'static Kind>) {
        let is_in = |kinds: &Kinds, it: &Arc<Definition>| {
            kinds.at(it.kind).is_some_and(|other| Arc::ptr_eq(other, it))
        };
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        // Mostly one is another one, and all others are in their places.
        let (mut old, mut new) = (&before.defined[..], &self.defined[..]);
        while let ([a, rest_a @ ..], [b, rest_b @ ..]) = (old, new)
            && Arc::ptr_eq(a, b)
        {
            (old, new) = (rest_a, rest_b);
        }
        while let ([rest_a @ .., a], [rest_b @ .., b]) = (old, new)
            && Arc::ptr_eq(a, b)
        {
            (old, new) = (rest_a, rest_b);
        }
        changed.extend(new.iter().filter(|it| !is_in(before, it)).map(|it| it.kind));
        gone.extend(old.iter().filter(|it| self.at(it.kind).is_none()).map(|it| it.kind));
        (changed, gone)
    }

    /// How many kinds are defined at run time.
    pub fn n_defined(&self) -> usize {
        self.defined.len()
    }

    /// What is served, in discovery order. For names and verbs: whoever needs a schema takes a copy.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Every kind with objects of its own, each once.
    pub fn stored(&self) -> impl Iterator<Item = &'static Kind> + '_ {
        let in_code = KINDS.iter().copied().filter(|kind| kind.stored());
        in_code.chain(self.defined.iter().map(|definition| definition.kind))
    }

    /// Whether this is still how the kind is defined.
    pub fn is_current(&self, resource: &Resource) -> bool {
        resource.defined.as_ref().is_none_or(|held| {
            self.at(held.definition.kind).is_some_and(|it| it.stamp == held.definition.stamp)
        })
    }
}

/// Where the definition of a group and plural is, or would be.
fn place(defined: &[Arc<Definition>], group: &str, plural: &str) -> Result<usize, usize> {
    defined.binary_search_by(|it| (it.kind.group, it.kind.plural).cmp(&(group, plural)))
}

fn group_of<'a>(defined: &'a [Arc<Definition>], group: &str) -> &'a [Arc<Definition>] {
    let start = defined.partition_point(|it| it.kind.group < group);
    let n = defined[start..].partition_point(|it| it.kind.group == group);
    &defined[start..start + n]
}

fn plural_of(resource: &Resource) -> (&str, &str, &str) {
    let form = resource.form();
    (form.group(), form.version(), form.kind.plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Scope;
    use crate::kinds::{EVENT, POD, SCALE};
    use crate::structural::tests::definition;

    #[test]
    fn kinds_in_code_are_found_by_what_they_are_served_as() {
        let kinds = Kinds::built_in();
        let find = |group, version, plural| kinds.find(group, version, plural).map(|it| it.kind);
        assert_eq!(find("", "v1", "pods"), Some(&POD));
        assert_eq!(find("events.k8s.io", "v1", "events"), Some(&EVENT));
        assert_eq!(find("", "v1", "events"), Some(&EVENT));
        assert_eq!(find("", "v2", "pods"), None);
        assert_eq!(find("autoscaling", "v1", "scales"), None, "only a body");
        assert_eq!(kinds.by_name("autoscaling", "Scale"), Some(&SCALE));
        assert_eq!(kinds.by_name("events.k8s.io", "Event"), Some(&EVENT));
        assert_eq!(kinds.by_name("nope", "Event"), None);
        for kind in KINDS.iter().filter(|kind| !kind.declared.subresource_body) {
            for form in kind.forms() {
                let found = find(form.group(), form.version(), kind.plural);
                assert_eq!(found, Some(*kind), "{form:?}");
            }
        }
    }

    #[test]
    fn a_group_that_is_left_out_is_not_served() {
        use crate::kinds::POD_METRICS;
        let all = Kinds::built_in();
        let gadgets = definition("gadgets", "Gadget", Scope::Namespaced, "1");
        let less = Kinds::built_in_but("metrics.k8s.io").with(gadgets).unwrap();
        for (kinds, served) in [(&*all, true), (&less, false)] {
            assert_eq!(kinds.find("metrics.k8s.io", "v1beta1", "pods").is_some(), served);
            assert_eq!(kinds.by_name("metrics.k8s.io", "PodMetrics").is_some(), served);
            assert_eq!(kinds.of_kind(&POD_METRICS, "", "").is_some(), served);
            assert!(kinds.find("", "v1", "pods").is_some());
        }
    }

    #[test]
    fn definitions_come_change_and_go_and_the_kind_stays_the_same() {
        let none = Kinds::built_in();
        let gadgets = |stamp| definition("gadgets", "Gadget", Scope::Namespaced, stamp);
        let one = none.with(gadgets("1")).unwrap();
        let gadget = one.find("example.com", "v1", "gadgets").unwrap().clone();
        assert!(one.is_current(&gadget) && !none.is_current(&gadget));
        assert!(one.with(gadgets("1")).unwrap().is_current(&gadget), "it says the same");
        let again = one.with(gadgets("2")).unwrap();
        assert!(again.epoch() > one.epoch() && !again.is_current(&gadget));
        let same = again.find("example.com", "v1", "gadgets").unwrap();
        assert!(std::ptr::eq(same.kind, gadget.kind), "a redefinition takes no identity more");
        assert_eq!(again.stored().filter(|kind| *kind == gadget.kind).count(), 1);
        assert!(again.with(definition("others", "Gadget", Scope::Namespaced, "1")).is_err());
        let gone = again.without(gadget.kind);
        assert!(gone.find("example.com", "v1", "gadgets").is_none());
        assert!(gone.of_kind(gadget.kind, "", "").is_none());
        let other = gone.with(definition("gadgets", "Gadget", Scope::Cluster, "3")).unwrap();
        assert_ne!(other.by_name("example.com", "Gadget"), Some(gadget.kind), "another scope");
    }

    #[test]
    fn changes_are_told_of_those_that_changed() {
        let none = Kinds::built_in();
        let make = |name: &str, stamp: &str| {
            definition(&format!("{}s", name.to_lowercase()), name, Scope::Namespaced, stamp)
        };
        let mut kinds = Kinds::of(0, Vec::new(), None);
        for name in ["Ca", "Cb", "Cc", "Cd"] {
            kinds = kinds.with(make(name, "1")).unwrap();
        }
        let told = |new: &Kinds, old: &Kinds| {
            let (changed, gone) = new.changes_since(old);
            let names = |kinds: Vec<&'static Kind>| {
                kinds.iter().map(|it| it.name).collect::<Vec<_>>().join(" ")
            };
            (names(changed), names(gone))
        };
        let two = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(told(&kinds, &kinds), two("", ""));
        assert_eq!(told(&kinds, &none), two("Ca Cb Cc Cd", ""));
        let again = kinds.with(make("Cb", "2")).unwrap();
        assert_eq!(told(&again, &kinds), two("Cb", ""));
        let more = again.with(make("Cbb", "1")).unwrap();
        let less = more.without(more.by_name("example.com", "Cc").unwrap());
        assert_eq!(told(&less, &kinds), two("Cbb Cb", "Cc"));
        assert_eq!(told(&none, &less), two("", "Ca Cbb Cb Cd"));
        // Another scope is another kind.
        let other = definition("cas", "Ca", Scope::Cluster, "1");
        let other = less.with(other).unwrap();
        assert_eq!(told(&other, &less), two("Ca", "Ca"));
        assert_eq!(other.definitions_of("example.com").len(), 4);
        assert!(other.definitions_of("example.net").is_empty());
    }

    #[test]
    fn what_is_the_servers_own_is_not_defined_again() {
        for (group, name, plural) in [
            ("", "Gadget", "gadgets"),
            ("apps", "Gadget", "gadgets"),
            ("k3s.cattle.io", "Addon", "gadgets"),
            ("k3s.cattle.io", "Gadget", "addons"),
            ("events.k8s.io", "Gadget", "events"),
        ] {
            assert!(Kind::intern(group, name, plural, Scope::Cluster).is_err(), "{group} {name}");
        }
        assert!(Kind::intern("k3s.cattle.io", "Gadget", "gadgets", Scope::Cluster).is_ok());
    }
}
