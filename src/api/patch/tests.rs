//! Patches as tables: before, patch, after.

use serde_json::{Value, json};
use stdx::prng::Prng;

use super::*;
use crate::kinds::{DEPLOYMENT, KINDS, POD, POD_DISRUPTION_BUDGET};

#[test]
fn json_patches() {
    for (before, patch, after) in [
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": 2}]),
            json!({"a": 1, "b": 2}),
        ),
        (
            json!({"a": [1, 3]}),
            json!([{"op": "add", "path": "/a/1", "value": 2}]),
            json!({"a": [1, 2, 3]}),
        ),
        (
            json!({"a": [1]}),
            json!([{"op": "add", "path": "/a/-", "value": 2}]),
            json!({"a": [1, 2]}),
        ),
        (json!({"a": {"b": 1}}), json!([{"op": "remove", "path": "/a/b"}]), json!({"a": {}})),
        // Upstream's library counts from the end, too, and takes what is missing for null.
        (
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/-1", "value": 3}, {"op": "remove", "path": "/a/-3"}]),
            json!({"a": [2, 3]}),
        ),
        (
            json!({"a": [1]}),
            json!([{"op": "add", "path": "/a/01", "value": 2}]),
            json!({"a": [1, 2]}),
        ),
        (json!({}), json!([{"op": "add", "path": "/a"}]), json!({"a": null})),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/a", "value": null}]),
            json!({"a": null}),
        ),
        (
            json!({"a": {}}),
            json!([{"op": "replace", "path": "/a/b~1c", "value": 1}]),
            json!({"a": {"b/c": 1}}),
        ),
        (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1})),
        (
            json!({"a": 1}),
            json!([{"op": "copy", "from": "/a", "path": "/b"}]),
            json!({"a": 1, "b": 1}),
        ),
        (
            json!({"x/y~": 1}),
            json!([{"op": "test", "path": "/x~1y~0", "value": 1}]),
            json!({"x/y~": 1}),
        ),
    ] {
        let mut tree = before.clone();
        json(&mut tree, &patch).unwrap_or_else(|error| panic!("{patch}: {error}"));
        assert_eq!(tree, after, "{patch}");
    }
    for (patch, code) in [
        (json!({}), 400),
        (json!([1]), 400),
        (json!([{"op": 1, "path": "/a"}]), 400),
        (json!([{"op": "frob", "path": "/a"}]), 422),
        (json!([{"path": "/a"}]), 422),
        (json!([{"op": "add"}]), 422),
        (json!([{"op": "add", "path": "", "value": {}}]), 422),
        (json!([{"op": "remove", "path": "/zz"}]), 422),
        (json!([{"op": "replace", "path": "/zz/a", "value": 1}]), 422),
        (json!([{"op": "replace", "path": "/l/1", "value": 1}]), 422),
        (json!([{"op": "test", "path": "/a", "value": 2}]), 422),
        // What is missing in an object is null; where there is no object, nothing is.
        (json!([{"op": "test", "path": "/b/c", "value": null}]), 422),
        (json!([{"op": "test", "path": "/l/4", "value": null}]), 422),
        (json!([{"op": "test", "path": "/b", "value": null}, {"op": "remove", "path": "/b"}]), 422),
        (json!([{"op": "add", "path": "/l/9", "value": 2}]), 422),
        (json!([{"op": "add", "path": "/l/-3", "value": 2}]), 422),
        (json!([{"op": "remove", "path": "/l/-2"}]), 422),
        (json!([{"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/zz"}]), 422),
    ] {
        let mut tree = json!({"a": 1, "l": [1]});
        let error = json(&mut tree, &patch).unwrap_err();
        assert_eq!(error.code(), code, "{patch}");
    }
}

#[test]
fn merge_patches() {
    // RFC 7386, appendix A.
    for (before, patch, after) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a"]), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
    ] {
        let mut tree = before.clone();
        merge(&mut tree, &patch);
        assert_eq!(tree, after, "{before} {patch}");
    }
}

