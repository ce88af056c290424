//! What boundstore says of kernels, on every kernel: see `vm::suite`.

fn main() -> anyhow::Result<std::process::ExitCode> {
    vm::suite::main(&vm::KERNEL_TESTS)
}
