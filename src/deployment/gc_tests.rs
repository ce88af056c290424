use std::os::fd::OwnedFd;

use super::*;
use crate::{
    deployment::host::{Note, Staged},
    name::Algorithm,
    repo::{DeploymentId, fs_verity_digest},
};

/// A host whose own ids begin with `host-`.
#[derive(Debug)]
struct Fake(Backend, Vec<Deployment>);

impl Host for Fake {
    fn backend(&self) -> Backend {
        self.0
    }

    fn deployments(&self) -> Result<Vec<Deployment>, HostError> {
        Ok(self.1.clone())
    }

    fn booted(&self) -> Result<Option<DeploymentId>, HostError> {
        let booted = self.1.iter().find(|one| one.booted);
        Ok(booted.map(|one| one.id.clone()))
    }

    fn staged(&self) -> Result<Option<Staged>, HostError> {
        Ok(None)
    }

    fn soft_reboot_target(&self) -> Result<Option<DeploymentId>, HostError> {
        Ok(None)
    }

    fn open_root(&self, id: &DeploymentId) -> Result<OwnedFd, HostError> {
        Err(HostError::Unknown(id.clone()))
    }

    fn set_finalization_locked(
        &self,
        id: &DeploymentId,
        _: bool,
        _: Note<'_>,
        _: &dyn Fn() -> bool,
    ) -> Result<bool, HostError> {
        Err(HostError::NotStaged(id.clone()))
    }

    fn is_own(&self, id: &DeploymentId) -> bool {
        id.as_str().starts_with("host-")
    }
}

fn deployment(id: &str) -> Deployment {
    Deployment {
        id: id.parse().unwrap(),
        booted: false,
        staged: false,
        rollback: false,
        pinned: false,
        soft_reboot_target: false,
        finalization_locked: false,
    }
}

fn set(text: &str) -> ObjectId {
    fs_verity_digest(Algorithm::Sha512, text.as_bytes())
}

const BOOT: &str = "00000000-0000-0000-0000-000000000001";
const EARLIER: &str = "00000000-0000-0000-0000-000000000002";

/// A deployment's ref to a set.
fn of(id: &str, set_image: &str) -> Reference {
    reference(
        &format!("boundstore/deployments/{id}"),
        Purpose::Deployment(id.parse().unwrap()),
        &SetRecord::stream_name(&set(set_image)),
    )
}

fn mounted(boot: &str, set_image: &str) -> Reference {
    let id = set(set_image);
    reference(
        &format!("boundstore/mounted/{boot}.{id}"),
        Purpose::Mounted(boot.parse().unwrap(), id),
        &SetRecord::stream_name(&id),
    )
}

