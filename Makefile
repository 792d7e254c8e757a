# Thin verbs; README.md has one line for each.
SHELL := /bin/bash
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(HOST)/release/k3rs
# One static file, also on the host: it must run in an empty root file system.
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static"

.PHONY: run test lint sim bench size e2e setup release clean

run: release
	@e2e/run.sh $(RELEASE)

test: setup
	@e2e/setup.sh test
	cargo test --workspace --locked
	$(MAKE) e2e

# The whole product, for real: a server, containers, kubectl, the Python client.
e2e: release
	e2e/e2e.sh $(RELEASE)

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

sim: setup
	cargo run --locked --profile sim -p sim -- --seeds $(or $(SEEDS),10000) $(if $(SEED),--seed $(SEED))

bench: release
	e2e/bench.sh $(RELEASE)

size: release
	e2e/size.sh $(RELEASE)

release: setup
	$(STATIC) cargo build --release --locked -p k3rs --target $(HOST)

# What a fresh Debian machine with a Rust toolchain lacks.
setup:
	@e2e/setup.sh

clean:
	rm -rf target userspace/out .run
