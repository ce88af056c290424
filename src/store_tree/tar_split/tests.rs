use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::name::BlobDigest;

fn gzip(lines: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn plain(bytes: &[u8]) -> String {
    let mut plain = String::new();
    let mut reader = flate2::read::GzDecoder::new(bytes);
    reader.read_to_string(&mut plain).unwrap();
    plain
}

fn read(bytes: &[u8]) -> Result<Vec<TarSplitItem>, TarSplitError> {
    TarSplitReader::new(bytes).collect()
}

fn file(name: &[u8], size: u64, crc64: u64) -> TarSplitItem {
    TarSplitItem::File {
        name: name.to_vec(),
        size,
        crc64,
    }
}

fn segment(bytes: &[u8]) -> TarSplitItem {
    TarSplitItem::Segment(bytes.to_vec())
}

#[test]
fn writes_the_lines_that_tar_split_writes() {
    let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
    writer.segment(b"a/\0").unwrap();
    writer.file(b"a/", 0, 9).unwrap();
    writer.segment(b"hea").unwrap();
    writer.segment(b"").unwrap();
    writer.segment(b"der").unwrap();
    writer.file(b"a/f", 6, Crc64::of(b"hello\n")).unwrap();
    writer.file("\u{e9}\"\n<&".as_bytes(), 0, 0).unwrap();
    writer.file(b"\xe9", 0, 0).unwrap();
    writer.segment(b"end").unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    assert_eq!(
        plain(&bytes),
        concat!(
            "{\"type\":2,\"payload\":\"YS8A\",\"position\":0}\n",
            "{\"type\":1,\"name\":\"a/\",\"payload\":null,\"position\":1}\n",
            "{\"type\":2,\"payload\":\"aGVhZGVy\",\"position\":2}\n",
            "{\"type\":1,\"name\":\"a/f\",\"size\":6,\"payload\":\"YUw+7uLYEAA=\",\"position\":3}\n",
            "{\"type\":1,\"name\":\"\u{e9}\\\"\\n<&\",\"payload\":null,\"position\":4}\n",
            "{\"type\":1,\"name_raw\":\"6Q==\",\"payload\":null,\"position\":5}\n",
            "{\"type\":2,\"payload\":\"ZW5k\",\"position\":6}\n",
        )
    );
    assert_eq!(
        read(&bytes).unwrap(),
        [
            segment(b"a/\0"),
            file(b"a/", 0, 0),
            segment(b"header"),
            file(b"a/f", 6, Crc64::of(b"hello\n")),
            file("\u{e9}\"\n<&".as_bytes(), 0, 0),
            file(b"\xe9", 0, 0),
            segment(b"end"),
        ]
    );
}

/// Format 1: the digest must never be changed.
#[test]
fn bytes_of_format_1() {
    let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
    let mut crc = 1_u64;
    for number in 0..5000_u64 {
        let mut header = [0; 512];
        let name = format!("usr/share/doc/package-{}/file-{number}", number / 20);
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{number:011o}\0").as_bytes());
        writer.segment(&header).unwrap();
        crc = crc.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writer.file(name.as_bytes(), number, crc).unwrap();
    }
    writer.segment(&vec![0; 3 << 20]).unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(
        (bytes.len(), BlobDigest::of(&bytes).to_string()),
        (
            175_449,
            "sha256:82c6c120663b9662a92292495c3e0d48fd55d008d194a0cc402c3bec9f88aae8".to_owned()
        )
    );
}

#[test]
fn long_segments_are_split() {
    let long = vec![b'x'; (5 << 20) / 2];
    let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
    writer.segment(&long).unwrap();
    let items = read(&writer.finish().unwrap()).unwrap();
    assert_eq!(
        items,
        [&long[..1 << 20], &long[1 << 20..2 << 20], &long[2 << 20..]].map(segment)
    );
}

#[test]
fn refuses_sizes_that_go_cannot_hold() {
    let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
    let error = writer.file(b"f", 1 << 63, 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn reads_what_go_reads() {
    for (line, item) in [
        (
            r#" { "position":0, "x":[{}], "type":2, "payload":"" } "#,
            segment(b""),
        ),
        (r#"{"type":2,"payload":null}"#, segment(b"")),
        (r#"{"type":1}"#, file(b"", 0, 0)),
        (
            r#"{"type":1,"name":"a\u0062","name_raw":null}"#,
            file(b"ab", 0, 0),
        ),
        (
            r#"{"type":1,"name":"a","name_raw":"6Q=="}"#,
            file(b"\xe9", 0, 0),
        ),
        (
            r#"{"type":1,"name":"a","size":0,"payload":"x"}"#,
            file(b"a", 0, 0),
        ),
        (
            r#"{"type":1,"name":"a","size":6,"payload":"YUw+7uLYEAA="}"#,
            file(b"a", 6, Crc64::of(b"hello\n")),
        ),
    ] {
        assert_eq!(read(&gzip(line)).unwrap(), [item], "{line}");
    }
    assert_eq!(read(&gzip("\n\n")).unwrap(), []);
    // gzip may come in members.
    let two = [
        gzip("{\"type\":1}\n"),
        gzip("{\"type\":1,\"position\":1}\n"),
    ];
    assert_eq!(read(&two.concat()).unwrap().len(), 2);
}

#[test]
fn hostile_lines_are_errors() {
    for (lines, message) in [
        ("{", "parse line 1 of the tar-split"),
        ("[]", "parse line 1 of the tar-split"),
        ("{}", "parse line 1 of the tar-split"),
        ("{\"type\":1}\n\0", "parse line 2 of the tar-split"),
        (r#"{"type":1,"size":-1}"#, "parse line 1 of the tar-split"),
        (r#"{"type":1,"name":5}"#, "parse line 1 of the tar-split"),
        (r#"{"type":1}{"type":1}"#, "parse line 1 of the tar-split"),
        (
            r#"{"type":3}"#,
            "line 1 of the tar-split has the type 3, not 1 or 2",
        ),
        (
            r#"{"type":2,"payload":"YQ"}"#,
            "decode the base64 in line 1 of the tar-split",
        ),
        (
            r#"{"type":1,"name_raw":"!"}"#,
            "decode the base64 in line 1 of the tar-split",
        ),
        (
            "{\"type\":1}\n{\"type\":1}",
            "line 2 of the tar-split has the position 0, not 1",
        ),
        (
            r#"{"type":1,"size":1,"payload":"YQ=="}"#,
            "line 1 of the tar-split has a checksum of 1 bytes, not 8",
        ),
        (
            r#"{"type":1,"size":1,"payload":null}"#,
            "line 1 of the tar-split has a checksum of 0 bytes, not 8",
        ),
    ] {
        let error = read(&gzip(lines)).unwrap_err();
        assert_eq!(error.to_string(), message, "{lines}");
    }
}

#[test]
fn bounds_are_kept() {
    let long = format!("{{\"type\":2,\"payload\":\"{}\"}}", "A".repeat(17 << 20));
    let error = read(&gzip(&long)).unwrap_err();
    assert!(
        matches!(error, TarSplitError::LineTooLong { line: 1 }),
        "{error}"
    );

    let line = "{\"type\":1}\n";
    let limited = |limit| {
        let bytes = gzip(line);
        TarSplitReader::with_limit(&bytes[..], limit).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(limited(line.len() as u64).unwrap().len(), 1);
    let error = limited(line.len() as u64 - 1).unwrap_err();
    assert!(matches!(error, TarSplitError::TooLarge { .. }), "{error}");
    TarSplitReader::with_limit(&gzip(line)[..], u64::MAX)
        .next()
        .unwrap()
        .unwrap();
}

#[test]
fn cut_and_corrupt_gzip_is_an_error() {
    let whole = gzip("{\"type\":1}\n{\"type\":1,\"position\":1}\n");
    assert_eq!(
        read(&[]).unwrap_err().to_string(),
        "decompress the tar-split after line 0"
    );
    for length in 1..whole.len() {
        read(&whole[..length]).unwrap_err();
    }
    let mut wrong_crc = whole;
    let at = wrong_crc.len() - 8;
    wrong_crc[at] ^= 1;
    read(&wrong_crc).unwrap_err();
}

#[test]
fn nothing_comes_after_an_error() {
    let bytes = gzip("x\n{\"type\":1}\n");
    let mut reader = TarSplitReader::new(&bytes[..]);
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn reassembles_and_checks() {
    let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
    writer.segment(b"<").unwrap();
    writer.file(b"f", 3, Crc64::of(b"abc")).unwrap();
    writer.segment(b">").unwrap();
    // A sparse file: its stored bytes are literal.
    writer.file(b"sparse", 0, 0).unwrap();
    writer.segment(b"map").unwrap();
    let split = writer.finish().unwrap();
    let run = |content: io::Result<&'static [u8]>| {
        let mut out = Vec::new();
        let mut content = Some(content);
        let open = |name: &[u8], size| {
            assert_eq!((name, size), (&b"f"[..], 3));
            content.take().unwrap()
        };
        let length = reassemble(TarSplitReader::new(&split[..]), open, &mut out)?;
        assert_eq!(length, out.len() as u64);
        Ok::<_, ReassembleError>(out)
    };
    assert_eq!(run(Ok(b"abc")).unwrap(), b"<abc>map");
    for (content, message) in [
        (
            Ok(&b"ab"[..]),
            r#"the layer's file "f" is shorter than the 3 bytes in its tar"#,
        ),
        (
            Ok(b"abcd"),
            r#"the layer's file "f" is longer than the 3 bytes in its tar"#,
        ),
        (
            Err(io::ErrorKind::NotFound.into()),
            r#"read the layer's file "f""#,
        ),
    ] {
        assert_eq!(run(content).unwrap_err().to_string(), message);
    }
    let error = run(Ok(b"abd")).unwrap_err();
    assert!(matches!(error, ReassembleError::Checksum { .. }), "{error}");
    let cut = reassemble(
        TarSplitReader::new(&split[..split.len() - 9]),
        |_, _| Ok(&b"abc"[..]),
        io::sink(),
    );
    assert!(matches!(cut, Err(ReassembleError::TarSplit(_))));
}

fn items() -> impl Strategy<Value = Vec<TarSplitItem>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let item = prop_oneof![
        bytes.clone().prop_map(TarSplitItem::Segment),
        (bytes, any::<u32>(), any::<u64>()).prop_map(|(name, size, crc64)| file(
            &name,
            size.into(),
            crc64
        )),
    ];
    proptest::collection::vec(item, 0..20)
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in items()) {
        let mut writer = TarSplitWriter::new(Vec::new()).unwrap();
        let mut expected: Vec<TarSplitItem> = Vec::new();
        for item in &items {
            match item {
                TarSplitItem::Segment(bytes) => {
                    writer.segment(bytes).unwrap();
                    match expected.last_mut() {
                        Some(TarSplitItem::Segment(last)) => last.extend_from_slice(bytes),
                        _ if bytes.is_empty() => {}
                        _ => expected.push(item.clone()),
                    }
                }
                TarSplitItem::File { name, size, crc64 } => {
                    writer.file(name, *size, *crc64).unwrap();
                    let crc64 = if *size == 0 { 0 } else { *crc64 };
                    expected.push(file(name, *size, crc64));
                }
            }
        }
        prop_assert_eq!(read(&writer.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = read(&gzip(&format!("{{\"type\":1}}\n{text}")));
    }
}
