//! podman on boundstore's store under systemd, on every kernel: see `vm::suite`.

fn main() -> anyhow::Result<std::process::ExitCode> {
    vm::suite::main(&vm::PODMAN_TESTS)
}
