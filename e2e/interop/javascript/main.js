// What programs built on the JavaScript client do: typed and generic objects, patches and server-side apply, watches and
// informers, custom resources, logs, exec, cp and port-forward.
//
//	node main.js KUBECONFIG
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import * as k8s from "@kubernetes/client-node";

const namespace = "javascript";
const partMax = 60_000;

const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(k8s.CoreV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

let failed = 0;

async function check(name, part) {
  const began = performance.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it does not end")), partMax);
  });
  try {
    await Promise.race([part(), late]);
    console.log(`ok    ${name.padEnd(52)} ${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}: ${error.stack}`);
  } finally {
    clearTimeout(timer);
  }
}

const configMap = (name, value) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace, labels: { javascript: "yes" } },
  data: { a: value },
});
const as = (strategy) => k8s.setHeaderOptions("Content-Type", strategy);
const { JsonPatch, MergePatch, StrategicMergePatch, ServerSideApply } = k8s.PatchStrategy;

// Until a condition holds of what is read; the part's own limit bounds it.
async function until(read, holds) {
  for (;;) {
    const found = await read();
    if (holds(found)) return found;
    await new Promise((again) => setTimeout(again, 50));
  }
}

async function refused(asked, code, reason) {
  await assert.rejects(asked, (error) => {
    const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    assert.equal(error.code, code);
    assert.equal(body.reason, reason);
    return true;
  });
}

// A stream that what is written to can be waited for.
function sink() {
  const stream = new PassThrough();
  let text = "";
  const waits = [];
  stream.on("data", (chunk) => {
    text += chunk.toString("latin1");
    for (const wait of waits) wait();
  });
  const has = (holds) =>
    new Promise((done) => {
      const look = () => holds(text) && done(text);
      waits.push(look);
      look();
    });
  return { stream, has, text: () => text };
}

async function typed() {
  const made = await core.createNamespacedConfigMap({ namespace, body: configMap("typed", "1") });
  await refused(core.createNamespacedConfigMap({ namespace, body: configMap("typed", "1") }), 409, "AlreadyExists");
  await refused(core.createNamespacedConfigMap({ namespace, body: configMap("Not A Name", "1") }), 422, "Invalid");
  await refused(core.readNamespacedConfigMap({ namespace, name: "nothing" }), 404, "NotFound");
  assert.ok(made.metadata.creationTimestamp instanceof Date);
  const body = { ...made, data: { a: "2" } };
  await core.replaceNamespacedConfigMap({ namespace, name: "typed", body });
  await refused(core.replaceNamespacedConfigMap({ namespace, name: "typed", body }), 409, "Conflict");
  const preconditions = { uid: "another" };
  await refused(core.deleteNamespacedConfigMap({ namespace, name: "typed", body: { preconditions } }), 409, "Conflict");
  const said = await core.deleteNamespacedConfigMap({ namespace, name: "typed" });
  assert.equal(said.status, "Success");
}

async function pages() {
  for (let n = 0; n < 25; n++) await core.createNamespacedConfigMap({ namespace, body: { ...configMap(`page-${n}`, "1"), immutable: true } });
  const names = [];
  let _continue;
  do {
    const page = await core.listNamespacedConfigMap({ namespace, limit: 10, labelSelector: "javascript=yes", _continue });
    names.push(...page.items.map((one) => one.metadata.name));
    _continue = page.metadata._continue;
  } while (_continue);
  assert.equal(new Set(names).size, 25);
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: "javascript=yes" });
  assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: "javascript=yes" })).items.length, 0);
}

async function patches() {
  const name = "patched";
  await core.createNamespacedConfigMap({ namespace, body: configMap(name, "1") });
  const patch = async (body, strategy, more) => (await core.patchNamespacedConfigMap({ namespace, name, body, ...more }, as(strategy))).data;
  assert.deepEqual(await patch({ data: { a: null, b: "2" } }, MergePatch), { b: "2" });
  assert.deepEqual(await patch([{ op: "move", from: "/data/b", path: "/data/c" }], JsonPatch), { c: "2" });
  assert.deepEqual(await patch({ data: { d: "3" } }, StrategicMergePatch), { c: "2", d: "3" });
  const applied = { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { c: "9" } };
  await refused(patch(applied, ServerSideApply, { fieldManager: "one" }), 409, "Conflict");
  assert.deepEqual(await patch(applied, ServerSideApply, { fieldManager: "one", force: true }), { c: "9", d: "3" });
}

