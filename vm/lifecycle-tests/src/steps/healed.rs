//! The boot of v3.

use super::{Run, quadlet_ran, runs, shows};

pub const STEPS: &[(&str, &str, Run)] = &[
    (
        "shown_at_boot",
        "v3 has booted, and its set is shown",
        |host| shows(host, 3),
    ),
    ("quadlet", "its app was started at boot", |_| quadlet_ran(3)),
    ("apps_run", "its app runs from its set", |_| runs(3)),
];
