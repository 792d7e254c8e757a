//! Engines of the API: texts in objects, certificates, codecs, patches, expressions.

use ::api::codec::{self, FieldValidation};
use ::api::{Form, Lens, LensMut, Quantity, Value, json, kinds, patch as patches};
use cel::{CALL_MAX, Decision, Host, Input, Query, Spent, Type, Val, Variable};
use rules::{defaults, validate};

use super::texts as seeds_of;

/// Between the parts of one input.
const SEPARATOR: u8 = 0x1e;
/// Steps of one expression; what is allowed in the server takes seconds.
const STEPS_MAX: u64 = CALL_MAX / 100;

const FORMATS: &[&str] = &[
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// What stands as text in objects and in queries.
pub(super) fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(quantity) = text.parse::<Quantity>() {
        let shown = quantity.to_string();
        let again: Quantity = shown.parse().expect("a quantity that is written is read");
        assert_eq!(again.to_string(), shown, "of {text:?}");
    }
    if let Some(time) = ::api::time::parse(text) {
        let _ = ::api::time::format_micro(time);
    }
    if let Ok(selector) = ::api::selector::Selector::parse(text) {
        let _ = selector.matches_map(&json!({"a": "b", "app": "web"}));
    }
    let _ = ::api::selector::parse_fields(text);
    for format in FORMATS {
        let _ = ::api::violations(format, text);
    }
    let _ = wire::percent::unescape(text, true);
    let _ = wire::pem::sections(bytes);
    if let Some(decoded) = wire::base64::decode(text) {
        assert_eq!(wire::base64::decode(&wire::base64::encode(&decoded)), Some(decoded));
    }
    let _ = cel::url(text);
    let _ = stdx::duration::parse(text);
}

pub(super) fn texts_seeds() -> Vec<Vec<u8>> {
    seeds_of(&[
        "1.5Gi",
        "-100m",
        "12e6",
        "0.000000001n",
        "2024-02-29T23:59:60.123456789+05:30",
        "app in (a, b),!c,tier notin (x),d=e",
        "metadata.name=a\\,b,status.phase!=Running",
        "https://user:pw@[::1]:443/a/b?c=d&e#f",
        "1h2m3.5s",
        "a%20b%2Fc+d",
        "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n",
        "10.0.0.0/8",
    ])
}

pub(super) fn certificate(bytes: &[u8]) {
    let _ = ::api::certificate::request(bytes);
    let _ = ::api::certificate::request_der(bytes);
    let _ = ::api::certificate::chain(bytes);
    let _ = wire::pkcs10::is_certificate(bytes);
    let _ = wire::x509::read(bytes);
}

/// A request for a certificate (P-256, CN=alice) and a certificate, in DER and as text.
pub(super) fn certificate_seeds() -> Vec<Vec<u8>> {
    let texts = [include_bytes!("request.pem").as_slice(), include_bytes!("../../wire/x509.pem")];
    let der = |text: &&[u8]| wire::pem::sections(text).into_iter().map(|section| section.content);
    let texts = texts.iter();
    texts.clone().flat_map(der).chain(texts.map(|text| text.to_vec())).collect()
}

/// Every form in which a kind in code is served.
fn forms() -> impl Iterator<Item = Form<'static>> {
    kinds::KINDS.iter().flat_map(|kind| kind.forms())
}

/// One object of each kind.
pub(super) fn objects() -> Vec<Value> {
    wire::yaml::parse(include_str!("../../server/checks/objects.yaml")).unwrap_or_default()
}

fn form_of(tree: &Value) -> Option<Form<'static>> {
    forms().find(|form| {
        form.api_version() == tree.str("apiVersion") && form.kind.name == tree.str("kind")
    })
}

/// The first byte chooses the form; what is read is written, and then read as the same.
pub(super) fn protobuf(bytes: &[u8]) {
    let Some((&idx, bytes)) = bytes.split_first() else { return };
    let Some(form) = forms().nth(usize::from(idx)) else { return };
    let _ = codec::protobuf_tree_bytes(form, bytes);
    let Ok(decoded) = codec::decode_protobuf(form, bytes) else { return };
    let written = codec::tree_to_protobuf(&decoded.tree).expect("what was read is written");
    let again = codec::decode_protobuf(form, &written).expect("what is written is read");
    assert_eq!(again.tree, decoded.tree);
}

pub(super) fn protobuf_seeds() -> Vec<Vec<u8>> {
    let seed = |tree: Value| {
        let idx = forms().position(|form| {
            Some(form.api_version()) == form_of(&tree).map(|of| of.api_version())
                && form.kind.name == tree.str("kind")
        })?;
        let mut seed = vec![u8::try_from(idx).ok()?];
        seed.extend(codec::tree_to_protobuf(&tree).ok()?);
        Some(seed)
    };
    objects().into_iter().filter_map(seed).collect()
}

/// An object in JSON goes the way of a create, but for admission.
pub(super) fn object(bytes: &[u8]) {
    let Ok(parsed) = wire::json::parse(bytes) else { return };
    let Some(form) = form_of(&parsed.tree) else { return };
    let Ok(decoded) = codec::decode_json_strict(form, bytes, FieldValidation::Warn) else { return };
    let mut tree = decoded.tree;
    defaults::apply(form, &mut tree);
    let is_valid = validate::create(form, &tree).is_ok();
    if codec::has_protobuf(form.kind) && is_valid {
        let written = codec::tree_to_protobuf(&tree).expect("an object is written");
        codec::decode_protobuf(form, &written).expect("and read");
    }
}

