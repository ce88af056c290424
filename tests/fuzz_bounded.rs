//! Runs the fuzz targets over mutated seeds, a fixed number of times with fixed
//! random numbers: stable Rust, and the same every time.
//!
//! What a fuzzer finds becomes a seed here. `make test-long` runs a hundred
//! times as many.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use boundstore::{
    bound::{Lock, Locked, LockedImage, LockedLayer, LockedSetImage},
    bundle::BundleIndex,
    name::{Algorithm, ObjectId, SetFormat},
    repo::render,
    store_tree::{is_rootfs, lay_out},
};
use targets::{TARGETS, Target};

const RUNS: usize = 20_000;

/// splitmix64: good enough, and four lines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Pieces that mean something to one of the formats.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\\\n",
    b"%%",
    b"%i",
    b"=",
    b"[Image]\n",
    b"- ",
    b"? ",
    b": ",
    b"&c ",
    b"*c",
    b"<<: *c\n",
    b"---\n",
    b"|\n",
    b"image: a\n",
    b"[Container]\n",
    b"Image=",
    b"\"",
    b"'",
    b"\\x41",
    b"#",
    b":",
    b"@",
    b"@sha256:",
    b"/",
    b"..",
    b"../",
    b"//",
    b".wh.",
    b".wh..wh..opq",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e309",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"\\u0000",
    b"\\ud800",
    b"{\"\":",
    b",",
    b"}",
    b"]",
    b"20 path=../../../x\n",
    b"14 size=99999\n",
    b"GNU.sparse.map=0,1,2,3",
    b"\x80\0\0\0\0\0\0\x01",
    b"77777777777",
    b"SCHILY.xattr.trusted.overlay.opaque=y",
    b"oci:",
    b"containers-storage:[",
    b"\"Layers\":[],",
    b"\"DIGEST\":null,",
    b"\"Diff_ids\":[],",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.of(seeds).clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let other = random.of(seeds);
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 if bytes.len() >= 1024 => {
                // Blocks of a tar, in another order or twice.
                let from = random.below(bytes.len() / 512) * 512;
                let to = random.below(bytes.len() / 512) * 512;
                let block = bytes[from..(from + 512).min(bytes.len())].to_vec();
                bytes.splice(to..to, block);
            }
            7 => {
                let word = *random.of(WORDS);
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            _ => {
                bytes.splice(at..at, random.of(WORDS).iter().copied());
            }
        }
    }
    bytes
}

/// Makes the checksums of tar headers right again, or no mutation would get
/// far. The first byte is not the tar's.
fn repair(bytes: &mut [u8]) {
    let Some(tar) = bytes.get_mut(1..) else {
        return;
    };
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn fuzz(name: &str, seeds: &[Vec<u8>], runs: usize) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    seeds.iter().for_each(|seed| target(seed));
    let mut random = Random(0x000b_005d_5702_e000);
    for run in 0..runs {
        let mut bytes = mutate(&mut random, seeds);
        if name == "layers" && run % 4 > 0 {
            repair(&mut bytes);
        }
        call(name, run, *target, &bytes);
    }
}

