//! System calls that rustix has not, or has as `unsafe`.
#![allow(unsafe_code)]

mod child;
mod mapping;

pub use child::in_child;
pub use mapping::Mapping;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    ioctl::{Opcode, Setter, Updater, ioctl},
    thread::{UnshareFlags, unshare_unsafe},
};

/// `FIBMAP` of `linux/fs.h`.
const FIBMAP: Opcode = 1;

/// The block of the device that holds a block of a file.
pub fn block_of(file: &File, block: u32) -> io::Result<u32> {
    let mut number = block;
    // SAFETY: FIBMAP reads and writes one int.
    unsafe { ioctl(file, Updater::<FIBMAP, u32>::new(&mut number)) }?;
    Ok(number)
}

/// Gives this process namespaces of its own.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only CLONE_FILES could take other threads' file descriptors from
    // them, and nobody here asks for it.
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Idmaps a detached mount by a user namespace (`mount_setattr(2)`).
pub fn idmap(mount: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    idmap_at(mount, user_namespace, libc::AT_EMPTY_PATH)
}

/// The same, with all that is mounted below: what podman asks for.
pub fn idmap_all(mount: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    idmap_at(
        mount,
        user_namespace,
        libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    )
}

fn idmap_at(mount: impl AsFd, user_namespace: impl AsFd, flags: i32) -> io::Result<()> {
    let user_namespace = user_namespace.as_fd().as_raw_fd();
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(user_namespace).map_err(io::Error::other)?,
    };
    // SAFETY: the path is a C string, and the size is that of the structure
    // behind the pointer; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct fsverity_enable_arg` of `linux/fsverity.h`.
#[repr(C)]
struct EnableVerity {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved1: u32,
    signature: u64,
    reserved2: [u64; 11],
}

const FS_IOC_ENABLE_VERITY: Opcode = rustix::ioctl::opcode::write::<EnableVerity>(b'f', 133);
const SHA512: u32 = 2;

/// Enables fs-verity, SHA-512 over blocks of 4 KiB (`FS_IOC_ENABLE_VERITY`).
pub fn enable_verity(file: impl AsFd) -> io::Result<()> {
    let arg = EnableVerity {
        version: 1,
        hash_algorithm: SHA512,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved1: 0,
        signature: 0,
        reserved2: [0; 11],
    };
    // SAFETY: the ioctl reads one `struct fsverity_enable_arg`, whose layout
    // EnableVerity has; salt and signature are empty.
    unsafe { ioctl(file, Setter::<FS_IOC_ENABLE_VERITY, _>::new(arg)) }?;
    Ok(())
}

/// Ends the machine through QEMU's isa-debug-exit, with the status
/// `2 * value + 1`; comes back only where there is no such device.
pub fn debug_exit(value: u8) {
    // SAFETY: iopl only gives this process access to the ports; what listens at
    // 0xf4 of the machine that `vm` builds is isa-debug-exit, which takes a byte.
    unsafe {
        if libc::iopl(3) == 0 {
            std::arch::asm!("out dx, al", in("dx") 0xf4_u16, in("al") value);
        }
    }
}