fn reference(path: &str, purpose: Purpose, stream: &str) -> Reference {
    Reference {
        path: path.into(),
        purpose,
        stream: stream.to_owned(),
        is_whole: true,
        written: now(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
}

fn partial(name: &str, age: Duration) -> Reference {
    let path = format!("boundstore/partial/{name}");
    Reference {
        written: now() - age,
        ..reference(
            &path,
            Purpose::Partial,
            &format!("boundstore-layer-v1-{name}"),
        )
    }
}

fn inputs(host: Option<&Fake>, references: Vec<Reference>) -> Inputs<'_> {
    Inputs {
        host: host.map(|host| host as &dyn Host),
        deployments: host.map(|host| host.1.clone()).unwrap_or_default(),
        references,
        published: BTreeSet::new(),
        vetoed: None,
        mounted: BTreeSet::new(),
        boot: BOOT.parse().unwrap(),
        now: now(),
        owner: Owner::Boundstore,
    }
}

fn named(verdicts: &[Verdict]) -> Vec<(&str, Reason)> {
    let name = |verdict: &Verdict| verdict.path.file_name().unwrap().to_owned();
    let mut found: Vec<(&str, Reason)> = Vec::new();
    for verdict in verdicts {
        let name = name(verdict);
        let known = verdict.path.to_str().unwrap();
        found.push((&known[known.len() - name.len()..], verdict.reason));
    }
    found
}

#[test]
fn a_set_stays_as_long_as_its_deployment() {
    let booted = Deployment {
        booted: true,
        pinned: true,
        ..deployment("host-b")
    };
    let host = Fake(Backend::Ostree, vec![booted, deployment("host-c")]);
    let references = vec![
        of("host-a", "a"),
        of("host-b", "b"),
        of("host-c", "c"),
        of("host-v", "v"),
        of("by-hand", "d"),
        reference(
            "boundstore/deployments/by-hand~4242",
            Purpose::Leftover,
            &SetRecord::stream_name(&set("e")),
        ),
        reference("oci/x", Purpose::Foreign, "oci-x"),
        reference("boundstore/future/x", Purpose::Unknown, "x"),
    ];
    let vetoed = "host-v".parse().ok();
    let plan = plan(&Inputs {
        vetoed,
        ..inputs(Some(&host), references)
    });
    assert_eq!(
        named(&plan.goes),
        [
            ("host-a", Reason::Gone),
            ("by-hand~4242", Reason::Abandoned)
        ]
    );
    assert_eq!(
        named(&plan.stays),
        [
            ("host-b", Reason::Deployment),
            ("host-c", Reason::Deployment),
            ("host-v", Reason::Vetoed),
            ("by-hand", Reason::Manual),
            ("x", Reason::Unknown)
        ]
    );
    assert!(plan.stays[0].message.ends_with("booted, pinned"));
    assert!(plan.kept.is_empty());
}

#[test]
fn without_a_host_every_id_was_given_by_hand() {
    let plan = plan(&inputs(None, vec![of("host-a", "a")]));
    assert_eq!(named(&plan.stays), [("host-a", Reason::Manual)]);
    assert!(plan.goes.is_empty());
}

#[test]
fn what_was_mounted_since_boot_stays() {
    let host = Fake(Backend::Ostree, vec![deployment("host-b")]);
    let this = mounted(BOOT, "e");
    let earlier = mounted(EARLIER, "c");
    let references = vec![
        of("host-a", "a"),
        of("host-b", "b"),
        this,
        mounted(EARLIER, "d"),
        earlier,
    ];
    let mut inputs = inputs(Some(&host), references);
    // d was mounted in this boot as well; f has lost its ref to a crash.
    inputs.mounted = ["a", "b", "d", "e", "f"].map(set).into();
    let plan = plan(&inputs);
    let goes: Vec<Reason> = plan.goes.iter().map(|verdict| verdict.reason).collect();
    assert_eq!(
        goes,
        [Reason::Gone, Reason::EarlierBoot, Reason::EarlierBoot]
    );
    let stays: Vec<Reason> = plan.stays.iter().map(|verdict| verdict.reason).collect();
    assert_eq!(stays, [Reason::Deployment, Reason::MountedSinceBoot]);
    // b is its deployment's still.
    assert_eq!(plan.kept, ["a", "d", "f"].map(set).into());
}

#[test]
fn what_is_unfinished_stays_for_a_week() {
    let second = Duration::from_secs(1);
    let mut later = partial("later", Duration::ZERO);
    later.written = now() + UNFINISHED;
    let references = vec![
        partial("young", UNFINISHED),
        partial("old", UNFINISHED + second),
        later,
    ];
    let mut inputs = inputs(None, references);
    let published = partial("done", Duration::ZERO);
    inputs.published.insert(published.stream.clone());
    inputs.references.push(published);
    let plan = plan(&inputs);
    assert_eq!(
        named(&plan.goes),
        [("old", Reason::Abandoned), ("done", Reason::Published)]
    );
    assert_eq!(
        named(&plan.stays),
        [("young", Reason::Unfinished), ("later", Reason::Unfinished)]
    );
}

#[test]
fn broken_refs_go_whosever_they_are_of_ours() {
    let host = Fake(Backend::Ostree, vec![deployment("host-a")]);
    let broken = |reference: Reference| Reference {
        is_whole: false,
        ..reference
    };
    let references = vec![
        broken(of("host-a", "a")),
        broken(mounted(BOOT, "b")),
        broken(partial("c", Duration::ZERO)),
        broken(reference("boundstore/future/x", Purpose::Unknown, "x")),
        broken(reference("oci/x", Purpose::Foreign, "x")),
    ];
    let plan = plan(&inputs(Some(&host), references));
    assert_eq!(plan.goes.len(), 3);
    assert!(plan.goes.iter().all(|v| v.reason == Reason::Broken));
    assert_eq!(named(&plan.stays), [("x", Reason::Unknown)]);
}

#[test]
fn the_host_owns_the_repository_it_boots_from() {
    let folder = tempfile::tempdir().unwrap();
    let (sysroot, own) = (folder.path(), folder.path().join("composefs"));
    std::fs::create_dir(&own).unwrap();
    let (native, ostree) = (
        Fake(Backend::Composefs, vec![]),
        Fake(Backend::Ostree, vec![]),
    );
    assert_eq!(Owner::of(Some(&native), &own, sysroot), Owner::Host);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("composefs", &link).unwrap();
    assert_eq!(Owner::of(Some(&native), &link, sysroot), Owner::Host);
    let other = folder.path().join("other");
    assert_eq!(Owner::of(Some(&native), &other, sysroot), Owner::Boundstore);
    assert_eq!(Owner::of(Some(&ostree), &own, sysroot), Owner::Boundstore);
    assert_eq!(Owner::of(None, &own, sysroot), Owner::Boundstore);
}
