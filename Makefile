# Each target does its own set-up on a bare Debian machine that has git, a C
# compiler, make, Rust and root.
PREFIX ?= /usr
DESTDIR ?=
CARGO ?= cargo
BINARY ?= target/release/boundstore
LIB = $(DESTDIR)$(PREFIX)/lib

.PHONY: demo test test-long kernels kernels-podman kernels-lifecycle bench scale install setup

# The main job on real input, step by step.
demo:
	scripts/setup test
	$(CARGO) build --release
	scripts/demo target/release/boundstore

# Every default test: the program's on this kernel, the checks of all kernels
# in virtual machines, podman and the life of a set on one of them, whose machines
# run beside the rest. The last lines count what ran.
test:
	scripts/setup test
	scripts/setup kernels
	scripts/fixtures
	scripts/quadlet
	scripts/skopeo
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- $(if $(CI),-D warnings)
	$(CARGO) build --bin boundstore
	cp target/debug/boundstore target/boundstore # cargo test puts another one there
	$(CARGO) test --no-run
	$(CARGO) test --package peer --no-run
	$(CARGO) test --package vm --no-run
	@status=0; \
	{ export KERNEL=6.12 BOUNDSTORE=target/boundstore; \
	  $(CARGO) test --package vm --test lifecycle > target/lifecycle.log 2>&1 || status=1; \
	  $(CARGO) test --package vm --test podman > target/podman.log 2>&1 || status=1; \
	  exit $$status; } & machines=$$!; \
	$(CARGO) test --no-fail-fast -- --test-threads=2 > target/test.log 2>&1 || status=1; \
	$(CARGO) test --package peer >> target/test.log 2>&1 || status=1; \
	$(CARGO) test --package vm --lib --test kernels > target/kernels.log 2>&1 || status=1; \
	$(MAKE) bench SHORT=1 PROFILE=dev > target/bench.log 2>&1 || { cat target/bench.log; status=1; }; \
	wait $$machines || status=1; \
	logs="target/test.log target/kernels.log target/podman.log target/lifecycle.log"; \
	cat $$logs; scripts/count $$logs; exit $$status

# What `make test` leaves out, meant for less than 40 minutes: what is marked as long,
# more cases for each property, more than fifty power cuts, twenty seconds of
# libFuzzer for each parser. The machine runs beside the rest, which waits a good
# deal. podman on the other kernels: `make kernels-podman`.
test-long:
	scripts/setup test
	scripts/setup kernels
	scripts/fixtures
	@status=0; \
	$(CARGO) test --package vm --test power -- --ignored --nocapture \
	  > target/long-power.log 2>&1 & machine=$$!; \
	PROPTEST_CASES=1024 $(CARGO) test --lib > target/long-properties.log 2>&1 || status=1; \
	$(CARGO) test --no-fail-fast -- --ignored --nocapture --test-threads=2 \
	  > target/long-test.log 2>&1 || status=1; \
	scripts/fuzz 20 > target/long-fuzz.log 2>&1 || status=1; \
	wait $$machine || status=1; \
	cat target/long-*.log; \
	scripts/count target/long-*.log; exit $$status

# The VM suite: every check on every kernel, then the matrix of what they did.
# KERNEL=6.12 boots one; FILTER=data_only:: runs what has that in its name.
kernels:
	scripts/setup kernels
	mkdir -p target
	KERNEL=$(KERNEL) $(CARGO) test --package vm --lib --test kernels -- $(FILTER) \
	  > target/kernels.log 2>&1; \
	status=$$?; cat target/kernels.log; $(CARGO) run --quiet --package vm -- matrix; \
	scripts/count target/kernels.log; exit $$status

# podman on our store, under systemd, on every kernel: KERNEL and FILTER as above.
kernels-podman:
	scripts/setup test
	scripts/setup kernels
	mkdir -p target
	KERNEL=$(KERNEL) $(CARGO) test --package vm --test podman -- $(FILTER) \
	  > target/kernels-podman.log 2>&1; \
	status=$$?; cat target/kernels-podman.log; $(CARGO) run --quiet --package vm -- matrix --podman; \
	scripts/count target/kernels-podman.log; exit $$status

# The life of a set on hosts with deployments, on every kernel: as above.
kernels-lifecycle:
	scripts/setup test
	scripts/setup kernels
	mkdir -p target
	KERNEL=$(KERNEL) $(CARGO) test --package vm --test lifecycle -- $(FILTER) \
	  > target/kernels-lifecycle.log 2>&1; \
	status=$$?; cat target/kernels-lifecycle.log; scripts/count target/kernels-lifecycle.log; exit $$status

# Whole processes beside the peers, and the parts alone with PARTS=1. SHORT=1 runs
# each once on small images, to see that it works.
PROFILE ?= release
bench:
	scripts/setup bench
	$(CARGO) build --profile $(PROFILE) --bins
	$(CARGO) build --profile $(PROFILE) --package peer
	benches/run.py --programs target/$(PROFILE:dev=debug) $(if $(SHORT),--short --memory) $(ARGS)
	$(if $(PARTS),$(CARGO) bench --bench parts)

# What it takes by the number of images and files: up to 200 and two million.
scale:
	scripts/setup bench
	$(CARGO) build --profile $(PROFILE) --bins
	benches/scale.py --programs target/$(PROFILE:dev=debug) $(ARGS)

# The program, the empty store that podman finds before and without any set,
# the storage.conf drop-in, the configuration, systemd's units and generator.
UNITS = mount.service guard.path guard.service veto.service gc.timer gc.service
install:
	scripts/setup build
	$(CARGO) build --release
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/boundstore
	install -d -m 0755 $(LIB)/containers/storage/overlay/l
	for kind in overlay vfs; do for what in images layers; do \
	  install -d -m 0755 $(LIB)/containers/storage/$$kind-$$what; \
	  install -m 0644 /dev/null $(LIB)/containers/storage/$$kind-$$what/$$what.lock; \
	done; done
	install -D -m 0644 dist/storage.conf \
	  $(DESTDIR)$(PREFIX)/share/containers/storage.conf.d/50-boundstore.conf
	install -D -m 0644 dist/config.toml $(LIB)/boundstore/config.toml
	install -d -m 0755 $(LIB)/systemd/system $(LIB)/systemd/system-generators
	install -m 0644 $(UNITS:%=systemd/boundstore-%) $(LIB)/systemd/system
	install -m 0755 systemd/boundstore-generator $(LIB)/systemd/system-generators
	sed -i 's|/usr/bin/boundstore|$(PREFIX)/bin/boundstore|' \
	  $(UNITS:%=$(LIB)/systemd/system/boundstore-%) \
	  $(LIB)/systemd/system-generators/boundstore-generator