#[test]
fn strategic_merges() {
    let spec = |spec: Value| json!({"spec": spec});
    let c = |name: &str| json!({"name": name, "image": "i"});
    for (before, patch, after) in [
        // Lists of objects merge by their key.
        (
            json!({"containers": [c("a"), c("b")]}),
            json!({"containers": [{"name": "b", "image": "j"}, {"name": "c"}]}),
            json!({"containers": [c("a"), {"name": "b", "image": "j"}, {"name": "c"}]}),
        ),
        (
            json!({"containers": [c("a"), c("b")]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [c("b")]}),
        ),
        // An item without a key is new, and before the others.
        (
            json!({"containers": [c("a")]}),
            json!({"containers": [{"name": null, "image": "j"}]}),
            json!({"containers": [{"image": "j"}, c("a")]}),
        ),
        (
            json!({"containers": [c("a"), c("b")]}),
            json!({"containers": [c("x"), {"$patch": "replace"}]}),
            json!({"containers": [c("x")]}),
        ),
        // Order as kubectl apply asks for it.
        (
            json!({"containers": [c("a"), c("b"), c("s")]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}], "containers": [{"name": "n"}]}),
            json!({"containers": [c("b"), {"name": "n"}, c("a"), c("s")]}),
        ),
        (
            json!({"containers": [c("a"), c("b")]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [c("b"), c("a")]}),
        ),
        // Atomic lists are replaced, tolerations among them.
        (
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        // Volumes keep only the source that is named.
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        (
            json!({"nodeSelector": {"a": "b"}}),
            json!({"nodeSelector": {"a": null, "c": "d"}}),
            json!({"nodeSelector": {"c": "d"}}),
        ),
        (
            json!({"nodeSelector": {"a": "b"}}),
            json!({"nodeSelector": {"$patch": "replace", "c": "d"}}),
            json!({"nodeSelector": {"c": "d"}}),
        ),
        (
            json!({}),
            json!({"securityContext": {"runAsUser": 1, "$retainKeys": ["runAsUser"]}}),
            // For the check of fields to find: there is nothing that it could keep.
            json!({"securityContext": {"runAsUser": 1, "$retainKeys": ["runAsUser"]}}),
        ),
        // Who asks for the end of what is not there gets nothing.
        (
            json!({}),
            json!({"tolerations": [{"$patch": "delete", "key": "a"}], "volumes": [{"name": "v"}, {"$patch": "delete", "name": "w"}]}),
            json!({"tolerations": [], "volumes": [{"name": "v"}]}),
        ),
        (
            json!({"containers": [c("a")], "hostname": "h"}),
            json!({"containers": [{"name": "b", "env": [{"$patch": "delete", "name": "x"}]}], "hostname": {"$patch": "delete"}}),
            json!({"containers": [{"name": "b", "env": []}, c("a")]}),
        ),
    ] {
        let mut tree = spec(before);
        strategic(&POD, &mut tree, &spec(patch.clone()))
            .unwrap_or_else(|error| panic!("{patch}: {error}"));
        assert_eq!(tree, spec(after), "{patch}");
    }
    let mut tree = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}});
    strategic(&POD, &mut tree, &patch).unwrap();
    // What the patch names comes before what only the server has, where nothing tells the order.
    assert_eq!(tree, json!({"metadata": {"finalizers": ["c", "b"]}}));
    let mut tree =
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    strategic(&DEPLOYMENT, &mut tree, &patch).unwrap();
    assert_eq!(tree, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    for (bad, code, words) in [
        (
            json!({"spec": {"containers": [{"image": "x", "args": ["a", 1]}]}}),
            500,
            "map: map[args:[a 1] image:x] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": ["x"]}}),
            500,
            "list element types are not identical: [[map[name:a]] [x]]",
        ),
        (
            json!({"spec": {"$patch": "frob"}}),
            500,
            "unknown patch type: frob in map: map[$patch:frob]",
        ),
        (
            json!({"spec": {"$patch": "merge"}}),
            500,
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            json!({"spec": {"containers": [{"$patch": 7, "name": "a"}]}}),
            500,
            "unknown patch type: 7 in map: map[$patch:7 name:a]",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}),
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "delete"}]}}),
            500,
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "$retainKeys": ["x"]}]}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": "x", "containers": [{"name": "a"}]}}),
            500,
            "expected a []interface {}, but received a string",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [c("b"), c("a")], "containers": [c("a"), c("b")]}}),
            500,
            "The order in patch list:\n[map[image:i name:a] map[image:i name:b]]\n doesn't match $setElementOrder list:\n[map[image:i name:b] map[image:i name:a]]\n",
        ),
        (json!({"spec": {"$retainKeys": 1}}), 400, "invalid patch format of retainKeys"),
        (
            json!([]),
            400,
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        let mut tree = spec(json!({"containers": [{"name": "a"}]}));
        let status = strategic(&POD, &mut tree, &bad).unwrap_err();
        assert_eq!((status.code(), status.message()), (code, words), "{bad}");
    }
}

