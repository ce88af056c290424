//! What a host does when its power is cut: all that writes, over and over.

use anyhow::Result;

use crate::{marks::Marks, on_disk::OnDisk};

/// What is done to the deployment `app`.
#[derive(Debug, Clone, Copy)]
enum Work {
    Sync(&'static str),
    Mount,
    Remove,
    Gc,
}

/// Nothing is mounted here, so that each turn imports everything again.
const IMPORTS: &[Work] = &[
    Work::Sync("v1"),
    Work::Sync("v2"),
    Work::Gc,
    Work::Remove,
    Work::Gc,
];
/// And one set in place of the other, whose objects stay until the next boot.
const SWAPS: &[Work] = &[
    Work::Sync("v1"),
    Work::Mount,
    Work::Sync("v2"),
    Work::Mount,
    Work::Gc,
    Work::Remove,
    Work::Gc,
];

/// Goes on until somebody ends the machine.
pub fn run() -> Result<()> {
    let disk = OnDisk::mount("sysroot")?;
    let mut marks = Marks::open(&disk.device)?;
    std::fs::create_dir_all("/store")?;
    marks.set("keep=none,v1 app=none")?;
    disk.sync("keep", "v1")?;
    marks.set("keep=v1,none app=none")?;
    disk.ok("remove --deployment keep")?;
    marks.set("keep=none app=none")?;
    disk.ok("gc")?;
    marks.set("keep=none,v1 app=none")?;
    disk.sync("keep", "v1")?;
    marks.set("keep=v1 app=none")?;
    let mut has = "none";
    for turn in 0.. {
        let works = if turn % 2 == 0 { IMPORTS } else { SWAPS };
        for work in works {
            has = do_one(&disk, &mut marks, has, *work)?;
        }
    }
    Ok(())
}

/// Does it; what `app` has afterwards.
fn do_one(disk: &OnDisk, marks: &mut Marks, has: &'static str, work: Work) -> Result<&'static str> {
    let next = match work {
        Work::Sync(version) => version,
        Work::Remove => "none",
        Work::Mount | Work::Gc => has,
    };
    if next != has {
        marks.set(&format!("keep=v1 app={has},{next}"))?;
    }
    match work {
        Work::Sync(version) => disk.sync("app", version).map(drop)?,
        Work::Mount => disk.ok("mount --deployment app /store").map(drop)?,
        Work::Remove => disk.ok("remove --deployment app").map(drop)?,
        Work::Gc => disk.ok("gc").map(drop)?,
    }
    marks.set(&format!("keep=v1 app={next}"))?;
    Ok(next)
}
