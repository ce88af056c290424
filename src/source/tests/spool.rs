use std::{fs, io::Read as _, os::unix::fs::symlink};

use super::*;
use crate::name::BlobDigest;

#[test]
fn a_blob_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/spool");
    let spool = Spool::open(&path).unwrap();
    let digest = BlobDigest::of(b"content");
    let whole = path.join(format!("sha256-{}", digest.hex()));
    let part_path = path.join(format!("sha256-{}.part", digest.hex()));
    let outside = dir.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    symlink(&outside, &part_path).unwrap();

    let mut part = spool.begin(&digest, 7).unwrap();
    part.write(b"cont", "here").unwrap();
    assert!(part_path.exists() && !whole.exists() && !spool.holds(&digest, 7));
    drop(part);
    // Interrupted: begun anew, and never through a link.
    let mut part = spool.begin(&digest, 7).unwrap();
    part.write(b"content", "here").unwrap();
    part.finish("here").unwrap();
    assert!(whole.exists() && !part_path.exists());
    assert!(spool.holds(&digest, 7) && !spool.holds(&digest, 8));
    assert!(spool.recheck(&digest, 7).unwrap());
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    let mut bytes = Vec::new();
    spool
        .open_blob(&digest)
        .unwrap()
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, b"content");

    fs::write(&whole, "CONTENT").unwrap();
    assert!(!spool.recheck(&digest, 7).unwrap());
    assert!(!whole.exists());
    spool.remove(&digest).unwrap();
    assert!(spool.open_blob(&digest).unwrap().is_none());
}

/// What another process has left is not taken for hashed.
#[test]
fn it_knows_what_it_has_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Spool::open(dir.path()).unwrap();
    let spool = open();
    let digest = BlobDigest::of(b"content");
    let mut part = spool.begin(&digest, 7).unwrap();
    part.write(b"content", "here").unwrap();
    assert!(!spool.has_hashed(&digest));
    part.finish("here").unwrap();
    assert!(spool.has_hashed(&digest));

    drop(spool);
    let spool = open();
    assert!(spool.holds(&digest, 7) && !spool.has_hashed(&digest));
    assert!(spool.recheck(&digest, 7).unwrap() && spool.has_hashed(&digest));
    let whole = dir.path().join(format!("sha256-{}", digest.hex()));
    fs::write(&whole, "CONTENT").unwrap();
    assert!(!spool.recheck(&digest, 7).unwrap() && !spool.has_hashed(&digest));

    let mut part = spool.begin(&digest, 7).unwrap();
    part.write(b"content", "here").unwrap();
    part.finish("here").unwrap();
    spool.remove(&digest).unwrap();
    assert!(!spool.has_hashed(&digest));
}

#[test]
fn wrong_blobs_do_not_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let digest = BlobDigest::of(b"content");
    for (size, pieces, says) in [
        (7, &[b"CONTENT".as_slice()] as &[&[u8]], "of 7 bytes"),
        (7, &[b"cont"], "of 4 bytes"),
        (7, &[b"cont", b"ents"], "more than 7 bytes"),
        (8, &[b"content"], "of 7 bytes"),
    ] {
        let mut part = spool.begin(&digest, size).unwrap();
        let written = pieces
            .iter()
            .try_for_each(|piece| part.write(piece, "here"));
        let error = written.and_then(|()| part.finish("here")).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.failing(), Failing::Corrupt);
        assert!(!spool.holds(&digest, size));
    }
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let error = Spool::open(dir.path()).unwrap_err();
    assert_eq!(error.failing(), Failing::Transient, "{error}");
    drop(spool);
    Spool::open(dir.path()).unwrap();
}
