//! Layouts and archives whose files are not what they should be.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    Case, Stage,
    layout::{LayerBlob, sha256},
    raw_tar::RawTar,
};

/// A good layout, changed.
fn layout(stage: &mut Stage, change: impl FnOnce(&PathBuf)) -> String {
    stage.lying(|_, _| {});
    change(&stage.layout.path);
    stage.source()
}

/// The layer's blob of a good layout, changed.
fn blob(stage: &mut Stage, change: impl FnOnce(&PathBuf)) -> String {
    let path = stage.layout.blob_path(&sha256(&stage.own_layer().blob));
    layout(stage, |_| change(&path))
}

fn fifo(path: &PathBuf) {
    let _absent = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What lies outside, in place of a path.
fn link_out(stage_path: &PathBuf) {
    let outside = stage_path.ancestors().find(|path| path.ends_with("layout"));
    let outside = outside.unwrap_or(stage_path).with_extension("outside");
    fs::rename(stage_path, &outside).unwrap();
    symlink(outside, stage_path).unwrap();
}

/// The parts of a docker archive of one layer.
struct Saved {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Value,
}

impl Saved {
    fn new(stage: &Stage) -> Self {
        let layer = stage.own_tar().done();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        });
        let manifest = json!([{
            "Config": "config.json", "RepoTags": ["localhost/evil:1"], "Layers": ["layer.tar"],
        }]);
        Self {
            config: config.to_string().into_bytes(),
            layer,
            manifest,
        }
    }

    fn tar(&self) -> RawTar {
        RawTar::default()
            .file("config.json", &self.config)
            .file("layer.tar", &self.layer)
    }

    fn with_manifest(&self, tar: RawTar) -> Vec<u8> {
        tar.file("manifest.json", self.manifest.to_string().as_bytes())
            .done()
    }
}

fn archive(stage: &Stage, kind: &str, bytes: &[u8]) -> String {
    let path = stage.dir.join("archive.tar");
    fs::write(&path, bytes).unwrap();
    format!("{kind}:{}", path.display())
}

/// A docker archive whose manifest.json is as `change` leaves it.
fn saved(stage: &Stage, change: impl FnOnce(&mut Value)) -> String {
    let mut saved = Saved::new(stage);
    change(&mut saved.manifest);
    let bytes = saved.with_manifest(saved.tar());
    archive(stage, "docker-archive", &bytes)
}

/// A docker archive without its layer, and what `add` puts in instead.
fn saved_without_layer(stage: &Stage, add: impl FnOnce(RawTar, &[u8]) -> RawTar) -> String {
    let saved = Saved::new(stage);
    let tar = RawTar::default().file("config.json", &saved.config);
    let bytes = saved.with_manifest(add(tar, &saved.layer));
    archive(stage, "docker-archive", &bytes)
}

/// A layout packed as an archive, without the member that `but` names.
fn packed(stage: &mut Stage, but: &str, add: impl FnOnce(RawTar) -> RawTar) -> String {
    stage.lying(|_, _| {});
    let mut tar = RawTar::default();
    let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    for blob in fs::read_dir(stage.layout.path.join("blobs/sha256")).unwrap() {
        names.push(format!(
            "blobs/sha256/{}",
            blob.unwrap().file_name().display()
        ));
    }
    for name in names.iter().filter(|name| *name != but) {
        tar = tar.file(name, &fs::read(stage.layout.path.join(name)).unwrap());
    }
    archive(stage, "oci-archive", &add(tar).done())
}

fn layer_member(stage: &Stage) -> String {
    let digest = sha256(&stage.own_layer().blob);
    format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap())
}

