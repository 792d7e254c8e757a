//! Functions, and what Helm 3.18.4 itself gave for them.

use std::rc::Rc;

use template::{Bounds, Heap, MissingKey, Run, Set, Value};

use super::Engine;
use crate::world::{Asked, Certificate, Lookup, World};

struct Nowhere;

impl World for Nowhere {
    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn now(&self) -> (i64, u32) {
        (1_700_000_000, 0)
    }

    fn lookup(&self, asked: &Asked) -> Lookup {
        match asked.name.as_str() {
            "known" => Lookup::Known(serde_json::json!({"kind": asked.kind})),
            _ => Lookup::Unknown,
        }
    }

    fn private_key(&self, kind: &str) -> Result<String, String> {
        Err(format!("no {kind} here"))
    }

    fn certificate(&self, request: &Certificate<'_>) -> Result<(String, String), String> {
        Ok((format!("{} {:?}", request.common_name, request.dns_names), "key".to_owned()))
    }
}

fn render(text: &str) -> (Result<String, String>, Vec<Asked>) {
    let engine = Engine::new(&Nowhere);
    let bounds = Bounds { steps_max: 2_500_000, bytes_max: 8 << 20, depth_max: 300 };
    let heap = Heap::new(bounds);
    let mut set = Set::new();
    let done = set.parse("t", text, &engine).and_then(|()| {
        let data = Value::map([].into());
        let mut run = Run::new(Rc::new(set), &engine, MissingKey::Zero, &heap);
        Ok(String::from_utf8_lossy(&run.execute("t", &data)?).into_owned())
    });
    (done, engine.into_asked())
}