fn call(name: &str, run: usize, target: Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let file = std::env::temp_dir().join(format!("boundstore-fuzz-{name}-{run}"));
        std::fs::write(&file, bytes).unwrap();
        eprintln!("{name}, run {run}: the bytes are in {}", file.display());
        std::panic::resume_unwind(panic);
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let oci = "application/vnd.oci.image";
    let descriptor =
        |kind: &str| format!(r#"{{"mediaType":"{oci}.{kind}","digest":"{DIGEST}","size":12}}"#);
    match name {
        "unit" => texts(&[
            "[Image]\nImage=quay.io/a/b:c\n",
            "# c\n[Unit]\nAfter=x\n\n[Container]\nImage = \"docker.io/x\" \nExec=a \\\n  b\n; c\n[Container]\nImage=\nImage=localhost/a%%b\n",
            "\u{feff}[Container]\r\nImage=a.b/c@sha256:0\r\nAuthFile=/x\r\n",
        ]),
        "kube" => texts(&[
            "kind: Pod\nmetadata:\n  annotations: {io.podman.annotations.userns: auto}\nspec:\n  \
             containers:\n  - &c\n    image: quay.io/a/b:1 # c\n  - <<: *c\n    name: |\n      x\n",
            "# c\n---\nkind: List\nitems: [{kind: Job, spec: {template: {spec: {volumes: [{image: \
             {reference: 'a'}}]}}}}]\n...\n---\nkind: \"Pod\"\n",
            r#"{"kind": "PersistentVolumeClaim", "metadata": {"annotations": {"volume.podman.io/image": "a"}}}"#,
        ]),
        "list" => texts(&[
            "# c\nimages = [\n  \"quay.io/a/b:1\",\n  'b',\n]\nauthfile = \"/etc/a.json\"\n",
            "images = []\n",
        ]),
        "image_name" => texts(&[
            "alpine",
            "quay.io:443/ns/app_x--y.z:Tag_1.0",
            &format!("localhost/a/b:t@{DIGEST}"),
            "[::1]:5000/x",
        ]),
        "source_ref" => texts(&[
            "docker://quay.io/a:b",
            "oci:/var/dir:ref",
            &format!("oci:dir:@{DIGEST}"),
            "oci-archive:f.tar:r",
            "docker-archive:f:@0",
            "containers-storage:[overlay@/a+/b:o=p]localhost/x:y",
            "containers-storage:abc",
        ]),
        "manifest" => texts(&[
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json","config":{},"layers":[{},{}],"annotations":{{"a":"b"}}}}"#,
                descriptor("config.v1+json"),
                descriptor("layer.v1.tar+gzip"),
                descriptor("layer.v1.tar+zstd"),
            ),
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":5,"digest":"{DIGEST}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":7,"digest":"{DIGEST}"}}]}}"#
            ),
            &format!(
                r#"{{"SCHEMAVERSION":2,"Config":{},"layerſ":[{}]}}"#,
                descriptor("config.v1+json"),
                descriptor("layer.v1.tar"),
            ),
        ]),
        "config" => texts(&[&format!(
            r#"{{"created":"2024-01-01T00:00:00.123456789Z","architecture":"amd64","os":"linux","variant":"v1","config":{{"Env":["A=b"],"Labels":{{"x":"y"}}}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}","{DIGEST}"]}},"history":[{{"created_by":"x","empty_layer":true}},{{}},{{}}]}}"#
        )]),
        "index" => texts(&[&format!(
            r#"{{"schemaVersion":2,"mediaType":"{oci}.index.v1+json","manifests":[{{"mediaType":"{oci}.manifest.v1+json","digest":"{DIGEST}","size":7,"platform":{{"architecture":"arm64","os":"linux","variant":"v8"}},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}},{},{{"mediaType":"{oci}.manifest.v1+json","digest":"{DIGEST}","size":7,"artifactType":"a/b"}}]}}"#,
            descriptor("index.v1+json"),
        )]),
        "bundle_index" => texts(&[&bundle_index_seed()]),
        "entry_name" => texts(&[
            "a/b/../c",
            "./",
            "/abs//x/",
            ".wh..wh..opq",
            "..",
            "a\u{e9}/☃",
        ]),
        "tar_split" => vec![
            concat!(
                r#"{"type":2,"payload":"ZGF0YS8AAAA=","position":0}"#,
                "\n",
                r#"{"type":1,"name":"data/","payload":null,"position":1}"#,
                "\n",
                r#"{"type":2,"payload":"AAAA","position":2}"#,
                "\n",
                r#"{"type":1,"name":"data/keep","size":8,"payload":"DUNi0b2EGCc=","position":3}"#,
                "\n",
                r#"{"type":1,"name_raw":"/v8=","size":0,"payload":"","position":4}"#,
                "\n",
            )
            .into(),
        ],
        // As ostree 2022.7 wrote it.
        "staged" => vec![include_bytes!("fixtures/staged-deployment").to_vec()],
        "store_json" => texts(&[
            &format!(
                r#"[{{"id":"ab","digest":"{DIGEST}","names":["a.b/c:d"],"layer":"cd","metadata":"{{}}","big-data-names":["manifest"],"big-data-sizes":{{"manifest":3}},"big-data-digests":{{"manifest":"{DIGEST}"}},"created":"2026-11-23T02:50:05.361684542Z"}}]"#
            ),
            &format!(
                r#"[{{"id":"ab","created":"2024-01-01T00:00:00Z","compressed-diff-digest":"{DIGEST}","compressed-size":9,"diff-digest":"{DIGEST}","diff-size":10,"compression":2,"uidset":[0],"gidset":[0]}},{{"id":"cd","parent":"ab","diff-digest":"{DIGEST}","diff-size":1}}]"#
            ),
            "null",
        ]),
        "layers" => layer_seeds(),
        "lock" => texts(&[&lock_seed()]),
        "host_config" => texts(&[
            include_str!("../dist/config.toml"),
            "allow-missing-verity = true\n[sync]\nidle-timeout = \"30s\"\nkeep-layers = \"referenced\"\n\
             [guard]\npolicy = \"warn\"\nsync-timeout = \"1h\"\n[lint]\nallow = [\"floating-tag\"]\n",
        ]),
        "policy" => texts(&[
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io/a":[{"type":"insecureAcceptAnything"}],"quay.io":[{"type":"sigstoreSigned","keyPath":"/k"}]},"docker-daemon":{"":[{"type":"reject"}]}}}"#,
        ]),
        "archive" => archive_seeds(),
        "record" => texts(&[&format!(
            r#"{{"format":1,"set_image":"{0}","set_image_bytes":4096,"images":[{{"name":"a.b/c:d","manifest_digest":"{DIGEST}","index_digest":null,"config_digest":"{DIGEST}","layers":["{DIGEST}"],"bytes":10,"verdict":"v"}}],"kept":[]}}"#,
            "ab".repeat(64)
        )]),
        "set_image" => set_image_seeds(),
        "mount_table" => texts(&[
            "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
             2 1 0:2 / / ro - overlay boundstore:abab ro,verity=require\n",
        ]),
        "bootc_status" => texts(&[&format!(
            r#"{{"status":{{"booted":{{"ostree":{{"stateroot":"os","checksum":"{0}","deploySerial":0}}}},"staged":{{"composefs":{{"verity":"{0}"}}}},"rollback":null,"otherDeployments":[]}}}}"#,
            "ab".repeat(32)
        )]),
        other => panic!("no seeds for {other}"),
    }
}

