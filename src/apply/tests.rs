//! Stories of several managers and one object.

use api::kinds::{
    CLUSTER_ROLE_BINDING, CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, POD, RESOURCE_QUOTA,
    VALIDATING_ADMISSION_POLICY_BINDING,
};
use serde_json::{Value, json};
use stdx::time::Wall;

use super::*;

/// One object and the time.
struct World {
    kind: &'static api::Kind,
    live: Option<Value>,
    now: i64,
}

impl World {
    fn new(kind: &'static api::Kind) -> World {
        World { kind, live: None, now: 1_704_067_200 }
    }

    fn apply(&mut self, manager: &str, force: bool, applied: Value) -> String {
        self.now += 1;
        let text = applied.to_string();
        let applied = decode(self.kind, text.as_bytes(), FieldValidation::Strict, &mut |_| true)
            .unwrap()
            .tree;
        let request = Request {
            form: self.kind.into(),
            live: self.live.as_ref(),
            applied: &applied,
            manager,
            subresource: "",
            force,
            now: Wall::from_secs(self.now),
        };
        match apply(request) {
            Ok(tree) => {
                self.live = Some(tree);
                "ok".into()
            }
            Err(status) => status.message().to_owned(),
        }
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        self.now += 1;
        let mut new = self.live.clone().unwrap_or_else(|| hollow(self.kind.into()));
        change(&mut new);
        codec::check_fields(self.kind, &mut new, FieldValidation::Strict).unwrap();
        track(self.kind, manager, "", Wall::from_secs(self.now), self.live.as_ref(), &mut new);
        self.live = Some(new);
    }

    fn at(&self, path: &str) -> Value {
        self.live.as_ref().map(|live| live.at(path).clone()).unwrap_or_default()
    }