const GIVEN: &[(&str, &str)] = &[
    (
        r#####"{{ trunc 3 "abcdef" }} {{ trunc -2 "abcdef" }} {{ substr 1 3 "hello" }} {{ "abc" | repeat 2 }} {{ title "hello wOrld" }} {{ untitle "Hello World" }}"#####,
        r#####"abc ef el abcabc Hello WOrld hello world"#####,
    ),
    (
        r#####"{{ snakecase "FirstName" }} {{ snakecase "HTTPServer2x" }} {{ camelcase "http_server" }} {{ kebabcase "FirstName" }} {{ swapcase "This Is" }} {{ initials "First Try" }}"#####,
        r#####"first_name http_server_2x HttpServer first-name tHIS iS FT"#####,
    ),
    (
        r#####"{{ abbrev 5 "hello world" }} {{ abbrevboth 5 10 "1234 5678 9123" }} {{ wrap 5 "aa bb cc dd" | quote }} {{ wrapWith 5 "|" "HelloWorldX" }} {{ nospace "a b c" }} {{ cat "a" 1 nil "b" }}"#####,
        r#####"he... ...5678... "aa bb\ncc dd" Hello|World|X abc a 1 b"#####,
    ),
    (
        r#####"{{ quote 1 nil "a\"b" 1.5 true }} {{ squote "a" 2 }} {{ plural "one" "many" 2 }} {{ replace " " "-" "I Am" }} {{ trimAll "$" "$5.00$" }} {{ trimSuffix "-" "a-" }}"#####,
        r#####""1" "a\"b" "1.5" "true" 'a' '2' many I-Am 5.00 a"#####,
    ),
    (
        r#####"{{ list 1 2 3 | join "," }} {{ sortAlpha (list "b" 1 "a") }} {{ split "$" "a$b" }} {{ splitn "$" 2 "a$b$c" }} {{ splitList "," "a,b" | toJson }}"#####,
        r#####"1,2,3 [1 a b] map[_0:a _1:b] map[_0:a _1:b$c] ["a","b"]"#####,
    ),
    (
        r#####"{{ add 1 2.7 "3" }} {{ sub 5 2 }} {{ div 7 2 }} {{ mod 7 3 }} {{ mul 2 3 4 }} {{ max 1 5 2 }} {{ min 4 2 }} {{ round 123.5555 3 }} {{ ceil 1.1 }} {{ floor 1.9 }} {{ addf 0.1 0.2 }} {{ divf 1 3 }} {{ mulf 1.1 1.1 }} {{ subf 1 0.9 }} {{ add1f 1.5 }} {{ int "0x1f" }} {{ int "08" }} {{ int64 3.9 }} {{ float64 "1.5" }} {{ toDecimal "777" }} {{ atoi "12" }} {{ seq 5 }} {{ seq 2 -2 }} {{ seq 0 2 10 }} {{ until 3 }} {{ untilStep 3 6 2 }}"#####,
        r#####"6 3 3 1 24 5 2 123.556 2 1 0.3 0.3333333333333333 1.21 0.1 2.5 31 0 3 1.5 511 12 1 2 3 4 5 2 1 0 -1 -2 0 2 4 6 8 10 [0 1 2] [3 5]"#####,
    ),
    (
        r#####"{{ default "d" "" }} {{ default "d" 0 }} {{ empty list }} {{ coalesce nil 0 "x" }} {{ ternary "a" "b" false }} {{ all 1 0 }} {{ any 1 0 }} {{ compact (list 1 "" 2) }}"#####,
        r#####"d d true x b false true [1 2]"#####,
    ),
    (
        r#####"{{ dict "a" 1 "b" (list 1 2) | toJson }} {{ get (dict "a" 1) "b" | quote }} {{ dig "a" "b" "dflt" (dict "a" dict) }} {{ pluck "a" (dict "a" 1) (dict "a" 2) }} {{ keys (dict "a" 1) }} {{ pick (dict "a" 1 "b" 2) "a" }} {{ omit (dict "a" 1 "b" 2) "a" }}"#####,
        r#####"{"a":1,"b":[1,2]} "" dflt [1 2] [a] map[a:1] map[b:2]"#####,
    ),
    (
        r#####"{{ merge (dict "a" false "b" (dict "c" 1)) (dict "a" true "b" (dict "d" 2) "e" 5) | toJson }} {{ mergeOverwrite (dict "a" 1 "l" (list 1)) (dict "a" 0 "l" list "n" nil) | toJson }} {{ deepEqual (list 1) (list 1) }}"#####,
        r#####"{"a":true,"b":{"c":1,"d":2},"e":5} {"a":0,"l":[],"n":null} true"#####,
    ),
    (
        r#####"{{ first (list 1 2) }} {{ rest (list 1 2) }} {{ last (list 1 2) }} {{ initial (list 1 2) }} {{ append (list 1) 2 }} {{ prepend (list 1) 2 }} {{ reverse (list 1 2) }} {{ uniq (list 1 1 2) }} {{ without (list 1 2) 1 }} {{ has 1 (list 1) }} {{ slice (list 1 2 3) 1 2 }} {{ concat (list 1) (list 2) }} {{ chunk 2 (list 1 2 3) }}"#####,
        r#####"1 [2] 2 [1] [1 2] [2 1] [2 1] [1 2] [2] true [2] [1 2] [[1 2] [3]]"#####,
    ),
    (
        r#####"{{ typeOf 1 }} {{ typeOf (list) }} {{ kindOf dict }} {{ kindIs "invalid" nil }} {{ typeOf (splitList "," "a") }} {{ typeIs "string" "a" }} {{ kindOf 1.5 }} {{ typeOf (len "a") }} {{ typeOf (add 1 2) }}"#####,
        r#####"int []interface {} map true []string true float64 int int64"#####,
    ),
    (
        r#####"{{ b64enc "hello" }} {{ b64dec "aGVsbG8=" }} {{ b32enc "hello" }} {{ b32dec "NBSWY3DP" }} {{ sha1sum "a" }} {{ sha256sum "a" }} {{ adler32sum "abc" }} {{ toJson "<a>&" }} {{ toRawJson "<a>&" }} {{ b64dec "!!" }}"#####,
        r#####"aGVsbG8= hello NBSWY3DP hello 86f7e437faa5a7fce15d1ddcb9eaeaea377667b8 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb 38600999 "\u003ca\u003e\u0026" "<a>&" illegal base64 data at input byte 0"#####,
    ),
    (
        r#####"{{ toPrettyJson (dict "a" (list 1 2)) | quote }} {{ fromJson "{\"a\":1}" }} {{ fromYaml "a: 1.5" }} {{ fromYamlArray "[1,2]" }} {{ mustToJson nil }}"#####,
        r#####""{\n  \"a\": [\n    1,\n    2\n  ]\n}" map[a:1] map[a:1.5] [1 2] null"#####,
    ),
    (
        r#####"{{ regexMatch "^[a-z]+$" "abc" }} {{ regexFind "[0-9]+" "ab12c3" }} {{ regexFindAll "[0-9]" "1a2b3" 2 }} {{ regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W" }} {{ regexReplaceAllLiteral "a(x*)b" "-ab-axxb-" "${1}" }} {{ regexSplit "z+" "pizza" -1 }} {{ regexQuoteMeta "1.2.3" }} {{ regexSplit "" "abc" -1 }}"#####,
        r#####"true 12 [1 2] -W-xxW- -${1}-${1}- [pi a] 1\.2\.3 [a b c]"#####,
    ),
    (
        r#####"{{ semver "1.2.3-beta.1+c" }} {{ (semver "1.2.3").Major }} {{ (semver "1.2.3").Compare (semver "1.3.0") }} {{ semverCompare "^1.2.0" "1.2.3" }}"#####,
        r#####"1.2.3-beta.1+c 1 -1 true"#####,
    ),
    (
        r#####"{{ base "/a/b.c" }} {{ dir "/a/b.c" }} {{ clean "a/../b//c" }} {{ ext "a.tar.gz" }} {{ isAbs "/a" }} {{ urlParse "http://u:p@h.com:8080/p?q=1#f" | toJson }} {{ urlJoin (dict "scheme" "http" "host" "h:1" "path" "/p" "query" "q=1" "fragment" "f") }}"#####,
        r#####"b.c /a b/c .gz true {"fragment":"f","host":"h.com:8080","hostname":"h.com","opaque":"","path":"/p","query":"q=1","scheme":"http","userinfo":"u:p"} http://h:1/p?q=1#f"#####,
    ),
    (
        r#####"{{ date "2006-01-02T15:04:05Z07:00 Mon Jan _2 3:04PM .000" (int64 1700000000) }} {{ dateInZone "2006-01-02 15:04 MST -0700" (int64 1700000000) "Europe/Berlin" }} {{ toDate "2006-01-02" "2017-12-31" | date "02/01/2006" }} {{ unixEpoch (toDate "2006-01-02 15:04" "2020-02-29 12:30") }} {{ duration "95" }} {{ durationRound "2h10m5s" }} {{ toDate "2006-01-02" "2020-01-01" | dateModify "-1.5h" }} {{ htmlDate (int 0) }}"#####,
        r#####"2023-11-14T22:13:20Z Tue Nov 14 10:13PM .000 2023-11-14 23:13 CET +0100 31/12/2017 1582979400 1m35s 2h 2019-12-31 22:30:00 +0000 UTC 1970-01-01"#####,
    ),
    (
        r#####"{{ toToml (dict "a" 1.5 "b" "x" "c" (dict "d" true "e" (list 1 2))) | quote }} {{ fromToml "a = 1\n[b]\nc = \"x\"" | toJson }} {{ toString 1000000.0 }} {{ 1000000 | toString }} {{ toStrings (list 1 nil "a") | toJson }}"#####,
        r#####""a = 1.5\nb = \"x\"\n\n[c]\n  d = true\n  e = [1, 2]\n" {"a":1,"b":{"c":"x"}} 1e+06 1000000 ["1","a"]"#####,
    ),
    (
        r#####"{{ derivePassword 1 "long" "password" "user" "example.com" }} {{ decryptAES "k" (encryptAES "k" "plain") }} {{ genPrivateKey "x" }} {{ hello }} {{ getHostByName "x" | quote }} {{ upper "ä" }} {{ trim "  a " }} {{ contains "a" "cat" }} {{ hasPrefix "c" "cat" }} {{ trimPrefix "c" "cat" }} {{ len (uuidv4) }} {{ randAlphaNum 5 | len }} {{ shuffle "aaa" }}"#####,
        r#####"ZedaFaxcZaso9* plain Unknown type x Hello! "" Ä a true true at 36 5 aaa"#####,
    ),
];

