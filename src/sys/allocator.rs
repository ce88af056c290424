//! The C library's allocator.

/// Has all threads of this process share one arena. With one for each, what one
/// thread has freed is of no use to another, and is given back to the kernel
/// again and again: a sync of twenty images took a third of its time for that.
///
/// To be called before there are threads.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc may be told so at any time; mallopt(3) takes two numbers.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
