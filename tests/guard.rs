//! The guard with the built binary, on file trees that stand for hosts of both
//! backends, and a registry that comes and goes.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    net::TcpListener,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use bootable::{Backend, Bootable, assert_valid, is_mounted, judge};
use common::{image::Image, ready, registry::Registry};
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

const APP: &str = "registry.test/app:1";
const BACKENDS: [Backend; 2] = [Backend::Ostree, Backend::Composefs];

/// A host that runs v1, which binds nothing, and v2, which binds [`APP`]; its
/// registry is away.
struct Case {
    host: Bootable,
    registry: Option<Registry>,
    v1: String,
    v2: String,
}

impl Case {
    fn new(backend: Backend) -> Self {
        let mut host = Bootable::new(backend);
        let v1 = host.deploy("v1", &[]);
        let v2 = host.deploy("v2", &[APP]);
        host.boot(&v1);
        let case = Self {
            host,
            registry: None,
            v1,
            v2,
        };
        case.registry_at("127.0.0.1:1");
        case
    }

    fn registry_at(&self, address: &str) {
        let line = format!(
            "[[registry]]\nprefix = \"registry.test\"\nlocation = \"{address}\"\ninsecure = true\n"
        );
        self.host
            .write("home/.config/containers/registries.conf", line);
    }

    /// No try waits long for a registry that is away.
    fn registry_away(&self) {
        self.registry_at("127.0.0.1:1");
        self.configure("[guard]\nsync-timeout = \"3s\"");
    }

    fn registry_back(&mut self) {
        let scratch = &self.host.scratch;
        let registry = self.registry.get_or_insert_with(|| {
            let mut layout = Layout::new(&scratch.join("layout"));
            let base = LayerBlob::gzip(&tar(&[("base", &content(1, 9000))]));
            let top = LayerBlob::gzip(&tar(&[("top", &content(2, 9000))]));
            layout.image("app", &[base, top]);
            let registry = Registry::start(scratch);
            registry.put(&Image::read(&layout.path, "app"), "app:1");
            registry
        });
        let address = registry.address.clone();
        self.registry_at(&address);
        self.configure("");
    }

    fn configure(&self, text: &str) {
        self.host.write("root/etc/boundstore/config.toml", text);
    }

    fn record(&self) -> String {
        format!("root/run/boundstore/locks/{}", self.v2)
    }

    fn last_veto(&self) -> Option<Value> {
        let text = fs::read(self.host.path("root/var/lib/boundstore/last-veto.json")).ok()?;
        let veto = serde_json::from_slice(&text).unwrap();
        assert_valid("last-veto", &veto);
        Some(veto)
    }

    /// What `status` says of why the last sync of v2 failed.
    fn last_error(&self) -> Value {
        let output = self.host.command("status").output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let deployments = status["deployments"].as_array().unwrap().iter();
        let mut of_v2 = deployments.filter(|one| one["id"] == *self.v2);
        of_v2.next().unwrap()["last_error"].clone()
    }

    fn start(&self, args: &str) -> Child {
        let mut command = self.host.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {what}");
            sleep(Duration::from_millis(20));
        }
    }
}

fn on_both(test: impl Fn(Case)) {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    for backend in BACKENDS {
        eprintln!("{backend:?}");
        test(Case::new(backend));
    }
}

#[test]
fn a_registry_that_comes_back_lets_the_upgrade_go_on() {
    on_both(|mut case| {
        let (_, said) = case.host.exits(0, "guard stage");
        assert_eq!(said, "");
        case.host.stage(&case.v2, false);
        case.registry_away();
        let (_, said) = case.host.exits(4, "guard stage");
        assert!(said.contains(&case.v2), "{said}");
        assert!(case.host.is_locked() && case.host.has(&case.record()));
        // Again, as the unit does.
        case.host.exits(4, "guard stage");
        assert!(case.host.is_locked());
        let error = case.last_error();
        assert!(error.as_str().unwrap().contains("sync-timeout"), "{error}");
        case.host.exits(4, "sync --deployment staged --retry-for 0");
        let error = case.last_error();
        assert!(error.as_str().unwrap().contains("127.0.0.1:1"), "{error}");

        case.registry_back();
        let (document, _) = case.host.exits(0, "guard stage");
        let wanted = json!({
            "schema": "boundstore.guard-stage/v1", "deployment": case.v2,
            "synced": true, "held_by_others": false,
        });
        assert_eq!(document, wanted);
        assert!(!case.host.is_locked() && !case.host.has(&case.record()));
        assert_eq!(case.last_error(), Value::Null);

        // Nothing is fetched twice, nor locked for nothing.
        let mark = case.registry.as_ref().unwrap().mark();
        let (document, _) = case.host.exits(0, "guard stage");
        assert_eq!(document["synced"], false);
        let registry = case.registry.as_ref().unwrap();
        assert_eq!(registry.fetched_since(mark), Vec::<String>::new());
        let (document, _) = case.host.exits(0, "guard veto");
        assert_eq!(document["deployments"][0]["complete"], true);
        assert!(!case.host.is_locked() && case.last_veto().is_none());
    });
}