    fn fields(&self, manager: &str, operation: &str) -> Value {
        let entries = self.at("metadata.managedFields");
        let found =
            entries.as_array().into_iter().flatten().find(|entry| {
                entry.str("manager") == manager && entry.str("operation") == operation
            });
        found.map(|entry| entry.at("fieldsV1").clone()).unwrap_or_default()
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

#[test]
fn applying_owns_conflicts_and_gives_up() {
    let mut world = World::new(&CONFIG_MAP);
    assert_eq!(world.apply("a", false, config_map(json!({"x": "1", "y": "2"}))), "ok");
    assert_eq!(world.fields("a", "Apply"), json!({"f:data": {"f:x": {}, "f:y": {}}}));
    // The same again changes nothing, not even times.
    let before = world.live.clone();
    assert_eq!(world.apply("a", false, config_map(json!({"x": "1", "y": "2"}))), "ok");
    assert_eq!(world.live, before);
    // Saying the same as another shares; saying otherwise conflicts.
    assert_eq!(world.apply("b", false, config_map(json!({"x": "1"}))), "ok");
    // Nothing but who manages it changed, so there is no time when it did; such managers come first.
    let first = world.at("metadata.managedFields.0");
    assert_eq!((first.str("manager"), first.has("time")), ("b", false));
    assert_eq!(
        world.apply("b", false, config_map(json!({"x": "9"}))),
        "Apply failed with 1 conflict: conflict with \"a\" using v1: .data.x"
    );
    assert_eq!(
        world.apply("b", false, config_map(json!({"x": "9", "y": "9"}))),
        "Apply failed with 2 conflicts: conflicts with \"a\" using v1:\n- .data.x\n- .data.y"
    );
    assert_eq!(world.apply("b", true, config_map(json!({"x": "9"}))), "ok");
    assert_eq!(world.at("data"), json!({"x": "9", "y": "2"}));
    assert_eq!(world.fields("a", "Apply"), json!({"f:data": {"f:y": {}}}));
    // What is no longer applied goes, if nobody else manages it.
    assert_eq!(world.apply("a", false, config_map(json!({"z": "3"}))), "ok");
    assert_eq!(world.at("data"), json!({"x": "9", "z": "3"}));
}

/// A list that is one value is another when it lacks what is always written in it, also where it is the same once it is read.
#[test]
fn what_is_applied_in_another_form_is_taken_over() {
    let mut world = World::new(&POD);
    let item =
        json!({"path": "a", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}});
    let volume = json!({"name": "v", "downwardAPI": {"items": [item]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"volumes": [volume]}});
    world.update("edit", |tree| *tree = pod.clone());
    assert!(world.fields("edit", "Update").to_string().contains("f:items"));
    assert_eq!(world.apply("a", true, pod), "ok");
    assert!(!world.fields("edit", "Update").to_string().contains("f:items"));
    assert!(world.fields("a", "Apply").to_string().contains("f:items"));
}

#[test]
fn updates_take_fields_over() {
    let mut world = World::new(&CONFIG_MAP);
    assert_eq!(world.apply("a", false, config_map(json!({"x": "1", "y": "2"}))), "ok");
    world.update("edit", |tree| tree.set("data.x", "7"));
    assert_eq!(world.fields("edit", "Update"), json!({"f:data": {"f:x": {}}}));
    assert_eq!(world.fields("a", "Apply"), json!({"f:data": {"f:y": {}}}));
    assert!(
        world
            .apply("a", false, config_map(json!({"x": "1"})))
            .contains("conflict with \"edit\" using v1: .data.x")
    );
    // An update that removes takes the field from everyone.
    world.update("edit", |tree| {
        tree.remove("data.y");
    });
    assert_eq!(world.fields("a", "Apply"), Value::Null);
}

#[test]
fn lists_are_owned_by_items() {
    let deployment = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"l": "1"}}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}},
        }})
    };
    let mut world = World::new(&DEPLOYMENT);
    let two = json!([{"name": "x", "image": "i", "ports": [{"containerPort": 80}]}, {"name": "y", "image": "j"}]);
    assert_eq!(world.apply("a", false, deployment(two)), "ok");
    assert_eq!(
        world.fields("a", "Apply"),
        json!({
            "f:metadata": {"f:labels": {"f:l": {}}},
            "f:spec": {"f:selector": {}, "f:template": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {"f:containers": {
                    "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}},
                    "k:{\"name\":\"y\"}": {".": {}, "f:name": {}, "f:image": {}},
                }},
            }},
        })
    );
    // Another manager adds a container; dropping one's own leaves the other's.
    let third = json!([{"name": "z", "image": "k"}]);
    let sidecar = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": third}}}});
    assert_eq!(world.apply("b", false, sidecar), "ok");
    assert_eq!(world.apply("a", false, deployment(json!([{"name": "y", "image": "j2"}]))), "ok");
    let containers = world.at("spec.template.spec.containers");
    let names: Vec<(&str, &str)> = containers
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| (container.str("name"), container.str("image")))
        .collect();
    assert_eq!(names, [("y", "j2"), ("z", "k")]);
}

