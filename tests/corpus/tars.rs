//! Layers that no tar of good will holds.

use std::io::Write;

use crate::{Case, Stage, layout::LayerBlob, raw_tar::RawTar};

/// A record as it should be, or as it should not.
fn records(stage: &Stage, payload: &[u8]) -> RawTar {
    let tar = stage.own_tar().payload(b'x', "pax", payload);
    tar.file("behind", b"1")
}

fn pax(stage: &Stage, pairs: &[(&str, &[u8])]) -> RawTar {
    stage.own_tar().pax(pairs).file("behind", b"1")
}

/// A PAX 0.1 sparse file of 100 bytes, whose data are `data`.
fn sparse(stage: &Stage, map: &str, pieces: &str, data: &[u8]) -> RawTar {
    let tar = stage.own_tar().pax(&[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", b"100"),
        ("GNU.sparse.numblocks", pieces.as_bytes()),
        ("GNU.sparse.map", map.as_bytes()),
    ]);
    tar.file("sparse", data)
}

/// A PAX 1.0 sparse file of `size` bytes, whose map is in its data.
fn sparse_in_data(stage: &Stage, size: &[u8], map: &str, data: &[u8]) -> RawTar {
    let mut blocks = map.as_bytes().to_vec();
    blocks.resize(blocks.len().next_multiple_of(512), 0);
    blocks.extend(data);
    let tar = stage.own_tar().pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", size),
    ]);
    tar.file("placeholder", &blocks)
}

/// The same in GNU's old format: the map is in the header.
fn sparse_old(stage: &Stage, map: &[(u64, u64)], size: u64, data: &[u8]) -> RawTar {
    let mut tar = stage.own_tar().payload(b'S', "sparse", data);
    for (at, (offset, length)) in map.iter().enumerate() {
        let place = 386 + 24 * at;
        tar = tar.field(place, format!("{offset:011o}\0").as_bytes());
        tar = tar.field(place + 12, format!("{length:011o}\0").as_bytes());
    }
    tar.field(483, format!("{size:011o}\0").as_bytes())
}

/// Base layer and another on it.
fn upon(stage: &mut Stage, upper: RawTar) -> String {
    let lower = stage
        .own_tar()
        .file("d/a", b"lower a")
        .file("d/b", b"lower b");
    stage.tars([lower, upper])
}

fn packed(stage: &mut Stage, blob: Vec<u8>, like: LayerBlob) -> String {
    stage.layer(LayerBlob { blob, ..like })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    LayerBlob::gzip(bytes).blob
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    LayerBlob::zstd(bytes).blob
}

/// A zstd frame of raw blocks with a window of `log` bits.
fn zstd_window(bytes: &[u8], log: u8) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(u32::from(log)).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(bytes).unwrap();
    let mut frame = encoder.finish().unwrap();
    // Exponent of the window descriptor: 10 + its upper five bits.
    frame[5] = (log - 10) << 3;
    frame
}