#[test]
fn what_a_user_locked_stays_locked() {
    on_both(|mut case| {
        // By `--download-only`, then by hand.
        for by_hand in [false, true] {
            case.host.stage(&case.v2, !by_hand);
            if by_hand {
                case.host.set_locked(&case.v2, true);
            }
            case.registry_away();
            if !by_hand {
                case.host.exits(4, "guard stage");
                assert!(case.host.is_locked() && !case.host.has(&case.record()));
                // It comes with no reboot: nothing is vetoed.
                case.host.exits(0, "guard veto");
                assert!(case.last_veto().is_none());
            }
            case.registry_back();
            let (document, _) = case.host.exits(0, "guard stage");
            assert_eq!(document["held_by_others"], true);
            assert!(case.host.is_locked());
        }
    });
}

#[test]
fn a_lock_that_is_not_surely_ours_is_the_users() {
    on_both(|mut case| {
        case.host.stage(&case.v2, false);
        case.registry_away();
        case.host.exits(4, "guard stage");
        let ours = fs::read_to_string(case.host.path(&case.record())).unwrap();
        assert!(!ours.is_empty());

        // Killed before the lock: begun again.
        case.host.set_locked(&case.v2, false);
        case.host.write(&case.record(), "");
        case.host.exits(4, "guard stage");
        assert!(case.host.is_locked());
        assert_ne!(fs::read(case.host.path(&case.record())).unwrap(), b"");

        // Unlocked and locked by somebody.
        case.host.set_locked(&case.v2, false);
        case.host.set_locked(&case.v2, true);
        case.host.exits(4, "guard stage");
        assert!(!case.host.has(&case.record()));

        // Staged again with --download-only while ours was there.
        case.host.stage(&case.v2, false);
        case.host.exits(4, "guard stage");
        case.host.stage(&case.v2, true);
        case.registry_back();
        let (document, _) = case.host.exits(0, "guard stage");
        assert_eq!(document["held_by_others"], true);
        assert!(case.host.is_locked());

        // Killed between the lock and its record.
        case.host.stage(&case.v2, false);
        case.host.set_locked(&case.v2, true);
        case.host.write(&case.record(), "");
        let (document, _) = case.host.exits(0, "guard stage");
        assert_eq!(document["held_by_others"], true);
        assert!(case.host.is_locked());
    });
}

#[test]
fn what_is_staged_meanwhile_is_guarded_too() {
    on_both(|case| {
        // A registry that says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        case.registry_at(&silent.local_addr().unwrap().to_string());
        case.host.stage(&case.v2, false);
        let guard = case.start("guard stage");
        case.wait_for("lock", || case.host.is_locked());
        let v3 = case.host.deploy("v3", &[]);
        case.host.stage(&v3, false);
        let output = guard.wait_with_output().unwrap();
        let (document, _) = judge(0, "guard stage", &output);
        assert_eq!(document["deployment"], v3.as_str());
        assert!(!case.host.is_locked());

        // Taken away again.
        case.host.stage(&case.v2, false);
        let guard = case.start("guard stage");
        case.wait_for("lock", || case.host.is_locked());
        case.host.unstage();
        let output = guard.wait_with_output().unwrap();
        judge(4, "guard stage", &output);
        case.host.exits(0, "guard stage");
    });
}