/// The words are those of a stock kube-apiserver.
#[test]
fn what_is_applied_has_the_form_of_the_schema() {
    let told = |kind: &'static api::Kind, tree: Value| {
        shape::check(kind, &tree)
            .map_or_else(|status| status.message().to_owned(), |()| "ok".into())
    };
    let config_map = |more: Value| {
        let mut tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "z"}});
        tree.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told(&CONFIG_MAP, tree)
    };
    let head = "failed to create typed patch object (/z; /v1, Kind=ConfigMap): ";
    assert_eq!(config_map(json!({"data": {"a": "b"}, "binaryData": null})), "ok");
    for (more, wanted) in [
        (json!({"data": "x"}), ".data: expected map, got &{x}"),
        (json!({"data": []}), ".data: expected map, got &{[]}"),
        (
            json!({"data": {"a": 1}}),
            ".data.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (json!({"immutable": "x"}), ".immutable: expected boolean, got &{x}"),
        (
            json!({"bar": true, "immutable": "x"}),
            "errors:\n  .bar: field not declared in schema\n  .immutable: expected boolean, got &{x}",
        ),
    ] {
        assert_eq!(config_map(more), format!("{head}{wanted}"));
    }
    let deployment = |containers: Value| {
        told(
            &DEPLOYMENT,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "z", "namespace": "n"},
                "spec": {"template": {"spec": {"containers": containers}}}}),
        )
    };
    let head = "failed to create typed patch object (n/z; apps/v1, Kind=Deployment): .spec.template.spec.containers";
    // A name that is missing is an empty one; validation complains about it.
    assert_eq!(deployment(json!([{"image": "i"}])), "ok");
    for (containers, wanted) in [
        (json!({}), ": expected list, got &{map[]}"),
        (json!([{"tty": "yes"}]), "[name=\"\"].tty: expected boolean, got &{yes}"),
        (
            json!([{"name": "c", "ports": [{"containerPort": "x"}]}]),
            "[name=\"c\"].ports[containerPort=\"x\",protocol=\"TCP\"].containerPort: expected numeric (int or float), got string",
        ),
        (json!([{"name": "c"}, {"name": "c"}]), ": duplicate entries for key [name=\"c\"]"),
    ] {
        assert_eq!(deployment(containers), format!("{head}{wanted}"));
    }
}

#[test]
fn creation_by_update_is_tracked_as_upstream_writes_it() {
    let mut world = World::new(&DEPLOYMENT);
    world.update("kubectl-create", |tree| {
        tree.set("metadata.name", "d");
        tree.set("metadata.labels", json!({"app": "d"}));
        tree.set("spec.replicas", 1);
        let env = json!([{"name": "E", "value": "1"}]);
        tree.set("spec.template.spec.containers", json!([{"name": "c", "env": env}]));
        tree.set(
            "spec.strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}),
        );
    });
    assert_eq!(
        world.fields("kubectl-create", "Update"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:resources": {},
                    "f:env": {".": {}, "k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}}}}}}},
        })
    );
    assert_eq!(world.at("metadata.managedFields.0.time"), "2024-01-01T00:00:01Z");
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let mut world = World::new(&CONFIG_MAP);
    let applied = config_map(json!({"x": "1"}));
    world.update("kubectl-client-side-apply", |tree| {
        tree.set("data", json!({"x": "1"}));
        tree.set("metadata.annotations", json!({LAST_APPLIED: applied.to_string()}));
    });
    assert!(world.apply("other", false, config_map(json!({"x": "2"}))).contains("conflict"));
    assert_eq!(world.apply("kubectl", false, config_map(json!({"x": "2"}))), "ok");
    assert_eq!(world.at("data.x"), "2");
}

#[test]
fn managers_by_update_are_bounded() {
    let mut world = World::new(&CONFIG_MAP);
    for n in 0..15 {
        world.update(&format!("m{n}"), |tree| tree.set(&format!("data.k{n}"), "v"));
    }
    let entries = world.at("metadata.managedFields");
    assert_eq!(entries.as_array().map(Vec::len), Some(10));
    assert_eq!(entries[0]["manager"], "ancient-changes");
}

