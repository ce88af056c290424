//! `boundstore bundle`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
    set_args::SetArgs,
    transfer::{Transfer, wanted_of},
};
use crate::{
    bound::Scan,
    bundle::{ARTIFACT_TYPE, Bundle, BundleIndex, Content, Member, apply},
    name::BlobDigest,
    sink::{expect_file, expect_vacant},
    source::{Layout, SourceError, SourceRef, fetch_layout, push_layout},
    sys,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Put the images of a set, and the host image, into one artifact
    Create(Box<CreateArgs>),
    /// Check a bundle, and write its images as a layout for `sync --from`
    Apply(ApplyArgs),
    /// List what a bundle holds
    Inspect(InspectArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The images are those that the root binds, as its lock file says where there is \
    one, and those of --image; with --image and no --root, those alone. Their signatures, \
    attestations and SBOMs come along. `skopeo copy --all --preserve-digests` carries a bundle."
)]
pub(super) struct CreateArgs {
    /// Where to: oci:DIR[:REF], oci-archive:FILE[:REF] or docker://NAME
    #[arg(long, value_name = "DESTINATION")]
    output: SourceRef,
    /// The host image too, and where to take it from if not from its registry
    #[arg(long, value_name = "NAME[=SOURCE]")]
    host: Option<String>,
    /// Leave out what is about the images: signatures, attestations, SBOMs
    #[arg(long)]
    no_artifacts: bool,
    #[command(flatten)]
    set: SetArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "All of it is hashed, and each image is written under its name with the very \
    manifest and index that it had. Then, on a host without a network: \
    `boundstore sync --from oci:DIR`."
)]
pub(super) struct ApplyArgs {
    /// The bundle: oci:DIR[:REF], oci-archive:FILE[:REF] or docker://NAME
    #[arg(value_name = "SOURCE")]
    source: SourceRef,
    /// The layout to write: must not be there, or be empty
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    transfer: Transfer,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// The bundle: oci:DIR[:REF], oci-archive:FILE[:REF] or docker://NAME
    #[arg(value_name = "SOURCE")]
    source: SourceRef,
    #[command(flatten)]
    transfer: Transfer,
}

pub(super) fn run(global: &Global, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => create(global, args),
        Verb::Apply(args) => apply_verb(global, args),
        Verb::Inspect(args) => inspect(global, args),
    }
}

