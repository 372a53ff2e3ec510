# `make demo` and `make test` are all a newcomer needs; each installs what is missing and says what it does.
# Options of the demo: RECORDS=200000 RATE= SEED=1 KILLS=1 KEEP=0 DIR=target/demo
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c

RECORDS ?= 200000
RATE ?=
SEED ?= 1
KILLS ?= 1
KEEP ?= 0
DIR ?= target/demo
# Scenarios wait more than they compute: three side by side on two cores.
THREADS ?= $(shell echo $$(( $$(nproc) + 1 )))
TESTED = --release --workspace --exclude bench --locked
DEMO = target/release/demo run --records $(RECORDS) --seed $(SEED) --dir $(DIR) \
	$(if $(RATE),--rate $(RATE)) $(if $(filter 0 no,$(KILLS)),--no-kills) $(if $(filter-out 0 no,$(KEEP)),--keep)

.PHONY: demo test check-deploy check-sql independent scenario screenshots crash-test io-faults chaos campaign simulate network soak fuzz mutants build build-times prerequisites format readme docs cost bench counts deny manual deb deb-test

demo: build
	@$(DEMO)

# Cargo compiles a dependency anew when other packages are selected than before, since they may ask for other features. So
# everything here selects the whole workspace, but for the benchmarks with their peers, which clippy alone looks at.
test: prerequisites
	@.ci/prerequisites test
	@$(MAKE) --no-print-directory check-deploy
	@echo "formatting, lints, build, tests, a short demo: some 18 minutes on two cores the first time"
	promtool check rules deploy/prometheus/rules.yml
	promtool test rules deploy/prometheus/rules_test.yml
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	.ci/build-times "programs" cargo build $(TESTED) --bins
	.ci/build-times "tests" cargo build $(TESTED) --bins --tests
	.ci/check-units
	rm -f $(STATEMENTS)
	SANDBOX_STATEMENTS=$(STATEMENTS) RUST_TEST_THREADS=$(THREADS) cargo test $(TESTED)
	@$(MAKE) --no-print-directory check-sql
	target/release/demo run --records 20000 --seed $(SEED) --dir target/test-demo

# Python environments of their own for what `.ci/NAME.txt` lists.
VENV = target/venv
$(VENV)/%/ready: .ci/%.txt
	@.ci/prerequisites test
	@rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# Lints the template of the AWS side, and compares it with the policies of deploy/.
LINT = $(VENV)/check-cloudformation
check-deploy: $(LINT)/ready
	$(LINT)/bin/cfn-lint deploy/cloudformation.yaml
	$(LINT)/bin/python .ci/check-cloudformation.py

# Tools that nobody here wrote: sqlglot parses every kind of statement that Redshift's stand-in was sent by all scenarios, and
# the whole way runs on the S3 of moto. `make test` has the first of both; STATEMENTS is what its scenarios recorded.
INDEPENDENT = $(VENV)/check-independent
STATEMENTS = $(CURDIR)/target/statements
independent: prerequisites $(INDEPENDENT)/ready
	@.ci/prerequisites test
	cargo build $(TESTED) --bins --test scenario
	MOTO_PYTHON=$(CURDIR)/$(INDEPENDENT)/bin/python cargo test $(TESTED) --test scenario -- --ignored --nocapture independent::
	rm -f $(STATEMENTS)
	SANDBOX_STATEMENTS=$(STATEMENTS) RUST_TEST_THREADS=$(THREADS) cargo test $(TESTED) --test scenario
	$(MAKE) --no-print-directory check-sql

SQL = $(VENV)/check-sql
check-sql: $(SQL)/ready
	$(SQL)/bin/python .ci/check-sql.py $(STATEMENTS)

# The pictures of README.md and docs/OPERATIONS.md, made of services that run for twelve minutes against the stand-ins.
screenshots: prerequisites
	@.ci/prerequisites test
	cargo build $(TESTED) --bins --test scenario
	IMAGES=$(CURDIR)/docs/images cargo test $(TESTED) --test scenario -- --ignored --nocapture page::pictures_for_the_documentation

