//! Memory mappings whose protection changes, as a loader makes them.

use std::{fs::File, io, ptr::NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};

/// The first page of a file, private to this process.
#[derive(Debug)]
pub struct Mapping(NonNull<std::ffi::c_void>);

const PAGE: usize = 4096;

impl Mapping {
    /// Maps it to be read and written.
    pub fn new(file: &File) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address: nothing else is there.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                PAGE,
                protection,
                MapFlags::PRIVATE,
                file,
                0,
            )
        }?;
        NonNull::new(address)
            .map(Self)
            .ok_or_else(|| io::Error::other("mapped at 0"))
    }

    /// Writes a byte, which gives this process a page of its own.
    pub fn modify(&self) {
        // SAFETY: `new` mapped it to be written, and checks change the
        // protection only afterwards.
        unsafe { self.0.cast::<u8>().write_volatile(0xc3) };
    }

    /// Leaves it to be read only.
    pub fn make_readable(&self) -> io::Result<()> {
        self.protect(MprotectFlags::READ)
    }

    /// Leaves it to be read and executed.
    pub fn make_executable(&self) -> io::Result<()> {
        self.protect(MprotectFlags::READ | MprotectFlags::EXEC)
    }

    fn protect(&self, flags: MprotectFlags) -> io::Result<()> {
        // SAFETY: the page is ours, and no reference points into it.
        Ok(unsafe { mprotect(self.0.as_ptr(), PAGE, flags) }?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it, and nothing points there.
        let _ = unsafe { munmap(self.0.as_ptr(), PAGE) };
    }
}