#[test]
fn a_lock_of_the_deployment_before_is_replaced_when_it_goes() {
    on_both(|case| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        case.registry_at(&silent.local_addr().unwrap().to_string());
        case.host.stage(&case.v2, false);
        let guard = case.start("guard stage");
        case.wait_for("lock", || case.host.is_locked());
        // As ostree does: another is staged, and looks locked for a moment.
        let v3 = case.host.deploy("v3", &[APP]);
        case.host.stage(&v3, false);
        case.host.set_locked(&v3, true);
        sleep(Duration::from_secs(1));
        let record = format!("root/run/boundstore/locks/{v3}");
        assert!(!case.host.has(&record));
        case.host.set_locked(&v3, false);
        case.wait_for("lock again", || {
            case.host.is_locked() && case.host.has(&record)
        });
        case.host.unstage();
        judge(4, "guard stage", &guard.wait_with_output().unwrap());
    });
}

#[test]
fn a_shutdown_holds_back_what_is_incomplete() {
    on_both(|mut case| {
        let (document, _) = case.host.exits(0, "guard veto");
        assert_eq!(document["deployments"], json!([]));
        case.host.stage(&case.v2, false);
        for _ in 0..2 {
            let (_, said) = case.host.exits(3, "guard veto");
            assert!(said.contains(&case.v2) && said.contains(APP), "{said}");
            assert!(case.host.is_locked() && case.host.has(&case.record()));
        }
        let veto = case.last_veto().unwrap();
        assert_eq!(veto["schema"], "boundstore.last-veto/v1");
        assert_eq!(veto["deployment"], case.v2.as_str());
        assert_eq!(veto["booted"], case.v1.as_str());
        assert_eq!(veto["missing"], json!([APP]));
        assert_eq!(veto["time"].as_str().unwrap().len(), 20);
        let again = match case.host.backend {
            Backend::Ostree => "ostree admin upgrade --stage",
            Backend::Composefs => "bootc switch os.test/v2:1",
        };
        assert_eq!(veto["again"], again);

        // The lock is gone with the reboot; staged again and synced, all is well.
        case.host.boot(&case.v1.clone());
        case.host.stage(&case.v2, false);
        case.registry_back();
        case.host.exits(0, "guard stage");
        assert!(case.last_veto().is_none() && !case.host.is_locked());
    });
}

#[test]
fn a_guard_that_was_stopped_leaves_the_judgement_to_the_veto() {
    on_both(|mut case| {
        case.host.stage(&case.v2, false);
        case.registry_away();
        case.host.exits(4, "guard stage");
        // The set was there in time, the guard was not.
        case.registry_back();
        case.host
            .exits(0, &format!("sync --deployment {}", case.v2));
        assert!(case.host.is_locked());
        case.host.exits(0, "guard veto");
        assert!(!case.host.is_locked() && case.last_veto().is_none());
    });
}

#[test]
fn a_policy_of_warning_holds_nothing_back() {
    on_both(|case| {
        case.host.stage(&case.v2, false);
        case.configure("[guard]\npolicy = \"warn\"\nsync-timeout = \"3s\"");
        case.host.exits(4, "guard stage");
        let (document, said) = case.host.exits(3, "guard veto");
        assert!(said.contains(APP), "{said}");
        assert_eq!(document["deployments"][0]["vetoed"], false);
        assert!(!case.host.is_locked() && case.last_veto().is_none());

        // What cannot be understood is no reason to guard less.
        case.configure("[guard]\npolicy = \"wran\"");
        let (_, said) = case.host.exits(1, "guard veto");
        assert!(said.contains("config.toml:2: "), "{said}");
        assert!(case.host.is_locked() && case.last_veto().is_some());
    });
}

#[test]
fn a_soft_reboot_to_what_is_incomplete_is_taken_back() {
    on_both(|mut case| {
        let next = case.host.path("root/run/nextroot");
        let note = "root/run/ostree/nextroot-booted";
        // Complete: it is left alone.
        let v3 = case.host.deploy("v3", &[]);
        case.host.queue_soft_reboot(&v3);
        case.host.exits(0, "guard veto");
        assert!(is_mounted(&next));

        // By the policy, too.
        let v2 = case.v2.clone();
        case.host.queue_soft_reboot(&v2);
        case.configure("[guard]\npolicy = \"warn\"");
        case.host.exits(3, "guard veto");
        assert!(is_mounted(&next) && case.last_veto().is_none());

        // Staged or not; however often it was queued.
        case.configure("");
        case.host.stage(&v2, false);
        let (document, _) = case.host.exits(3, "guard veto");
        assert_eq!(document["deployments"].as_array().unwrap().len(), 1);
        assert_eq!(document["deployments"][0]["vetoed"], true);
        assert!(!is_mounted(&next) && !case.host.has(note));
        assert!(case.host.is_locked());
        assert_eq!(case.last_veto().unwrap()["deployment"], v2.as_str());
    });
}

