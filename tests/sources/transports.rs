use boundstore::source::{ResolvedImage, Wanted};

use crate::host::{Bench, TestRegistry, have, read_layers, run, wanted};

const NAME: &str = "localhost/one:1";

/// The same config and DiffIDs come from everywhere; where skopeo can keep it,
/// the same manifest too.
#[test]
fn every_transport_gives_the_same_image() {
    if !have(&["skopeo", "docker-registry"]) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let dir = bench.dir.path().display();
    let docker = format!("docker://{}", registry.name("one:1"));
    let targets = [
        (format!("oci:{dir}/again:{NAME}"), true),
        (format!("oci-archive:{dir}/oci.tar:{NAME}"), true),
        (docker, true),
        (format!("docker-archive:{dir}/docker.tar:{NAME}"), false),
    ];
    let mut images: Vec<ResolvedImage> = Vec::new();
    let spool = bench.spool();
    for (target, exact) in &targets {
        let source = bench.oci(NAME);
        let mut args = vec!["copy", "-q", "--dest-tls-verify=false"];
        if *exact {
            args.push("--preserve-digests");
        }
        args.extend([source.as_str(), target.as_str()]);
        run("skopeo", &args);
        let found = bench.sources().resolve(&wanted(NAME, target)).unwrap();
        let diff_ids = read_layers(&found, &spool);
        assert_eq!(diff_ids.len(), 3);
        assert_eq!(found.image.name.to_string(), NAME);
        if *exact {
            assert_eq!(found.image.manifest_digest, bench.digest(1), "{target}");
        }
        if let Some(first) = images.first() {
            assert_eq!(found.image.config_digest, first.config_digest, "{target}");
            assert_eq!(found.image.config, first.config, "{target}");
        }
        images.push(found.image);
    }
    let raw = |reference: &str| {
        run(
            "skopeo",
            &["inspect", "--raw", "--tls-verify=false", reference],
        )
    };
    for (image, (target, _)) in images.iter().zip(&targets) {
        assert_eq!(image.manifest, raw(target), "{target}");
    }
}

/// Compressed archives, and those that podman and skopeo have compressed inside.
#[test]
fn archives_may_be_compressed() {
    if !have(&["skopeo", "gzip", "zstd"]) {
        return;
    }
    let bench = Bench::new();
    let dir = bench.text("");
    for transport in ["oci-archive", "docker-archive"] {
        let path = format!("{dir}{transport}.tar");
        let target = format!("{transport}:{path}:{NAME}");
        run("skopeo", &["copy", "-q", &bench.oci(NAME), &target]);
        let plain = bench.sources().resolve(&wanted(NAME, &target)).unwrap();
        for (program, suffix) in [("gzip", "gz"), ("zstd", "zst")] {
            run(program, &["-q", "-k", &path]);
            let packed = format!("{transport}:{path}.{suffix}:{NAME}");
            let found = bench.sources().resolve(&wanted(NAME, &packed)).unwrap();
            assert_eq!(found.image.manifest_digest, plain.image.manifest_digest);
            read_layers(&found, &bench.spool());
        }
    }
}

/// docker-archive layers may be compressed inside the archive: the made-up
/// manifest has their plain sizes, as containers/image counts them.
#[test]
fn the_made_up_manifest_is_that_of_skopeo() {
    if !have(&["skopeo", "tar", "gzip"]) {
        return;
    }
    let bench = Bench::new();
    let plain = bench.text("plain.tar");
    let target = format!("docker-archive:{plain}:{NAME}");
    run("skopeo", &["copy", "-q", &bench.oci(NAME), &target]);
    let dir = bench.text("unpacked");
    let script = format!(
        "mkdir {dir} && cd {dir} && tar xf {plain} && for l in *.tar; do gzip -n $l && mv $l.gz $l; done && tar cf {dir}.tar *"
    );
    run("sh", &["-c", &script]);
    let packed = format!("docker-archive:{dir}.tar:{NAME}");
    let found = bench.sources().resolve(&wanted(NAME, &packed)).unwrap();
    read_layers(&found, &bench.spool());
    assert_eq!(
        found.image.manifest,
        run("skopeo", &["inspect", "--raw", &packed])
    );
}

/// Lookasides are asked in order, by name or digest, before an image's source.
#[test]
fn lookasides_come_first() {
    let bench = Bench::new();
    let other = Bench::new();
    let lookasides = [
        format!("oci:{}:nothing", other.text("oci"))
            .parse()
            .unwrap(),
        format!("oci:{}", bench.text("oci")).parse().unwrap(),
    ];
    let sources = boundstore::source::Sources::open(&lookasides, bench.options()).unwrap();
    let held = Wanted {
        source: None,
        ..wanted("localhost/app:1", "oci:/nowhere")
    };
    let found = sources.resolve(&held).unwrap();
    assert_eq!(found.origin, format!("oci:{}", bench.text("oci")));
    assert_eq!(
        found.image.index.as_ref().unwrap().0,
        bench.digest(0).cast()
    );
    assert_eq!(found.bytes_to_fetch(&[0, 1, 2], None), 0);
    // Not held: its own source is asked, and is not there.
    let error = sources
        .resolve(&wanted("localhost/none:1", "oci:/nowhere"))
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}