#[test]
fn status_belongs_to_its_subresource() {
    let mut world = World::new(&DEPLOYMENT);
    world.update("a", |tree| tree.set("spec.replicas", 1));
    let old = world.live.clone().unwrap();
    let mut new = old.clone();
    new.set("status.replicas", 3);
    track(&DEPLOYMENT, "controller", "status", Wall::from_secs(0), Some(&old), &mut new);
    let entries = new.list("metadata.managedFields");
    let controller = entries.iter().find(|entry| entry.str("manager") == "controller").unwrap();
    assert_eq!(controller.at("fieldsV1"), &json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(controller.str("subresource"), "status");
}

#[test]
fn every_kind_applies_twice_the_same() {
    let mut prng = stdx::prng::Prng::new(21);
    for kind in api::kinds::KINDS.iter().filter(|kind| kind.stored()) {
        let root = api::schema::schema().root(*kind);
        let mut tree = codec::sample::full(root, &mut prng, 3);
        tree.set("apiVersion", kind.api_version());
        tree.set("kind", kind.name);
        tree.remove("metadata.managedFields");
        tree.remove("metadata.resourceVersion");
        // Their items have no keys at that depth, and no default for them.
        tree.remove("secrets");
        tree.remove("status");
        let mut world = World::new(kind);
        let told = world.apply("a", false, tree.clone());
        assert_eq!(told, "ok", "{kind:?}");
        let once = world.live.clone();
        assert_eq!(world.apply("a", false, tree.clone()), "ok");
        assert_eq!(world.live, once, "{kind:?}");
        // Saying nothing any more removes all that was said, and leaves no manager.
        let bare =
            json!({"apiVersion": kind.api_version(), "kind": kind.name, "metadata": {"name": "x"}});
        assert_eq!(world.apply("a", false, bare), "ok");
        assert_eq!(world.at("metadata.managedFields"), Value::Null, "{kind:?}");
        assert_eq!(world.at("metadata.labels"), Value::Null, "{kind:?}");
    }
}

#[test]
fn what_controllers_own_is_tracked_like_everything_else() {
    let mut world = World::new(&CONFIG_MAP);
    let owner =
        json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": true}]);
    world.update("controller", |tree| {
        tree.set("metadata.ownerReferences", owner);
        tree.set("data.a", "1");
    });
    let owned = json!({"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:ownerReferences": {".": {}, "k:{\"uid\":\"u\"}": {}}}});
    assert_eq!(world.fields("controller", "Update"), owned);
    assert!(
        world
            .apply("a", false, config_map(json!({"a": "2"})))
            .contains("conflict with \"controller\" using v1: .data.a")
    );
}

/// What is applied as an empty list that one manager owns whole is a change of it.
#[test]
fn emptying_what_another_manages_is_a_conflict() {
    let binding = |subjects: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}, "subjects": subjects})
    };
    let mut world = World::new(&CLUSTER_ROLE_BINDING);
    let someone = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"}]);
    assert_eq!(world.apply("a", false, binding(someone)), "ok");
    assert_eq!(
        world.apply("b", false, binding(json!([]))),
        "Apply failed with 1 conflict: conflict with \"a\" using rbac.authorization.k8s.io/v1: .subjects"
    );
    assert_eq!(world.apply("b", true, binding(json!([]))), "ok");
    assert_eq!(world.at("subjects"), Value::Null);
}

/// Schemas of definitions have fields that are one of several forms.
#[test]
fn definitions_are_applied() {
    let properties = json!({
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {"type": "object", "additionalProperties": true},
    });
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ws.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "ws", "kind": "W"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]}});
    let mut world = World::new(&CUSTOM_RESOURCE_DEFINITION);
    assert_eq!(world.apply("a", false, definition.clone()), "ok");
    assert_eq!(world.apply("a", false, definition), "ok");
    let versions = world.at("spec.versions");
    assert_eq!(versions[0].at("schema.openAPIV3Schema.properties"), &properties);
}