#[test]
fn what_is_hostile_or_damaged_does_not_become_the_next_boot() {
    on_both(|mut case| {
        let unit = [("x.image".to_owned(), "[Image]\nImage=%h/x\n".to_owned())];
        let broken = case.host.deploy_units("broken", &unit);
        case.host.stage(&broken, false);
        let (_, said) = case.host.exits(3, "guard veto");
        assert!(said.contains("x.image"), "{said}");
        assert!(case.host.is_locked());
        let problem = case.last_veto().unwrap()["problem"].clone();
        assert!(problem.as_str().unwrap().contains("x.image"), "{problem}");

        // A set that is there, but for one object.
        case.host.stage(&case.v2, false);
        case.registry_back();
        case.host.exits(0, "guard stage");
        let (status, _) = case
            .host
            .exits(0, &format!("images --deployment {}", case.v2));
        assert_eq!(status["images"][0]["name"], APP);
        let objects = case.host.repo().join("objects");
        let mut largest: Vec<_> = fs::read_dir(objects)
            .unwrap()
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|object| object.unwrap().path())
            .filter(|object| fs::metadata(object).unwrap().len() == 9000)
            .collect();
        fs::remove_file(largest.pop().unwrap()).unwrap();
        let (document, _) = case.host.exits(3, "guard veto");
        assert_eq!(document["deployments"][0]["lack"]["missing"], json!([]));
        assert!(case.host.is_locked());
        // And it is mended where the registry is there.
        case.host.exits(0, "guard stage");
        assert!(!case.host.is_locked());

        // A file that nobody understands is told, and nothing is changed.
        for file in ["ostree/staged-deployment", "composefs/staged-deployment"] {
            if case.host.has(&format!("root/run/{file}")) {
                case.host
                    .write(&format!("root/run/{file}"), "\0garbage\x01{");
            }
        }
        let (_, said) = case.host.exits(1, "guard veto");
        assert!(said.contains("staged-deployment"), "{said}");
        case.host.exits(1, "guard stage");
    });
}

#[test]
fn what_is_broken_elsewhere_stops_neither_the_guard_nor_a_boot() {
    on_both(|mut case| {
        // Whoever needs all deployments fails.
        match case.host.backend {
            Backend::Ostree => {
                let old = format!("sysroot/ostree/deploy/old/deploy/{}.0", "7".repeat(64));
                case.host.write(&format!("{old}/etc/x"), "");
                case.host.write(&format!("{old}.origin"), "garbage");
            }
            Backend::Composefs => {
                let odd = std::ffi::OsString::from_vec(b"x\xff".to_vec());
                fs::create_dir(case.host.path("sysroot/state/deploy").join(odd)).unwrap();
            }
        }
        case.host.exits(1, "gc --dry-run");

        case.host.stage(&case.v2, false);
        case.host.exits(3, "guard veto");
        assert!(case.host.is_locked());
        let veto = case.last_veto().unwrap();
        assert_eq!(veto["booted"], case.v1.as_str());
        case.registry_back();
        case.host.exits(0, "guard stage");
        assert!(!case.host.is_locked() && case.last_veto().is_none());
        case.host.exits(0, "guard veto");
        assert!(!case.host.is_locked());

        let store = case.host.path("root/usr/lib/containers/storage");
        fs::create_dir_all(&store).unwrap();
        case.host.boot(&case.v2.clone());
        case.host.exits(0, "mount --deployment booted");
        case.host.exits(0, &format!("umount {}", store.display()));
    });
}

#[test]
fn a_var_that_cannot_be_written_holds_back_only_what_is_incomplete() {
    on_both(|mut case| {
        case.host.write("root/var/lib", "a file");
        case.host.stage(&case.v2, false);
        let (document, said) = case.host.exits(3, "guard veto");
        assert!(said.contains("last-veto.json"), "{said}");
        assert_eq!(document["deployments"][0]["vetoed"], true);
        assert!(case.host.is_locked());

        // Brought in time, but not by the guard.
        case.registry_back();
        let sync = format!("sync --deployment {}", case.v2);
        case.host.exits(0, &sync);
        case.host.exits(0, "guard veto");
        assert!(!case.host.is_locked() && !case.host.has(&case.record()));

        let (_, said) = case.host.exits(0, "guard stage");
        assert!(said.contains("last-veto.json"), "{said}");
    });
}