# One scenario, or all whose name contains NAME: builds the programs and that test, and runs it.
scenario: prerequisites
	@.ci/prerequisites test
	@cargo build $(TESTED) --bins --test scenario
	RUST_TEST_THREADS=$(THREADS) cargo test $(TESTED) --test scenario -- --nocapture $(NAME)

# The log at length: 500 kills, 1,000 power cuts, 5 million rows, 1,000 random histories. CRASH_SEED=<number> repeats
# the kills, POWER_SEED=<number> the cuts.
crash-test:
	CRASH_KILLS=500 POWER_CUTS=1000 BOUNDS_ROWS=5000000 MODEL_CASES=1000 cargo test $(TESTED) \
		--test crash --test powercut --test bounds --test model --test replay -- --nocapture

# Every call on the files of the log and of the load store goes wrong in every way, one in each run; then calls of the real
# services, FAULTS_SEED=<number> draws others.
io-faults: prerequisites
	@.ci/prerequisites test
	cargo build $(TESTED) --bins --test faults --test scenario
	FAULTS_ALL=1 cargo test $(TESTED) --test faults -- --nocapture
	FAULTS_ALL=1 cargo test $(TESTED) --test scenario -- --nocapture disk::

# The fault campaign at length: everything the stand-ins can do wrong, and kills, on two producers and two ingesters for
# CHAOS_SECONDS; CHAOS_SEED=<number> repeats one. A run that fails keeps its files and says where.
CHAOS_SECONDS ?= 1800
chaos: prerequisites
	cargo build $(TESTED) --bins --test scenario
	CHAOS_SECONDS=$(CHAOS_SECONDS) $(if $(CHAOS_SEED),CHAOS_SEED=$(CHAOS_SEED)) cargo test $(TESTED) \
		--test scenario -- --nocapture chaos::

# One piece of the campaign of 10,000 faults: its report is kept in docs/chaos/, and docs/TESTING.md sums up all pieces.
campaign: prerequisites
	.ci/campaign $(CHAOS_SECONDS) $(CHAOS_SEED) | .ci/paste docs/TESTING.md campaign

# The deciding parts of both services in one process with a clock that is set by hand: seed after seed for SECONDS, from
# SIMULATE_FROM on, each twice. SIMULATE_SEED=<number> runs one seed and prints what happened.
SECONDS ?= 600
simulate:
	cargo build $(TESTED) --bins --test simulation
	SIMULATE_SECONDS=$(SECONDS) $(if $(SIMULATE_FROM),SIMULATE_FROM=$(SIMULATE_FROM)) \
		$(if $(SIMULATE_SEED),SIMULATE_SEED=$(SIMULATE_SEED)) cargo test $(TESTED) --test simulation -- --nocapture

# The network at length: every fault on the way to every neighbour, and random ones for NETWORK_SECONDS; NETWORK_SEED=<number> repeats
# them.
NETWORK_SECONDS ?= 1800
network: prerequisites
	cargo build $(TESTED) --bins --test scenario
	NETWORK_SECONDS=$(NETWORK_SECONDS) $(if $(NETWORK_SEED),NETWORK_SEED=$(NETWORK_SEED)) cargo test $(TESTED) \
		--test scenario -- --include-ignored --nocapture network::

# One piece of the soak: 2,000 hits/s and a fault a minute for SOAK_SECONDS. Adds it to docs/soak.csv, and draws all pieces.
SOAK_SECONDS ?= 28800
soak: prerequisites
	cargo build $(TESTED) --bins --test scenario
	SOAK_SECONDS=$(SOAK_SECONDS) $(if $(SOAK_SEED),SOAK_SEED=$(SOAK_SEED)) cargo test $(TESTED) --test scenario -- \
		--ignored --nocapture soak:: > target/soak.log; sed -n '/ hours in /,/not yet loaded/p' target/soak.log | .ci/paste docs/TESTING.md soak

# Under libFuzzer, until each check has tried FUZZ_BYTES: stream to rows, JSON to row, seals and other objects, questions on the
# socket, configurations, tables of load errors, splitting of CSV, files. CHECKS names some of them. Writes what they did into
# docs/TESTING.md when all ran. What is found stands in fuzz/artifacts.
FUZZ_BYTES ?= 1000000000
CHECKS ?=
fuzz: prerequisites
	.ci/fuzz $(FUZZ_BYTES) $(CHECKS) | tee /dev/stderr $(if $(CHECKS),>/dev/null,| .ci/paste docs/TESTING.md fuzz)

