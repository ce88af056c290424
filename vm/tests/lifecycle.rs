//! The life of a set on hosts with deployments, on every kernel: see `vm::suite`.

fn main() -> anyhow::Result<std::process::ExitCode> {
    vm::suite::main(&vm::LIFECYCLE_TESTS)
}