#[test]
fn a_host_without_deployments_has_nothing_to_guard() {
    let host = Bootable::new(Backend::Ostree);
    let (_, said) = host.exits(1, "guard stage");
    assert!(said.contains("no deployments"), "{said}");
}

#[test]
fn a_boot_shows_the_set_of_what_runs() {
    on_both(|mut case| {
        let store = case.host.path("root/usr/lib/containers/storage");
        let bootc = case.host.path("root/usr/lib/bootc/storage");
        fs::create_dir_all(&store).unwrap();
        let mount = "mount --deployment booted";
        let shown = |store: &std::path::Path| {
            let images = fs::read_to_string(store.join("overlay-images/images.json"));
            images.unwrap_or_default().contains(APP)
        };

        // v1 needs no set, and no repository has one.
        let (document, _) = case.host.exits(0, mount);
        assert_eq!(document["set_image"], Value::Null);
        assert!(is_mounted(&store) && !shown(&store));

        // v2 needs one: podman goes on, and the unit fails.
        let v2 = case.v2.clone();
        case.host.stage(&v2, false);
        case.host.exits(3, "guard veto");
        case.host.boot(&v2);
        let (_, said) = case.host.exits(1, mount);
        assert!(said.contains("boundstore sync"), "{said}");
        assert!(store.join("overlay-layers/layers.lock").exists() && !shown(&store));

        // Brought by hand, it is mounted; what was held back has booted.
        case.registry_back();
        case.host.exits(0, "sync --deployment booted");
        let (document, _) = case.host.exits(0, mount);
        assert_eq!(document["deployment"], v2.as_str());
        assert!(shown(&store) && case.last_veto().is_none());

        // At bootc's place where the image keeps it free.
        case.configure("[boot]\nbootc-storage = true");
        fs::create_dir_all(&bootc).unwrap();
        case.host.exits(0, mount);
        assert!(shown(&bootc));
        case.host.exits(0, &format!("umount {}", bootc.display()));
        fs::remove_dir(&bootc).unwrap();
        std::os::unix::fs::symlink("../../../sysroot/bootc/storage", &bootc).unwrap();
        let (_, said) = case.host.exits(5, mount);
        let line = "GlobalArgs=--storage-opt=additionalimagestore=/usr/lib/containers/storage\n";
        assert!(said.contains(line), "{said}");
        assert!(shown(&store));

        // A configuration that nobody understands takes no app away.
        case.configure("[boot]\nbootc_storage = true");
        let (_, said) = case.host.exits(1, mount);
        assert!(said.contains("config.toml:2: "), "{said}");
        assert!(shown(&store));

        // Rolled back, nothing of v2 is seen.
        case.configure("");
        case.host.boot(&case.v1.clone());
        case.host.exits(0, mount);
        assert!(!shown(&store));
        case.host.exits(0, &format!("umount {}", store.display()));
    });
}

#[test]
fn verify_compares_with_what_bootc_says() {
    on_both(|case| {
        let verify = || {
            let output = case.host.command("verify").output().unwrap();
            String::from_utf8(output.stderr).unwrap()
        };
        assert_eq!(verify(), "", "without bootc");
        let entry = |id: &str| match case.host.backend {
            Backend::Ostree => {
                let (checksum, serial) = id.strip_prefix("os-").unwrap().split_once('.').unwrap();
                let serial: u32 = serial.parse().unwrap();
                json!({ "ostree":
                    { "stateroot": "os", "checksum": checksum, "deploySerial": serial } })
            }
            Backend::Composefs => json!({ "composefs": { "verity": id } }),
        };
        let says = |version: &str, booted: &str| {
            let status = json!({ "status": { "booted": entry(booted) } });
            let script = format!(
                "#!/bin/sh\ncase $1 in --version) echo 'bootc {version}';; *) echo '{status}';; esac\n"
            );
            let path = case.host.path("root/usr/bin/bootc");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        says("1.16.0", &case.v1);
        let said = verify();
        assert!(
            !said.contains("is booted") && !said.contains("deletes"),
            "{said}"
        );
        says("1.15.2", &case.v2);
        let said = verify();
        let difference = format!(
            "{} is booted, the host's files that {} is",
            case.v2, case.v1
        );
        assert!(said.contains(&difference), "{said}");
        let owns = case.host.backend == Backend::Composefs;
        assert_eq!(said.contains("bootc 1.15 deletes"), owns, "{said}");
    });
}
