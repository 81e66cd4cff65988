# `make` lists the targets. `make check` is what CI runs; it changes nothing.
.DEFAULT_GOAL := help
.PHONY: help check fmt lint doc deny test fix dev demo figure-8 pbs bench bench-growth bench-memory \
	bench-listing bench-six bench-engine kill-9 load-all schemathesis idle-connections gossip-scale gossip-sim \
	k8s-validate containers cluster outage anti-entropy sim sim-long

# The suite starts the other two.
BENCH_SUITE = cargo build --release --quiet -p rondo-node --bin rondo --example bare_axum && \
	cargo run --release --quiet -p rondo-node --example bench_suite --

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 16

check: fmt lint doc deny test ## everything CI checks; changes nothing

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

deny: ## licences, sources and banned crates (needs cargo-deny)
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; \
	else echo "cargo-deny is not installed: licence and source rules are not checked here (cargo install cargo-deny)"; fi

test: ## the README's test command
	cargo test --workspace

fix: ## formats, and applies what clippy can
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

dev: ## a local three-node cluster
	cargo run --release -- dev

demo: ## the same, losing a node and getting over it
	cargo run --release -- dev --demo --exit

figure-8: ## the Dynamo paper's load-balancing comparison (SOSP 2007, figure 8)
	cargo run --release --quiet -p rondo-ring --example figure_8

pbs: ## the staleness table of Probabilistically Bounded Staleness (VLDB 2012), and the machines beside it
	cargo run --release --quiet -p rondo-coordinator --example pbs

bench: ## three nodes beside bare axum, in turns (sizes: node/examples/bench_suite/sizes.rs)
	$(BENCH_SUITE) compare

bench-growth: ## 10 million keys beside 10,000 (BENCH_KEYS_MANY, BENCH_KEYS)
	$(BENCH_SUITE) growth

bench-memory: ## memory of an idle node with a million objects, and its start after SIGKILL (BENCH_OBJECTS)
	$(BENCH_SUITE) memory

bench-listing: ## all keys of a bucket with a million, asked of one node: time and memory (BENCH_OBJECTS)
	$(BENCH_SUITE) listing

bench-six: ## six nodes on this machine beside three
	$(BENCH_SUITE) six

bench-engine: ## the storage engine against fjall
	cargo run --release --quiet -p rondo-storage --example bench_engine

gossip-scale: ## what gossip costs and how soon it tells, at 10, 100 and 1,000 nodes (docs/gossip.md)
	cargo test --release --quiet -p rondo-gossip --test simulation scale -- --ignored --nocapture

gossip-sim: ## failure detection over 1,000 seeds, and 24 hours of lost messages (40 and 1 in `make test`)
	RONDO_GOSSIP_SEEDS=1000 RONDO_GOSSIP_HOURS=24 cargo test --release -p rondo-gossip --test simulation -- --nocapture

kill-9: ## 200 rounds of kill -9 under load (20 in `make test`), engine and cluster
	RONDO_KILL_ROUNDS=200 cargo test --release -p rondo-storage --test engine_kill -- --nocapture
	RONDO_KILL_ROUNDS=200 cargo test --release -p rondo-tests --test kill -- --nocapture

cluster: ## real processes in every kind of trouble, their histories checked (RONDO_CLUSTER_SECONDS=20; 2 in `make test`)
	RONDO_CLUSTER_SECONDS=$${RONDO_CLUSTER_SECONDS:-20} cargo test --release -p rondo-tests --test cluster -- \
		--nocapture --test-threads=1

outage: ## a node away for ten minutes at full write load (RONDO_OUTAGE_SECONDS=600; 5 in `make test`)
	RONDO_OUTAGE_SECONDS=$${RONDO_OUTAGE_SECONDS:-600} cargo test --release -p rondo-tests --test handoff outage -- --nocapture

sim: ## one simulated run, readable (SEED=7)
	@cargo run --quiet -p rondo-sim -- $(or $(SEED),0)

sim-long: ## thousands of simulated runs (SEEDS=5000 FROM=0)
	cargo run --release --quiet -p rondo-sim -- $(or $(FROM),0)..$(or $(SEEDS),5000)

idle-connections: ## 10,000 idle connections, what they cost, and that they keep nobody out
	RONDO_IDLE_CONNECTIONS=10000 cargo test --release -p rondo-tests --test idle_connections -- --nocapture

anti-entropy: ## what healing costs among a million keys of a KiB (RONDO_ANTI_ENTROPY_KEYS)
	RONDO_ANTI_ENTROPY_KEYS=$${RONDO_ANTI_ENTROPY_KEYS:-1000000} cargo test --release -p rondo-tests \
		--test anti_entropy the_cost -- --nocapture

load-all: ## 20,000 real records into three nodes, one killed half-way (RONDO_DATA=file.jsonl.gz)
	RONDO_LOAD_ALL=1 cargo test --release -p rondo-tests --test load -- --nocapture

schemathesis: ## looks for requests whose answers are not as /openapi.json says (SEED=7 EXAMPLES=50; needs python3)
	tests/schemathesis/run.sh

k8s-validate: ## config/k8s, rendered, against the API schemas of Kubernetes (needs kubectl and python3)
	tests/k8s/validate.sh

containers: ## the image, the pods and compose.yaml in a container engine, losing nodes under load (needs docker on Linux)
	cargo test --workspace --test containers -- --ignored --test-threads=1 --nocapture
