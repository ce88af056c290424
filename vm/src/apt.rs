//! Kernels from Debian's archive, through an apt whose state is ours: the
//! machine's own lists, cache and packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{KernelSource, cache, command::output};

/// A kernel with its modules, unpacked.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Where it comes from.
    pub source: KernelSource,
    /// As `uname -r` says it: `6.1.0-50-cloud-amd64`.
    pub release: String,
    /// The package's: `6.1.176-1`.
    pub version: String,
    /// The root of the unpacked packages.
    root: PathBuf,
}

/// For so long the archive is not asked for a newer one.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

impl Kernel {
    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        let boot = self.root.join(format!("boot/vmlinuz-{}", self.release));
        if boot.exists() {
            boot
        } else {
            self.modules().join("vmlinuz")
        }
    }

    /// The folder of its modules.
    pub fn modules(&self) -> PathBuf {
        modules_below(&self.root).join(&self.release)
    }

    /// Finds today's kernel of a source: the cached one, where it was looked
    /// for within a day or the archive cannot be reached.
    pub fn fetch(source: KernelSource) -> Result<Self> {
        let kernels = cache().join("kernels");
        fs::create_dir_all(&kernels)?;
        // `<name>.version` names the folder; its age is that of the look-up.
        let pointer = kernels.join(format!("{}.version", source.name));
        let cached = fs::read_to_string(&pointer)
            .ok()
            .and_then(|version| Self::open(source, kernels.join(version)).ok());
        if let Some(kernel) = &cached
            && age(&pointer).is_some_and(|age| age < FRESH)
        {
            return Ok(kernel.clone());
        }
        match (download(&source, &kernels), cached) {
            (Ok(version), _) => {
                let kernel = Self::open(source, kernels.join(&version))?;
                fs::write(&pointer, version)?;
                Ok(kernel)
            }
            (Err(error), Some(kernel)) => {
                let (name, release) = (source.name, &kernel.release);
                eprintln!("{name}: using the cached {release}: {error:#}");
                Ok(kernel)
            }
            (Err(error), None) => Err(error.context(format!("fetch the kernel {}", source.name))),
        }
    }

    fn open(source: KernelSource, root: PathBuf) -> Result<Self> {
        let modules = modules_below(&root);
        let mut releases = Vec::new();
        for entry in
            fs::read_dir(&modules).with_context(|| format!("read {}", modules.display()))?
        {
            releases.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let [release] = releases.as_slice() else {
            bail!(
                "expected one kernel in {}, found {releases:?}",
                modules.display()
            );
        };
        let version = root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            source,
            release: release.clone(),
            version,
            root,
        })
    }
}

/// `/lib` is in `/usr` from trixie on.
fn modules_below(root: &Path) -> PathBuf {
    let usr = root.join("usr/lib/modules");
    if usr.is_dir() {
        usr
    } else {
        root.join("lib/modules")
    }
}

fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(modified).ok()
}

/// Downloads and unpacks what the metapackage depends on; gives its version.
fn download(source: &KernelSource, kernels: &Path) -> Result<String> {
    let apt = Apt::new(source)?;
    eprintln!("{}: asking Debian's archive", source.name);
    apt.run("apt-get", &["update", "-qq", "--error-on=any"])?;
    let show = apt.run(
        "apt-cache",
        &["show", "--no-all-versions", source.metapackage],
    )?;
    let version = show
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .with_context(|| format!("apt-cache show {} tells no version", source.metapackage))?;
    // No slash or colon in a name of ours; epochs have one.
    let version = version.replace([':', '/'], "_");
    let target = kernels.join(&version);
    if target.exists() {
        return Ok(version);
    }
    let packages = apt.closure(source.metapackage)?;
    let work = tempfile::Builder::new()
        .prefix("work.")
        .tempdir_in(kernels)?;
    eprintln!(
        "{}: downloading {version}: {}",
        source.name,
        packages.join(" ")
    );
    let mut get = apt.command("apt-get");
    get.args(["download", "-qq"])
        .args(&packages)
        .current_dir(work.path());
    output(&mut get)?;
    let unpacked = work.path().join("root");
    for entry in fs::read_dir(work.path())? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
        }
    }
    fs::rename(&unpacked, &target).context("keep the unpacked kernel")?;
    Ok(version)
}

/// An apt that knows one source's suites and no installed package.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(source: &KernelSource) -> Result<Self> {
        let dir = cache().join("apt").join(source.suites.join("+"));
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("status"), "")?;
        let (mirror, keyring) = (mirror()?, keyring());
        let suites = source.suites.iter();
        let sources: String = suites
            .map(|suite| format!("deb {keyring}{mirror} {suite} main\n"))
            .collect();
        fs::write(dir.join("sources.list"), sources)?;
        Ok(Self { dir })
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={dir}/state"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            "APT::Architecture=amd64".into(),
            "Acquire::Languages=none".into(),
            // The user _apt may not write to our folders.
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        output(self.command(program).args(args))
    }

    /// The kernel's own packages that `metapackage` needs: Debian has split
    /// them differently over time, but they have its flavour in their names.
    fn closure(&self, metapackage: &str) -> Result<Vec<String>> {
        let flavour = metapackage.trim_start_matches("linux-image");
        let text = self.run(
            "apt-cache",
            &[
                "depends",
                "--recurse",
                "--no-recommends",
                "--no-suggests",
                "--no-conflicts",
                "--no-breaks",
                "--no-replaces",
                "--no-enhances",
                metapackage,
            ],
        )?;
        // The packages themselves are not indented.
        let names = text.lines().filter(|line| line.starts_with("linux-"));
        let packages: Vec<String> = names
            .filter(|name| name.ends_with(flavour))
            .map(str::to_owned)
            .collect();
        ensure!(
            packages.len() > 1,
            "{metapackage} depends on no kernel: {text}"
        );
        Ok(packages)
    }
}

/// Where this machine's own apt has Debian from.
pub(crate) fn mirror() -> Result<String> {
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
        "Origin: Debian",
    ]))?;
    // Not the security or update archives, which have a hyphen.
    let plain = targets.lines().filter_map(|line| line.split_once(' '));
    plain
        .filter(|(_, release)| !release.contains('-'))
        .map(|(uri, _)| uri.to_owned())
        .next()
        .context("apt knows no Debian sources: run apt-get update")
}

/// Other suites' keys need not be among those that apt trusts for all sources.
pub(crate) fn keyring() -> &'static str {
    const DEBIAN: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if Path::new(DEBIAN).exists() {
        "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    } else {
        ""
    }
}

/// What this machine's apt has been told about fetching that another root's apt
/// must be told too, as lines of an apt.conf.
pub(crate) fn acquire_options() -> Result<Vec<String>> {
    const OPTIONS: [&str; 3] = [
        "Acquire::Check-Valid-Until ",
        "Acquire::http::Proxy ",
        "Acquire::https::Proxy ",
    ];
    let told = output(Command::new("apt-config").arg("dump"))?;
    let is_one = |line: &&str| OPTIONS.iter().any(|option| line.starts_with(option));
    let lines = told.lines().filter(is_one);
    Ok(lines
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect())
}