#[test]
fn what_is_applied_is_read_as_go_converts_it() {
    let read = |kind: &'static api::Kind, tree: Value| {
        let text = tree.to_string();
        let read = decode(kind, text.as_bytes(), FieldValidation::Strict, &mut |_| true);
        let made = read.and_then(|decoded| {
            apply(Request {
                form: kind.into(),
                live: None,
                applied: &decoded.tree,
                manager: "a",
                subresource: "",
                force: true,
                now: Wall::from_secs(1),
            })
        });
        made.map_err(|status| (status.code(), status.message().to_owned()))
    };
    let deployment = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec});
    for (number, is) in
        [(2_147_483_648_i64, -2_147_483_648_i64), (-2_147_483_649, 2_147_483_647), (3, 3)]
    {
        let tree = read(&DEPLOYMENT, deployment(json!({"replicas": number}))).unwrap();
        assert_eq!(tree.int("spec.replicas"), Some(is));
    }
    let typed = "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): ";
    let containers =
        |items: Value| deployment(json!({"template": {"spec": {"containers": items}}}));
    for (tree, why) in [
        (
            containers(json!([null])),
            ".spec.template.spec.containers: element 0: associative list with keys may not have a null element",
        ),
        (
            containers(json!([[]])),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
    ] {
        assert_eq!(read(&DEPLOYMENT, tree), Err((500, format!("{typed}{why}"))));
    }
    let mut tree = config_map(json!({}));
    tree.set("metadata.finalizers", json!([null]));
    let why = "failed to create typed patch object (/c; /v1, Kind=ConfigMap): .metadata.finalizers: element 0: associative list without keys has an element that's an explicit null";
    assert_eq!(read(&CONFIG_MAP, tree), Err((500, why.to_owned())));
    let mut tree = config_map(json!({}));
    tree.set("binaryData", json!({"k": "a%"}));
    let why = "failed to convert new object (/c; /v1, Kind=ConfigMap) to proper version: unable to convert unstructured object to /v1, Kind=ConfigMap: error decoding from json: illegal base64 data at input byte 1";
    assert_eq!(read(&CONFIG_MAP, tree), Err((500, why.to_owned())));
}

#[test]
fn nulls_are_applied_and_owned() {
    let mut world = World::new(&DEPLOYMENT);
    world.update("a", |tree| {
        tree.set("metadata.name", "d");
        tree.set("spec.replicas", 3);
        tree.set("spec.template.spec.hostname", "h");
        tree.set("metadata.labels.x", "y");
    });
    let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": null},
        "spec": {"replicas": null, "template": {"spec": null}}});
    assert_eq!(
        world.apply("b", false, nothing.clone()),
        "Apply failed with 1 conflict: conflict with \"a\" using apps/v1: .spec.replicas"
    );
    assert_eq!(world.apply("b", true, nothing), "ok");
    assert_eq!(world.at("spec.replicas"), Value::Null);
    // What has parts keeps them.
    assert_eq!(world.at("spec.template.spec.hostname"), "h");
    assert_eq!(world.at("metadata.labels.x"), "y");
}

#[test]
fn what_nobody_was_tracked_for_is_somebodys() {
    let mut world = World::new(&CONFIG_MAP);
    world.live = Some(json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}));
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "3"}});
    assert_eq!(
        world.apply("m", false, applied.clone()),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.b"
    );
    assert_eq!(world.apply("m", true, applied), "ok");
    assert_eq!(world.at("data.b"), "3");
}

#[test]
fn conflicts_are_told_before_anything_is_read() {
    let quota = |hard: Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    let mut world = World::new(&RESOURCE_QUOTA);
    world.update("b", |tree| *tree = quota(json!({"pods": "5"})));
    let conflict = "Apply failed with 1 conflict: conflict with \"b\" using v1: .spec.hard.pods";
    // The same quantity in another form, and what is none.
    for pods in [json!(5), json!("5000m"), json!("x")] {
        assert_eq!(world.apply("a", false, quota(json!({"pods": pods}))), conflict, "{pods}");
    }
    assert_eq!(world.apply("a", false, quota(json!({"pods": "5"}))), "ok");
    assert_eq!(world.apply("a", true, quota(json!({"pods": 5}))), "ok");
    assert_eq!(world.at("spec.hard.pods"), "5");
    let refused = world.apply("a", true, quota(json!({"pods": "x"})));
    assert!(
        refused.starts_with(
            "failed to convert new object (/q; /v1, Kind=ResourceQuota) to proper version: "
        ),
        "{refused}"
    );
}

#[test]
fn what_others_put_into_a_set_stays_where_it_stands() {
    let tree = |actions: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": actions},
        })
    };
    let mut world = World::new(&VALIDATING_ADMISSION_POLICY_BINDING);
    world.apply("one", false, tree(json!(["Deny", "Audit"])));
    world.apply("two", false, tree(json!(["Warn", "Audit"])));
    let live = world.live.unwrap();
    assert_eq!(live["spec"]["validationActions"], json!(["Deny", "Warn", "Audit"]));
}
