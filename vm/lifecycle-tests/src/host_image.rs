//! The host images: what their versions have that the others have not.

use std::{fs, os::unix::fs::symlink, path::Path};

/// The registry of the guest itself.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// The unit file that starts the app.
pub const APP: &str = "app";
/// In every host image: which version it is.
pub const VERSION: &str = "/usr/lib/host-version";

/// An image that a host image has a unit file for.
#[derive(Debug)]
pub struct Named {
    /// The unit file's name, and its kind.
    pub unit: (&'static str, Kind),
    /// In the [`REGISTRY`].
    pub image: &'static str,
    /// Whether it is among the bound images.
    pub bound: bool,
}

/// The kind of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.container`
    Container,
    /// `.image`
    Image,
}

impl Named {
    /// As it is bound.
    pub fn name(&self) -> String {
        format!("{REGISTRY}/{}", self.image)
    }
}

const fn bound(name: &'static str, kind: Kind, image: &'static str) -> Named {
    Named {
        unit: (name, kind),
        image,
        bound: true,
    }
}

/// bootc's test 21 has the same kinds of them; test 22 has one that is not
/// bound and names credentials.
const UNBOUND: Named = Named {
    unit: ("unbound", Kind::Image),
    image: "unbound:1",
    bound: false,
};
const TOOL: Named = bound("tool", Kind::Image, "tool:1");
const MORE: Named = bound("more", Kind::Image, "more:1");
/// Only v3 has it; it is what is missing there for a while.
pub const LATE: Named = bound("late", Kind::Image, "late:1");

/// What a version of the host image names.
pub fn named(version: u32) -> Vec<Named> {
    let app = |image| bound(APP, Kind::Container, image);
    match version {
        1 => vec![app("app:v1"), TOOL, UNBOUND],
        2 => vec![app("app:v2"), TOOL, MORE, UNBOUND],
        3 => vec![app("app:v3"), TOOL, MORE, LATE, UNBOUND],
        _ => panic!("there is no version {version}"),
    }
}

/// The names of a version's bound images, sorted.
pub fn bound_names(version: u32) -> Vec<String> {
    let named = named(version).into_iter().filter(|named| named.bound);
    let mut names: Vec<String> = named.map(|named| named.name()).collect();
    names.sort();
    names
}

/// Writes a version's own files.
pub fn write(version: u32, to: &Path) {
    let units = to.join("usr/share/containers/systemd");
    let links = to.join("usr/lib/bootc/bound-images.d");
    for folder in [&units, &links] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(
        to.join(VERSION.trim_start_matches('/')),
        version.to_string(),
    )
    .unwrap();
    for named in named(version) {
        let (name, kind) = named.unit;
        let image = named.name();
        let (file, text) = match kind {
            Kind::Container => (
                format!("{name}.container"),
                format!(
                    "[Container]\nImage={image}\nNetwork=none\nPull=never\n\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\n\n\
                     [Install]\nWantedBy=multi-user.target\n"
                ),
            ),
            Kind::Image if named.bound => {
                (format!("{name}.image"), format!("[Image]\nImage={image}\n"))
            }
            Kind::Image => (
                format!("{name}.image"),
                format!("[Image]\nImage={image}\nAuthFile=/etc/unbound-auth.json\n"),
            ),
        };
        fs::write(units.join(&file), text).unwrap();
        if named.bound {
            let at = format!("/usr/share/containers/systemd/{file}");
            symlink(at, links.join(&file)).unwrap();
        }
    }
}