/// Layouts and archives.
pub const CASES: &[Case] = &[
    // Layouts in folders.
    ("layout-missing", |s| {
        format!("oci:{}/no/such:evil", s.dir.display())
    }),
    ("layout-is-a-file", |s| {
        fs::write(s.dir.join("file"), b"x").unwrap();
        format!("oci:{}/file:evil", s.dir.display())
    }),
    ("layout-without-marker", |s| {
        layout(s, |path| fs::remove_file(path.join("oci-layout")).unwrap())
    }),
    ("layout-of-another-version", |s| {
        layout(s, |path| {
            fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        })
    }),
    ("layout-marker-nonsense", |s| {
        layout(s, |path| fs::write(path.join("oci-layout"), b"\0").unwrap())
    }),
    ("layout-without-index", |s| {
        layout(s, |path| fs::remove_file(path.join("index.json")).unwrap())
    }),
    ("layout-index-a-directory", |s| {
        layout(s, |path| {
            fs::remove_file(path.join("index.json")).unwrap();
            fs::create_dir(path.join("index.json")).unwrap();
        })
    }),
    ("layout-index-a-fifo", |s| {
        layout(s, |path| fifo(&path.join("index.json")))
    }),
    ("layout-index-a-link-out", |s| {
        layout(s, |path| link_out(&path.join("index.json")))
    }),
    ("layout-index-a-loop", |s| {
        layout(s, |path| {
            fs::remove_file(path.join("index.json")).unwrap();
            symlink("index.json", path.join("index.json")).unwrap();
        })
    }),
    ("layout-index-huge", |s| {
        layout(s, |path| {
            let file = fs::File::options()
                .append(true)
                .open(path.join("index.json"))
                .unwrap();
            file.set_len(1 << 40).unwrap();
        })
    }),
    ("layout-index-nonsense", |s| {
        layout(s, |path| fs::write(path.join("index.json"), b"{").unwrap())
    }),
    ("layout-index-kernel-memory", |s| {
        layout(s, |path| {
            fs::remove_file(path.join("index.json")).unwrap();
            symlink("/proc/kcore", path.join("index.json")).unwrap();
        })
    }),
    ("layout-blobs-a-link-out", |s| {
        layout(s, |path| link_out(&path.join("blobs")))
    }),
    ("layout-name-twice", |s| {
        s.lying(|_, _| {});
        s.lying(|_, c| c["author"] = "another".into())
    }),
    ("layout-name-missing", |s| {
        s.lying(|_, _| {});
        format!("oci:{}:another", s.layout.path.display())
    }),
    ("blob-a-link-out", |s| blob(s, link_out)),
    ("blob-a-link-inside", |s| {
        blob(s, |path| {
            fs::rename(path, path.with_file_name("moved")).unwrap();
            symlink("moved", path).unwrap();
        })
    }),
    ("blob-a-fifo", |s| blob(s, fifo)),
    ("blob-a-directory", |s| {
        blob(s, |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        })
    }),
    ("blob-endless", |s| {
        blob(s, |path| {
            fs::remove_file(path).unwrap();
            symlink("/dev/zero", path).unwrap();
        })
    }),
    // docker save.
    ("saved-good", |s| saved(s, |_| {})),
    ("saved-missing", |s| {
        format!("docker-archive:{}/no/such.tar", s.dir.display())
    }),
    ("saved-empty-file", |s| archive(s, "docker-archive", b"")),
    ("saved-a-directory", |s| {
        format!("docker-archive:{}", s.dir.display())
    }),
    ("saved-a-fifo", |s| {
        fifo(&s.dir.join("pipe"));
        format!("docker-archive:{}/pipe", s.dir.display())
    }),
    ("saved-no-tar", |s| {
        archive(s, "docker-archive", &[b'x'; 4096])
    }),
    ("saved-without-manifest", |s| {
        let tar = Saved::new(s).tar().done();
        archive(s, "docker-archive", &tar)
    }),
    ("saved-manifest-empty-list", |s| {
        saved(s, |m| *m = json!([]))
    }),
    ("saved-manifest-an-object", |s| {
        saved(s, |m| *m = m[0].clone())
    }),
    ("saved-manifest-null", |s| saved(s, |m| *m = Value::Null)),
    ("saved-manifest-key-twice", |s| {
        let saved = Saved::new(s);
        let text = saved.manifest.to_string();
        let text = text.replacen('{', r#"{"layers":["other.tar"],"#, 1);
        let tar = saved.tar().file("manifest.json", text.as_bytes());
        archive(s, "docker-archive", &tar.done())
    }),
    ("saved-manifest-huge", |s| {
        saved(s, |m| {
            m[0]["RepoTags"] = json!(vec!["localhost/x:1"; 400_000]);
        })
    }),
    ("saved-config-climbs-out", |s| {
        saved(s, |m| m[0]["Config"] = "../../../etc/passwd".into())
    }),
    ("saved-config-absolute", |s| {
        saved(s, |m| m[0]["Config"] = "/etc/passwd".into())
    }),
    ("saved-config-missing", |s| {
        saved(s, |m| m[0]["Config"] = "none.json".into())
    }),
    ("saved-config-a-layer", |s| {
        saved(s, |m| m[0]["Config"] = "layer.tar".into())
    }),
    ("saved-layer-climbs-out", |s| {
        saved(s, |m| m[0]["Layers"][0] = "../layer.tar".into())
    }),
    ("saved-layer-missing", |s| {
        saved(s, |m| m[0]["Layers"][0] = "none.tar".into())
    }),
    ("saved-layer-the-config", |s| {
        saved(s, |m| m[0]["Layers"][0] = "config.json".into())
    }),
    ("saved-layers-fewer", |s| {
        saved(s, |m| m[0]["Layers"] = json!([]))
    }),
    ("saved-layers-more", |s| {
        saved(s, |m| m[0]["Layers"] = json!(["layer.tar", "layer.tar"]))
    }),
    ("saved-tag-nonsense", |s| {
        saved(s, |m| m[0]["RepoTags"] = json!(["UPPER/../:::"]))
    }),
    ("saved-two-without-names", |s| {
        saved(s, |m| {
            m[0]["RepoTags"] = Value::Null;
            *m = json!([m[0], m[0]]);
        })
    }),
    ("saved-member-twice", |s| {
        let saved = Saved::new(s);
        let evil = s.own_tar().file("evil", b"x").done();
        let bytes = saved.with_manifest(saved.tar().file("layer.tar", &evil));
        archive(s, "docker-archive", &bytes)
    }),
    ("saved-member-climbs-out", |s| {
        let saved = Saved::new(s);
        let bytes = saved.with_manifest(saved.tar().file("../../../etc/cron.d/evil", b"x"));
        archive(s, "docker-archive", &bytes)
    }),
    ("saved-layer-a-link", |s| {
        saved_without_layer(s, |tar, layer| {
            tar.file("id/layer.tar", layer)
                .link("layer.tar", b'2', "id/layer.tar")
        })
    }),
    ("saved-layer-a-link-out", |s| {
        saved_without_layer(s, |tar, _| {
            tar.link("layer.tar", b'2', "../../../etc/passwd")
        })
    }),
    ("saved-layer-an-absolute-link", |s| {
        saved_without_layer(s, |tar, _| tar.link("layer.tar", b'2', "/etc/passwd"))
    }),
    ("saved-layer-a-loop", |s| {
        saved_without_layer(s, |tar, _| {
            tar.link("layer.tar", b'2', "b.tar")
                .link("b.tar", b'2', "layer.tar")
        })
    }),
    ("saved-layer-a-directory", |s| {
        saved_without_layer(s, |tar, _| tar.entry("layer.tar", b'5', 0))
    }),
    ("saved-layer-a-device", |s| {
        saved_without_layer(s, |tar, _| tar.device("layer.tar", b'3', 1, 5))
    }),
    ("saved-layer-sparse", |s| {
        saved_without_layer(s, |tar, _| {
            tar.pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1099511627776"),
            ])
            .file("layer.tar", b"0\n")
        })
    }),
    ("saved-layer-beyond-the-end", |s| {
        let saved = Saved::new(s);
        let tar = RawTar::default().file("config.json", &saved.config);
        let tar = tar.file("manifest.json", saved.manifest.to_string().as_bytes());
        archive(
            s,
            "docker-archive",
            &tar.header_only("layer.tar", b'0', 1 << 40),
        )
    }),
    ("saved-member-size-negative", |s| {
        saved_without_layer(s, |tar, layer| {
            tar.file("layer.tar", layer).field(124, &[0xff; 12])
        })
    }),
    ("saved-cut-off", |s| {
        let saved = Saved::new(s);
        let bytes = saved.with_manifest(saved.tar());
        archive(s, "docker-archive", &bytes[..bytes.len() - 1800])
    }),
    ("saved-layer-of-another-diff-id", |s| {
        let evil = s.own_tar().file("evil", b"x").done();
        saved_without_layer(s, |tar, _| tar.file("layer.tar", &evil))
    }),
    ("saved-gzip", |s| {
        let saved = Saved::new(s);
        let bytes = LayerBlob::gzip(&saved.with_manifest(saved.tar())).blob;
        archive(s, "docker-archive", &bytes)
    }),
    ("saved-gzip-cut-off", |s| {
        let saved = Saved::new(s);
        let bytes = LayerBlob::gzip(&saved.with_manifest(saved.tar())).blob;
        archive(s, "docker-archive", &bytes[..bytes.len() - 20])
    }),
    ("saved-layer-gzip-cut-off", |s| {
        saved_without_layer(s, |tar, layer| {
            let blob = LayerBlob::gzip(layer).blob;
            tar.file("layer.tar", &blob[..blob.len() - 20])
        })
    }),
    // Layouts in archives.
    ("packed-good", |s| packed(s, "", |tar| tar)),
    ("packed-without-marker", |s| {
        packed(s, "oci-layout", |tar| tar)
    }),
    ("packed-without-index", |s| {
        packed(s, "index.json", |tar| tar)
    }),
    ("packed-without-layer", |s| {
        let layer = layer_member(s);
        packed(s, &layer, |tar| tar)
    }),
    ("packed-layer-of-other-bytes", |s| {
        let layer = layer_member(s);
        let length = s.own_layer().blob.len();
        packed(s, &layer, |tar| tar.file(&layer, &vec![b'x'; length]))
    }),
    ("packed-layer-a-hardlink-to-the-index", |s| {
        let layer = layer_member(s);
        packed(s, &layer, |tar| tar.link(&layer, b'1', "index.json"))
    }),
    ("packed-layer-a-link-out", |s| {
        let layer = layer_member(s);
        packed(s, &layer, |tar| {
            tar.link(&layer, b'2', "../../../../../etc/shadow")
        })
    }),
    ("packed-index-twice", |s| {
        packed(s, "", |tar| tar.file("index.json", b"{}"))
    }),
    ("packed-index-twice-by-another-name", |s| {
        packed(s, "", |tar| tar.file("./index.json", b"{}"))
    }),
    ("packed-member-absolute", |s| {
        packed(s, "", |tar| tar.file("/etc/cron.d/evil", b"x"))
    }),
    ("packed-called-saved", |s| {
        let source = packed(s, "", |tar| tar);
        source.replace("oci-archive:", "docker-archive:")
    }),
    ("saved-called-packed", |s| {
        let source = saved(s, |_| {});
        source.replace("docker-archive:", "oci-archive:")
    }),
];
