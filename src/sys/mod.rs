//! System calls, and instructions that not every processor has: the only folder
//! that names rustix and the only one with `unsafe`.

mod allocator;
mod attributes;
pub mod failpoint;
mod fault;
mod file;
mod lock;
mod loop_device;
mod memory_file;
mod mount;
mod mount_table;
mod namespace;
mod open;
mod process;
mod regular;
mod sha512_lanes;
mod work_dir;

pub use allocator::share_one_arena;
pub use attributes::{
    Attributes, Special, create_dir_in, create_special, link_in, open_deep, open_parent,
    remove_default_acl, set_attributes,
};
pub use fault::{Fault, fault_of, room};
pub use file::{
    Symlink, create_dir_all_at, create_file_at, create_new_at, create_private_dir, current_dir,
    exchange_at, file_names_in, file_size_at, free_bytes, fsync_dir, is_root, is_temporary,
    link_tmpfile, names_in, open_dir, open_file_at, open_tmpfile, parent_of, read_link_at,
    remove_at, rename_at, rename_new_at, reopen_read_only, reserve, symlink_at, symlinks_below,
    sync_filesystem, trusted_owner, write_file_at,
};
pub use lock::{DirLock, ReadLock, lock_exclusive};
pub use memory_file::MemoryFile;
pub use mount::{
    MountError, Overlay, Unmount, attach, attach_beneath, mount_erofs, mount_overlay, mount_tmpfs,
    unmount,
};
pub use mount_table::{
    MountEntry, mount_id, mount_table, mount_table_of, parse_mount_table, top_mount,
};
pub use namespace::make_writable;
pub use open::{
    FolderId, ReadInRootError, folder_in_root, read_dir_names_in_root, read_in_root,
    read_link_in_root, write_in_root,
};
pub use process::{Leash, output_within, processor_time};
pub use regular::{RootDir, open_regular, read_regular};
pub use sha512_lanes::{LANES, has_lanes, sha512_of_each};
pub use work_dir::WorkDir;