fn bundle_index_seed() -> String {
    let entry = |platform: &str, annotations: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":7,{platform}"annotations":{{"dev.boundstore.bundle.digest":"{DIGEST}",{annotations}}}}}"#
        )
    };
    let image = |role: &str, name: &str| {
        entry(
            r#""platform":{"architecture":"arm64","os":"linux","variant":"v8"},"#,
            &format!(
                r#""dev.boundstore.bundle.role":"{role}","dev.boundstore.bundle.name":"{name}","dev.boundstore.bundle.manifest":"{DIGEST}","dev.boundstore.bundle.top":"{DIGEST}""#
            ),
        )
    };
    let tag = DIGEST.replace(':', "-");
    let members = [
        image("host", "a.b/os:1"),
        image("bound", &format!("a.b/c@{DIGEST}")),
        entry(
            "",
            &format!(
                r#""dev.boundstore.bundle.role":"artifact","dev.boundstore.bundle.subject":"{DIGEST}","dev.boundstore.bundle.tag":"{tag}.sig""#
            ),
        ),
        entry("", r#""dev.boundstore.bundle.role":"originals""#),
    ];
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}],"annotations":{{"dev.boundstore.bundle.version":"1"}}}}"#,
        members.join(",")
    )
}

fn lock_seed() -> String {
    let set_image = LockedSetImage {
        sha256: ObjectId::Sha256([1; 32]),
        sha512: ObjectId::Sha512([2; 64]),
    };
    let image = |name: &str| LockedImage {
        name: name.parse().unwrap(),
        platform: "linux/amd64".parse().unwrap(),
        index: Some(DIGEST.parse().unwrap()),
        manifest: Locked {
            digest: DIGEST.parse().unwrap(),
            size: 1,
        },
        config: Locked {
            digest: DIGEST.parse().unwrap(),
            size: 2,
        },
        layers: vec![LockedLayer {
            digest: DIGEST.parse().unwrap(),
            size: 3,
            diff_id: DIGEST.parse().unwrap(),
        }],
    };
    Lock::new(set_image, vec![image("quay.io/a:1"), image("quay.io/b:1")]).to_json()
}

/// An image as `docker save` writes it, and a tar of a layout.
fn archive_seeds() -> Vec<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    layer.append_data(&mut header, "a", &b"b"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let digest = |bytes: &[u8]| boundstore::name::BlobDigest::of(bytes);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&layer)
    );
    let (config_name, layer_name) = (digest(config.as_bytes()), digest(&layer));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_name}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_name}","size":{}}}]}}"#,
        config.len(),
        layer.len()
    );
    let manifest_name = digest(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest_name}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"quay.io/a/b:1"}}}}]}}"#,
        manifest.len()
    );
    let blob = |name: boundstore::name::BlobDigest| format!("blobs/sha256/{}", name.hex());
    let saved = r#"[{"Config":"config.json","RepoTags":["quay.io/a/b:1"],"Layers":["layer.tar"]}]"#;
    let packed = |members: &[(&str, &[u8])]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    };
    vec![
        packed(&[
            ("manifest.json", saved.as_bytes()),
            ("config.json", config.as_bytes()),
            ("layer.tar", &layer),
        ]),
        packed(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.as_bytes()),
            (&blob(manifest_name), manifest.as_bytes()),
            (&blob(config_name), config.as_bytes()),
            (&blob(layer_name), &layer),
        ]),
    ]
}