#[test]
fn an_empty_patch_changes_nothing_and_noise_never_panics() {
    let tree = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "a"}]}});
    for kind in KINDS {
        let mut patched = tree.clone();
        strategic(*kind, &mut patched, &json!({})).unwrap();
        merge(&mut patched, &json!({}));
        json(&mut patched, &json!([])).unwrap();
        assert_eq!(patched, tree);
    }
    let mut prng = Prng::new(3);
    for _ in 0..5000 {
        let patch = noise(&mut prng, 0);
        let mut patched = tree.clone();
        let _ = strategic(&POD, &mut patched, &patch);
        merge(&mut patched, &patch);
        let _ = json(&mut tree.clone(), &json!([patch]));
    }
}

fn noise(prng: &mut Prng, depth: u32) -> Value {
    const KEYS: [&str; 14] = [
        "spec",
        "containers",
        "name",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "metadata",
        "finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "op",
        "path",
        "value",
        "from",
        "labels",
    ];
    const WORDS: [&str; 10] =
        ["replace", "delete", "merge", "a", "/spec/containers/0", "/a", "", "add", "/-", "move"];
    let pick = |prng: &mut Prng, n: usize| usize::try_from(prng.below(n as u64)).unwrap_or(0);
    match if depth > 4 { prng.below(3) } else { prng.below(6) } {
        0 => Value::Null,
        1 => WORDS[pick(prng, WORDS.len())].into(),
        2 => prng.below(3).into(),
        3 => (0..prng.below(4)).map(|_| noise(prng, depth + 1)).collect(),
        _ => Value::Object(
            (0..prng.below(5))
                .map(|_| (KEYS[pick(prng, KEYS.len())].to_owned(), noise(prng, depth + 1)))
                .collect(),
        ),
    }
}

#[test]
fn copies_cannot_grow_without_bound() {
    let double = json!([
        {"op": "add", "path": "/l", "value": ["some text to copy"]},
        {"op": "add", "path": "/m", "value": []},
    ]);
    let mut operations = double.as_array().unwrap().clone();
    for _ in 0..40 {
        operations.push(json!({"op": "copy", "from": "/l", "path": "/m/-"}));
        operations.push(json!({"op": "copy", "from": "/m", "path": "/l/-"}));
    }
    let error = json(&mut json!({}), &operations.into()).unwrap_err();
    assert!(matches!(error.code(), 413 | 422), "{error}");
    // Copying something into itself doubles its depth.
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": {}})];
    let mut path = "/a".to_owned();
    for _ in 0..20 {
        operations.push(json!({"op": "copy", "from": "/a", "path": format!("{path}/b")}));
        path.push_str(&"/b".repeat(path.len() / 2));
    }
    assert_eq!(json(&mut json!({}), &operations.into()).unwrap_err().code(), 422);
}

