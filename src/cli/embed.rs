//! `boundstore embed`

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
    set_args::SetArgs,
};
use crate::{
    deployment::Embedded,
    repo::RepoView,
    sink::{
        HardLinks, LayerTar, SinkError, expect_empty_store, expect_file, expect_vacant,
        stage_directory, stage_layer_tar, stage_layers,
    },
    store_tree::ValidStoreTree,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The images are those that the root binds, as its lock file says where there is \
    one, and those of --image; with --image and no --root, those alone. podman reads what comes of \
    it in place, as an additional image store: nothing is to be mounted."
)]
pub(super) struct Args {
    #[command(flatten)]
    to: To,
    /// Where a host finds the store that a layer has
    #[arg(long, value_name = "PATH", default_value = "/usr/lib/containers/storage", value_parser = prefix)]
    prefix: PathBuf,
    /// Write the same file of several layers once: its link count is then that over all of them
    #[arg(long)]
    hardlink: bool,
    #[command(flatten)]
    set: SetArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Write the store as plain directories: takes root
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the store as one layer of an OCI image, an uncompressed tar
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
    /// Write a layer tar for each image, and one for the lists
    #[arg(long, value_name = "DIR")]
    layers: Option<PathBuf>,
}

/// A path that stays below the root of a layer.
fn prefix(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err("it leads out of the root".into()),
        }
    }
    match names.is_empty() {
        true => Err("it is the root itself".into()),
        false => Ok(names.into_iter().collect()),
    }
}

/// What was written.
struct Wrote {
    /// One line for people each.
    lines: Vec<String>,
    document: Value,
    repeated_bytes: u64,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let output = global.output();
    match &args.to {
        To {
            output: Some(place),
            ..
        } => expect_empty_store(place)?,
        To {
            tar: Some(place), ..
        } => expect_file(place)?,
        To {
            layers: Some(place),
            ..
        } => expect_vacant(place)?,
        To { .. } => {}
    }
    let (wanted, lock) = args.set.wanted(&output)?;
    let work = args.set.transfer.work_dir("embed.")?;
    let embedded = args.set.with_syncer(global, lock.as_ref(), |syncer| {
        let write = |view: &RepoView, tree: &ValidStoreTree| write(args, view, tree);
        Ok(syncer.embed(work.path(), &wanted, write)?)
    })?;
    let Embedded {
        result: wrote,
        images,
        dropped,
    } = embedded;
    let mut document = json!({
        "images": images,
        "hardlink": args.hardlink,
        "repeated_bytes": wrote.repeated_bytes,
        "dropped": dropped.total(),
    });
    if let (Some(document), Value::Object(wrote)) = (document.as_object_mut(), wrote.document) {
        document.extend(wrote);
    }
    output.result("embed", &document, || {
        let images = count(images.len(), "image");
        let lines = wrote.lines.iter().map(|line| format!("{line}\n"));
        format!("{}embedded {images}\n", lines.collect::<String>())
    })?;
    if dropped.total() > 0 {
        output.say(&format!("left out of the trees: {dropped}"));
    }
    if wrote.repeated_bytes > 0 && !args.hardlink {
        let repeated = bytes(wrote.repeated_bytes);
        output.say(&format!(
            "{repeated} are those of files in more than one layer: --hardlink writes them once"
        ));
    }
    Ok(Exit::Done)
}

fn write(args: &Args, view: &RepoView, tree: &ValidStoreTree) -> Result<Wrote, SinkError> {
    let links = match args.hardlink {
        true => HardLinks::AcrossRootfs,
        false => HardLinks::WithinRootfs,
    };
    let layer_line = |file: &Path, layer: &LayerTar| {
        let (file, size) = (file.display(), bytes(layer.bytes));
        format!("{file}: {size}, DiffId {}", layer.diff_id)
    };
    if let Some(place) = &args.to.output {
        let written = stage_directory(view, tree, place, links)?.publish()?;
        return Ok(Wrote {
            lines: vec![format!("{}: {}", place.display(), bytes(written.bytes))],
            document: json!({
                "output": place.display().to_string(),
                "bytes": written.bytes,
            }),
            repeated_bytes: written.repeated_bytes,
        });
    }
    if let Some(place) = &args.to.tar {
        let staged = stage_layer_tar(view, tree, &args.prefix, place, links)?;
        let layer = staged.publish()?;
        return Ok(Wrote {
            lines: vec![layer_line(place, &layer)],
            document: json!({ "layers": [
                { "file": place.display().to_string(), "diff_id": layer.diff_id, "bytes": layer.bytes }
            ]}),
            repeated_bytes: layer.repeated_bytes,
        });
    }
    let place = args.to.layers.as_deref().unwrap_or(Path::new("layers"));
    let layers = stage_layers(view, tree, &args.prefix, place, links)?.publish()?;
    let lines = layers
        .iter()
        .map(|(_, file, layer)| layer_line(file, layer));
    let documents = layers.iter().map(|(part, file, layer)| {
        json!({
            "file": file.display().to_string(), "diff_id": layer.diff_id, "bytes": layer.bytes,
            "image_id": part.image_id, "names": part.names,
        })
    });
    Ok(Wrote {
        lines: lines.collect(),
        document: json!({ "layers": documents.collect::<Vec<_>>() }),
        repeated_bytes: { layers.iter() }
            .map(|(_, _, layer)| layer.repeated_bytes)
            .sum(),
    })
}