/// Layers.
pub const CASES: &[Case] = &[
    // Names.
    ("name-dot-dot", |s| {
        s.tar(s.own_tar().file("../../etc/x", b"x"))
    }),
    ("name-absolute", |s| {
        s.tar(s.own_tar().file("//abs/./x/../y", b"y"))
    }),
    ("name-only-dot-dot", |s| {
        s.tar(s.own_tar().entry("..", b'5', 0).entry("../..", b'5', 0))
    }),
    ("name-dot-dot-as-file", |s| {
        s.tar(s.own_tar().file("..", b"x"))
    }),
    ("name-empty", |s| s.tar(s.own_tar().file("", b"x"))),
    ("name-slashes", |s| {
        s.tar(s.own_tar().entry("///", b'5', 0).file("a///b", b"b"))
    }),
    ("name-file-with-slash", |s| {
        s.tar(s.own_tar().file("a/", b"a"))
    }),
    ("name-nul-in-pax", |s| s.tar(pax(s, &[("path", b"a\0b")]))),
    ("name-not-utf8", |s| s.tar(pax(s, &[("path", b"\xff\xfe")]))),
    ("name-line-feed", |s| {
        s.tar(s.own_tar().file("a\nb\x1b", b"x"))
    }),
    ("name-case-pair", |s| {
        s.tar(s.own_tar().file("Name", b"1").file("name", b"2"))
    }),
    // What is in the way.
    ("below-a-file", |s| {
        s.tar(s.own_tar().file("a", b"a").file("a/b", b"b"))
    }),
    ("below-a-fifo", |s| {
        s.tar(s.own_tar().entry("a", b'6', 0).file("a/b", b"b"))
    }),
    ("below-a-link", |s| {
        s.tar(
            s.own_tar()
                .entry("real", b'5', 0)
                .link("l", b'2', "/real")
                .file("l/x", b"x"),
        )
    }),
    ("below-a-dangling-link", |s| {
        s.tar(
            s.own_tar()
                .link("l", b'2', "/nowhere/at/all")
                .file("l/x", b"x"),
        )
    }),
    ("below-a-link-to-a-file", |s| {
        s.tar(
            s.own_tar()
                .file("f", b"f")
                .link("l", b'2', "f")
                .file("l/x", b"x"),
        )
    }),
    ("below-a-link-out", |s| {
        s.tar(s.own_tar().link("l", b'2', "../../../..").file("l/x", b"x"))
    }),
    ("below-a-loop", |s| {
        s.tar(
            s.own_tar()
                .link("a", b'2', "b")
                .link("b", b'2', "a")
                .file("a/x", b"x"),
        )
    }),
    ("link-to-itself", |s| {
        s.tar(s.own_tar().link("a", b'2', "a"))
    }),
    ("link-to-nothing", |s| {
        s.tar(s.own_tar().payload(b'2', "a", b""))
    }),
    ("link-nul-in-pax", |s| {
        s.tar(
            s.own_tar()
                .pax(&[("linkpath", b"a\0b")])
                .link("a", b'2', "x"),
        )
    }),
    ("file-then-directory", |s| {
        s.tar(
            s.own_tar()
                .file("a", b"a")
                .entry("a", b'5', 0)
                .file("a/b", b"b"),
        )
    }),
    ("directory-then-file", |s| {
        s.tar(s.own_tar().file("a/b", b"b").file("a", b"a"))
    }),
    ("directory-then-link", |s| {
        s.tar(
            s.own_tar()
                .file("a/b", b"b")
                .entry("c", b'5', 0)
                .link("a", b'2', "c")
                .file("a/d", b"d"),
        )
    }),
    ("file-twice", |s| {
        s.tar(s.own_tar().file("a", b"first").file("a", b"second"))
    }),
    ("root-as-a-file", |s| s.tar(s.own_tar().file("/", b"x"))),
    ("root-as-a-link", |s| {
        s.tar(s.own_tar().link("/", b'2', "/etc"))
    }),
    // Hard links.
    ("hardlink-to-itself", |s| {
        s.tar(s.own_tar().file("a", b"a").link("a", b'1', "a"))
    }),
    ("hardlink-to-later", |s| {
        s.tar(s.own_tar().link("a", b'1', "b").file("b", b"b"))
    }),
    ("hardlink-to-nothing", |s| {
        s.tar(s.own_tar().link("a", b'1', ""))
    }),
    ("hardlink-to-directory", |s| {
        s.tar(s.own_tar().entry("d", b'5', 0).link("a", b'1', "d"))
    }),
    ("hardlink-to-root", |s| {
        s.tar(s.own_tar().link("a", b'1', "/"))
    }),
    ("hardlink-to-link-out", |s| {
        s.tar(
            s.own_tar()
                .link("l", b'2', "/etc/shadow")
                .link("a", b'1', "l"),
        )
    }),
    ("hardlink-through-link", |s| {
        s.tar(
            s.own_tar()
                .file("d/f", b"f")
                .link("l", b'2', "d")
                .link("a", b'1', "l/f"),
        )
    }),
    ("hardlink-climbs-out", |s| {
        s.tar(
            s.own_tar()
                .file("etc/shadow", b"own")
                .link("a", b'1', "../../../etc/shadow"),
        )
    }),
    ("hardlink-with-data", |s| {
        s.tar(
            s.own_tar()
                .file("f", b"f")
                .payload(b'1', "a", b"")
                .field(157, b"f")
                .field(124, b"00000000005\0")
                .file("b", b"b"),
        )
    }),
    ("hardlink-to-lower-layer", |s| {
        let upper = RawTar::default().link("d/c", b'1', "d/a");
        upon(s, upper)
    }),
    ("hardlink-to-what-a-whiteout-hides", |s| {
        let upper = RawTar::default()
            .entry("d/.wh.a", b'0', 0)
            .link("d/c", b'1', "d/a");
        upon(s, upper)
    }),
    // Whiteouts.
    ("whiteout-of-nothing", |s| {
        s.tar(s.own_tar().entry(".wh.nothing", b'0', 0))
    }),
    ("whiteout-nameless", |s| {
        s.tar(s.own_tar().entry("d/.wh.", b'0', 0))
    }),
    ("whiteout-of-dot", |s| {
        s.tar(s.own_tar().entry("d/.wh..", b'0', 0))
    }),
    ("whiteout-of-dot-dot", |s| {
        s.tar(s.own_tar().entry("d/.wh...", b'0', 0))
    }),
    ("whiteout-of-a-whiteout", |s| {
        upon(s, RawTar::default().entry("d/.wh..wh.a", b'0', 0))
    }),
    ("whiteout-before-its-file", |s| {
        upon(
            s,
            RawTar::default()
                .entry("d/.wh.a", b'0', 0)
                .file("d/a", b"upper a"),
        )
    }),
    ("whiteout-behind-its-file", |s| {
        upon(
            s,
            RawTar::default()
                .file("d/a", b"upper a")
                .entry("d/.wh.a", b'0', 0),
        )
    }),
    ("whiteout-as-directory", |s| {
        upon(
            s,
            RawTar::default()
                .entry("d/.wh.a", b'5', 0)
                .file("d/.wh.a/x", b"x"),
        )
    }),
    ("whiteout-with-data", |s| {
        upon(s, RawTar::default().file("d/.wh.a", b"data"))
    }),
    ("whiteout-as-device", |s| {
        upon(s, RawTar::default().device("d/a", b'3', 0, 0))
    }),
    ("whiteout-through-link", |s| {
        upon(
            s,
            RawTar::default()
                .link("l", b'2', "d")
                .entry("l/.wh.a", b'0', 0),
        )
    }),
    ("whiteout-aufs", |s| {
        upon(
            s,
            RawTar::default()
                .entry("d/.wh..wh.aufs", b'0', 0)
                .entry("d/.wh..wh.plnk", b'5', 0),
        )
    }),
    ("opaque-with-siblings", |s| {
        let upper = RawTar::default().file("d/b", b"upper b");
        upon(
            s,
            upper
                .entry("d/.wh..wh..opq", b'0', 0)
                .file("d/c", b"upper c"),
        )
    }),
    ("opaque-root", |s| {
        upon(
            s,
            RawTar::default()
                .file("only", b"1")
                .entry(".wh..wh..opq", b'0', 0),
        )
    }),
    ("opaque-of-nothing", |s| {
        upon(s, RawTar::default().entry("n/.wh..wh..opq", b'0', 0))
    }),
    ("opaque-over-file", |s| {
        upon(s, RawTar::default().entry("d/a/.wh..wh..opq", b'0', 0))
    }),
    // Kinds and modes.
    ("mode-setuid", |s| {
        s.tar(s.own_tar().file("su", b"x").field(100, b"0004755\0"))
    }),
    ("mode-with-type-bits", |s| {
        s.tar(s.own_tar().file("f", b"x").field(100, b"0177777\0"))
    }),
    ("mode-negative", |s| {
        s.tar(s.own_tar().file("f", b"x").field(100, &[0xff; 8]))
    }),
    ("device-memory", |s| {
        s.tar(s.own_tar().device("mem", b'3', 1, 1))
    }),
    ("device-negative", |s| {
        s.tar(s.own_tar().device("d", b'4', 1, 1).field(329, &[0xff; 8]))
    }),
    ("fifo", |s| s.tar(s.own_tar().entry("pipe", b'6', 0))),
    ("fifo-with-data", |s| {
        s.tar(s.own_tar().entry("pipe", b'6', 700).file("behind", b"1"))
    }),
    ("type-unknown", |s| s.tar(s.own_tar().entry("z", b'Z', 0))),
    ("type-volume-label", |s| {
        s.tar(s.own_tar().entry("label", b'V', 0))
    }),
    ("type-of-another-volume", |s| {
        s.tar(s.own_tar().entry("rest", b'M', 0))
    }),
    ("type-contiguous", |s| {
        s.tar(s.own_tar().payload(b'7', "f", b"x"))
    }),
    ("owner-out-of-range", |s| {
        s.tar(pax(s, &[("uid", b"4294967296")]))
    }),
    ("owner-negative", |s| s.tar(pax(s, &[("gid", b"-1")]))),
    ("time-huge", |s| {
        s.tar(pax(s, &[("mtime", b"99999999999999999999")]))
    }),
    ("time-not-a-number", |s| s.tar(pax(s, &[("mtime", b"nan")]))),
    // PAX records.
    ("pax-length-lies", |s| s.tar(records(s, b"99 path=x\n"))),
    ("pax-length-zero", |s| s.tar(records(s, b"0 path=x\n"))),
    ("pax-length-negative", |s| s.tar(records(s, b"-9 path=x\n"))),
    ("pax-length-overflows", |s| {
        s.tar(records(s, b"18446744073709551626 path=x\n"))
    }),
    ("pax-length-missing", |s| s.tar(records(s, b" path=x\n"))),
    ("pax-without-equals", |s| s.tar(records(s, b"8 pathx\n"))),
    ("pax-without-line-feed", |s| {
        s.tar(records(s, b"10 path=xy"))
    }),
    ("pax-empty-key", |s| s.tar(records(s, b"5 =x\n"))),
    ("pax-not-utf8-key", |s| s.tar(records(s, b"6 \xff=x\n"))),
    ("pax-record-twice", |s| {
        s.tar(pax(s, &[("path", b"one"), ("path", b"two")]))
    }),
    ("pax-size-negative", |s| s.tar(pax(s, &[("size", b"-1")]))),
    ("pax-size-huge", |s| {
        s.tar(pax(s, &[("size", b"9223372036854775807")]))
    }),
    ("pax-size-overflows", |s| {
        s.tar(pax(s, &[("size", b"9223372036854775808")]))
    }),
    ("pax-of-nothing", |s| {
        s.tar(s.own_tar().pax(&[("path", b"x")]))
    }),
    ("pax-of-pax", |s| {
        s.tar(
            s.own_tar()
                .pax(&[("path", b"one")])
                .pax(&[("path", b"two")])
                .file("f", b"x"),
        )
    }),
    ("pax-header-huge", |s| {
        let tar = s.own_tar().header_only("pax", b'x', 1 << 40);
        s.layer(LayerBlob::plain(&tar))
    }),
    ("pax-global", |s| {
        s.tar(
            s.own_tar()
                .payload(b'g', "global", b"17 path=all/same\n")
                .file("f", b"x"),
        )
    }),
    ("pax-global-broken", |s| {
        s.tar(
            s.own_tar()
                .payload(b'g', "global", b"99 path=x\n")
                .file("f", b"x"),
        )
    }),
    // GNU's long names, and numbers.
    ("long-name-bomb", |s| {
        let tar = s.own_tar().header_only("././@LongLink", b'L', 1 << 32);
        s.layer(LayerBlob::plain(&tar))
    }),
    ("long-name-without-end", |s| {
        s.tar(s.own_tar().payload(b'L', "long", b"name").file("f", b"x"))
    }),
    ("long-name-empty", |s| {
        s.tar(s.own_tar().payload(b'L', "long", b"\0").file("f", b"x"))
    }),
    ("long-name-twice", |s| {
        s.tar(
            s.own_tar()
                .payload(b'L', "long", b"a\0")
                .payload(b'L', "long", b"b\0")
                .file("f", b"x"),
        )
    }),
    ("size-negative", |s| {
        s.tar(s.own_tar().file("f", b"x").field(124, &[0xff; 12]))
    }),
    ("size-overflows", |s| {
        let size = [
            0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        s.tar(s.own_tar().file("f", b"x").field(124, &size))
    }),
    ("size-not-octal", |s| {
        s.tar(s.own_tar().file("f", b"x").field(124, b"00000000009\0"))
    }),
    // Sparse files.
    ("sparse-good", |s| {
        s.tar(sparse(s, "10,3,50,2", "2", b"abcde"))
    }),
    ("sparse-decreasing", |s| {
        s.tar(sparse(s, "50,2,10,3", "2", b"abcde"))
    }),
    ("sparse-overlapping", |s| {
        s.tar(sparse(s, "10,5,12,5", "2", b"abcdefghij"))
    }),
    ("sparse-beyond-the-end", |s| {
        s.tar(sparse(s, "99,5", "1", b"abcde"))
    }),
    ("sparse-overflowing", |s| {
        s.tar(sparse(
            s,
            "9223372036854775807,9223372036854775807",
            "1",
            b"x",
        ))
    }),
    ("sparse-odd-map", |s| {
        s.tar(sparse(s, "10,3,50", "2", b"abc"))
    }),
    ("sparse-map-without-numbers", |s| {
        s.tar(sparse(s, "a,b", "1", b"abc"))
    }),
    ("sparse-count-lies", |s| {
        s.tar(sparse(s, "10,3", "9000000000", b"abc"))
    }),
    ("sparse-less-data-than-map", |s| {
        s.tar(sparse(s, "10,30", "1", b"abc"))
    }),
    ("sparse-more-data-than-map", |s| {
        s.tar(sparse(s, "10,1", "1", b"abc"))
    }),
    ("sparse-in-data-good", |s| {
        s.tar(sparse_in_data(s, b"100", "1\n10\n3\n", b"abc"))
    }),
    ("sparse-in-data-without-numbers", |s| {
        s.tar(sparse_in_data(s, b"100", "x\n", b"abc"))
    }),
    ("sparse-in-data-huge-count", |s| {
        s.tar(sparse_in_data(s, b"100", "99999999999\n1\n1\n", b"abc"))
    }),
    ("sparse-in-data-decreasing", |s| {
        s.tar(sparse_in_data(s, b"100", "2\n50\n1\n10\n2\n", b"abc"))
    }),
    ("sparse-in-data-size-negative", |s| {
        s.tar(sparse_in_data(s, b"-1", "0\n", b""))
    }),
    ("sparse-old-good", |s| {
        s.tar(sparse_old(s, &[(10, 3), (50, 2)], 100, b"abcde"))
    }),
    ("sparse-old-overlapping", |s| {
        s.tar(sparse_old(s, &[(10, 5), (12, 5)], 100, b"abcdefghij"))
    }),
    ("sparse-old-beyond-the-end", |s| {
        s.tar(sparse_old(s, &[(98, 5)], 100, b"abcde"))
    }),
    // Extended attributes.
    ("xattr-overlay-opaque", |s| {
        let upper = RawTar::default().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]);
        upon(s, upper.entry("d", b'5', 0))
    }),
    ("xattr-overlay-redirect", |s| {
        s.tar(pax(
            s,
            &[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.user.overlay.metacopy", b""),
                ("SCHILY.xattr.user.kept", b"v"),
            ],
        ))
    }),
    ("xattr-overlay-escaped", |s| {
        s.tar(pax(
            s,
            &[("SCHILY.xattr.trusted.overlay.overlay.opaque", b"y")],
        ))
    }),
    ("xattr-selinux", |s| {
        s.tar(pax(s, &[("SCHILY.xattr.security.selinux", b"evil_t")]))
    }),
    ("xattr-capability", |s| {
        let value = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        s.tar(pax(s, &[("SCHILY.xattr.security.capability", value)]))
    }),
    ("xattr-capability-malformed", |s| {
        s.tar(pax(s, &[("SCHILY.xattr.security.capability", b"xyz")]))
    }),
    ("xattr-acl-malformed", |s| {
        s.tar(pax(
            s,
            &[("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0xyz")],
        ))
    }),
    ("xattr-without-name", |s| {
        s.tar(pax(s, &[("SCHILY.xattr.", b"v")]))
    }),
    ("xattr-without-namespace", |s| {
        s.tar(pax(s, &[("SCHILY.xattr.nothing", b"v")]))
    }),
    ("xattr-nul-in-name", |s| {
        s.tar(pax(s, &[("SCHILY.xattr.user.a\0b", b"v")]))
    }),
    ("xattr-of-user-on-a-link", |s| {
        s.tar(
            s.own_tar()
                .pax(&[("SCHILY.xattr.user.a", b"v")])
                .link("l", b'2', "x"),
        )
    }),
    ("xattr-of-libarchive", |s| {
        s.tar(pax(s, &[("LIBARCHIVE.xattr.user.a", b"dg==")]))
    }),
    // Ends.
    ("end-missing", |s| {
        let tar = s.own_tar().file("f", b"x").unended();
        s.layer(LayerBlob::plain(&tar))
    }),
    ("end-half", |s| {
        let tar = s.own_tar().file("f", b"x").raw(&[0; 512]).unended();
        s.layer(LayerBlob::plain(&tar))
    }),
    ("end-in-a-header", |s| {
        let tar = s.own_tar().file("f", b"x").unended();
        s.layer(LayerBlob::plain(&tar[..tar.len() - 700]))
    }),
    ("end-in-the-data", |s| {
        let tar = s.own_tar().file("f", &[7; 5000]).unended();
        s.layer(LayerBlob::plain(&tar[..tar.len() - 2000]))
    }),
    ("behind-the-end", |s| {
        let tar = s.own_tar().raw(&[0; 1024]).raw(b"anything at all");
        s.layer(LayerBlob::plain(&tar.unended()))
    }),
    ("behind-the-end-a-tar", |s| {
        let tar = s.own_tar().raw(&[0; 1024]).file("hidden", b"x");
        s.tar(tar)
    }),
    ("empty", |s| s.layer(LayerBlob::plain(b""))),
    ("zeros", |s| s.layer(LayerBlob::plain(&[0; 10_240]))),
    // Compression.
    ("gzip-two-members", |s| {
        let tar = s.own_tar().file("f", b"x").done();
        packed(
            s,
            [gzip(&tar[..700]), gzip(&tar[700..])].concat(),
            LayerBlob::gzip(&tar),
        )
    }),
    ("gzip-member-and-zeros", |s| {
        let tar = s.own_tar().file("f", b"x").done();
        packed(
            s,
            [gzip(&tar), vec![0; 512]].concat(),
            LayerBlob::gzip(&tar),
        )
    }),
    ("gzip-wrong-sum", |s| {
        let like = s.own_layer();
        let mut blob = like.blob.clone();
        let at = blob.len() - 6;
        blob[at] ^= 1;
        packed(s, blob, like)
    }),
    ("gzip-without-its-end", |s| {
        let like = s.own_layer();
        let blob = like.blob[..like.blob.len() - 4].to_vec();
        packed(s, blob, like)
    }),
    ("gzip-in-gzip", |s| {
        let like = s.own_layer();
        packed(s, gzip(&like.blob), like)
    }),
    ("gzip-called-zstd", |s| {
        let like = LayerBlob::zstd(&s.own_tar().done());
        packed(s, gzip(&s.own_tar().done()), like)
    }),
    ("plain-called-gzip", |s| {
        let tar = s.own_tar().done();
        packed(s, tar.clone(), LayerBlob::gzip(&tar))
    }),
    ("gzip-called-plain", |s| {
        let tar = s.own_tar().done();
        packed(s, gzip(&tar), LayerBlob::plain(&tar))
    }),
    ("bzip2", |s| {
        let like = s.own_layer();
        packed(s, b"BZh91AY&SY and so on".to_vec(), like)
    }),
    ("zstd-two-frames", |s| {
        let tar = s.own_tar().file("f", b"x").done();
        packed(
            s,
            [zstd(&tar[..700]), zstd(&tar[700..])].concat(),
            LayerBlob::zstd(&tar),
        )
    }),
    ("zstd-skippable-frames", |s| {
        let tar = s.own_tar().file("f", b"x").done();
        let skip = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        packed(
            s,
            [skip.clone(), zstd(&tar), skip].concat(),
            LayerBlob::zstd(&tar),
        )
    }),
    ("zstd-huge-window", |s| {
        let tar = s.own_tar().file("f", &vec![b'x'; 2 << 20]).done();
        packed(s, zstd_window(&tar, 31), LayerBlob::zstd(&tar))
    }),
    ("zstd-garbage-behind", |s| {
        let tar = s.own_tar().file("f", b"x").done();
        packed(
            s,
            [zstd(&tar), b"garbage".to_vec()].concat(),
            LayerBlob::zstd(&tar),
        )
    }),
    ("another-tar-than-its-diff-id", |s| {
        let tar = s.own_tar().file("evil", b"x").done();
        let like = s.own_layer();
        packed(s, gzip(&tar), like)
    }),
];
