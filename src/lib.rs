//! boundstore: a composefs-backed, squashed, read-only image store for bootc hosts.
//!
//! A bootc deployment names the app images that belong to it. This crate keeps
//! them in a composefs repository and shows each deployment exactly its own,
//! read-only, where podman finds them as an additional image store.
//!
//! # The idea
//!
//! podman reads all of an image store at once: a store with one broken file is
//! no missing image but a host without podman. So nothing is shown before it is
//! complete and validated. A whole store is rendered as one EROFS image of
//! metadata over the repository's objects, published by one symlink and mounted
//! in one step. Layers keep their IDs, digests and tar-splits, but each layer's
//! tree is the squashed one of all layers up to it, so that no overlay has to
//! be interpreted twice.
//!
//! # Data flow
//!
//! Each stage has one verb and hands on one type.
//!
//! ```text
//! unit files, --image
//!    | scan      [bound]
//! BoundImage                 what a deployment asks for
//!    | resolve   [source]    tag -> digest, index -> platform
//! ResolvedImage
//!    | fetch     [source]    network blobs to files, hashed before any parser; no lock
//!    | import    [import]    under the shared lock: split, hash; objects + layer stream
//! StoredLayer
//!    | squash    [squash]    pure: layer entries -> the merged tree of every prefix
//! RootfsChain
//!    | lay out   [store_tree] pure: containers-storage's files of the whole set
//! StoreTree -> ValidStoreTree  the only thing a sink takes
//!    | stage     [sink]      one EROFS image, an object like others
//! StagedSet
//!    | publish   [repo]      THE COMMIT POINT: one ref
//! PublishedSet
//!    | expose    [deployment] the mount that podman sees
//! ```
//!
//! Before `publish` a crash leaves garbage or a part that the next sync uses,
//! after it a complete set.
//!
//! # Nouns
//!
//! * A *bound image* is one name that a deployment asks for.
//! * The *set* is all of a deployment's bound images, resolved.
//! * The *store tree* is containers-storage's layout of a set.
//! * The *set image* is the EROFS image of that tree; its fs-verity digest
//!   names it.
//! * A *layer stream* is a layer's tar in the repository, split into literal
//!   bytes and objects.
//! * The *pin* is a stream that refers to every object of a set, so that any
//!   garbage collection of the repository keeps it.
//! * A *deployment* is whose set it is: in this version a name given by hand.
//!
//! # Where to read on
//!
//! [`deployment::Syncer`] has the whole line in one function, [`mod@verify`] the
//! way back: from what is stored to what should be. `docs/format.md`
//! is what is written and in which order, `docs/fidelity.md` what a squashed
//! tree shows. [`repo`] is the only module that names `composefs`, [`sys`] the
//! only one with system calls, [`cli`] the only one that prints. [`document`]
//! is the one reader of manifests, indexes and configs: resolving an image and
//! validating a store tree must see the same ones.
//! [`name`], [`document`], [`squash`] and [`store_tree`] are pure.

// Fixtures below tests/ are also used by the tests beside the code.
#[cfg(test)]
extern crate self as boundstore;

mod at_once;
pub mod bound;
pub mod bundle;
pub mod cli;
pub mod config;
pub mod deployment;
pub mod document;
pub mod error;
pub mod import;
pub mod name;
pub mod repo;
pub mod sink;
pub mod source;
pub mod squash;
pub mod storage_conf;
pub mod store_tree;
pub mod sys;
pub mod verify;
