//! `tests/common` is compiled into this program. What cargo tells integration
//! tests while they are built is told here as it will be in the guest.

fn main() {
    println!("cargo:rustc-env=CARGO_BIN_EXE_boundstore=/mnt/boundstore");
    println!("cargo:rustc-env=CARGO_TARGET_TMPDIR=/var/lib/power-tests");
    println!("cargo:rerun-if-changed=build.rs");
}
