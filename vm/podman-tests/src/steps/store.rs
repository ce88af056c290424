//! A set with fs-verity, and where podman finds it.

use std::{fs, fs::File, path::Path, process::Command};

use fs_verity::linux::fsverity_measure;

use super::Seen;
use crate::{
    common::{Scratch, podman::Podman, text},
    host::{Host, ONE, REPO, STORE, TWO, V1, V2, mount_options, mounted, objects},
    stage::INPUT,
};

/// Both sets, before anything is mounted.
pub fn sync(host: &Host) -> Seen {
    let sync = |deployment, name| {
        let image = Host::bound(name);
        host.json(&format!("sync --deployment {deployment} --image {image}"))
    };
    let first = sync(ONE, V1);
    assert_eq!(first["layers_imported"], 4, "{first}");
    let second = sync(TWO, V2);
    assert_eq!(second["layers_imported"], 1, "{second}");
    assert_ne!(first["set_image"], second["set_image"]);
    Seen::works()
}

/// The kernel, asked without `boundstore`, says of each object what its name says.
pub fn sealed(_: &Host) -> Seen {
    let measured = |path: &Path| {
        let (_, digest) = fsverity_measure(File::open(path)?)?;
        std::io::Result::Ok(hex::encode(digest))
    };
    measured(&Path::new(REPO).join("meta.json")).expect("meta.json has no fs-verity");
    let mut count = 0;
    for object in objects() {
        let digest = measured(&object).unwrap_or_else(|error| error.to_string());
        let name = Path::new(REPO)
            .join("objects")
            .join(&digest[..2])
            .join(&digest[2..]);
        assert_eq!(object, name);
        count += 1;
    }
    assert!(count > 500, "only {count} objects");
    println!("{count} objects have fs-verity");
    Seen::works()
}

/// Where the kernel cannot be told to check, a mount must be asked for twice.
pub fn mount(host: &Host) -> Seen {
    let mount = format!("mount --deployment {ONE}");
    if host.requires_verity {
        host.exits(0, &mount);
        let options = mount_options();
        assert!(options.contains("verity=require"), "{options}");
    } else {
        let scratch = Scratch::new();
        let refused = host.exits(5, &mount);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("verity=require"), "{said}");
        assert!(said.contains("--allow-missing-verity"), "{said}");
        // podman works without the set until somebody decides.
        assert_eq!(mounted(), Some("tmpfs".into()));
        let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
        assert_eq!(podman.images(), []);
        host.exits(0, &format!("--allow-missing-verity {mount}"));
        let options = mount_options();
        assert!(!options.contains("verity"), "{options}");
    }
    assert_eq!(mounted(), Some("overlay".into()));
    Seen::works()
}

/// With nothing of the test's own: systemd, cgroups, seccomp, the defaults.
pub fn drop_in(_: &Host) -> Seen {
    let folder = Path::new("/usr/share/containers/storage.conf.d");
    fs::create_dir_all(folder).unwrap();
    let drop_in = Path::new(INPUT).join("storage.conf");
    fs::copy(drop_in, folder.join("50-boundstore.conf")).unwrap();
    let podman = |args: &str| text(Command::new("podman").args(args.split_whitespace()));
    let listed = podman("images --format {{.Repository}}:{{.Tag}}|{{.ReadOnly}}");
    assert_eq!(listed, format!("{V1}|true\n"), "{STORE}");
    let said = podman(&format!(
        "--cgroup-manager cgroupfs run --rm --network none {V1}"
    ));
    assert_eq!(said, "hello from v1\n");
    Seen::works()
}
