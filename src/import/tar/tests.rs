//! The tar format, form by form. Expectations are those of Go's `archive/tar`.

use std::io::Read;

use super::{header::BLOCK, *};
use crate::{
    name::Mtime,
    squash::tree::{Device, FileContent},
};

/// Builds headers field by field.
#[derive(Clone)]
struct Raw([u8; BLOCK]);

impl Raw {
    fn new(flag: u8, name: &str) -> Self {
        let mut block = [0; BLOCK];
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[156] = flag;
        Self(block)
            .field(0, name.as_bytes())
            .field(100, b"0000644\0")
            .field(108, b"0000000\0")
            .field(116, b"0000000\0")
            .field(124, b"00000000000\0")
            .field(136, b"00000000001\0")
    }

    fn gnu(flag: u8, name: &str) -> Self {
        Self::new(flag, name).field(257, b"ustar  \0")
    }

    fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn size(self, size: usize) -> Self {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    fn sum(mut self, signed: bool) -> Vec<u8> {
        self.0[148..156].fill(b' ');
        let sum: i64 = self
            .0
            .iter()
            .map(|byte| {
                if signed {
                    i64::from(byte.cast_signed())
                } else {
                    i64::from(*byte)
                }
            })
            .sum();
        self.field(148, format!("{sum:06o}\0 ").as_bytes())
            .0
            .to_vec()
    }

    /// The header, then the data, padded.
    fn with(self, data: &[u8]) -> Vec<u8> {
        let mut all = self.size(data.len()).sum(false);
        all.extend(padded(data));
        all
    }

    fn done(self) -> Vec<u8> {
        self.sum(false)
    }
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn pax(flag: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let payload: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect();
    Raw::new(flag, "PaxHeaders/x").with(&payload)
}

/// All entries, with the data skipped.
fn read(tar: &[u8]) -> Result<Vec<TarEntry>, TarError> {
    let mut input = tar;
    let mut reader = TarReader::new();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry(&mut input)? {
        input = &input[usize::try_from(entry.stored_size).unwrap()..];
        entries.push(entry);
    }
    Ok(entries)
}

fn one(parts: &[Vec<u8>]) -> TarEntry {
    let mut entries = read(&parts.concat()).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn fails(parts: &[Vec<u8>]) -> String {
    let error = read(&parts.concat()).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn kinds() {
    let device = |flag| {
        Raw::new(flag, "n")
            .field(329, b"0000003\0")
            .field(337, b"0000007\0")
    };
    let link = |flag| Raw::new(flag, "n").field(157, b"d/../t");
    let seven = Device { major: 3, minor: 7 };
    let target = crate::squash::EntryName::parse(b"t").unwrap();
    for (header, kind) in [
        (Raw::new(b'0', "n"), TarKind::Regular),
        (Raw::new(b'7', "n"), TarKind::Regular),
        (Raw::new(0, "n"), TarKind::Regular),
        (Raw::new(0, "n/"), TarKind::Directory),
        (Raw::new(b'0', "n/"), TarKind::Regular),
        (Raw::new(b'5', "n"), TarKind::Directory),
        (link(b'1'), TarKind::Hardlink(target)),
        (link(b'2'), TarKind::Symlink((*b"d/../t").into())),
        (device(b'3'), TarKind::CharDevice(seven)),
        (device(b'4'), TarKind::BlockDevice(seven)),
        (device(b'6'), TarKind::Fifo),
    ] {
        let entry = one(&[header.done()]);
        assert_eq!(entry.kind, kind);
        assert_eq!(entry.name.as_bytes(), b"n");
        assert_eq!(entry.metadata.mode, 0o644);
        assert_eq!(entry.metadata.mtime, Mtime { sec: 1, nsec: 0 });
    }
    for flag in "MVDNAX8Z\u{1}".bytes() {
        let text = fails(&[Raw::new(flag, "vol").done()]);
        assert!(
            text.contains("\"vol\"") && text.contains(&format!("{:?}", flag as char)),
            "{text}"
        );
    }
}

#[test]
fn types_without_data_have_none_whatever_the_size() {
    for flag in b'1'..=b'6' {
        let entries = read(
            &[
                Raw::new(flag, "n").size(700).done(),
                Raw::new(b'0', "f").done(),
            ]
            .concat(),
        );
        let entries = entries.unwrap();
        assert_eq!((entries[0].header_size, entries[0].stored_size), (700, 0));
        assert_eq!(entries[1].raw_name, b"f");
    }
}

#[test]
fn names() {
    let long = "x/".repeat(150);
    let prefix = || Raw::new(b'0', "n").field(345, b"some/dir");
    for (parts, raw) in [
        (vec![prefix().done()], "some/dir/n"),
        (vec![prefix().field(508, b"tar\0").done()], "some/dir/n"),
        (vec![prefix().field(257, b"\0\0\0\0\0\0").done()], "n"),
        // a prefix in a GNU header: only where it cannot be times
        (vec![prefix().field(257, b"ustar  \0").done()], "some/dir/n"),
        (
            vec![Raw::gnu(b'0', "n").field(345, b"00000000001\0").done()],
            "n",
        ),
        (
            vec![
                Raw::gnu(b'L', "@").with(format!("{long}\0").as_bytes()),
                Raw::gnu(b'0', "n").done(),
            ],
            &long,
        ),
        (
            vec![
                pax(b'x', &[("path", long.as_bytes())]),
                Raw::new(b'0', "n").done(),
            ],
            &long,
        ),
        (
            vec![pax(b'x', &[("path", b"")]), Raw::new(b'0', "n").done()],
            "n",
        ),
        (
            vec![
                pax(b'x', &[("path", b"a"), ("path", b"b")]),
                Raw::new(b'0', "n").done(),
            ],
            "b",
        ),
        // the long name wins over PAX, whichever comes first
        (
            vec![
                Raw::gnu(b'L', "@").with(b"l"),
                pax(b'x', &[("path", b"p")]),
                Raw::new(b'0', "n").done(),
            ],
            "l",
        ),
        // a second extended header takes the place of the first
        (
            vec![
                pax(b'x', &[("path", b"a")]),
                pax(b'x', &[("uid", b"1")]),
                Raw::new(b'0', "n").done(),
            ],
            "n",
        ),
        (
            vec![Raw::new(b'0', &"y".repeat(100)).done()],
            &"y".repeat(100),
        ),
    ] {
        assert_eq!(String::from_utf8(one(&parts).raw_name).unwrap(), raw);
    }
    let entry = one(&[
        Raw::gnu(b'K', "@").with(b"../some/target\0"),
        Raw::gnu(b'1', "./a/..//b").field(157, b"short").done(),
    ]);
    assert_eq!(entry.raw_name, b"./a/..//b");
    assert_eq!(entry.name.as_bytes(), b"b");
    assert!(matches!(entry.kind, TarKind::Hardlink(target) if target.as_bytes() == b"some/target"));
    let entry = one(&[pax(b'x', &[("linkpath", b"t")]), Raw::new(b'2', "s").done()]);
    assert_eq!(entry.kind, TarKind::Symlink((*b"t").into()));
    let text = fails(&[
        Raw::gnu(b'L', "@").with(&[b'x'; 300]),
        Raw::gnu(b'0', "n").done(),
    ]);
    assert!(text.contains("byte 0") && text.contains("255"), "{text}");
}

#[test]
fn numbers() {
    for (field, value) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"\0\x00644\0\0\0", Some(0o644)),
        (b"00000644", Some(0o644)),
        (b"\0\0\0\0\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        // trimmed at both ends, then cut at the first NUL
        (b"64\x00 4\0\0", Some(0o64)),
        (b"6 4", None),
        (b"-1", None),
        (b"0008", None),
        (b"12\x009", Some(0o12)),
        (b"\x80\0\0\0\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x9c",
            Some(-100),
        ),
        (
            b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            Some(i64::MAX),
        ),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
        (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
    ] {
        assert_eq!(number::numeric(field), value, "{field:?}");
    }
    for (text, time) in [
        ("0", Some((0, 0))),
        ("1.5", Some((1, 500_000_000))),
        ("1.", Some((1, 0))),
        ("1.0000000019", Some((1, 1))),
        ("-100.5", Some((-101, 500_000_000))),
        ("-0.5", Some((-1, 500_000_000))),
        ("-1.0", Some((-1, 0))),
        ("+3", Some((3, 0))),
        ("99999999999", Some((99_999_999_999, 0))),
        ("-9223372036854775808.5", None),
        ("9223372036854775808", None),
        ("", None),
        (".5", None),
        ("1.-5", None),
        ("1.5.6", None),
        ("1e3", None),
    ] {
        let time = time.map(|(sec, nsec)| Mtime { sec, nsec });
        assert_eq!(number::pax_time(text.as_bytes()), time, "{text}");
    }
}

#[test]
fn metadata() {
    let entry = one(&[
        pax(
            b'x',
            &[
                ("uid", b"4294967295"),
                ("gid", b"65536"),
                ("mtime", b"-100.5"),
                ("atime", b"1.5"),
                ("SCHILY.xattr.user.bin", b"a\n\0=\xff"),
                ("SCHILY.xattr.user.empty", b""),
                ("LIBARCHIVE.xattr.user.no", b"x"),
                ("comment", b"x"),
            ],
        ),
        Raw::new(b'0', "f").field(100, b"0104755\0").done(),
    ]);
    let metadata = &entry.metadata;
    assert_eq!(
        (metadata.mode, metadata.uid, metadata.gid),
        (0o4755, u32::MAX, 65536)
    );
    assert_eq!(
        metadata.mtime,
        Mtime {
            sec: -101,
            nsec: 500_000_000
        }
    );
    assert_eq!(metadata.xattrs.len(), 2);
    assert_eq!(*metadata.xattrs[&b"user.bin"[..]], *b"a\n\0=\xff");
    assert_eq!(*metadata.xattrs[&b"user.empty"[..]], *b"");
    let entry = one(&[Raw::gnu(b'0', "f")
        .field(108, b"\x80\0\0\0\xff\xff\xff\xff")
        .field(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x9c")
        .done()]);
    assert_eq!(
        (entry.metadata.uid, entry.metadata.mtime.sec),
        (u32::MAX, -100)
    );
    for records in [&[("uid", &b"4294967296"[..])], &[("gid", b"-1")]] {
        let text = fails(&[pax(b'x', records), Raw::new(b'0', "f").done()]);
        assert!(
            text.contains("\"f\"") && text.contains("out of range"),
            "{text}"
        );
    }
    let text = fails(&[Raw::new(b'3', "f")
        .field(329, b"\xff\xff\xff\xff\xff\xff\xff\xff")
        .done()]);
    assert!(text.contains("major device number"), "{text}");
}

#[test]
fn headers_that_are_broken() {
    let good = Raw::new(b'0', "f\u{ff}");
    assert_eq!(read(&good.clone().sum(true)).unwrap().len(), 1);
    for (bytes, reason) in [
        (
            good.clone().field(0, b"g").0.to_vec(),
            "the checksum is wrong",
        ),
        (good.clone().field(108, b"nonsense").done(), "no number"),
        (good.clone().field(329, b"nonsense").done(), "no number"),
        (
            good.clone()
                .field(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
                .done(),
            "size is negative",
        ),
    ] {
        let text = fails(&[Raw::new(b'5', "d").done(), bytes]);
        assert!(text.contains("byte 512") && text.contains(reason), "{text}");
    }
    for payload in [
        &b"nonsense"[..],
        b"99 path=a\n",
        b"8 path=a\n",
        b"11 path=abc",
        b"6 path\n",
        b"5 =a\n",
        b"1 \n",
        b"4 \n=a\n",
        b"-9 a=b\n",
        b"10 path=\0\n",
        b"12 uid=x12\n\n",
        b"99999999999999999999 a=b\n",
        b"11 mtime=x\n",
        b"23 GNU.sparse.offset=1\n23 GNU.sparse.offset=1\n",
        b"25 GNU.sparse.numbytes=1\n",
    ] {
        let text = fails(&[
            Raw::new(b'x', "P").with(payload),
            Raw::new(b'0', "f").done(),
        ]);
        assert!(
            text.contains("header at byte"),
            "{text} {}",
            payload.escape_ascii()
        );
    }
    let text = fails(&[Raw::gnu(b'L', "@").size((1 << 20) + 1).done()]);
    assert!(text.contains("over the limit"), "{text}");
}

#[test]
fn global_headers_are_entries_that_change_nothing() {
    let tar = [
        pax(b'x', &[("path", b"lost")]),
        pax(b'g', &[("uid", b"7"), ("comment", b"abc")]),
        Raw::new(b'0', "f").done(),
    ];
    let entries = read(&tar.concat()).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].kind, TarKind::GlobalHeader);
    assert_eq!(entries[0].raw_name, b"PaxHeaders/x");
    assert_eq!(
        (entries[1].metadata.uid, &entries[1].raw_name[..]),
        (0, &b"f"[..])
    );
    assert_eq!(entries[1].offset, 2048);
    assert!(read_layer(&tar.concat()).unwrap().len() == 1);
}

#[test]
fn the_end_of_the_archive() {
    let file = Raw::new(b'0', "f").with(b"abc");
    let zeros = |blocks: usize| vec![0; blocks * BLOCK];
    for good in [
        vec![],
        zeros(1),
        zeros(2),
        file.clone(),
        [file.clone(), zeros(1)].concat(),
        [file.clone(), zeros(2)].concat(),
        [file.clone(), zeros(2), b"what follows is not ours".to_vec()].concat(),
        file[..BLOCK + 3].to_vec(),
        file[..BLOCK + 100].to_vec(),
    ] {
        assert!(read(&good).is_ok());
    }
    let mut reader = TarReader::new();
    let tar = [zeros(2), b"rest".to_vec()].concat();
    let mut input = &tar[..];
    assert!(reader.next_entry(&mut input).unwrap().is_none());
    assert!(reader.next_entry(&mut input).unwrap().is_none());
    assert_eq!((input, reader.offset()), (&b"rest"[..], 1024));

    let text = fails(&[file.clone(), zeros(1), file.clone()]);
    assert!(
        text.contains("byte 1024") && text.contains("zeros"),
        "{text}"
    );
    for (cut, inside) in [
        (
            [file.clone(), file[..9].to_vec()].concat(),
            "byte 1033, inside a header",
        ),
        ([zeros(1), vec![0; 3]].concat(), "byte 515, inside a header"),
        (
            Raw::new(b'x', "P").size(600).done(),
            "byte 512, inside an extension header",
        ),
    ] {
        let text = fails(&[cut]);
        assert!(text.contains(inside), "{text}");
    }
    let text = read_layer(&file[..BLOCK + 2]).unwrap_err().to_string();
    assert!(text.contains("byte 514, inside a file"), "{text}");
}

#[test]
fn pax_size_counts() {
    let mut tar = pax(b'x', &[("size", b"3")]);
    tar.extend(Raw::new(b'0', "f").done());
    tar.extend(padded(b"abc"));
    tar.extend(Raw::new(b'0', "g").done());
    let entries = read(&tar).unwrap();
    assert_eq!(
        (entries[0].stored_size, &entries[1].raw_name[..]),
        (3, &b"g"[..])
    );
}

fn contents(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    read_layer(tar)
        .unwrap()
        .into_iter()
        .filter_map(|entry| match entry.kind {
            crate::squash::EntryKind::Regular(FileContent::Inline(bytes)) => {
                Some((entry.name.to_string(), bytes.into_vec()))
            }
            _ => None,
        })
        .collect()
}

fn old_gnu(map: &[(u64, u64)], real: u64, data: &[u8]) -> Vec<u8> {
    let mut header = Raw::gnu(b'S', "s").size(data.len());
    header = header.field(483, format!("{real:011o}\0").as_bytes());
    let element = |(offset, length): &(u64, u64)| format!("{offset:011o}\0{length:011o}\0");
    for (n, piece) in map.iter().take(4).enumerate() {
        header = header.field(386 + 24 * n, element(piece).as_bytes());
    }
    let mut blocks = map.get(4..).unwrap_or_default().chunks(21).peekable();
    header = header.field(482, &[u8::from(blocks.peek().is_some())]);
    let mut tar = header.done();
    while let Some(chunk) = blocks.next() {
        let mut block: Vec<u8> = chunk
            .iter()
            .flat_map(|piece| element(piece).into_bytes())
            .collect();
        block.resize(BLOCK, 0);
        block[504] = u8::from(blocks.peek().is_some());
        tar.extend(block);
    }
    tar.extend(padded(data));
    tar.extend(Raw::new(b'0', "next").with(b"n"));
    tar
}

#[test]
fn sparse_old_gnu() {
    for pieces in [0, 1, 4, 5, 25, 26, 60] {
        let map: Vec<(u64, u64)> = (0..pieces).map(|n| (10 * n + 2, 3)).collect();
        let data: Vec<u8> = (0..pieces * 3).map(|n| (n % 250 + 1) as u8).collect();
        let mut expected = vec![0; 700];
        for (n, chunk) in data.chunks(3).enumerate() {
            expected[10 * n + 2..10 * n + 5].copy_from_slice(chunk);
        }
        let tar = old_gnu(&map, 700, &data);
        let entries = read(&tar).unwrap();
        assert_eq!(
            (entries[0].header_size, entries[0].stored_size),
            (700, pieces * 3)
        );
        assert_eq!(
            contents(&tar),
            [("/s".into(), expected), ("/next".into(), b"n".to_vec())]
        );
    }
    for (map, data, reason) in [
        (&[(0, 5), (4, 2)][..], 7, "overlap"),
        (&[(5, 2), (0, 2)], 4, "overlap"),
        (&[(99, 2)], 2, "overlap"),
    ] {
        let text = fails(&[old_gnu(map, 100, &vec![1; data])]);
        assert!(text.contains(reason) && text.contains("\"s\""), "{text}");
    }
    for (map, data) in [(&[(0, 5)][..], 4), (&[(0, 5)], 6), (&[], 1)] {
        let error = read_layer(&old_gnu(map, 100, &vec![1; data])).unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(text.contains("the archive has"), "{text}");
    }
    let ustar = Raw::new(b'S', "s").done();
    assert!(fails(&[ustar]).contains("malformed"));
}

#[test]
fn sparse_pax() {
    let name = ("GNU.sparse.name", &b"real"[..]);
    let next = Raw::new(b'0', "next").with(b"n");
    let expected = [
        ("/real".to_owned(), b"\0\0abc\0\0\0de".to_vec()),
        ("/next".into(), b"n".to_vec()),
    ];
    let v00 = pax(
        b'x',
        &[
            name,
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.size", b"10"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"2"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.offset", b"8"),
            ("GNU.sparse.numbytes", b"2"),
        ],
    );
    let v01 = pax(
        b'x',
        &[
            name,
            ("GNU.sparse.size", b"10"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", b"2,3,8,2"),
        ],
    );
    let body = Raw::new(b'0', "GNUSparseFile.0/real").with(b"abcde");
    for header in [v00, v01] {
        assert_eq!(
            contents(&[header, body.clone(), next.clone()].concat()),
            expected
        );
    }
    let v10 = || {
        pax(
            b'x',
            &[
                name,
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"10"),
            ],
        )
    };
    let with = |map: &[u8], data: &[u8]| {
        let data = [padded(map), data.to_vec()].concat();
        [
            v10(),
            Raw::new(b'0', "GNUSparseFile.0/real").with(&data),
            next.clone(),
        ]
        .concat()
    };
    let tar = with(b"2\n2\n3\n8\n2\n", b"abcde");
    assert_eq!(contents(&tar), expected);
    assert_eq!(read(&tar).unwrap()[0].stored_size, 517);
    assert_eq!(read(&tar).unwrap()[0].header_size, 10);
    for (map, data) in [
        (&b"x\n"[..], &b""[..]),
        (b"", b""),
        (b"1\n-1\n2\n", b"ab"),
        (b"1\n9\n2\n", b"ab"),
        (b"2\n2\n3\n4\n2\n", b"abcde"),
        (b"2\n2\n3\n8\n2\n", b"abcd"),
        (b"2\n2\n3\n8\n2\n", b"abcdef"),
        (b"9999999\n", b""),
        (b"3\n0\n1\n1\n1\n", b"ab"),
        (b"9223372036854775808\n", b""),
    ] {
        assert!(
            read_layer(&with(map, data)).is_err(),
            "{}",
            map.escape_ascii()
        );
    }
    // an unknown version is an ordinary file
    let v20 = pax(
        b'x',
        &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")],
    );
    assert_eq!(contents(&[v20, body].concat())[0].1, b"abcde");
    for map in [
        "",
        "2",
        "2,3,8",
        "2,3,8,x",
        "a,3,8,2",
        "2,3,8,2,9,1",
        "2,3,4,5",
        "2,-3,8,2",
    ] {
        let records = [
            ("GNU.sparse.size", &b"10"[..]),
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        let text = fails(&[pax(b'x', &records), Raw::new(b'0', "f").done()]);
        assert!(
            text.contains("\"f\"") && text.contains("sparse map"),
            "{text}"
        );
    }
    let records = [
        ("GNU.sparse.numblocks", &b"0"[..]),
        ("GNU.sparse.map", b"1,1"),
    ];
    assert!(read(&[pax(b'x', &records), Raw::new(b'5', "d").done()].concat()).is_err());
}

/// A hole of nearly 2^63 bytes costs nothing to begin.
#[test]
fn sparse_takes_no_memory_by_size() {
    let size = (1 << 62) + 5;
    let sparse = Sparse {
        real_size: size,
        map: SparseMap::Known(vec![
            Segment {
                offset: 4,
                length: 1,
            },
            Segment {
                offset: size - 1,
                length: 1,
            },
        ]),
    };
    let mut file = sparse.expand(&b"ab"[..], 2).unwrap();
    let mut start = [9; 16];
    file.read_exact(&mut start).unwrap();
    assert_eq!(start, *b"\0\0\0\0a\0\0\0\0\0\0\0\0\0\0\0");
    let mut tar = old_gnu(&[], 0, b"");
    tar.truncate(BLOCK);
    let mut header = Raw(tar[..].try_into().unwrap());
    header = header.field(483, b"\x80\0\0\0\x40\0\0\0\0\0\0\0");
    let error = read_layer(&header.done()).unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");
}

#[test]
fn root_entries() {
    for (raw, skipped) in [
        ("./", true),
        (".", true),
        ("", true),
        ("a/..", true),
        ("a/.././", true),
        ("/", false),
        ("/.", false),
        ("../", false),
        ("a/../..", false),
    ] {
        let entry = one(&[Raw::new(b'5', raw).done()]);
        assert!(entry.name.is_root());
        assert_eq!(
            entry.into_layer_entry(None).unwrap().is_none(),
            skipped,
            "{raw}"
        );
    }
}

#[test]
fn content_must_be_of_the_size() {
    let entry = one(&[Raw::new(b'0', "f").with(b"abc")]);
    let error = entry
        .into_layer_entry(Some(FileContent::Inline((*b"ab").into())))
        .unwrap_err();
    assert!(
        error.to_string().contains("3 bytes, the content has 2"),
        "{error}"
    );
}

#[test]
fn reads_what_the_tar_crate_writes() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}end", "deep/".repeat(60));
    for mode in [tar::Header::new_gnu(), tar::Header::new_ustar()] {
        let mut header = mode;
        header.set_size(5);
        header.set_mode(0o640);
        header.set_uid(1000);
        header.set_mtime(1_700_000_000);
        header.set_entry_type(tar::EntryType::Regular);
        if header.as_gnu().is_some() {
            builder
                .append_data(&mut header, &long, &b"hello"[..])
                .unwrap();
        } else {
            header.set_path("short").unwrap();
            header.set_cksum();
            builder
                .append_pax_extensions([("mtime", &b"5.25"[..])])
                .unwrap();
            builder.append(&header, &b"hello"[..]).unwrap();
        }
    }
    let tar = builder.into_inner().unwrap();
    let entries = read(&tar).unwrap();
    assert_eq!(entries[0].raw_name, long.as_bytes());
    assert_eq!(
        (entries[0].metadata.mode, entries[0].metadata.uid),
        (0o640, 1000)
    );
    assert_eq!(
        entries[1].metadata.mtime,
        Mtime {
            sec: 5,
            nsec: 250_000_000
        }
    );
    assert_eq!(contents(&tar)[1].1, b"hello");
}

/// Input that comes in pieces reads the same.
#[test]
fn short_reads() {
    struct Slow<'a>(&'a [u8]);
    impl TarInput for Slow<'_> {
        fn literal(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(7);
            self.0.read(&mut buffer[..most])
        }
    }
    let tar = [
        pax(b'x', &[("path", b"p")]),
        Raw::new(b'0', "n").done(),
        vec![0; 1024],
    ]
    .concat();
    let mut input = Slow(&tar);
    let mut reader = TarReader::new();
    assert_eq!(
        reader.next_entry(&mut input).unwrap().unwrap().raw_name,
        b"p"
    );
    assert!(reader.next_entry(&mut input).unwrap().is_none());
    assert_eq!(reader.offset(), tar.len() as u64);
}

