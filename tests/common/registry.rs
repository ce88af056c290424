//! A registry on the loopback device, and what was asked of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Scratch, image::Image};

/// A running docker-registry, stopped when dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    log: PathBuf,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Registry {
    /// Starts one on a free port, its data below `scratch`.
    pub fn start(scratch: &Scratch) -> Self {
        Self::start_at(scratch.path(), "127.0.0.1:0")
    }

    /// The same, below `parent` and on an address: one that is started anew has
    /// what it had.
    pub fn start_at(parent: &Path, address: &str) -> Self {
        let home = parent.join("registry");
        fs::create_dir_all(&home).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '{address}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n",
            home.join("data").display()
        );
        fs::write(home.join("config.yml"), config).unwrap();
        let log = home.join("log");
        let file = fs::File::create(&log).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(home.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            let said = fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = said.split_once("listening on ") {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                if let Some(end) = end {
                    let address = rest[..end].to_owned();
                    return Self {
                        process,
                        log,
                        address,
                    };
                }
            }
            assert!(process.try_wait().unwrap().is_none(), "{said}");
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the registry does not listen: {}", log.display());
    }

    /// Copies an image into it, bytes preserved, as `name`.
    pub fn put(&self, image: &Image, name: &str) {
        image.copy_to(&format!("docker://{}/{name}", self.address));
    }

    /// The digests of the blobs that were fetched since `mark`.
    pub fn fetched_since(&self, mark: usize) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut blobs: Vec<String> = log[mark..]
            .lines()
            .filter_map(|line| line.split_once("\"GET /v2/"))
            .filter_map(|(_, rest)| rest.split_once("/blobs/"))
            .filter_map(|(_, rest)| rest.split([' ', '?']).next())
            .map(str::to_owned)
            .collect();
        blobs.sort();
        blobs.dedup();
        blobs
    }

    /// The bytes of all answers to GET since `mark`.
    pub fn bytes_since(&self, mark: usize) -> u64 {
        let log = fs::read_to_string(&self.log).unwrap();
        let answers = log[mark..]
            .lines()
            .filter(|line| line.contains("\"GET /v2/"));
        let bytes = |line: &str| -> Option<u64> {
            let (_, after) = line.split_once("HTTP/1.1\" ")?;
            after.split(' ').nth(1)?.parse().ok()
        };
        answers
            .map(|line| bytes(line).unwrap_or_else(|| panic!("{line}")))
            .sum()
    }

    /// The end of the log, for [`Self::fetched_since`].
    pub fn mark(&self) -> usize {
        fs::read_to_string(&self.log).unwrap().len()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