/// Of no images, behind the byte that says which algorithm.
fn set_image_seeds() -> Vec<Vec<u8>> {
    let seed = |(first, algorithm): (u8, Algorithm)| {
        let tree = lay_out(&[]).unwrap().validate().unwrap();
        let image = render(algorithm, tree.tree(), SetFormat::NEWEST, is_rootfs).unwrap();
        [&[first], &image[..]].concat()
    };
    [(0, Algorithm::Sha512), (1, Algorithm::Sha256)]
        .map(seed)
        .into()
}

/// Tars, each behind the byte that says where to cut.
fn layer_seeds() -> Vec<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind: u8, name: &str, link: &str, data: &[u8], pax: &[(&str, &[u8])]| {
        if !pax.is_empty() {
            tar.append_pax_extensions(pax.iter().copied()).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        tar.append(&header, data).unwrap();
    };
    add(b'5', "d/", "", b"", &[]);
    add(
        b'0',
        "d/f",
        "",
        &[b'x'; 700],
        &[("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"v")],
    );
    add(b'1', "d/h", "d/f", b"", &[]);
    add(
        b'2',
        "s",
        "d",
        b"",
        &[("path", b"a/long/s"), ("linkpath", b"../d")],
    );
    add(b'3', "c", "", b"", &[("uid", b"4000000000")]);
    add(b'6', "p", "", b"", &[]);
    let map: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut data = b"1\n100\n20\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(&[b'y'; 20]);
    add(b'0', "x", "", &data, map);
    add(b'L', "././@LongLink", "", b"a-long-name/from/gnu\0", &[]);
    add(b'0', "short", "", b"1", &[]);
    add(b'0', "d/.wh.f", "", b"", &[]);
    add(b'0', "d/.wh..wh..opq", "", b"", &[]);
    add(b'0', "s/through", "", b"2", &[]);
    let tar = tar.into_inner().unwrap();
    let cuts = [0, 5, u8::try_from(tar.len() / 1024).unwrap()];
    let behind = |cut: u8| [&[cut], &tar[..]].concat();
    cuts.map(behind).to_vec()
}

/// What libFuzzer found to reach all code that it has reached.
#[test]
fn the_corpus_panics_nothing() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let inputs = std::fs::read_dir(corpus.join(name)).unwrap();
        let mut run = 0;
        for input in inputs {
            let bytes = std::fs::read(input.unwrap().path()).unwrap();
            call(name, run, *target, &bytes);
            run += 1;
        }
        assert!(run > 0, "{name} has no corpus");
    }
}

#[test]
fn no_target_panics() {
    for (name, _) in TARGETS {
        fuzz(name, &seeds(name), RUNS);
    }
}

#[test]
#[ignore = "twenty times as many runs: `make test-long`"]
fn no_target_panics_in_the_long_run() {
    for (name, _) in TARGETS {
        // Those that read files are slow. libFuzzer does more, and knows where.
        let times = if matches!(*name, "archive" | "policy") {
            5
        } else {
            20
        };
        fuzz(name, &seeds(name), RUNS * times);
    }
}

/// The seeds reach what they are meant to reach.
#[test]
fn seeds_are_good() {
    use boundstore::{
        bound, deployment::host::parse_staged, document, import::tar, name::ImageName,
    };
    let seeds = |name: &str| seeds(name).into_iter();
    assert!(seeds("unit").all(|seed| bound::parse_unit(&seed).is_ok()));
    let images = |seed: Vec<u8>| bound::kube_images(&seed).unwrap().images.len();
    assert_eq!(seeds("kube").map(images).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(seeds("list").all(|seed| bound::parse_list(&seed).is_ok()));
    assert!(seeds("staged").all(|seed| parse_staged(&seed).unwrap().is_some()));
    assert!(seeds("manifest").all(|seed| document::parse_manifest(&seed).is_ok()));
    assert!(seeds("config").all(|seed| document::parse_config(&seed).is_ok()));
    assert!(seeds("index").all(|seed| document::parse_index(&seed).is_ok()));
    for seed in seeds("bundle_index") {
        assert_eq!(BundleIndex::parse(&seed).unwrap().members.len(), 4);
    }
    let whole = &seeds("layers").next().unwrap()[1..];
    tar::squash_tar_layers(&[whole]).unwrap();
    let text = String::from_utf8(seeds("image_name").next().unwrap()).unwrap();
    assert!(ImageName::normalise(&text).is_ok());
}