pub(super) fn object_seeds() -> Vec<Vec<u8>> {
    objects().into_iter().map(|tree| tree.to_string().into_bytes()).collect()
}

/// An object and a patch, in every kind of patch.
pub(super) fn patch(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == SEPARATOR);
    let mut read = || parts.next().and_then(|part| wire::json::parse(part).ok());
    let (Some(object), Some(patch)) = (read(), read()) else { return };
    let (old, patch) = (object.tree, patch.tree);
    let Some(form) = form_of(&old) else { return };
    let check = |mut tree: Value| {
        if codec::check_fields(form, &mut tree, FieldValidation::Ignore).is_ok() {
            defaults::apply(form, &mut tree);
            let _ = validate::update(form, &tree, &old);
            apply::track(form, "fuzz", "", stdx::time::Wall::default(), Some(&old), &mut tree);
        }
    };
    for way in 0..3 {
        let mut tree = old.clone();
        let is_done = match way {
            0 => patches::json(&mut tree, &patch).is_ok(),
            1 => {
                patches::merge(&mut tree, &patch);
                true
            }
            _ => patches::strategic(form, &mut tree, &patch).is_ok(),
        };
        if is_done {
            check(tree);
        }
    }
    let request = apply::Request {
        form,
        live: Some(&old),
        applied: &patch,
        manager: "fuzz",
        subresource: "",
        force: true,
        now: stdx::time::Wall::default(),
    };
    if apply::check_shape(form, &patch).is_ok()
        && let Ok(tree) = apply::apply(request)
    {
        check(tree);
    }
}

pub(super) fn patch_seeds() -> Vec<Vec<u8>> {
    let pair = |object: &Value, patch: &Value| {
        let mut seed = object.to_string().into_bytes();
        seed.push(SEPARATOR);
        seed.extend_from_slice(patch.to_string().as_bytes());
        seed
    };
    let operations = json!([
        {"op": "add", "path": "/metadata/labels", "value": {"a~1b": "c"}},
        {"op": "copy", "from": "/spec", "path": "/metadata/annotations"},
        {"op": "move", "from": "/metadata/labels", "path": "/data"},
        {"op": "test", "path": "/kind", "value": "Pod"},
        {"op": "replace", "path": "/spec/containers/-", "value": 1},
        {"op": "remove", "path": "/spec/containers/0"},
    ]);
    let strategic = json!({"metadata": {"labels": null}, "spec": {
        "$setElementOrder/containers": [{"name": "c"}], "$retainKeys": ["containers"],
        "containers": [{"name": "c", "image": "j", "ports": [{"containerPort": 80, "$patch": "delete"}]}, {"$patch": "replace"}],
        "$deleteFromPrimitiveList/finalizers": ["x"]}});
    let mut seeds = Vec::new();
    for object in objects() {
        seeds.push(pair(&object, &object));
        seeds.push(pair(&object, &operations));
        if object.str("kind") == "Pod" {
            let mut managed = object.clone();
            managed.set("metadata.managedFields", json!([{
                "manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "time": "2024-01-01T00:00:00Z",
                "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}},
            }]));
            seeds.push(pair(&managed, &strategic));
        }
    }
    seeds
}

/// Knows no format and decides by the verb.
struct Nobody;

impl Host for Nobody {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        ::api::violations(format, text)
    }

    fn authorize(&self, query: &Query) -> Option<Decision> {
        Some(Decision { allowed: query.verb == "get", reason: String::new(), error: None })
    }
}

pub(super) fn cel(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let variables = [Variable { name: "self", kind: Type::Dyn }];
    let Ok(compiled) = cel::compile(text, &variables, None) else { return };
    assert!(compiled.cost.min <= compiled.cost.max);
    let value =
        json!({"a": {"b": 1, "c": "x"}, "l": [1, 2.5, "x", null, true, {"k": [1]}], "s": "text"});
    let input = Input { variables: &[Val::json(&value)], host: &Nobody };
    let _ = compiled.program.run(&input, &mut Spent::up_to(STEPS_MAX));
}

pub(super) fn cel_seeds() -> Vec<Vec<u8>> {
    seeds_of(&[
        "self.l.map(x, type(x) == int ? x + 1 : 0).filter(y, y > 0).size() == 2",
        "has(self.a.b) && self.a.?z.orValue('none') != '%s-%d'.format([self.s, 3])",
        "self.s.matches('^t[a-z]*$') || self.s.split(',').join(';').substring(1) in ['a', \"b\"]",
        "quantity('1Gi').add(quantity('1Mi')).isGreaterThan(quantity('5'))",
        "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && url('https://a:1/b').getPort() == '1'",
        "duration('1h30m') + timestamp('2024-01-01T00:00:00Z') < timestamp(0)",
        "sets.intersects([1, 2], [2]) ? bytes('x').size() : {'k': 1u}.k",
        "[[1, 2], [3]].exists_one(x, x.all(y, y < 3)) && 'ä'.charAt(0) == 'ä'",
    ])
}

pub(super) const CEL_WORDS: &[&[u8]] = &[
    b"self",
    b".map(x, ",
    b".filter(x, ",
    b".all(x, ",
    b".exists(x, ",
    b"has(",
    b"size(",
    b"string(",
    b"int(",
    b"double(",
    b"duration(",
    b"timestamp(",
    b".orValue(",
    b".?",
    b"[?",
    b"optional.of(",
    b".format([",
    b".replace(",
    b".find(",
    b".sum()",
    b"quantity(",
    b"&&",
    b"||",
    b"==",
    b"in ",
    b"r'",
    b"b'",
    b"'''",
];
