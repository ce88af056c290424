//! Loop devices (loop(4)): for kernels whose EROFS cannot read from a file.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
};

use rustix::ioctl::{Setter, ioctl};

use crate::error::{Doing, PathError};

const LOOP_CTL_GET_FREE: rustix::ioctl::Opcode = 0x4C82;
const LOOP_CONFIGURE: rustix::ioctl::Opcode = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [[u8; 64]; 2],
    key: [u8; 32],
    init: [u64; 2],
}

/// A read-only loop device over `file`; it goes away with its last user.
pub(super) fn attach(file: impl AsFd) -> Result<(File, PathBuf), PathError> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .doing("open", "/dev/loop-control")?;
    let mut tries = 0;
    loop {
        let number =
            free_number(&control).doing("ask for a free loop device", "/dev/loop-control")?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new()
            .read(true)
            .open(&path)
            .doing("open", &path)?;
        let config = LoopConfig {
            fd: u32::try_from(file.as_fd().as_raw_fd()).unwrap_or_default(),
            block_size: 4096,
            info: LoopInfo {
                numbers: [0; 5],
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
                names: [[0; 64]; 2],
                key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, and LoopConfig has its layout.
        let configured = unsafe { ioctl(&device, Setter::<LOOP_CONFIGURE, _>::new(config)) };
        match configured {
            // Somebody else took the number in between.
            Err(rustix::io::Errno::BUSY) if tries < 64 => tries += 1,
            other => return other.doing("configure", &path).map(|()| (device, path)),
        }
    }
}

fn free_number(control: &File) -> rustix::io::Result<u32> {
    struct GetFree;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the number.
    unsafe impl rustix::ioctl::Ioctl for GetFree {
        type Output = u32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> rustix::ioctl::Opcode {
            LOOP_CTL_GET_FREE
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(
            out: rustix::ioctl::IoctlOutput,
            _: *mut std::ffi::c_void,
        ) -> rustix::io::Result<u32> {
            u32::try_from(out).map_err(|_| rustix::io::Errno::INVAL)
        }
    }
    // SAFETY: see GetFree.
    unsafe { ioctl(control, GetFree) }
}
