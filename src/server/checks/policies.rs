//! Policies of admission: expressions refuse, warn and annotate, with parameters or without.

use api::kinds::*;
use api::{LensMut, Status, Value, json};
use client::{Client, DeleteOptions, Verb};

use super::{request, start};
use crate::Server;
use crate::dispatch::perform;
use crate::user::{Caller, User};

/// A policy about config maps, with `spec` in it.
async fn policy(client: &Client, name: &str, spec: Value) {
    let mut tree = json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [
        {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        tree["spec"][key] = value.clone();
    }
    client.create(&VALIDATING_ADMISSION_POLICY, tree).await.unwrap();
}

async fn bind(client: &Client, policy: &str, spec: Value) {
    let mut tree = json!({"metadata": {"name": format!("{policy}-binding")},
        "spec": {"policyName": policy, "validationActions": ["Deny"]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        tree["spec"][key] = value.clone();
    }
    client.create(&VALIDATING_ADMISSION_POLICY_BINDING, tree).await.unwrap();
}

async fn release(client: &Client, policy: &str) {
    let options = DeleteOptions::default();
    client.delete(&VALIDATING_ADMISSION_POLICY, "", policy, options.clone()).await.unwrap();
    let name = format!("{policy}-binding");
    client.delete(&VALIDATING_ADMISSION_POLICY_BINDING, "", &name, options).await.unwrap();
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "labels": {"for": name}}, "data": data})
}

/// What a dry run of a creation answers: the refusal, or nothing.
async fn refusal(server: &Server, caller: &Caller, data: Value) -> Result<Vec<String>, Status> {
    let mut create = request(Verb::Create, &CONFIG_MAP, "", config_map("c", data));
    create.dry_run = true;
    perform(server.core(), caller, create).await.map(|made| made.warnings)
}

fn caller(user: User) -> Caller {
    Caller::new(user, "test")
}

#[test]
fn expressions_refuse_in_upstreams_words() {
    rt::block_on(async {
        let (server, client) = start().await;
        let admin = caller(User::admin());
        let validation = |validation: Value| json!({"validations": [validation]});
        let denied = "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-binding' denied request: ";
        for (spec, code, wanted) in [
            (validation(json!({"expression": "object.data.a == 'b'"})), 0, ""),
            (
                validation(json!({"expression": "object.data.a == 'x'"})),
                422,
                "failed expression: object.data.a == 'x'",
            ),
            (validation(json!({"expression": "false", "message": "never"})), 422, "never"),
            (
                validation(
                    json!({"expression": "false", "message": "never", "reason": "Forbidden"}),
                ),
                403,
                "never",
            ),
            (
                validation(
                    json!({"expression": "false", "messageExpression": "'got ' + object.data.a", "message": "never"}),
                ),
                422,
                "got b",
            ),
            (
                validation(
                    json!({"expression": "false", "messageExpression": "string(object.nope)", "message": "never"}),
                ),
                422,
                "never",
            ),
            (
                validation(json!({"expression": "object.nope == 1"})),
                422,
                "expression 'object.nope == 1' resulted in error: no such key: nope",
            ),
            (
                json!({"validations": [{"expression": "object.nope == 1"}], "failurePolicy": "Ignore"}),
                0,
                "",
            ),
            (
                json!({"validations": [{"expression": "false"}], "failurePolicy": "Ignore"}),
                422,
                "failed expression: false",
            ),
            (
                json!({"validations": [{"expression": "false"}], "matchConditions": [{"name": "m", "expression": "request.name == 'other'"}]}),
                0,
                "",
            ),
            (
                json!({"validations": [{"expression": "false"}], "matchConditions": [{"name": "m", "expression": "request.name == 'c' && namespaceObject == null"}]}),
                422,
                "failed expression: false",
            ),
            (
                json!({"validations": [{"expression": "false"}], "matchConditions": [{"name": "m", "expression": "object.x == 1"}]}),
                422,
                "expression 'object.x == 1' resulted in error: no such key: x",
            ),
            // Variables are evaluated where something comes to them.
            (
                json!({"variables": [{"name": "n", "expression": "object.data.a"}, {"name": "two", "expression": "variables.n + variables.n"}, {"name": "bad", "expression": "object.nope"}],
                "validations": [{"expression": "variables.two == 'bb' || variables.bad"}]}),
                0,
                "",
            ),
            (
                json!({"variables": [{"name": "bad", "expression": "object.nope"}], "validations": [{"expression": "variables.bad == 1"}]}),
                422,
                "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: nope",
            ),
            (
                validation(
                    json!({"expression": "namespaceObject.metadata.name == 'default' && oldObject == null && request.operation == 'CREATE' && request.dryRun"}),
                ),
                0,
                "",
            ),
            (
                validation(
                    json!({"expression": "authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()"}),
                ),
                0,
                "",
            ),
            (
                validation(
                    json!({"expression": "authorizer.serviceAccount('default', 'default').group('').resource('configmaps').check('create').allowed()"}),
                ),
                422,
                "failed expression",
            ),
            // What costs too much is refused.
            (
                json!({"validations": vec![json!({"expression": "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a + b + c + d + e > 0)))))"}); 12]}),
                422,
                "validation failed due to running out of cost budget, no further validation rules will be run",
            ),
            (
                json!({"auditAnnotations": [{"key": "k", "valueExpression": "string(object.nope)"}]}),
                422,
                "expression 'string(object.nope)' resulted in error: no such key: nope",
            ),
            (
                json!({"auditAnnotations": [{"key": "k", "valueExpression": "authorizer.path('/').check('get').reason()"}]}),
                422,
                "no such attribute(s): authorizer",
            ),
        ] {
            policy(&client, "p", spec.clone()).await;
            bind(&client, "p", json!({})).await;
            let found = refusal(&server, &admin, json!({"a": "b"})).await;
            match found {
                Ok(_) => assert_eq!((code, wanted), (0, ""), "{spec}: let pass"),
                Err(refused) => {
                    assert_eq!(refused.code(), code, "{spec}: {}", refused.message());
                    let said = refused.message().strip_prefix(denied).unwrap_or_default();
                    assert!(
                        said.contains(wanted) && !said.is_empty(),
                        "{spec}: {}",
                        refused.message()
                    );
                    let cause = &refused.details()["causes"][0]["message"];
                    assert!(refused.message().ends_with(cause.as_str().unwrap()), "{cause}");
                }
            }
            release(&client, "p").await;
        }
    });
}

