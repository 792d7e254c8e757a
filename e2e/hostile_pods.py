"""The pods of the hostile suite: each capability, namespace option, volume type and user, and random mixtures of them."""

import random

CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
CHECKPOINT_RESTORE""".split()
DEFAULTS = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
IMAGE = "docker.io/e2e/escape:1"

# What a pod may do because it was given the power to on purpose, as with other runtimes: everything else fails the run.
# SYS_ADMIN in the host's user namespace mounts what it likes for itself, and so uncovers what is covered.
UNCOVERED = {"SYS_ADMIN"}
GIVEN = {
    "handles": {"DAC_READ_SEARCH"},
    "modules": {"SYS_MODULE"},
    "kexec": {"SYS_BOOT"},
    "reboot": {"SYS_BOOT"},
    "swap": {"SYS_ADMIN"},
    "clock": {"SYS_TIME"},
    "log": {"SYSLOG", "SYS_ADMIN"},
    "bpf": {"BPF", "SYS_ADMIN"},
    "perf": {"PERFMON", "SYS_ADMIN"},
    "events": {"SYS_ADMIN"},
    "spared": {"SYS_RESOURCE"},
    "calls": {"SYS_ADMIN", "SYS_PACCT", "SYS_RAWIO"},
    **{way: UNCOVERED for way in ("mounts", "remounts", "pivot", "sysctls", "sysfs", "masked", "cgroups", "read-only", "user-namespace")},
}


def mask(names):
    return sum(1 << CAPABILITIES.index(name) for name in names)


class Pod:
    """A pod with what it was given, so that what it does can be judged."""

    def __init__(self, name, powers=(), **spec):
        self.name, self.spec = name, spec
        self.powers = {None: set(powers)}
        self.volumes, self.containers = [], []
        self.privileged = False
        self.life = None

    def container(self, name="c", command=None, capabilities=(), drop=(), context=None, mounts=(), **fields):
        allowed = set(DEFAULTS) | set(capabilities)
        if "ALL" in drop:
            allowed = set(capabilities)
        if "ALL" in capabilities:
            allowed = set(CAPABILITIES)
        context = dict(context or {})
        if capabilities or drop:
            context["capabilities"] = {"add": list(capabilities), "drop": list(drop)}
        if context.get("privileged"):
            self.privileged = True
            allowed = set(CAPABILITIES)
        self.powers[name] = allowed
        self.containers.append({
            "name": name,
            "image": fields.pop("image", IMAGE),
            "command": command or ["/escape", "run", "30", "@seed"],
            "env": [{"name": "CAPABILITIES", "value": f"{mask(allowed):x}"}, *fields.pop("env", [])],
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": fields.pop("memory", "64Mi"), **fields.pop("limits", {})}},
            "securityContext": context,
            "volumeMounts": list(mounts),
            **fields,
        })
        return self

    def volume(self, name, source, path=None, **mount):
        """A volume at /v/NAME of the last container."""
        if not any(volume["name"] == name for volume in self.volumes):
            self.volumes.append({"name": name, **source})
        self.containers[-1]["volumeMounts"].append({"name": name, "mountPath": path or f"/v/{name}", **mount})
        return self

    def manifest(self, environment, seed, name=None):
        containers = []
        for container in self.containers:
            env = [{"name": key, "value": value} for key, value in environment.items()]
            if self.spec.get("hostNetwork"):
                env.append({"name": "HOST_NETWORK", "value": "1"})
            command = [str(seed) if word == "@seed" else word for word in container["command"]]
            containers.append({**container, "command": command, "env": env + container["env"]})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name or self.name, "labels": {"hostile": "pod"}},
            "spec": {"terminationGracePeriodSeconds": 1, "enableServiceLinks": False, **self.spec, "containers": containers, "volumes": self.volumes},
        }

    def given(self, container, way, text):
        """Whether what a container says it did is what it was given."""
        powers = self.powers.get(container, self.powers[None]) | self.powers[None]
        if self.privileged:
            return True
        # Tracing is what SYS_PTRACE is for, also the process that is about to become an exec's: it must have nothing of the host by then.
        if "SYS_PTRACE" in powers and text.startswith(("traces", "opens the memory")):
            return True
        # As is ending what runs in one's own PID namespace, also an exec that has not begun yet.
        if way == "signals" and "KILL" in powers:
            return True
        # Since Linux 6.14 CAP_PERFMON reads (only) the memory of whatever process it sees.
        if self.spec.get("hostPID") and "PERFMON" in powers and text.startswith("reads the environment"):
            return True
        if self.spec.get("hostPID"):
            # Whoever sees the host's processes and may trace all of them was given the host.
            if way in ("visible", "joiners", "namespaces") and powers & {"SYS_PTRACE", "SYS_ADMIN"}:
                return True
        return bool(GIVEN.get(way, set()) & powers)


def everywhere(host):
    """A pod with a volume of every type, and one for each that may be refused."""
    pod = Pod("volumes", securityContext={"fsGroup": 4242}).container()
    pod.volume("data", {"emptyDir": {"sizeLimit": "64Mi"}})
    pod.volume("memory", {"emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}})
    pod.volume("config", {"configMap": {"name": "config"}})
    pod.volume("secret", {"secret": {"secretName": "own", "defaultMode": 0o400}})
    pod.volume("info", {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}})
    pod.volume("all", {"projected": {"sources": [
        {"configMap": {"name": "config"}}, {"secret": {"name": "own"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]}})
    pod.volume("readonly", {"hostPath": {"path": f"{host}/read-only", "type": "Directory"}}, readOnly=True)
    pod.volume("host", {"hostPath": {"path": f"{host}/writable", "type": "Directory"}})
    pod.volume("claim", {"persistentVolumeClaim": {"claimName": "shared"}})
    pod.volume("claim", {}, path="/v/shared")
    pod.volume("data", {}, path="/v/sub", subPath="d")
    pod.volume("claim", {}, path="/v/sub2", subPathExpr="$(MARK)/d")
    pod.containers[-1]["volumeMounts"][-1]["subPathExpr"] = "d"
    return pod


def fixed(host):
    """Every option alone."""
    pods = []
    for start in range(0, len(CAPABILITIES), 7):
        pod = Pod(f"capabilities-{start // 7}")
        for name in CAPABILITIES[start:start + 7]:
            pod.container(name.lower().replace("_", "-"), capabilities=[name], drop=["ALL"])
        pods.append(pod)
    plain = lambda name, **spec: Pod(name, **spec).container()
    hard = [{"name": "HARD", "value": "1"}]
    pods += [
        plain("plain"),
        Pod("everything").container(capabilities=["ALL"]),
        Pod("privileged").container(context={"privileged": True}),
        Pod("joiners").container(capabilities=["SYS_PTRACE"], env=hard,
                                 livenessProbe={"exec": {"command": ["/escape", "sleep", "0"]}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 100}),
        plain("host-pid", hostPID=True),
        Pod("host-ipc", hostIPC=True).container(capabilities=["IPC_OWNER"]),
        Pod("host-network", hostNetwork=True).container(command=["/escape", "once", "@seed"], capabilities=["NET_RAW"]),
        Pod("share", shareProcessNamespace=True).container(capabilities=["SYS_PTRACE"], env=hard).container("d", command=["/escape", "sleep", "1000"]).container("e", command=["/proc/self/exe"], capabilities=["SYS_PTRACE"]),
        plain("own-users", hostUsers=False),
        Pod("unmasked").container(context={"procMount": "Unmasked"}),
        Pod("unmasked-own", hostUsers=False).container(context={"procMount": "Unmasked"}),
        Pod("nobody").container(context={"runAsUser": 12345, "runAsGroup": 12345, "allowPrivilegeEscalation": False}),
        Pod("nobody-may").container(context={"runAsUser": 12345, "runAsGroup": 0}, capabilities=["SYS_PTRACE"]),
        Pod("not-root").container(context={"runAsNonRoot": True}, image="docker.io/e2e/escape:number"),
        Pod("strange-user").container(image="docker.io/e2e/escape:user"),
        Pod("strange-passwd").container(image="docker.io/e2e/escape:passwd"),
        Pod("restricted").container(drop=["ALL"], context={"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}),
        Pod("filtered").container(capabilities=["SYS_ADMIN"], context={"seccompProfile": {"type": "RuntimeDefault"}}),
        Pod("program").container(command=["/proc/self/exe", "server"], capabilities=["SYS_PTRACE"]),
        Pod("proc-volume").container().volume("data", {"emptyDir": {}}, path="/proc"),
        Pod("proc-inside").container().volume("data", {"emptyDir": {}}, path="/proc/sys/kernel"),
        Pod("sysctls", hostNetwork=True, securityContext={"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "32769 60998"}]}).container(command=["/escape", "sleep", "100"]),
        Pod("hugepages").container(limits={"hugepages-2Mi": "2Mi"}).volume("data", {"emptyDir": {"medium": "HugePages"}}),
        Pod("image-volume").container().volume("data", {"image": {"reference": IMAGE}}),
        Pod("ephemeral").container().volume("data", {"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}}}),
        everywhere(host),
        asked(),
    ]
    return pods


def reader(number):
    """Mounts below what another pod exchanges for a link meanwhile."""
    pod = Pod(f"reader-{number}", securityContext={"fsGroup": 77}).container(command=["/escape", "once", "@seed"], restartPolicy=None)
    pod.containers[0].pop("restartPolicy")
    pod.spec["restartPolicy"] = "Never"
    pod.volume("claim", {"persistentVolumeClaim": {"claimName": "shared"}}, path="/v/sub", subPath="d")
    pod.volume("claim", {}, path="/v/sub2", subPath="d/deeper")
    return pod


def asked():
    """A pod that probes and hooks go to, and whose answers are lies."""
    return Pod("asked").container(
        capabilities=["SYS_PTRACE"],
        livenessProbe={"exec": {"command": ["/escape", "once", "1"]}, "periodSeconds": 3, "timeoutSeconds": 20, "failureThreshold": 100},
        readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 3},
        startupProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 100},
        lifecycle={"postStart": {"httpGet": {"path": "/", "port": 8080}}, "preStop": {"exec": {"command": ["/escape", "watch", "1"]}}},
    )


EXHAUSTIONS = "deep many log message hosts processes memory shm descriptors inotify".split()


def exhausting(what):
    pod = Pod(f"exhaust-{what}").container(command=["/escape", "exhaust", what], memory="32Mi" if what in ("memory", "shm") else "256Mi")
    return pod.volume("data", {"emptyDir": {"sizeLimit": "200Mi"}})


def mixed(number, seed, host):
    """A random pod; the same for the same seed."""
    rng = random.Random(seed * 1000003 + number)
    if rng.random() < 0.25:
        return reader(number)
    if rng.random() < 0.15:
        pod = exhausting(rng.choice(EXHAUSTIONS))
        pod.name = f"{pod.name}-{number}"
        return pod
    spec = {key: True for key in ("hostPID", "hostIPC", "shareProcessNamespace") if rng.random() < 0.2}
    if spec.get("hostPID"):
        spec.pop("shareProcessNamespace", None)
    pod = Pod(f"mixed-{number}", **spec)
    for idx in range(rng.randrange(1, 4)):
        names = [name for name in rng.sample(CAPABILITIES, rng.randrange(0, 6)) if name not in ("SYS_TIME", "SYS_BOOT")]
        context = {}
        if rng.random() < 0.3:
            context["runAsUser"] = rng.choice([1, 1000, 65534, 4294967294])
        if rng.random() < 0.3 and "SYS_ADMIN" not in names:
            context["allowPrivilegeEscalation"] = False
        if rng.random() < 0.2:
            context["readOnlyRootFilesystem"] = True
        if rng.random() < 0.2:
            context["seccompProfile"] = {"type": "RuntimeDefault"}
        env = [{"name": "HARD", "value": "1"}] if rng.random() < 0.3 else []
        pod.container(f"c{idx}", capabilities=names, drop=["ALL"] if rng.random() < 0.5 else [], context=context, env=env)
        for volume in everywhere(host).volumes:
            if rng.random() < 0.4:
                source = {key: value for key, value in volume.items() if key != "name"}
                extra = {"subPath": "d"} if volume["name"] in ("data", "claim", "host") and rng.random() < 0.5 else {}
                pod.volume(volume["name"], source, readOnly=volume["name"] == "readonly", **extra)
    return pod
