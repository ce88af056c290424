//! What a sync is made of, each part alone: `cargo bench --bench parts`.
//!
//! On a layer of 8,000 files in the sizes of a distribution's, made up.

#![allow(clippy::unwrap_used)] // what fails here fails the bench

use std::{io::Cursor, path::Path, sync::Arc, time::Duration};

use boundstore::{
    deployment::{GcInputs, Owner, SinceBoot, host::HostPaths, plan_gc, status},
    document::Compression,
    import::{
        ImportLimits, ObjectPool, import_layer, layer_entries,
        tar::{TarReader, read_layer},
    },
    name::{Algorithm, DiffId, SetFormat},
    repo::{NewRepo, Repo, StagedStream, StoredLayer},
    sink,
    source::{LayerData, LayerDescriptor, LayerForm},
    squash::{RootfsChain, tree::Directory},
    store_tree::{StoreBlob, StoreImage, StoreLayer, lay_out, tar_split::TarSplitWriter},
};
#[path = "../tests/common/store_images.rs"]
mod store_images;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 8_000;

/// Bytes that are not the same twice, and no more random than they must be.
fn content(file: usize, length: usize) -> Vec<u8> {
    let mut state = file as u64 + 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Many small files and a few large ones: 80 MB.
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in 0..FILES {
        let length = match file % 100 {
            0 => 300_000,
            1..20 => 20_000,
            20..70 => 3_000,
            _ => 200,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(length as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let name = format!("usr/share/{}/{}/file-{file}", file % 40, file % 400);
        tar.append_data(&mut header, name, content(file, length).as_slice())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn repo(parent: &Path, name: &str) -> Repo {
    let path = parent.join(name);
    let new = NewRepo {
        algorithm: Algorithm::Sha512,
        insecure: true,
    };
    Repo::create(&path, new, Repo::LOCK_LIMIT).unwrap();
    Repo::open(&path, Repo::LOCK_LIMIT).unwrap()
}

fn import_into(repo: &Repo, tar: &[u8]) -> (StoredLayer, StagedStream) {
    let diff_id = DiffId::of(tar);
    let descriptor = LayerDescriptor {
        diff_id,
        blob_digest: diff_id.cast(),
        blob_size: tar.len() as u64,
        compression: Compression::None,
    };
    let data = LayerData {
        reader: Box::new(Cursor::new(tar.to_vec())),
        form: LayerForm::Blob,
    };
    ObjectPool::with(repo, |pool| {
        import_layer(pool, &descriptor, data, ImportLimits::default()).unwrap()
    })
}

fn import(criterion: &mut Criterion) {
    let tar = tar();
    let scratch = tempfile::tempdir_in("target").unwrap();
    let mut group = criterion.benchmark_group("import");
    group.throughput(Throughput::Bytes(tar.len() as u64));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        repo(scratch.path(), &number.to_string())
    };
    group.bench_function("all objects new", |bencher| {
        bencher.iter_batched(
            &mut fresh,
            |repo| import_into(&repo, &tar),
            BatchSize::PerIteration,
        );
    });
    let known = repo(scratch.path(), "known");
    let (_, staged) = import_into(&known, &tar);
    known.register(&[staged]).unwrap();
    group.bench_function("all objects known", |bencher| {
        bencher.iter(|| import_into(&known, &tar));
    });
}

fn pure(criterion: &mut Criterion) {
    let tar = tar();
    let entries = read_layer(&tar).unwrap();
    let mut group = criterion.benchmark_group("pure");
    group.sample_size(20);
    group.bench_function("squash", |bencher| {
        let entries = || entries.clone().into_iter().map(Ok::<_, std::io::Error>);
        bencher.iter_batched(
            entries,
            |entries| RootfsChain::default().push(entries).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("tar-split", |bencher| {
        bencher.iter(|| {
            let mut split = TarSplitWriter::new(std::io::sink()).unwrap();
            let (mut reader, mut rest) = (TarReader::new(), tar.as_slice());
            while let Some(entry) = reader.next_entry(&mut rest).unwrap() {
                split.segment(&tar[..512]).unwrap();
                split.file(&entry.raw_name, entry.stored_size, 1).unwrap();
                rest = &rest[usize::try_from(entry.stored_size).unwrap()..];
            }
            split.finish().unwrap()
        });
    });
}

fn store_layer(layer: &StoredLayer, rootfs: Arc<Directory>) -> StoreLayer {
    StoreLayer {
        diff_id: layer.diff_id,
        diff_size: layer.diff_size,
        blob: StoreBlob {
            digest: layer.diff_id.cast(),
            size: layer.diff_size,
            compression: 0,
        },
        tar_split: layer.tar_split.clone(),
        rootfs,
    }
}

/// A set of ten images, each with the layer and one of its own.
fn set(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir_in("target").unwrap();
    let home = scratch.path();
    let repo = repo(home, "repo");
    let layer = |tar: &[u8]| {
        let (layer, staged) = import_into(&repo, tar);
        repo.register(&[staged]).unwrap();
        layer
    };
    let base = layer(&tar());
    let tops = (0..10).map(|at| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        let name = format!("app-{at}");
        tar.append_data(&mut header, name, b"hello".as_slice())
            .unwrap();
        layer(&tar.into_inner().unwrap())
    });
    let tops: Vec<StoredLayer> = tops.collect();
    let mut chain = RootfsChain::default();
    let squash = |chain: &mut RootfsChain, layer: &StoredLayer| {
        let entries = layer_entries(repo.view(), &layer.diff_id, &layer.stream).unwrap();
        chain.push(entries).unwrap()
    };
    let below = squash(&mut chain, &base);
    let below = store_layer(&base, below);
    let images = tops.iter().enumerate().map(|(at, top)| {
        let over = store_layer(top, squash(&mut chain.clone(), top));
        let name = format!("localhost/app:{at}");
        store_images::image(&name, &[below.clone(), over], serde_json::json!({}))
    });
    let images: Vec<StoreImage> = images.collect();
    let tree = lay_out(&images).unwrap().validate().unwrap();

    let mut group = criterion.benchmark_group("set");
    group.sample_size(10);
    group.bench_function("read a layer and squash it", |bencher| {
        bencher.iter(|| squash(&mut RootfsChain::default(), &base));
    });
    group.bench_function("lay out", |bencher| {
        bencher.iter(|| lay_out(&images).unwrap());
    });
    group.bench_function("lay out, validate", |bencher| {
        bencher.iter(|| lay_out(&images).unwrap().validate().unwrap());
    });
    group.bench_function("render", |bencher| {
        bencher.iter(|| {
            sink::stage(&repo, &tree, SetFormat::NEWEST)
                .unwrap()
                .discard();
        });
    });
    for deployment in ["a", "b", "c"] {
        let staged = sink::stage(&repo, &tree, SetFormat::NEWEST).unwrap();
        staged
            .publish(&deployment.parse().unwrap(), Vec::new(), Vec::new())
            .unwrap();
    }
    let paths = HostPaths {
        root: home.to_owned(),
        sysroot: home.to_owned(),
        repo: repo.view().path().to_owned(),
    };
    group.bench_function("status", |bencher| {
        bencher.iter(|| status(&paths, None, None, None).unwrap());
    });
    group.bench_function("gc plan", |bencher| {
        bencher.iter(|| {
            let since_boot = SinceBoot::of(home);
            let owner = Owner::Boundstore;
            let inputs = GcInputs::gather(repo.view(), None, &since_boot, None, owner).unwrap();
            plan_gc(&inputs)
        });
    });
}

criterion_group!(benches, import, pure, set);
criterion_main!(benches);
