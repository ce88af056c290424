//! v1 again, because v3 was held back. Then v3 is staged once more.

use serde_json::Value;

use super::{Run, holds, runs, shows};
use crate::{
    host::{Host, Staged, wait_until},
    host_image::LATE,
};

pub const STEPS: &[(&str, &str, Run)] = &[
    ("old_boots", "v1 has booted, with its set", old_boots),
    ("apps_run", "its app runs from its set", |_| runs(1)),
    (
        "status_says_why",
        "status shows the veto, and what to do",
        says_why,
    ),
    (
        "staged_again",
        "the command of status stages v3; nothing is fetched twice",
        again,
    ),
];

pub const SOFT_REBOOT: &[(&str, &str, Run)] = &[(
    "soft_reboot",
    "v3 is made the next root of a soft reboot",
    |host| host.owner.soft_reboot(3),
)];

fn old_boots(host: &Host) {
    shows(host, 1);
}

fn says_why(host: &Host) {
    let said = host.boundstore("status");
    let said = String::from_utf8(said.stdout).unwrap();
    for part in [host.owner.upgrade(), &LATE.name()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = host.boundstore("--json status");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let vetoed = |it: &Value| it["type"] == "Vetoed" && it["status"] == true;
    let deployments = json["deployments"].as_array().unwrap();
    let mut conditions = deployments
        .iter()
        .flat_map(|it| it["conditions"].as_array().unwrap());
    assert!(conditions.any(vetoed), "{json:#}");
}

/// By the command that status names: it is [`crate::host::Owner::upgrade`].
fn again(host: &Host) {
    host.serve(&[LATE.image]);
    let fetched = host.fetched_by(|| {
        host.stage(3);
        // The guard has not seen it yet when it is staged.
        wait_until("the set", || holds(&host.status("staged"), "Present"));
        let free = Some(Staged { locked: false });
        wait_until("the unlocking", || host.owner.staged() == free);
    });
    let own = host.image(LATE.image).blobs().pop().unwrap();
    assert!(fetched.contains(&own), "{fetched:#?}");
    let before = host.kept("v3-fetched");
    let app = host.image("app:v3").blobs().pop().unwrap();
    assert!(before.contains(&app), "{before:#?}");
    // That one was asked for, and not there.
    let layers = |image: &str| host.image(image).blobs();
    let mut twice: Vec<_> = ["app:v3", LATE.image]
        .into_iter()
        .flat_map(layers)
        .collect();
    twice.retain(|blob| before.contains(blob) && fetched.contains(blob) && *blob != own);
    assert!(twice.is_empty(), "{twice:#?}");
}
