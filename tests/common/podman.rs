//! podman with all its state in one directory, and with or without an
//! additional image store. Nothing of the machine's own podman is touched.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

use super::{describe, output, text};

/// A podman of its own: primary store, configuration and run-time state.
#[derive(Debug)]
pub struct Podman {
    home: PathBuf,
}

impl Podman {
    /// A new one at `home`; `store` is its additional image store.
    pub fn new(home: PathBuf, store: Option<&Path>) -> Self {
        fs::create_dir_all(&home).unwrap();
        let at = home.display();
        let containers = include_str!("containers.conf").replace("@HOME@", &at.to_string());
        fs::write(home.join("containers.conf"), containers).unwrap();
        let mut storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n"
        );
        if let Some(store) = store {
            storage += &format!(
                "[storage.options]\nadditionalimagestores = [\"{}\"]\n",
                store.display()
            );
        }
        fs::write(home.join("storage.conf"), storage).unwrap();
        fs::write(
            home.join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        Self { home }
    }

    /// Its primary store.
    pub fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// `program` with this podman's configuration.
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_remove("CI")
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("XDG_RUNTIME_DIR", self.home.join("xdg"))
            .env("CONTAINERS_CONF", self.home.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.home.join("storage.conf"))
            .current_dir(&self.home);
        command
    }

    /// A podman command, its arguments split at blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = self.tool("podman");
        command.args(args.split_whitespace());
        command
    }

    /// Standard output of a podman command, its arguments split at blanks.
    #[track_caller]
    pub fn ok(&self, args: &str) -> String {
        text(&mut self.command(args))
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args}: {error}: {text}"))
    }

    /// A podman command that must fail with `code`; what it said.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &str) -> String {
        let mut command = self.command(args);
        let output = output(&mut command);
        let found = output.status.code();
        assert_eq!(found, Some(code), "{}", describe(&command, &output));
        String::from_utf8(output.stderr).unwrap()
    }

    /// `podman run OPTIONS IMAGE sh -c SCRIPT`
    #[track_caller]
    pub fn run(&self, options: &str, image: &str, script: &str) -> String {
        text(&mut self.run_command(options, image, script))
    }

    /// The same, not run yet.
    pub fn run_command(&self, options: &str, image: &str, script: &str) -> Command {
        let mut command = with_runtime();
        self.configure(&mut command);
        command
            .args(["podman", "run"])
            .args(options.split_whitespace())
            .args([image, "sh", "-c", script]);
        command
    }

    /// A podman command that starts a container or its runtime.
    #[track_caller]
    pub fn runtime(&self, args: &str) -> Output {
        let mut command = with_runtime();
        self.configure(&mut command);
        output(command.arg("podman").args(args.split_whitespace()))
    }

    /// Starts `podman run OPTIONS IMAGE sh -c SCRIPT`, which must say `ready` and
    /// then go on when its standard input is closed.
    #[track_caller]
    pub fn start(&self, options: &str, image: &str, script: &str) -> Running {
        let mut command = with_runtime();
        self.configure(&mut command);
        let child = command
            .args(["podman", "run", "--rm", "--interactive"])
            .args(options.split_whitespace())
            .args([image, "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        let mut running = Running { child, stdout };
        if said != "ready\n" {
            panic!("{said:?}: {:?}", running.end());
        }
        running
    }

    fn configure(&self, command: &mut Command) {
        let configured = self.tool("true");
        for (key, value) in configured.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command.current_dir(&self.home);
    }

    /// The names `podman images` lists, each with whether it is read-only.
    pub fn images(&self) -> Vec<(String, bool)> {
        let listed = self.ok("images --no-trunc --format {{.Repository}}:{{.Tag}}|{{.ReadOnly}}");
        let mut images: Vec<(String, bool)> = listed
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(name, read_only)| (name.to_owned(), read_only == "true"))
            .collect();
        images.sort();
        images
    }

    /// The IDs of the layers that are in the primary store.
    pub fn own_layers(&self) -> Vec<String> {
        let Ok(bytes) = fs::read(self.root().join("overlay-layers/layers.json")) else {
            return Vec::new();
        };
        let layers: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
        let ids = layers.iter().map(|layer| layer["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    }
}

/// A container that runs until it is told to go on.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Lets it go on to its end; whether it succeeded, and what it said.
    pub fn end(&mut self) -> (bool, String) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        let errors = self.child.stderr.as_mut().unwrap();
        errors.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().success(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What runs a command that needs an OCI runtime. crun refuses the hybrid
/// cgroup hierarchy, even with cgroups disabled: where a machine has it, its
/// version 2 part is hidden in a private mount namespace.
fn with_runtime() -> Command {
    if !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        return Command::new("env");
    }
    let mut command = Command::new("unshare");
    let hide = r#"umount /sys/fs/cgroup/unified && exec "$@""#;
    command.args(["--mount", "sh", "-c", hide, "sh"]);
    command
}