#[test]
fn copies_count_as_what_they_take_and_moved_items_are_bounded() {
    // Each copy is short as a text and large as a tree.
    let maps = vec![json!({"": 0}); 900];
    let mut operations = vec![json!({"op": "add", "path": "/x", "value": [maps]})];
    operations.extend(vec![json!({"op": "copy", "from": "/x/0", "path": "/x/-"}); 10]);
    assert_eq!(json(&mut json!({}), &operations.into()).unwrap_err().code(), 413);
    assert_eq!(copied_bytes_max(&json!([{"op": "add", "path": "/a", "value": 1}])), 0);
    assert!(copied_bytes_max(&json!([{"op": "copy", "from": "/a", "path": "/b"}])) > 0);
    for operation in [
        json!([{"op": "add", "path": "/x/0", "value": 0}]),
        json!([{"op": "move", "from": "/x/0", "path": "/x/-"}]),
    ] {
        let mut operations = vec![json!({"op": "add", "path": "/x", "value": vec![0; 20_000]})];
        for _ in 0..9000 {
            operations.extend(operation.as_array().unwrap().iter().cloned());
        }
        assert_eq!(json(&mut json!({}), &operations.into()).unwrap_err().code(), 413);
    }
}

#[test]
fn some_fields_come_whole() {
    let mut tree = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "minAvailable": 1}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}});
    strategic(&POD_DISRUPTION_BUDGET, &mut tree, &patch).unwrap();
    assert_eq!(tree, json!({"spec": {"selector": {"matchLabels": {"c": "d"}}, "minAvailable": 1}}));
    strategic(&POD_DISRUPTION_BUDGET, &mut tree, &json!({"spec": {"selector": {}}})).unwrap();
    assert_eq!(tree, json!({"spec": {"selector": {}, "minAvailable": 1}}));
}

#[test]
fn lists_that_merge_are_bounded() {
    let many: Value =
        (0..=strategic::MERGED_ITEMS_MAX).map(|n| json!({"name": format!("c{n}")})).collect();
    let patch = json!({"spec": {"containers": many}});
    let mut tree = json!({"spec": {"containers": [{"name": "a"}]}});
    assert_eq!(strategic(&POD, &mut tree, &patch).unwrap_err().code(), 400);
}

#[test]
fn a_result_of_the_wrong_type_is_told_as_the_converter_does() {
    for (why, words) in [
        (
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string",
            "cannot convert int64 to string",
        ),
        (
            "json: cannot unmarshal string into Go struct field X.spec of type v1.PodSpec",
            "cannot restore struct from: string",
        ),
        (
            "json: cannot unmarshal array into Go struct field X.labels of type map[string]string",
            "cannot restore map from slice",
        ),
        (
            "json: cannot unmarshal object into Go struct field X.spec.args of type []string",
            "cannot restore slice from map",
        ),
        (
            "json: cannot unmarshal string into Go struct field X.revision of type int64",
            "unrecognized type: int64",
        ),
        (
            "json: cannot unmarshal number 1.5 into Go struct field X.n of type int32",
            "cannot convert float64 to int32",
        ),
        (
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.deletionTimestamp of type v1.Time",
            "json: cannot unmarshal number into Go value of type string",
        ),
        (
            "json: cannot unmarshal number into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy",
            "cannot convert int64 to v1.DNSPolicy",
        ),
        (
            "json: cannot unmarshal array into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy",
            "unrecognized type: string",
        ),
        (
            "json: cannot unmarshal array into Go struct field PodSpec.spec.overhead of type v1.ResourceList",
            "cannot restore map from slice",
        ),
        (
            "strict decoding error: unknown field \"x\"",
            "strict decoding error: unknown field \"x\"",
        ),
    ] {
        assert_eq!(converter_words(why), words);
    }
}