async function generic() {
  const spec = { replicas: 0, selector: { matchLabels: { app: "generic" } }, template: { metadata: { labels: { app: "generic" } }, spec: { containers: [{ name: "c", image: "k3rs.io/userspace:1" }] } } };
  const made = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "generic", namespace }, spec };
  await objects.create(made);
  const patched = await objects.patch({ ...made, spec: { ...spec, paused: true } }, undefined, undefined, "generic", true, ServerSideApply);
  assert.equal(patched.spec.paused, true);
  const read = await until(() => objects.read(made), (found) => found.status.observedGeneration >= 2);
  assert.equal(read.spec.replicas, 0);
  const list = await objects.list("apps/v1", "Deployment", namespace);
  assert.deepEqual(list.items.map((one) => one.metadata.name), ["generic"]);
  await objects.delete(made);
  const scale = config.makeApiClient(k8s.VersionApi);
  assert.match((await scale.getCode()).minor, /^32/);
}

async function custom() {
  const schema = { type: "object", properties: { spec: { type: "object", properties: { size: { type: "integer", maximum: 10, _default: 1 } } } } };
  const definition = {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "things.javascript.example" },
    spec: {
      group: "javascript.example",
      scope: "Namespaced",
      names: { plural: "things", kind: "Thing" },
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema }, subresources: { status: {} } }],
    },
  };
  const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
  await extensions.createCustomResourceDefinition({ body: definition });
  const name = definition.metadata.name;
  await until(() => extensions.readCustomResourceDefinition({ name }), (found) => found.status?.conditions?.some((one) => one.type === "Established" && one.status === "True"));
  const api = config.makeApiClient(k8s.CustomObjectsApi);
  const of = { group: "javascript.example", version: "v1", namespace, plural: "things" };
  const thing = (size) => ({ apiVersion: "javascript.example/v1", kind: "Thing", metadata: { name: "one" }, spec: { size } });
  await refused(api.createNamespacedCustomObject({ ...of, body: thing(11) }), 422, "Invalid");
  const made = await api.createNamespacedCustomObject({ ...of, body: thing(undefined) });
  assert.equal(made.spec.size, 1);
  const status = { status: { said: "dropped" }, spec: { size: 3 } };
  const told = await api.patchNamespacedCustomObjectStatus({ ...of, name: "one", body: status }, as(MergePatch));
  assert.equal(told.spec.size, 1);
  assert.equal((await api.listNamespacedCustomObject(of)).items.length, 1);
  await extensions.deleteCustomResourceDefinition({ name });
}

async function watched() {
  const events = [];
  let notify = () => {};
  const watch = new k8s.Watch(config);
  const params = { labelSelector: "watched=yes", allowWatchBookmarks: true, sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" };
  const said = (holds) => new Promise((done) => ((notify = () => holds() && done()), notify()));
  const stop = await watch.watch(`/api/v1/namespaces/${namespace}/configmaps`, params, (type, object) => (events.push([type, object.metadata?.name]), notify()), () => {});
  await said(() => events.some(([type]) => type === "BOOKMARK"));
  const body = { ...configMap("watched", "1"), metadata: { name: "watched", labels: { watched: "yes" } } };
  await core.createNamespacedConfigMap({ namespace, body });
  await core.deleteNamespacedConfigMap({ namespace, name: "watched" });
  await said(() => events.some(([type]) => type === "DELETED"));
  stop.abort();
  assert.deepEqual(events.filter(([type]) => type !== "BOOKMARK"), [["ADDED", "watched"], ["DELETED", "watched"]]);
}

async function informed() {
  const seen = { add: 0, update: 0, delete: 0 };
  await core.createNamespacedConfigMap({ namespace, body: configMap("early", "1") });
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: "javascript=yes" });
  const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, "javascript=yes");
  for (const verb of Object.keys(seen)) informer.on(verb, () => seen[verb]++);
  informer.on("error", () => {}); // told of the end of its watch, too
  await informer.start();
  const before = seen.add;
  await core.createNamespacedConfigMap({ namespace, body: configMap("late", "1") });
  await core.patchNamespacedConfigMap({ namespace, name: "late", body: { data: { a: "2" } } }, as(MergePatch));
  await core.deleteNamespacedConfigMap({ namespace, name: "early" });
  await until(async () => seen, () => seen.add > before && seen.update > 0 && seen.delete > 0);
  assert.equal(informer.get("late", namespace).data.a, "2");
  await informer.stop();
}

