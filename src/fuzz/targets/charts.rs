//! Charts and templates, which whoever makes a HelmChart names.

use std::rc::Rc;

use ::charts::semver::{Constraint, Version};
use ::template::{Bounds, Functions, Heap, MissingKey, Names, Run, Set, Signature, Value};
use ::wire::gzip_encode::Encoder;
use ::wire::tar::{Builder, Entry};

use super::texts;

/// What an execution may use here: hostile ones end soon.
const BOUNDS: Bounds = Bounds { steps_max: 20_000, bytes_max: 1 << 20, depth_max: 200 };

/// Go's own functions only.
struct Bare;

impl Names for Bare {
    fn find(&self, _: &str) -> Option<(u16, Signature)> {
        None
    }
}

impl Functions for Bare {
    fn call(&self, _: &mut Run<'_>, _: u16, _: &[Value]) -> Result<Value, String> {
        Err("there is none".to_owned())
    }
}

pub(super) fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut set = Set::new();
    if set.parse("t", text, &Bare).is_err() {
        return;
    }
    let data = serde_json::json!({"a": {"b": [1, "x", null]}, "n": 1.5, "s": "text"});
    let heap = Heap::new(BOUNDS);
    let out = Run::new(Rc::new(set), &Bare, MissingKey::Zero, &heap)
        .execute("t", &Value::from_json(&data));
    if let Ok(out) = out {
        assert!(out.len() as u64 <= BOUNDS.bytes_max, "what is written was counted");
    }
}

pub(super) fn template_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "{{- range $i, $e := .a.b }}{{ if eq $i 1 }}{{ continue }}{{ else if $e }}{{ break }}{{ end }}{{ end -}}",
        "{{ define \"d\" }}{{ template \"d\" . }}{{ end }}{{ block \"e\" (index .a \"b\") }}{{ len . }}{{ end }}",
        "{{ with $x := printf \"%[1]*.2f|%q|%-5v|%x\" 4 .n .s }}{{ $x | html | print }}{{ end }}{{/* c */}}",
        "{{ $x := slice .s 1 2 }}{{ $x = and .s (or nil `r` 'c' 0x1p3) }}{{ (.a).b.c }}{{ range 3 }}{{ . }}{{ end }}",
    ])
}

pub(super) fn chart(bytes: &[u8]) {
    let Ok(chart) = ::charts::Chart::read(bytes) else { return };
    assert!(!chart.name().is_empty(), "a chart has a name");
    let _ = (chart.crds(), chart.to_release_json());
}

pub(super) fn chart_seeds() -> Vec<Vec<u8>> {
    let pack = |files: &[(&str, &[u8])]| {
        let mut builder = Builder::default();
        for (name, data) in files {
            builder.add(
                &Entry { size: data.len() as u64, ..Entry::file(name.as_bytes(), 0o644) },
                data,
            );
        }
        let mut out = Vec::new();
        Encoder::new().push(&builder.finish(), true, &mut out);
        out
    };
    let inner = pack(&[("b/Chart.yaml", b"apiVersion: v2\nname: b\nversion: 1.0.0\n")]);
    vec![pack(&[
        ("a/Chart.yaml", b"apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies:\n- {name: b, version: '*', condition: b.on, alias: c}\n"),
        ("a/values.yaml", b"b: {on: true}\n"),
        ("a/templates/x.yaml", b"kind: ConfigMap\n"),
        ("a/crds/y.yaml", b"kind: CustomResourceDefinition\n"),
        ("a/charts/b.tgz", &inner),
    ])]
}

pub(super) fn versions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (constraint, version) = text.split_once(';').unwrap_or((text, text));
    if let Ok(version) = Version::parse(version) {
        let again = Version::parse(&version.to_string());
        assert!(again.is_ok_and(|again| again == version), "a version is read again");
        if let Ok(constraint) = Constraint::parse(constraint) {
            let _ = constraint.allows(&version);
        }
    }
}

pub(super) fn versions_seeds() -> Vec<Vec<u8>> {
    texts(&[">=1.2.3-0 <2 || ~3.x, != 3.1;v3.2.1-rc.1+b", "^0.2 || 1.2 - 2.0.1;0.2.9", "*;1"])
}

pub(super) fn set(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut values = serde_json::json!({"a": {"b": [1]}, "c": "d"});
    if ::charts::set_value(&mut values, text, false).is_ok() {
        assert!(values.is_object(), "values are a map");
        ::charts::merge_values(&mut values, serde_json::json!({"a": null}));
    }
}

pub(super) fn set_seeds() -> Vec<Vec<u8>> {
    texts(&["a.b[0]=1,c={x,y},d[2][1].e\\.f=null", "a={},b=", "x[70000]=1,y[-1]=2"])
}
