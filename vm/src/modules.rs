//! The modules a guest loads, in order.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::Kernel;

/// A module, decompressed.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) elf: Vec<u8>,
}

/// The modules `wanted` and all they depend on, each after what it needs.
///
/// What is no module of this kernel is built in, or not there: the guest's
/// probes find out.
pub(crate) fn closure(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = HashMap::new();
    find(&kernel.modules(), &mut files).context("look for modules")?;
    let mut loader = Loader {
        files,
        seen: BTreeSet::new(),
        loaded: Vec::new(),
    };
    for name in wanted {
        loader.load(name)?;
    }
    Ok(loader.loaded)
}

struct Loader {
    files: HashMap<String, PathBuf>,
    seen: BTreeSet<String>,
    loaded: Vec<Module>,
}

impl Loader {
    fn load(&mut self, name: &str) -> Result<()> {
        let Some(file) = self.files.get(name) else {
            return Ok(());
        };
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let elf = decompressed(file).with_context(|| format!("read {}", file.display()))?;
        for needed in info(&elf, "depends").unwrap_or_default().split(',') {
            self.load(&plain(needed))?;
        }
        // What it asks for by name at run time, as checksum algorithms.
        for soft in info(&elf, "softdep").unwrap_or_default().split(' ') {
            self.load(&plain(soft))?;
        }
        let name = name.to_owned();
        self.loaded.push(Module { name, elf });
        Ok(())
    }
}

fn find(folder: &Path, found: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, found)?;
        } else if let Some((name, "ko" | "ko.xz" | "ko.zst")) =
            entry.file_name().to_string_lossy().split_once('.')
        {
            found.insert(plain(name), path);
        }
    }
    Ok(())
}

/// The kernel takes both characters for one.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::read(file)?),
    };
    let output = Command::new(tool)
        .arg("-dcq")
        .arg(file)
        .output()
        .context(tool)?;
    ensure!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// A value of the `.modinfo` section: strings `key=value`, each ended by NUL.
fn info(elf: &[u8], key: &str) -> Option<String> {
    let needle = format!("\0{key}=").into_bytes();
    let at = elf
        .windows(needle.len())
        .position(|window| window == needle)?;
    let value = elf[at + needle.len()..].split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn modinfo_is_found() {
        let elf = b"\x7fELF..\0license=GPL\0depends=libcrc32c,netfs\0name=erofs\0";
        assert_eq!(
            super::info(elf, "depends").as_deref(),
            Some("libcrc32c,netfs")
        );
        assert_eq!(super::info(elf, "softdep"), None);
    }
}