const pod = "streams";

async function running() {
  const script = "mkdir /tmp/www; echo page >/tmp/www/index.html; httpd -p 8080 -h /tmp/www; n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done";
  const spec = { terminationGracePeriodSeconds: 0, containers: [{ name: "c", image: "k3rs.io/userspace:1", command: ["sh", "-c", script] }] };
  await core.createNamespacedPod({ namespace, body: { metadata: { name: pod }, spec } });
  await until(() => core.readNamespacedPod({ namespace, name: pod }), (found) => found.status.phase === "Running");
}

async function logs() {
  const out = sink();
  const stop = await new k8s.Log(config).log(namespace, pod, "c", out.stream, { follow: true });
  const text = await out.has((text) => text.includes("line 4\n"));
  stop.abort();
  assert.ok(text.startsWith("line 1\nline 2\nline 3\n"), text);
  const tail = await core.readNamespacedPodLog({ namespace, name: pod, tailLines: 2 });
  assert.match(tail, /^line \d+\nline \d+\n$/);
}

async function executed() {
  const [out, err, input] = [sink(), sink(), new PassThrough()];
  const exec = new k8s.Exec(config);
  const ended = new Promise((done) => {
    const command = ["sh", "-c", "echo bad >&2; read word; echo got $word; exit 3"];
    exec.exec(namespace, pod, "c", command, out.stream, err.stream, input, false, done);
  });
  input.write("hello\n");
  const status = await ended;
  assert.equal(status.status, "Failure");
  assert.equal(status.details.causes.find((one) => one.reason === "ExitCode").message, "3");
  assert.equal(await out.has((text) => text.endsWith("\n")), "got hello\n");
  assert.equal(await err.has((text) => text.endsWith("\n")), "bad\n");
  const much = sink();
  const over = new Promise((done) => exec.exec(namespace, pod, "c", ["head", "-c", "1000000", "/dev/zero"], much.stream, null, null, false, done));
  assert.equal((await over).status, "Success");
  await much.has((text) => text.length === 1_000_000);
}

async function copied() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "k3rs-javascript-"));
  try {
    fs.writeFileSync(path.join(directory, "sent"), "words\n".repeat(1000));
    const copy = new k8s.Cp(config);
    await copy.cpToPod(namespace, pod, "c", directory, "/tmp");
    // It returns before the other side is done.
    const look = async () => {
      const out = sink();
      const exec = new k8s.Exec(config);
      await new Promise((done) => exec.exec(namespace, pod, "c", ["sh", "-c", "cat /tmp/sent | wc -l; echo done"], out.stream, null, null, false, done));
      return out.has((text) => text.endsWith("done\n"));
    };
    await until(look, (text) => text.startsWith("1000\n"));
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

async function forwarded() {
  const [out, err, input] = [sink(), sink(), new PassThrough()];
  const socket = await new k8s.PortForward(config).portForward(namespace, pod, [8080], out.stream, err.stream, input);
  input.write("GET /index.html HTTP/1.0\r\n\r\n");
  const answer = await out.has((text) => text.endsWith("page\n"));
  assert.match(answer, /^HTTP\/1\.. 200/);
  socket.close();
}

await check("a namespace", async () => {
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  await until(() => core.listNamespacedServiceAccount({ namespace }), (found) => found.items.length > 0);
});
await check("typed objects, their errors and preconditions", typed);
await check("lists in pages", pages);
await check("each kind of patch", patches);
await check("objects of any kind", generic);
await check("custom resources", custom);
await check("a watch that begins with what is there", watched);
await check("an informer", informed);
await check("a pod", running);
await check("logs while they are written", logs);
await check("exec with input, output and exit code", executed);
await check("cp", copied);
await check("port-forward", forwarded);
await check("the namespace goes with all that is in it", async () => {
  await core.deleteNamespace({ name: namespace });
  await until(() => core.listNamespace({ fieldSelector: `metadata.name=${namespace}` }), (found) => found.items.length === 0);
});
process.exit(failed ? 1 : 0);