# Changes the deciding modules (.cargo/mutants.toml), one thing at a time, and runs the tests of their crate on each change. Fails
# when one survives that docs/MUTANTS.md does not accept with a reason. FILES='ingester/src/load/plan.rs' are some of them.
FILES ?=
mutants: prerequisites
	@command -v cargo-mutants >/dev/null 2>&1 || cargo install --locked cargo-mutants
	.ci/mutants $(FILES)

# One profile for tests and demo, so that they share what is compiled.
build: prerequisites
	@echo "building the services and the stand-ins: some 5 minutes on two cores the first time, seconds after that"
	@cargo build $(TESTED) --bins

# Builds all into an empty folder, as a newcomer does, and writes into CONTRIBUTING.md what it took. Nothing else should
# run meanwhile.
build-times: prerequisites
	@rm -rf target/build-times
	@export CARGO_TARGET_DIR=target/build-times; { \
		.ci/build-times "programs (what make demo needs)" cargo build $(TESTED) --bins; \
		.ci/build-times "tests, after the programs" cargo build $(TESTED) --bins --tests; \
	} | tee /dev/stderr | .ci/paste CONTRIBUTING.md build-times
	@rm -rf target/build-times

prerequisites:
	@.ci/prerequisites

format:
	cargo fmt --all

# Writes the demo's output into README.md. `docs` prints docs/CONFIGURATION.md from the table of keys, and the table of alerts and
# the rules for Prometheus from the list of alerts.
readme: build
	@{ echo '$$ make demo'; $(DEMO); } | .ci/paste README.md demo

docs:
	UPDATE_DOCS=1 cargo test $(TESTED) --test configuration --test alerts

# Counts requests and COPYs of three sites and writes what they cost into docs/COST.md.
cost: build
	@{ echo '$$ target/release/demo cost'; target/release/demo cost; } | .ci/paste docs/COST.md cost

# Runs the benchmarks and writes what they print into docs/BENCHMARKS.md. Nothing else should run meanwhile.
bench: prerequisites
	cargo bench --workspace --bench log | .ci/paste docs/BENCHMARKS.md log
	cargo bench --workspace --bench feed | .ci/paste docs/BENCHMARKS.md feed
	cargo bench --workspace --bench page | .ci/paste docs/BENCHMARKS.md page
	cargo bench --workspace --bench front | .ci/paste docs/BENCHMARKS.md front
	cargo build --release --workspace --bins --locked
	cargo bench --workspace --bench whole | .ci/paste docs/BENCHMARKS.md whole
	cargo bench --workspace --bench latency | .ci/paste docs/BENCHMARKS.md latency
	cargo bench --workspace --bench catchup | .ci/paste docs/BENCHMARKS.md catchup
	cargo bench --workspace --bench ingester | .ci/paste docs/BENCHMARKS.md ingester
	cargo bench --workspace --bench staged | .ci/paste docs/BENCHMARKS.md staged
	cargo bench --workspace --bench transform | .ci/paste docs/BENCHMARKS.md transform
	@$(MAKE) --no-print-directory counts

# Counts instructions a record, step by step, and writes them into docs/BENCHMARKS.md.
counts: prerequisites
	@.ci/prerequisites test
	cargo build $(TESTED) --bin counts
	target/release/counts | .ci/paste docs/BENCHMARKS.md counts

# Manual pages and completions, from the commands that the programs parse, in target/manual.
manual: build
	@target/release/manual target/manual

# The Debian package, in target/debian; builds cargo-deb the first time.
deb: manual
	@command -v cargo-deb >/dev/null 2>&1 || cargo install --locked cargo-deb
	cargo deb -p livestream --no-build --locked

# Installs, runs, upgrades, removes and purges the package in a fresh Debian that boots systemd. Needs root; two minutes.
deb-test: deb
	deploy/debian/try

# Licences, banned and duplicate crates (deny.toml); builds cargo-deny the first time.
deny:
	@command -v cargo-deny >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --all-features check licenses bans sources
