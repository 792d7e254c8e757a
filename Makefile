# Thin verbs; README.md has one line for each.
SHELL := /bin/bash
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(HOST)/release/k3rs
# The same program, built sooner and larger: for `make run` only.
QUICK := target/$(HOST)/quick/k3rs
# One static file, also on the host: it must run in an empty root file system.
# Functions that came out the same are kept once: a twentieth of the file (cross/ does so, too).
# With a frame pointer, unwind tables need not follow each push: a third of them goes, and profilers can walk the stack.
# Sequences of instructions that came out the same in many functions become functions, if that saves more than the unwind table of one takes.
# A static program of glibc's registers its unwind tables when it starts, and never looks at their index.
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static -C force-frame-pointers=yes -C link-arg=-Wl,--icf=all -C link-arg=-Wl,--no-eh-frame-hdr -C llvm-args=-enable-machine-outliner=always -C llvm-args=-outliner-benefit-threshold=20"

.PHONY: run test lint sim fuzz bench nodes-bench etcd-bench size e2e hostile hostile-images churn applications bench-ingress conformance critest apidiff interop setup cluster-test release clean cross cross-test cross-repro cross-etcd packages qemu-test qemu-test-full qemu-floor qemu-hostile

run: setup
	@e2e/run.sh --building $(QUICK)
	$(STATIC) cargo build --profile quick --locked -p k3rs --target $(HOST)
	@e2e/run.sh $(QUICK)

test: setup
	@e2e/setup.sh test
	cargo test --workspace --locked
	$(MAKE) e2e

# The whole product, for real: a server, containers, kubectl, the Python client.
e2e: release
	e2e/e2e.sh $(RELEASE)

# Pods with each capability, namespace and volume try to get out for five minutes: SECONDS=N, SEED=N.
hostile: release
	python3 e2e/hostile.py $(RELEASE) --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED))

# As many pods at once as a node has addresses for, and 1,000 that come and go: what they take, and that nothing is left.
churn: release
	python3 e2e/churn.py $(RELEASE) $(if $(PODS),--pods $(PODS))

# A blog with its database, dashboards over Prometheus, a gateway for sensors, of Debian's packages behind the ingress: NAMES="blog".
applications: release
	python3 e2e/applications.py $(RELEASE) $(NAMES)

# What a request costs in the ingress, beside nginx in the same network.
bench-ingress: release
	python3 e2e/bench_ingress.py $(RELEASE)

# Images made at random against the unpacker, for so long, and every case of e2e/hostile_images.py through import and pull.
hostile-images: release
	K3RS_HOSTILE_SECONDS=$(or $(SECONDS),1800) K3RS_HOSTILE_SEED=$(or $(SEED),1) cargo test --locked -p runtime --lib -- hostile --nocapture
	K3RS_HOSTILE_ALL=1 python3 e2e/faults.py $(RELEASE) images

# Kubernetes' own suite against NODES=1, one server and agents: FOCUS and SKIP are regular expressions on the specs' names. INSTRUMENTS: where it is handed over.
conformance: release
	python3 e2e/conformance.py $(RELEASE) --nodes $(or $(NODES),1) $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)')

# The suite of the CRI, cri-tools' critest, against the CRI socket: FOCUS and SKIP are regular expressions on the specs' names. CRI_TOOLS: a clone of cri-tools, if GitHub is not reached.
critest: release
	@e2e/setup.sh test
	python3 e2e/critest.py $(RELEASE) $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)')

# Clusters of several machines (network namespaces), with faults while they are written to: SETUP="agents postgres mariadb etcd embedded".
cluster-test: release
	@e2e/setup.sh test
	python3 e2e/cluster_test.py $(RELEASE) $(SETUP)

# The same questions to k3rs and to a stock kube-apiserver: SEED="1 2 3", CASES=N, KINDS=Pod,Service.
apidiff: release
	e2e/apidiff.sh $(RELEASE) "$(or $(SEED),1)" $(or $(CASES),4000) $(if $(KINDS),--kinds $(KINDS))

# Clients that are not ours (h2spec, programs on client-go, kube-rs and the JavaScript client, helm, cert-manager, each kubectl): PARTS="h2spec helm". Their programs come from the registries of their languages.
interop: release
	python3 e2e/interop.py $(RELEASE) $(PARTS)