#[test]
fn bindings_say_where_and_what_follows() {
    rt::block_on(async {
        let (server, client) = start().await;
        let admin = caller(User::admin());
        let rule = |more: Value| {
            let mut rule = json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        };
        policy(&client, "p", json!({"validations": [{"expression": "false", "message": "no"}]}))
            .await;
        let data = json!({"a": "b"});
        assert!(refusal(&server, &admin, data.clone()).await.is_ok(), "it is bound nowhere");
        for (binding, refused) in [
            (json!({}), true),
            (
                json!({"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}),
                true,
            ),
            (
                json!({"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}}),
                false,
            ),
            (json!({"matchResources": {"objectSelector": {"matchLabels": {"for": "c"}}}}), true),
            (json!({"matchResources": {"objectSelector": {"matchLabels": {"for": "d"}}}}), false),
            (
                json!({"matchResources": {"resourceRules": [rule(json!({"resourceNames": ["c"]}))]}}),
                true,
            ),
            (
                json!({"matchResources": {"resourceRules": [rule(json!({"resourceNames": ["d"]}))]}}),
                false,
            ),
            (json!({"matchResources": {"excludeResourceRules": [rule(json!({}))]}}), false),
            (
                json!({"matchResources": {"excludeResourceRules": [rule(json!({"operations": ["DELETE"]}))]}}),
                true,
            ),
            (json!({"policyName": "other"}), false),
        ] {
            bind(&client, "p", binding.clone()).await;
            let found = refusal(&server, &admin, data.clone()).await;
            assert_eq!(found.is_err(), refused, "{binding}");
            let options = DeleteOptions::default();
            client
                .delete(&VALIDATING_ADMISSION_POLICY_BINDING, "", "p-binding", options)
                .await
                .unwrap();
        }
        bind(&client, "p", json!({"validationActions": ["Warn", "Audit"]})).await;
        let warned = refusal(&server, &admin, data.clone()).await.unwrap();
        assert_eq!(
            warned,
            ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-binding': no"]
        );
    });
}

#[test]
fn deletions_other_versions_and_connections_are_judged_and_policies_are_not() {
    rt::block_on(async {
        let (_server, client) = start().await;
        client.create(&CONFIG_MAP, config_map("kept", json!({"keep": "yes"}))).await.unwrap();
        policy(&client, "p", json!({
            "matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]},
            "validations": [{"expression": "object == null && oldObject.?data.keep.orValue('') != 'yes'", "message": "kept"}]})).await;
        bind(&client, "p", json!({})).await;
        let options = DeleteOptions::default();
        let refused =
            client.delete(&CONFIG_MAP, "default", "kept", options.clone()).await.unwrap_err();
        assert!(refused.message().ends_with("denied request: kept"), "{}", refused.message());
        release(&client, "p").await;
        client.delete(&CONFIG_MAP, "default", "kept", options.clone()).await.unwrap();
        // The version that rules name is the one that expressions see.
        policy(&client, "p", json!({
            "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}]},
            "validations": [{"expression": "object.apiVersion != 'autoscaling/v1' || request.requestKind.version != 'v2' || object.spec.targetCPUUtilizationPercentage < 50", "message": "too much"}]})).await;
        bind(&client, "p", json!({})).await;
        let scaler = json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}});
        let refused = client.create(&HORIZONTAL_POD_AUTOSCALER, scaler).await.unwrap_err();
        assert!(refused.message().ends_with("denied request: too much"), "{}", refused.message());
        release(&client, "p").await;
    });
}

#[test]
fn parameters_are_found_by_name_or_labels() {
    rt::block_on(async {
        let (server, client) = start().await;
        let admin = caller(User::admin());
        for (name, max) in [("five", "5"), ("nine", "9")] {
            let mut tree = config_map(name, json!({"max": max}));
            tree.set("metadata.labels.limit", "yes");
            client.create(&CONFIG_MAP, tree).await.unwrap();
        }
        let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [
            {"expression": "params == null || int(object.data.n) <= int(params.data.max)",
             "messageExpression": "'at most ' + params.data.max + params.kind + params.apiVersion"}]});
        let param = |param: Value| json!({"paramRef": param});
        let missing = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
        for (binding, n, wanted) in [
            (json!({}), "7", ""),
            (
                param(json!({"name": "five", "parameterNotFoundAction": "Deny"})),
                "7",
                "at most 5ConfigMapv1",
            ),
            (param(json!({"name": "five", "parameterNotFoundAction": "Deny"})), "4", ""),
            (
                param(
                    json!({"name": "five", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}),
                ),
                "4",
                missing,
            ),
            (param(json!({"name": "none", "parameterNotFoundAction": "Deny"})), "7", missing),
            (param(json!({"name": "none", "parameterNotFoundAction": "Allow"})), "7", ""),
            (
                param(
                    json!({"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}),
                ),
                "7",
                "at most 5ConfigMapv1",
            ),
            (
                param(
                    json!({"selector": {"matchLabels": {"limit": "no"}}, "parameterNotFoundAction": "Deny"}),
                ),
                "7",
                missing,
            ),
            (param(json!({"selector": {}, "parameterNotFoundAction": "Deny"})), "4", ""),
        ] {
            policy(&client, "p", spec.clone()).await;
            bind(&client, "p", binding.clone()).await;
            let found = refusal(&server, &admin, json!({"n": n})).await;
            let said = found.err().map_or(String::new(), |refused| refused.message().to_owned());
            assert!(
                said.ends_with(wanted) && said.is_empty() == wanted.is_empty(),
                "{binding}: {said}"
            );
            release(&client, "p").await;
        }
        let mut spec = spec;
        spec["paramKind"]["kind"] = "Nothing".into();
        policy(&client, "p", spec.clone()).await;
        bind(&client, "p", json!({})).await;
        let refused = refusal(&server, &admin, json!({"n": "1"})).await.unwrap_err();
        let why = "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Nothing'";
        assert!(refused.message().ends_with(why), "{}", refused.message());
        release(&client, "p").await;
    });
}

/// Who binds parameters may read them.
#[test]
fn parameters_are_named_by_those_who_may_read_them() {
    rt::block_on(async {
        let (server, client) = start().await;
        let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}]});
        client.create(&CLUSTER_ROLE, role).await.unwrap();
        let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}});
        client.create(&CLUSTER_ROLE_BINDING, binding).await.unwrap();
        let user = server.client_as(User::new("u", &[]));
        let tree = json!({"metadata": {"name": "p"}, "spec": {"paramKind": {"apiVersion": "v1", "kind": "Secret"},
            "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "true"}]}});
        let refused = user.create(&VALIDATING_ADMISSION_POLICY, tree.clone()).await.unwrap_err();
        let why = r#"spec.paramKind: Forbidden: user &{u  [system:authenticated] map[]} must have "get" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)"#;
        assert!(refused.code() == 422 && refused.message().ends_with(why), "{}", refused.message());
        client.create(&VALIDATING_ADMISSION_POLICY, tree).await.unwrap();
        let tree = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"],
            "paramRef": {"name": "s", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}}});
        let refused =
            user.create(&VALIDATING_ADMISSION_POLICY_BINDING, tree.clone()).await.unwrap_err();
        let why = r#"spec.paramRef: Forbidden: user &{u  [system:authenticated] map[]} does not have "get" permission on the object referenced by paramRef"#;
        assert!(refused.code() == 422 && refused.message().ends_with(why), "{}", refused.message());
        client.create(&VALIDATING_ADMISSION_POLICY_BINDING, tree).await.unwrap();
    });
}