fn create(global: &Global, args: &CreateArgs) -> Result<Exit, Failure> {
    let output = global.output();
    match &args.output {
        SourceRef::Oci { path, .. } => expect_vacant(path)?,
        SourceRef::OciArchive { path, .. } => expect_file(path)?,
        _ => {}
    }
    let (mut wanted, lock) = args.set.wanted(&output)?;
    let mut host = None;
    if let Some(text) = &args.host {
        let scan = Scan::default().with_command_line(std::slice::from_ref(text))?;
        for image in scan.images {
            if wanted.iter().any(|wanted| wanted.name == image.name) {
                let message = format!("{} is the host image, and bound", image.name);
                return Err(Failure::new(Exit::Usage, message));
            }
            host = Some(image.name.clone());
            wanted.push(wanted_of(image, None, args.set.platform.as_ref(), None)?);
        }
    }
    let work = args.set.transfer.work_dir("bundle.")?;
    let (reference, parent) = match &args.output {
        SourceRef::Oci { path, reference } | SourceRef::OciArchive { path, reference } => (
            reference.as_deref().unwrap_or("bundle"),
            sys::parent_of(path),
        ),
        SourceRef::Docker(_) => ("bundle", work.path()),
        other => {
            let message =
                format!("{other} is no place for a bundle: name oci:, oci-archive: or docker://");
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    let (staged, index) = args.set.with_syncer(global, lock.as_ref(), |syncer| {
        let about = (!args.no_artifacts).then_some(work.path());
        Ok(syncer.bundle(&wanted, host.as_ref(), reference, about, parent)?)
    })?;
    let size = total(staged.path())?;
    match &args.output {
        SourceRef::Docker(name) => {
            let (config, _) = global.config();
            let options = args.set.transfer.source_options(None, &config);
            let push = || push_layout(&options.skopeo, staged.path(), name, size);
            retrying(global, &args.set.transfer, push)?;
        }
        SourceRef::OciArchive { path, .. } => staged.archive(path)?,
        SourceRef::Oci { path, .. } => staged.publish(path)?,
        _ => {}
    }
    let digest = BlobDigest::of(&index.to_json());
    let mut document = describe(&index, digest, size);
    document["output"] = args.output.to_string().into();
    output.result("bundle-create", &document, || {
        format!("{}{}: {}\n", listed(&index), args.output, bytes(size))
    })?;
    Ok(Exit::Done)
}

fn apply_verb(global: &Global, args: &ApplyArgs) -> Result<Exit, Failure> {
    let place = &args.directory;
    expect_vacant(place)?;
    with_bundle(global, &args.source, &args.transfer, |bundle| {
        let applied = apply(bundle, sys::parent_of(place))?;
        applied.layout.publish(place)?;
        let mut document = describe(&bundle.index, bundle.digest, applied.bytes);
        document["layout"] = place.display().to_string().into();
        global.output().result("bundle-apply", &document, || {
            let place = place.display();
            let size = bytes(applied.bytes);
            let list = listed(&bundle.index);
            format!("{list}oci:{place}: {size}, for `boundstore sync --from oci:{place}`\n")
        })
    })?;
    Ok(Exit::Done)
}

fn inspect(global: &Global, args: &InspectArgs) -> Result<Exit, Failure> {
    with_bundle(global, &args.source, &args.transfer, |bundle| {
        let size = bundle.bytes()?;
        let document = describe(&bundle.index, bundle.digest, size);
        global.output().result("bundle-inspect", &document, || {
            let list = listed(&bundle.index);
            format!("{list}{}: {}\n", bundle.digest, bytes(size))
        })
    })?;
    Ok(Exit::Done)
}

fn with_bundle(
    global: &Global,
    source: &SourceRef,
    transfer: &Transfer,
    work: impl FnOnce(&Bundle<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = transfer.work_dir("bundle.")?;
    let layout = match source {
        SourceRef::Docker(name) => {
            let (config, _) = global.config();
            let options = transfer.source_options(None, &config);
            let to = folder.path().join("layout");
            retrying(global, transfer, || {
                fetch_layout(&options.skopeo, name, &to)
            })?
        }
        SourceRef::Oci { path, reference } => Layout::open_dir(path, reference.as_deref())?,
        SourceRef::OciArchive { path, reference } => {
            Layout::open_archive(path, reference.as_deref(), folder.path())?
        }
        other => {
            let message = format!("{other} holds no bundle: name oci:, oci-archive: or docker://");
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    work(&Bundle::open(&layout)?)
}

/// Does it again where the network refuses for the moment.
fn retrying<T>(
    global: &Global,
    transfer: &Transfer,
    attempt: impl FnMut() -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    let output = global.output();
    transfer.retry().run(attempt, |failed, pause| {
        let (text, seconds) = (failed.text(), pause.as_secs());
        output.say(&format!("{text}: trying again in {seconds} s"));
    })
}

/// Bytes of all that a bundle in a folder holds.
fn total(folder: &Path) -> Result<u64, Failure> {
    Ok(Bundle::open(&Layout::open_dir(folder, None)?)?.bytes()?)
}

fn describe(index: &BundleIndex, digest: BlobDigest, size: u64) -> Value {
    let member = |member: &Member| {
        let mut value = json!({
            "digest": member.document.digest,
            "role": match &member.content {
                Content::Image(image) if image.is_host => "host",
                Content::Image(_) => "bound",
                Content::Artifact { .. } => "artifact",
                Content::Originals => "originals",
            },
        });
        match &member.content {
            Content::Image(image) => {
                value["name"] = image.name.to_string().into();
                value["platform"] = image.platform.to_string().into();
                value["manifest"] = image.manifest.to_string().into();
                value["top"] = image.top.to_string().into();
            }
            Content::Artifact { subject, tag } => {
                value["subject"] = subject.to_string().into();
                value["tag"] = json!(tag);
            }
            Content::Originals => {}
        }
        value
    };
    json!({
        "artifact_type": ARTIFACT_TYPE,
        "digest": digest,
        "bytes": size,
        "members": index.members.iter().map(member).collect::<Vec<_>>(),
    })
}

/// A line for each image, with what is about it.
fn listed(index: &BundleIndex) -> String {
    let mut text = String::new();
    for (_, image) in index.images() {
        let about = |member: &&Member| match &member.content {
            Content::Artifact { subject, .. } => {
                *subject == image.top || *subject == image.manifest.cast()
            }
            _ => false,
        };
        let artifacts = index.members.iter().filter(about).count();
        let role = if image.is_host { "host image " } else { "" };
        text += &format!(
            "{role}{}: {}, {}, {}\n",
            image.name,
            image.top,
            image.platform,
            count(artifacts, "artifact")
        );
    }
    text
}
