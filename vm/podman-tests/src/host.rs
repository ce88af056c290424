//! The guest as a host that uses `boundstore` with its defaults: the
//! repository is `/sysroot/composefs`, the store is where podman is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    common::{describe, image::Image, output},
    stage::INPUT,
};

/// Where sets are mounted.
pub const STORE: &str = "/usr/lib/containers/storage";
/// Where the sets' objects are.
pub const REPO: &str = "/sysroot/composefs";
/// The image of the deployment [`ONE`].
pub const V1: &str = "localhost/app:v1";
/// The image of the deployment [`TWO`].
pub const V2: &str = "localhost/app:v2";
/// The first deployment, and the one that is rolled back to.
pub const ONE: &str = "one";
/// The upgrade.
pub const TWO: &str = "two";

/// What the kernel can, and the images.
#[derive(Debug)]
pub struct Host {
    /// Whether its overlay can be told to require fs-verity of all data.
    pub requires_verity: bool,
    /// What is in the store of deployment [`ONE`].
    pub v1: Image,
}

impl Host {
    /// Sets the guest up and asks its kernel.
    pub fn new() -> Self {
        fs::copy(format!("{INPUT}/boundstore"), "/usr/bin/boundstore").unwrap();
        for folder in [STORE, "/sysroot", env!("CARGO_TARGET_TMPDIR")] {
            fs::create_dir_all(folder).unwrap();
        }
        Self {
            requires_verity: requires_verity(),
            v1: Image::read(&Path::new(INPUT).join("app"), "v1"),
        }
    }

    /// `NAME=SOURCE` of an image in the layout.
    pub fn bound(name: &str) -> String {
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        format!("{name}=oci:{INPUT}/app:{tag}")
    }

    /// `boundstore`, its arguments split at blanks.
    pub fn boundstore(&self, args: &str) -> Output {
        let mut command = Command::new("boundstore");
        output(command.args(args.split_whitespace()))
    }

    /// A call that must succeed; its JSON document.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        let output = self.exits(0, &format!("--json {args}"));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A call that must exit with `code`.
    #[track_caller]
    pub fn exits(&self, code: i32, args: &str) -> Output {
        let output = self.boundstore(args);
        let said = describe(&Command::new(format!("boundstore {args}")), &output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        output
    }

    /// Shows a deployment's set, and only it, as far as the kernel can.
    #[track_caller]
    pub fn show(&self, deployment: &str) {
        if mounted().is_some() {
            self.exits(0, "umount --lazy");
        }
        let allow = if self.requires_verity {
            ""
        } else {
            "--allow-missing-verity "
        };
        self.exits(0, &format!("{allow}mount --deployment {deployment}"));
    }
}

/// Every object of the repository.
pub fn objects() -> impl Iterator<Item = PathBuf> {
    let entries = |folder: PathBuf| {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    entries(Path::new(REPO).join("objects")).flat_map(entries)
}

/// The type of the filesystem at the store, where one is mounted.
pub fn mounted() -> Option<String> {
    let line = mount_line()?;
    let (_, filesystem) = line.split_once(" - ")?;
    filesystem.split(' ').next().map(str::to_owned)
}

/// The options of what is mounted at the store.
pub fn mount_options() -> String {
    let line = mount_line().expect("nothing is mounted");
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

fn mount_line() -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut lines = table.lines().rev();
    let line = lines.find(|line| line.split(' ').nth(4) == Some(STORE))?;
    Some(line.to_owned())
}

/// Asks the kernel without `boundstore`.
fn requires_verity() -> bool {
    let scratch = crate::common::Scratch::new();
    let (one, two, at) = (scratch.dir("one"), scratch.dir("two"), scratch.dir("at"));
    let options = format!(
        "ro,metacopy=on,verity=require,lowerdir={}:{}",
        one.display(),
        two.display()
    );
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &options]);
    output(mount.arg(at)).status.success()
}