# Parsers and evaluators against made-up input, led by the edges that it reaches: TARGET="json request", SECONDS=N for each, SEED=N.
fuzz: setup
	RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters" \
		cargo build --locked --profile sim -p fuzz --target $(HOST) --target-dir target/fuzz
	target/fuzz/$(HOST)/sim/fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) $(TARGET)

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# A whole cluster in one process under seeds: SEEDS=N, SEED=N tells one; PLANTS=1 looks whether the planted bugs are found.
sim: setup
	cargo run --locked --profile sim -p sim -- $(if $(PLANTS),--plants,--seeds $(or $(SEEDS),10000) $(if $(SEED),--seed $(SEED)))

bench: release
	e2e/bench.sh $(RELEASE)

# Memory, joins, idle traffic and failover at so many agents, most of them hollow: AGENTS="1 3 50 500", IDLE=SECONDS of each measurement.
nodes-bench: release
	@e2e/setup.sh test
	$(if $(IDLE),IDLE=$(IDLE)) python3 e2e/bench_nodes.py $(RELEASE) $(AGENTS)

# The etcd API beside Debian's etcd and kine on the same disk: ROUNDS=N, KUBE_APISERVER=FILE runs a stock one on each, CHECK=1 asks `etcdctl check perf`.
etcd-bench: release
	@e2e/setup.sh test
	$(if $(ROUNDS),ROUNDS=$(ROUNDS)) $(if $(CHECK),CHECK=$(CHECK)) KUBE_APISERVER=$(KUBE_APISERVER) python3 e2e/bench_etcd.py $(RELEASE)

size: release
	e2e/size.sh $(RELEASE)

# One static musl file, dist/k3rs-TARGET; does its own set-up (cross/setup.sh).
cross:
	@e2e/setup.sh cross
	cross/build.sh $(or $(TARGET),armv7)

# Unit tests on the target's ABI, emulated: make cross-test TARGET=armv7 ROOMS="stdx api"
cross-test:
	@e2e/setup.sh cross
	cross/test.sh $(or $(TARGET),armv7) $(ROOMS)

# The program of the embedded etcd, dist/k3rs-etcd-TARGET; wants Go and its module proxy.
cross-etcd:
	cross/etcd.sh $(or $(TARGET),armv7)

# A .deb, an .rpm, an .apk, an image, an SBOM and a provenance file of dist/k3rs-TARGET, beside it; BINARY=FILE takes another program.
packages:
	$(if $(BINARY),,$(MAKE) cross TARGET=$(or $(TARGET),armv7))
	python3 packaging/packages.py $(or $(BINARY),dist/k3rs-$(or $(TARGET),armv7)) $(or $(TARGET),armv7) dist

# Two builds from two paths, one checksum.
cross-repro:
	@e2e/setup.sh cross
	cross/repro.sh $(or $(TARGET),armv7)

# Emulated ARM machines; QEMU_ARCH="armv7" chooses, BIN_ARMV7=FILE takes a binary that is there already.
qemu-test:
	qemu-tests/qemu.sh

qemu-test-full:
	qemu-tests/qemu.sh --full

# The smallest memory on which an armv7 server with one pod stays up for ten minutes.
qemu-floor: export QEMU_ARCH := armv7
qemu-floor:
	qemu-tests/qemu.sh --floor

# The hostile pods on an emulated machine with cgroup v2, with the host's own release build as its first process.
qemu-hostile: export QEMU_ARCH := amd64
qemu-hostile: export BIN_AMD64 := $(RELEASE)
qemu-hostile: release
	qemu-tests/qemu.sh hostile

release: setup
	@test -e $(RELEASE) || echo "Building k3rs as it is released: small, so with the whole program optimized at once. The first time takes about 6 minutes on two cores; the last step shows nothing for most of them. (make run builds a larger file sooner.)"
	$(STATIC) cargo build --release --locked -p k3rs --target $(HOST)

# What a fresh Debian machine with a Rust toolchain lacks.
setup:
	@e2e/setup.sh

clean:
	rm -rf target userspace/out .run
