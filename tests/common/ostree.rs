//! A sysroot with real ostree deployments, and a booted one to look around in.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{Scratch, describe, output, text};

/// Deployments of the stateroot `os`, each binding `localhost/app:<version>`.
#[derive(Debug)]
pub struct OstreeHost {
    scratch: Scratch,
}

/// What `ostree admin status` says of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// `<stateroot>-<checksum>.<serial>`
    pub id: String,
    pub booted: bool,
    pub staged: bool,
    pub rollback: bool,
    pub pinned: bool,
}

impl OstreeHost {
    /// An empty sysroot, with commits of the versions 1 to `versions`.
    pub fn new(versions: u32) -> Self {
        let host = Self {
            scratch: Scratch::new(),
        };
        let sysroot = host.scratch.dir("sysroot");
        let path = sysroot.display();
        host.ostree(&format!("admin init-fs {path}"));
        host.ostree(&format!("admin os-init --sysroot={path} os"));
        let repo = format!("--repo={path}/ostree/repo");
        host.ostree(&format!("config {repo} set sysroot.bootloader none"));
        for version in 1..=versions {
            let tree = host.tree(version);
            let from = format!("--tree=dir={}", tree.display());
            host.ostree(&format!("commit {repo} --branch=test/os{version} {from}"));
        }
        // What the booted system has in /run and in its PATH.
        let run = host.scratch.dir("run");
        fs::write(run.join("ostree-booted"), "").unwrap();
        let systemctl = host.scratch.dir("programs").join("systemctl");
        fs::write(&systemctl, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_boundstore"));
        fs::hard_link(built, host.scratch.join("programs/boundstore"))
            .or_else(|_| fs::copy(built, host.scratch.join("programs/boundstore")).map(drop))
            .unwrap();
        // ostree compares mount namespaces with that of process 1, which not
        // every machine lets one see.
        symlink("mnt:[1]", host.scratch.dir("init/ns").join("mnt")).unwrap();
        host
    }

    fn tree(&self, version: u32) -> PathBuf {
        let tree = self.scratch.dir(&format!("tree{version}"));
        for folder in [
            "usr/lib/modules/6.0",
            "usr/lib/bootc/bound-images.d",
            "usr/share/containers/systemd",
            "usr/etc",
            "sysroot",
            "run",
            "proc",
            "dev",
            "tmp",
            "boot",
            "var",
        ] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        for link in ["bin", "lib", "lib64", "sbin"] {
            symlink(format!("usr/{link}"), tree.join(link)).unwrap();
        }
        symlink("sysroot/ostree", tree.join("ostree")).unwrap();
        for (file, text) in [
            ("usr/lib/modules/6.0/vmlinuz", "kernel".to_owned()),
            ("usr/lib/modules/6.0/initramfs.img", "initramfs".to_owned()),
            (
                "usr/lib/os-release",
                format!("ID=test\nPRETTY_NAME=Test\nVERSION_ID={version}\n"),
            ),
            (
                "usr/share/containers/systemd/app.image",
                format!("[Image]\nImage=localhost/app:{version}\n"),
            ),
        ] {
            fs::write(tree.join(file), text).unwrap();
        }
        let bound = tree.join("usr/lib/bootc/bound-images.d/app.image");
        symlink("/usr/share/containers/systemd/app.image", bound).unwrap();
        tree
    }

    /// The physical root.
    pub fn sysroot(&self) -> PathBuf {
        self.scratch.join("sysroot")
    }

    /// `/run` of the booted system.
    pub fn run(&self) -> PathBuf {
        self.scratch.join("run")
    }

    fn ostree(&self, args: &str) -> String {
        let mut ostree = Command::new("ostree");
        // Else a deployment cannot be removed with its scratch folder.
        ostree.env("OSTREE_SYSROOT_DEBUG", "mutable-deployments");
        text(ostree.args(args.split_whitespace()))
    }

    /// `ostree admin ..` on the sysroot, which is not booted.
    pub fn admin(&self, args: &str) -> String {
        let (verb, args) = args.split_once(' ').unwrap_or((args, ""));
        let sysroot = self.sysroot();
        self.ostree(&format!(
            "admin {verb} --sysroot={} {args}",
            sysroot.display()
        ))
    }

    pub fn deploy(&self, version: u32) {
        self.admin(&format!("deploy --retain --os=os test/os{version}"));
    }

    /// What ostree lists of the sysroot, which is not booted.
    pub fn listed(&self) -> Vec<Listed> {
        parse(&self.admin("status"))
    }

    /// What ostree lists where `booted` runs.
    pub fn listed_in(&self, booted: &str) -> Vec<Listed> {
        parse(&self.inside(booted, "ostree admin status"))
    }

    /// A shell command that must succeed, in a system that runs `booted`: its
    /// directory is `/`, with the host's `/usr`.
    #[track_caller]
    pub fn inside(&self, booted: &str, command: &str) -> String {
        let (shell, output) = self.try_inside(booted, command);
        assert!(output.status.success(), "{}", describe(&shell, &output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, whatever it exits with.
    pub fn try_inside(&self, booted: &str, command: &str) -> (Command, Output) {
        let (stateroot, name) = booted.rsplit_once('-').unwrap();
        let root = format!("ostree/deploy/{stateroot}/deploy/{name}");
        let script = format!(
            "set -e; cd {scratch}; mount --make-rprivate /; \
             mount --bind sysroot/{root} sysroot/{root}; cd sysroot/{root}; \
             mount --bind {scratch}/sysroot sysroot; mount --bind {scratch}/sysroot/boot boot; \
             mount -o remount,bind,ro sysroot; \
             mount --bind {scratch}/run run; mount --bind {scratch}/programs tmp; \
             mount --rbind /usr usr; mount -t proc proc proc; mount --bind {scratch}/init proc/1; \
             exec chroot . /usr/bin/env PATH=/tmp:/usr/bin:/usr/sbin \
             OSTREE_SYSROOT_DEBUG=mutable-deployments sh -c \"$1\"",
            scratch = self.scratch.path().display()
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script, "sh", command]);
        let output = output(&mut shell);
        (shell, output)
    }
}

fn parse(status: &str) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    for line in status.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (booted, words) = match &words[..] {
            ["*", words @ ..] => (true, words),
            words => (false, words),
        };
        match (words, listed.last_mut()) {
            (["Pinned:", "yes"], Some(last)) => last.pinned = true,
            ([stateroot, name, rest @ ..], _) if name.len() > 64 => listed.push(Listed {
                id: format!("{stateroot}-{name}"),
                booted,
                staged: rest.contains(&"(staged)"),
                rollback: rest.contains(&"(rollback)"),
                pinned: false,
            }),
            _ => {}
        }
    }
    listed
}
