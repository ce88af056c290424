# What checks, scripts and people call. Each target sets up a bare Debian machine by itself,
# given git, a C compiler, make, Rust and root.

DESTDIR ?=
PREFIX ?= /usr
export KERNEL FILTER SHORT

bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib
store = $(libdir)/containers/storage

.PHONY: all demo test test-long kernels bench install clean

all:
	scripts/setup build
	cargo build --release --locked

demo:                   ## the main job on real input, step by step
	scripts/demo

test:                   ## every default test; with CI set nothing may be skipped
	scripts/test

test-long:              ## those, and the ones that take long
	scripts/test --long

kernels:                ## the tests in virtual machines with other kernels
	@echo "make kernels: not in this version; it comes with issue 3" >&2; exit 1

bench:                  ## whole-process comparison with the peers
	@echo "make bench: not in this version; it comes with issue 7" >&2; exit 1

# The skeleton store keeps podman working before, without and after us: an absent store directory
# or lock file makes every podman command of the host fail.
install: all
	install -D -m 0755 target/release/boundstore $(bindir)/boundstore
	for directory in overlay overlay-images overlay-layers vfs-images vfs-layers; do \
	  install -d -m 0755 $(store)/$$directory || exit; done
	for lock in overlay-images/images.lock overlay-layers/layers.lock \
	  vfs-images/images.lock vfs-layers/layers.lock; do \
	  install -m 0644 /dev/null $(store)/$$lock || exit; done
	install -D -m 0644 systemd/storage.conf \
	  $(DESTDIR)$(PREFIX)/share/containers/storage.conf.d/50-boundstore.conf
	for unit in $(wildcard systemd/*.service systemd/*.timer systemd/*.path systemd/*.mount systemd/*.target); do \
	  install -D -m 0644 $$unit $(libdir)/systemd/system/$${unit##*/} || exit; done
	for preset in $(wildcard systemd/*.preset); do \
	  install -D -m 0644 $$preset $(libdir)/systemd/system-preset/$${preset##*/} || exit; done

clean:
	cargo clean
	rm -rf .cache
