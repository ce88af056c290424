//! Many at once: each pair of processes that may meet on one host, again and
//! again, each time at another phase. After each round everything is whole.
//!
//! The seed of the phases is printed; `BOUNDSTORE_SEED` repeats it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;
#[path = "common/race.rs"]
mod race;
#[path = "common/shared_host.rs"]
mod shared_host;

use std::{
    fs::File,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use bootable::{Backend, Bootable};
use common::{image::Image, ready, registry::Registry};
use composefs::{fsverity::Sha512HashValue, repository::Repository};
use layout::{LayerBlob, Layout, content, tar};
use race::{Phase, Racer, race};
use shared_host::{NAME, SharedHost, bytes};

const SHORT: usize = 6;
const LONG: usize = 200;
const DONE: &[i32] = &[0];

/// Each pair as a short test and as a long one.
macro_rules! pairs {
    ($($pair:ident)*) => {
        $(#[test]
        fn $pair() {
            rounds(stringify!($pair), SHORT, pair::$pair);
        })*

        mod long {
            use super::*;

            $(#[test]
            #[ignore = "long: 200 rounds"]
            fn $pair() {
                rounds(stringify!($pair), LONG, pair::$pair);
            })*
        }
    };
}

pairs! {
    two_syncs_of_one_deployment
    two_syncs_that_share_layers
    sync_and_gc
    gc_and_the_crates_gc
    sync_and_the_crates_gc
    sync_and_podman_on_the_old_set
    remove_and_mount
    two_mounts
    mount_and_umount
    verify_and_gc
    verify_and_sync
}

fn rounds(name: &str, count: usize, pair: fn(&mut SharedHost)) {
    if !ready(&["podman", "crun", "ldd"]) {
        return;
    }
    let mut host = SharedHost::new(name);
    for _ in 0..count {
        host.layout();
        pair(&mut host);
    }
    let seen = &host.seen;
    println!(
        "{name}: {} rounds, {} processes, {} reads, podman asked {} times, {} outages, {} wrong bytes",
        seen.rounds,
        seen.processes,
        seen.reads,
        seen.podman,
        seen.outages.len(),
        seen.wrong_bytes.len()
    );
    assert_eq!(seen.rounds, count);
    assert!(seen.reads > count && seen.podman > 0);
    let troubles: Vec<_> = seen.outages.iter().chain(&seen.wrong_bytes).collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
    host.ok(&format!("umount {}", host.store.display()));
}

/// One round of each.
mod pair {
    use super::*;

    pub fn two_syncs_of_one_deployment(host: &mut SharedHost) {
        host.race(&[(&host.sync("d", 1), DONE), (&host.sync("d", 2), DONE)]);
        host.judge(&[("d", &[1, 2])]);
    }

    pub fn two_syncs_that_share_layers(host: &mut SharedHost) {
        host.race(&[(&host.sync("a", 1), DONE), (&host.sync("b", 2), DONE)]);
        host.judge(&[("a", &[1]), ("b", &[2])]);
    }

    pub fn sync_and_gc(host: &mut SharedHost) {
        host.race(&[(&host.sync("d", 1), DONE), ("gc", DONE)]);
        host.judge(&[("d", &[1])]);
    }

    pub fn gc_and_the_crates_gc(host: &mut SharedHost) {
        let before = host.objects();
        host.ok(&host.sync("d", 1));
        host.ok("remove --deployment d");
        assert!(host.objects().len() > before.len());
        let commands = vec![host.command("gc"), crates_gc(&host.repo())];
        host.race_commands(commands, &[DONE, DONE]);
        host.judge(&[]);
        let left = host.objects();
        assert!(
            left.is_subset(&before),
            "left over: {:?}",
            left.difference(&before)
        );
    }

    pub fn sync_and_the_crates_gc(host: &mut SharedHost) {
        let commands = vec![host.command(&host.sync("d", 1)), crates_gc(&host.repo())];
        host.race_commands(commands, &[DONE, DONE]);
        host.judge(&[("d", &[1])]);
    }

    /// The set that podman runs from is replaced and collected meanwhile.
    pub fn sync_and_podman_on_the_old_set(host: &mut SharedHost) {
        host.ok(&host.sync("d", 1));
        host.show("d");
        let podman = host.podman.run_command("--rm", NAME, "cat /data");
        let sync = host.command(&host.sync("d", 2));
        let commands = vec![podman, sync, host.command("gc")];
        let outputs = host.race_commands(commands, &[DONE, DONE, DONE]);
        if outputs[0].stdout != bytes(&host.version(1)) {
            let said = String::from_utf8_lossy(&outputs[0].stdout).into_owned();
            host.seen.wrong_bytes.push(said);
        }
        host.judge(&[("d", &[2])]);
    }

    /// What was mounted in time stays whole, whoever collects.
    pub fn remove_and_mount(host: &mut SharedHost) {
        host.ok(&host.sync("d", 1));
        let mount = host.mount("d");
        // Without a set, 1; what was mounted stays.
        let outputs = host.race(&[("remove --deployment d", DONE), (&mount, &[0, 1])]);
        host.race(&[("gc", DONE)]);
        let version = shared_host::read(&host.store).unwrap();
        let mounted = outputs[1].status.success();
        assert_eq!(version == host.version(1), mounted, "{version} is shown");
        host.judge(&[]);
    }

    pub fn two_mounts(host: &mut SharedHost) {
        host.ok(&host.sync("a", 1));
        host.ok(&host.sync("b", 2));
        host.race(&[(&host.mount("a"), DONE), (&host.mount("b"), DONE)]);
        let shown = shared_host::read(&host.store).unwrap();
        assert!(
            [host.version(1), host.version(2)].contains(&shown),
            "{shown}"
        );
        assert_eq!(common::mounts_below(&host.store).len(), 1);
        host.judge(&[("a", &[1]), ("b", &[2])]);
    }

    /// At a place that podman does not look at: it is bare at times.
    pub fn mount_and_umount(host: &mut SharedHost) {
        host.ok(&host.sync("a", 1));
        let place = host.scratch.dir("place");
        let mount = format!("mount --deployment a {}", place.display());
        let umount = format!("umount {}", place.display());
        host.ok(&mount);
        host.ok(&host.sync("a", 2));
        host.race(&[(&mount, DONE), (&umount, DONE)]);
        let mounted = common::mounts_below(&place).len();
        assert!(mounted <= 1, "{mounted} mounts");
        if mounted == 1 {
            let shown = shared_host::read(&place).unwrap();
            assert_eq!(shown, host.version(2));
            host.ok(&umount);
        }
        host.judge(&[("a", &[2])]);
    }

    pub fn verify_and_gc(host: &mut SharedHost) {
        host.ok(&host.sync("a", 1));
        host.ok(&host.sync("b", 2));
        host.ok("remove --deployment b");
        host.race(&[("verify --deep", DONE), ("gc", DONE)]);
        host.judge(&[("a", &[1])]);
    }

    /// What is checked is replaced, and collected.
    pub fn verify_and_sync(host: &mut SharedHost) {
        host.ok(&host.sync("d", 1));
        let sync = host.sync("d", 2);
        host.race(&[("verify --deep", DONE), (&sync, DONE), ("gc", DONE)]);
        host.judge(&[("d", &[2])]);
    }
}

/// Another set takes the place of the one that containers start from.
fn swaps_and_starting_containers(swaps: usize, containers: usize) {
    if !ready(&["podman", "crun", "ldd"]) {
        return;
    }
    let mut host = SharedHost::new("swap_and_containers");
    host.layout();
    host.ok(&host.sync("a", 1));
    host.ok(&host.sync("b", 2));
    host.show("a");
    let versions = [1, 2].map(|number| bytes(&host.version(number)));
    let (begun, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let delays: Vec<_> = (0..swaps).map(|_| host.phase.delay()).collect();
    let start = || {
        let mut ran = 0;
        while begun.fetch_add(1, Ordering::Relaxed) < containers || !over.load(Ordering::Relaxed) {
            let output = race(vec![Racer {
                command: host.podman.run_command("--rm", NAME, "cat /data"),
                after: Duration::ZERO,
            }]);
            let said = String::from_utf8_lossy(&output[0].stderr);
            assert!(output[0].status.success(), "an outage: {said}");
            assert!(versions.contains(&output[0].stdout), "wrong bytes");
            ran += 1;
        }
        ran
    };
    let ran: usize = thread::scope(|scope| {
        let starters: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        for (turn, delay) in delays.into_iter().enumerate() {
            thread::sleep(delay);
            host.show(["b", "a"][turn % 2]);
            assert_eq!(common::mounts_below(&host.store).len(), 1);
        }
        over.store(true, Ordering::Relaxed);
        starters.into_iter().map(|one| one.join().unwrap()).sum()
    });
    println!("swap_and_containers: {swaps} rounds, {ran} containers, 0 outages, 0 wrong bytes");
    assert!(ran >= containers);
    host.judge(&[("a", &[1]), ("b", &[2])]);
    host.ok(&format!("umount {}", host.store.display()));
}

#[test]
fn swap_and_starting_containers() {
    swaps_and_starting_containers(10, 8);
}

#[test]
#[ignore = "long: 200 swaps, 50 containers"]
fn swap_and_fifty_starting_containers() {
    swaps_and_starting_containers(LONG, 50);
}

/// A user holds the staged deployment back while the guard does, and lets it go:
/// whenever that is, what the user locked stays locked.
fn guard_and_a_users_lock(rounds: usize) {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let app = "registry.test/app:1";
    let mut phase = Phase::new("guard_and_a_users_lock");
    let mut hosts = [Backend::Ostree, Backend::Composefs].map(|backend| {
        let mut host = Bootable::new(backend);
        let (v1, v2) = (host.deploy("v1", &[]), host.deploy("v2", &[app]));
        host.boot(&v1);
        let mut layout = Layout::new(&host.path("layout"));
        layout.image(
            "app",
            &[LayerBlob::gzip(&tar(&[("base", &content(1, 9000))]))],
        );
        let registry = Registry::start(&host.scratch);
        registry.put(&Image::read(&layout.path, "app"), "app:1");
        let line = format!(
            "[[registry]]\nprefix = \"registry.test\"\nlocation = \"{}\"\ninsecure = true\n",
            registry.address
        );
        host.write("home/.config/containers/registries.conf", line);
        (host, registry, v2)
    });
    let mut held = 0;
    for round in 0..rounds {
        let (host, _registry, v2) = &mut hosts[round % 2];
        host.stage(v2, false);
        host.exits(0, &format!("remove --deployment {v2}"));
        // From before the guard begins until after it has ended.
        let after = phase.delay() * 16;
        let output = thread::scope(|scope| {
            let user = scope.spawn(|| {
                thread::sleep(after);
                host.set_locked(v2, true);
            });
            let output = race(vec![Racer {
                command: host.command("guard stage"),
                after: phase.delay(),
            }]);
            user.join().unwrap();
            output
        });
        let (document, _) = bootable::judge(0, "guard stage", &output[0]);
        assert!(
            host.is_locked(),
            "round {round}: the user's lock is gone: {document}"
        );
        held += usize::from(document["held_by_others"] == true);
        host.exits(0, &format!("verify --deployment {v2}"));
        host.exits(0, "guard veto");
        assert!(
            host.is_locked(),
            "round {round}: the veto took the user's lock"
        );
    }
    println!("guard_and_a_users_lock: {rounds} rounds, {held} times the guard saw the user's lock");
}

#[test]
fn guard_and_users_lock() {
    guard_and_a_users_lock(SHORT);
}

#[test]
#[ignore = "long: 200 rounds"]
fn guard_and_users_lock_long() {
    guard_and_a_users_lock(LONG);
}

const REPO: &str = "BOUNDSTORE_TEST_REPO";

/// The crate's gc, as a process of its own: this test binary again.
fn crates_gc(repo: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_crates_gc_is_a_process", "--nocapture"]);
    command.env(REPO, repo);
    command
}

#[test]
fn the_crates_gc_is_a_process() {
    if let Some(repo) = std::env::var_os(REPO) {
        let root = File::open("/").unwrap();
        let repo = Repository::<Sha512HashValue>::open_path(root, repo).unwrap();
        println!(
            "collected {} objects",
            repo.gc(&[]).unwrap().objects_removed
        );
        return;
    }
    if !ready(&["ldd"]) {
        return;
    }
    let mut host = SharedHost::new("the_crates_gc");
    host.layout();
    host.ok(&host.sync("d", 1));
    host.ok("remove --deployment d");
    let said = common::text(&mut crates_gc(&host.repo()));
    assert!(
        said.contains("collected ") && !said.contains("collected 0 "),
        "{said}"
    );
    host.ok(&format!("umount {}", host.store.display()));
}
