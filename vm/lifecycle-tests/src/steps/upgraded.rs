//! The boot of v2. Then it is rolled back.

use super::{Run, quadlet_ran, runs, shows};
use crate::host::Host;

pub const STEPS: &[(&str, &str, Run)] = &[
    (
        "shown_at_boot",
        "v2 has booted, and its set is shown",
        |host| shows(host, 2),
    ),
    ("quadlet", "its app was started at boot", |_| quadlet_ran(2)),
    ("apps_run", "its app runs from its set", |_| runs(2)),
    (
        "bootc_21_logically_bound_switch",
        "bootc's test 21: what it binds is there after the reboot, with one more",
        |host| shows(host, 2),
    ),
    ("roll_back", "v1 is made the next boot", roll_back),
];

fn roll_back(host: &Host) {
    host.owner.roll_back(1);
}
