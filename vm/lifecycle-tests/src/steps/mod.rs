//! The steps, in their order, by the boots in which they run.

mod first;
mod healed;
mod rolled_back;
mod upgraded;
mod vetoed;

pub use guest::step::Seen;
use serde_json::Value;

use std::process::Command;

use crate::{
    common::text,
    host::{Backend, Host, mounted, podman, podman_images, store_content, wait_until},
};

/// A step of this guest.
pub type Step = guest::step::Step<Host>;

/// The steps of one boot.
#[derive(Debug)]
pub struct Part {
    pub steps: Vec<Step>,
    /// How systemd ends it.
    pub then: &'static str,
}

type Run = fn(&Host);

/// Every step of a backend.
pub fn all(backend: Backend) -> Vec<Part> {
    let part = |name: &str, steps: &[(&str, &str, Run)], then| Part {
        steps: steps
            .iter()
            .map(|&(id, row, run)| step(backend, &format!("{name}::{id}"), row, run))
            .collect(),
        then,
    };
    let mut vetoed = part("vetoed", vetoed::STEPS, "reboot");
    if backend == Backend::Composefs {
        let soft = part("vetoed", vetoed::SOFT_REBOOT, "soft-reboot");
        vetoed.steps.extend(soft.steps);
        vetoed.then = soft.then;
    }
    vec![
        part("first", first::STEPS, "reboot"),
        part("upgraded", upgraded::STEPS, "reboot"),
        part("rolled_back", rolled_back::STEPS, "reboot"),
        vetoed,
        part("healed", healed::STEPS, "reboot"),
    ]
}

fn step(backend: Backend, id: &str, row: &str, run: Run) -> Step {
    Step {
        id: format!("{}::{id}", backend.name()),
        row: row.to_owned(),
        always: true,
        once: false,
        together: false,
        run: Box::new(move |host| {
            run(host);
            Seen::works()
        }),
    }
}

/// The host runs this version, whose set and no other is shown, by our unit.
fn shows(host: &Host, version: u32) {
    assert_eq!(host.version(), version);
    assert_eq!(
        mounted().as_deref(),
        Some("overlay"),
        "{}",
        crate::host::units()
    );
    assert_eq!(podman_images(), crate::host_image::bound_names(version));
}

/// The app of a version runs from its set.
fn runs(version: u32) {
    let image = crate::host_image::named(version).remove(0).name();
    let said = podman(&format!("run --rm --network none --pull never {image}"));
    assert_eq!(said, format!("hello from v{version}\n"));
}

/// The same, started at boot by its quadlet.
fn quadlet_ran(version: u32) {
    let hello = format!("hello from v{version}");
    wait_until("the app of the quadlet", || {
        let show = "-b -o cat --no-pager -u app.service";
        let said = text(Command::new("journalctl").args(show.split(' ')));
        said.contains(&hello)
    });
}

/// Whether a condition of `status` holds of a deployment.
fn holds(deployment: &Value, condition: &str) -> bool {
    let conditions = deployment["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|it| it["type"] == condition);
    let found = found.unwrap_or_else(|| panic!("no condition {condition}: {deployment:#}"));
    found["status"] == true
}