/// Tars with bytes and blocks changed, with the checksums put right again in
/// most, so that the change gets past them.
mod mutated {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Byte(usize, u8),
        Drop(usize, usize),
        Repeat(usize, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let interesting = prop_oneof![
            any::<u8>(),
            prop::sample::select(b"0157SxgLK/.\0\x80\xff-\n".to_vec())
        ];
        prop_oneof![
            8 => (any::<usize>(), interesting).prop_map(|(at, byte)| Change::Byte(at, byte)),
            1 => (any::<usize>(), 1..700_usize).prop_map(|(at, length)| Change::Drop(at, length)),
            1 => (any::<usize>(), 1..3_usize).prop_map(|(at, blocks)| Change::Repeat(at, blocks)),
        ]
    }

    fn seeds() -> Vec<Vec<u8>> {
        let sparse = [
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"10"),
        ];
        let map = [padded(b"2\n2\n3\n8\n2\n"), b"abcde".to_vec()].concat();
        let files = [
            Raw::new(b'5', "d/").done(),
            pax(b'x', &[("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"1")]),
            Raw::new(b'0', "d/f").with(b"content"),
            Raw::new(b'1', "d/l").field(157, b"d/f").done(),
            Raw::new(b'2', "s").field(157, b"d").done(),
            Raw::new(b'0', "s/.wh.x").done(),
            Raw::new(b'3', "c").done(),
            vec![0; 1024],
        ];
        let long = [
            Raw::gnu(b'L', "@").with(&[b'n'; 150]),
            Raw::gnu(b'K', "@").with(b"d/f"),
            Raw::gnu(b'1', "short").done(),
            pax(b'g', &[("comment", b"x")]),
            pax(b'x', &sparse),
            Raw::new(b'0', "sp").with(&map),
        ];
        vec![
            files.concat(),
            long.concat(),
            old_gnu(
                &[(0, 3), (5, 1), (9, 1), (20, 1), (30, 4)],
                100,
                b"0123456789",
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics(seed in 0..3_usize, changes in prop::collection::vec(change(), 1..6), mend in prop::bool::weighted(0.8)) {
            let seeds = seeds();
            let mut tar = seeds[seed].clone();
            for change in changes {
                let length = tar.len().max(1);
                match change {
                    Change::Byte(at, byte) => {
                        if let Some(place) = tar.get_mut(at % length) {
                            *place = byte;
                        }
                    }
                    Change::Drop(at, count) => {
                        let at = at % length;
                        tar.drain(at.min(tar.len())..(at + count).min(tar.len()));
                    }
                    Change::Repeat(at, blocks) => {
                        let at = at % length / BLOCK * BLOCK;
                        let end = (at + blocks * BLOCK).min(tar.len());
                        tar.extend_from_within(at..end);
                    }
                }
            }
            if mend {
                for block in tar.as_chunks_mut::<BLOCK>().0 {
                    if block[257..].starts_with(b"ustar") {
                        let mended = Raw(*block).done();
                        block.copy_from_slice(&mended);
                    }
                }
            }
            let base = seeds[(seed + 1) % 3].as_slice();
            drop(squash_tar_layers(&[base, &tar, &seeds[0]]));
        }
    }
}
