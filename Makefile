# `make demo` and `make test` are all a newcomer needs; each installs what is missing and says what it does.
# Options of the demo: RECORDS=200000 RATE= SEED=1 KILLS=1 KEEP=0 DIR=target/demo

RECORDS ?= 200000
RATE ?=
SEED ?= 1
KILLS ?= 1
KEEP ?= 0
DIR ?= target/demo
DEMO = target/release/demo run --records $(RECORDS) --seed $(SEED) --dir $(DIR) \
	$(if $(RATE),--rate $(RATE)) $(if $(filter 0 no,$(KILLS)),--no-kills) $(if $(filter-out 0 no,$(KEEP)),--keep)

.PHONY: demo test build prerequisites format

demo: build
	@$(DEMO)

test: build
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	cargo test --release --workspace --locked
	$(MAKE) --no-print-directory demo RECORDS=20000 DIR=target/test-demo

# Everything in one profile, so that tests and demo compile nothing twice.
build: prerequisites
	@echo "building the services and the stand-ins (about ten minutes the first time, seconds after that)"
	@cargo build --release --workspace --bins --locked

prerequisites:
	@.ci/prerequisites

format:
	cargo fmt --all
