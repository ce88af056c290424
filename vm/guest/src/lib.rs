//! What the guests under systemd share: the way from the initramfs to systemd
//! ([`stage`]), steps that are named tests ([`step`]), and the lines that tell
//! the host of them ([`report`]). kernel-tests' own tools are here, too.

#[path = "../../../kernel-tests/src/fixture/disk.rs"]
pub mod disk;
#[path = "../../../kernel-tests/src/early.rs"]
pub mod early;
#[path = "../../../kernel-tests/src/kmsg.rs"]
pub mod kmsg;
pub mod report;
pub mod stage;
pub mod step;
#[path = "../../../kernel-tests/src/sys/mod.rs"]
#[allow(dead_code, unused_imports, missing_docs, reason = "kernel-tests' own")]
pub mod sys;
#[path = "../../../kernel-tests/src/fixture/tamper.rs"]
pub mod tamper;