#[test]
fn as_helm_gives_them() {
    for (text, expected) in GIVEN {
        assert_eq!(render(text).0.as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn what_stops_a_rendering_is_told_without_the_way_there() {
    for (text, expected) in [
        (r#"{{ fail "no: way" }}"#, "execution error at (t:1:3): no: way"),
        (r#"{{ required "name it" "" }}"#, "execution error at (t:1:3): name it"),
        (r#"{{ required "name it" nil }}"#, "execution error at (t:1:3): name it"),
    ] {
        assert_eq!(super::stopped(&render(text).0.unwrap_err()), expected);
    }
    assert_eq!(render(r#"{{ required "name it" 0 }}"#).0.as_deref(), Ok("0"));
}

#[test]
fn lookups_that_are_not_known_are_told() {
    let (out, asked) = render(
        r#"{{ (lookup "v1" "Secret" "ns" "known").kind }} {{ lookup "v1" "Secret" "ns" "x" }}"#,
    );
    assert_eq!(out.as_deref(), Ok("Secret map[]"));
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].kind.as_str(), asked[0].name.as_str()), ("Secret", "x"));
}

#[test]
fn certificates_come_from_the_world() {
    let text = r#"{{ $ca := genCA "ca" 365 }}{{ $c := genSignedCert "cn" nil (list "a" "b") 10 $ca }}{{ $c.Cert }} {{ $c.Key }}"#;
    assert_eq!(render(text).0.as_deref(), Ok(r#"cn ["a", "b"] key"#));
    assert!(render(r#"{{ genSignedCert "cn" nil nil 10 1 }}"#).0.is_err());
}

#[test]
fn changes_are_seen_where_maps_are_shared() {
    let text = r#"{{ $a := dict "x" (dict "y" 1) }}{{ $b := merge (dict) $a }}{{ $_ := set $b.x "y" 2 }}{{ $a.x.y }}{{ $c := deepCopy $a }}{{ $_ := set $c.x "y" 3 }}{{ $a.x.y }}"#;
    assert_eq!(render(text).0.as_deref(), Ok("22"));
}

#[test]
fn hostile_arguments_are_bounded() {
    for text in [
        r#"{{ repeat 1000000000 "aaaa" }}"#,
        r#"{{ indent 1000000000 "a" }}"#,
        "{{ until 1000000000 }}",
        "{{ seq 1 1000000000 }}",
        "{{ randAlphaNum 1000000000 }}",
        r#"{{ define "d" }}{{ include "d" . }}{{ end }}{{ include "d" . }}"#,
        r#"{{ define "d" }}{{ tpl "{{ include \"d\" . }}" . }}{{ end }}{{ include "d" . }}"#,
        r#"{{ range until 1000 }}{{ bcrypt "x" }}{{ end }}"#,
        r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ merge (dict "d" (dict)) $d | toJson | fail }}"#,
        r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ deepCopy $d }}"#,
    ] {
        assert!(render(text).0.is_err(), "{text}");
    }
    assert_eq!(
        render(r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ toYaml $d }}"#).0.as_deref(),
        Ok("")
    );
}
