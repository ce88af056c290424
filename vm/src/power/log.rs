//! The log of a disk's writes, as QEMU's `blklogwrites` writes it: the format
//! of Linux's dm-log-writes (`drivers/md/dm-log-writes.c`).
//!
//! ```text
//! sector 0    magic, version: u64; entries: u64; bytes of a sector: u32
//! then        entry (a sector): sector, sectors, flags, length: u64; its data
//! ```

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::random::Random;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// Where `power-tests/src/marks.rs` writes its marks.
const MARKS: u64 = 511 << 20;
/// What a disk writes whole or not at all.
const ATOM: usize = 4096;

/// What became of a disk, in its order.
#[derive(Debug)]
enum Event {
    /// These bytes of the log were written there.
    Write {
        at: u64,
        in_log: u64,
        length: usize,
        fua: bool,
    },
    /// All writes before it are durable.
    Flush,
    /// From here on the deployments may have this.
    Mark(String),
}

/// A disk's first content, and all that was written to it.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    events: Vec<Event>,
}

/// A disk as a power cut left it.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) image: PathBuf,
    /// What its deployments may have.
    pub(super) allowed: String,
    /// After how many writes, and how many of those that were not durable it has.
    pub(super) told: String,
}

impl Log {
    /// Reads it. Its last entry may be torn: the machine was killed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let end = file.metadata()?.len();
        let word = |at: u64| -> Result<u64> {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at)?;
            Ok(u64::from_le_bytes(bytes))
        };
        ensure!(word(0)? == MAGIC, "{} is no log of writes", path.display());
        let count = word(16)?;
        let mut events = Vec::new();
        let mut at = SECTOR;
        for _ in 0..count {
            if at + SECTOR > end {
                break;
            }
            let [sector, sectors, flags] = [word(at)?, word(at + 8)?, word(at + 16)?];
            at += SECTOR;
            if flags & FLUSH != 0 {
                events.push(Event::Flush);
            }
            let length = sectors * SECTOR;
            // A discarded sector may as well keep what it had.
            if flags & DISCARD != 0 || length == 0 {
                continue;
            }
            if at + length > end {
                break;
            }
            if sector * SECTOR == MARKS {
                let mut text = vec![0; usize::try_from(length)?];
                file.read_exact_at(&mut text, at)?;
                let text = String::from_utf8(text)?;
                events.push(Event::Mark(text.trim_end_matches('\0').to_owned()));
            } else {
                events.push(Event::Write {
                    at: sector * SECTOR,
                    in_log: at,
                    length: usize::try_from(length)?,
                    fua: flags & FUA != 0,
                });
            }
            at += length;
        }
        Ok(Self { file, events })
    }

    /// How many flushes there were.
    pub(super) fn flushes(&self) -> usize {
        let flushes = self.events.iter();
        flushes
            .filter(|event| matches!(event, Event::Flush))
            .count()
    }

    /// Cuts the power at `count` random moments: each disk has all up to the
    /// last flush before, and of what was written since then a random part.
    /// `blank` is what the disk held first; the disks are made in `folder`.
    pub(super) fn cut(
        &self,
        blank: &Path,
        folder: &Path,
        count: usize,
        random: &mut Random,
    ) -> Result<Vec<Cut>> {
        let first = self
            .events
            .iter()
            .position(|event| matches!(event, Event::Mark(_)));
        let first = first.context("the guest wrote no mark")?;
        let marks: Vec<usize> = (first..self.events.len())
            .filter(|at| matches!(self.events[*at], Event::Mark(_)))
            .collect();
        // Most is written by the first sync, when all is new: what is between
        // two marks, a sync, a swap, a gc, gets as many cuts as any other.
        let mut at = Vec::new();
        for _ in 0..count {
            let mark = random.below(marks.len());
            let next = marks.get(mark + 1).copied().unwrap_or(self.events.len());
            at.push(marks[mark] + 1 + random.below(next - marks[mark]));
        }
        at.sort_unstable();
        // All that is durable at the last flush so far.
        let durable = folder.join("durable");
        copy(blank, &durable)?;
        let disk = File::options().write(true).open(&durable)?;
        let mut done = 0;
        let mut cuts = Vec::new();
        for (number, moment) in at.into_iter().enumerate() {
            let events = &self.events[..moment];
            let flush = events
                .iter()
                .rposition(|event| matches!(event, Event::Flush));
            let flush = flush.map_or(0, |flush| flush + 1).max(done);
            for event in &self.events[done..flush] {
                self.replay(event, &disk, |_| true)?;
            }
            done = flush;
            let image = folder.join(format!("cut{number}"));
            copy(&durable, &image)?;
            let cut = File::options().write(true).open(&image)?;
            // Now and then nothing of it, or all.
            let percent = random.below(5) * 25;
            let (mut has, mut lacks) = (0, 0);
            for event in &events[flush..] {
                let fua = matches!(event, Event::Write { fua: true, .. });
                self.replay(event, &cut, |_| {
                    let has_it = fua || random.below(100) < percent;
                    *if has_it { &mut has } else { &mut lacks } += 1;
                    has_it
                })?;
            }
            let marks = events.iter().rev().find_map(|event| match event {
                Event::Mark(text) => Some(text.clone()),
                _ => None,
            });
            cuts.push(Cut {
                image,
                allowed: marks.context("no mark before the cut")?,
                told: format!("moment {moment}, {has} blocks of {} unflushed", has + lacks),
            });
        }
        Ok(cuts)
    }

    /// Writes what an event wrote, as far as `keeps` says of each block.
    fn replay(&self, event: &Event, to: &File, mut keeps: impl FnMut(u64) -> bool) -> Result<()> {
        let Event::Write {
            at, in_log, length, ..
        } = event
        else {
            return Ok(());
        };
        let mut bytes = vec![0; *length];
        self.file.read_exact_at(&mut bytes, *in_log)?;
        let mut position = *at;
        for block in bytes.chunks(ATOM) {
            if keeps(position) {
                to.write_all_at(block, position)?;
            }
            position += block.len() as u64;
        }
        Ok(())
    }
}

/// Copies a disk, holes as holes.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = std::process::Command::new("cp");
    crate::command::output(cp.args(["--sparse=always", "--"]).arg(from).arg(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::*;

    /// Sector 0 written and flushed, sector 8 written after that.
    fn log() -> Vec<u8> {
        let entry = |sector: u64, sectors: u64, flags: u64| {
            let mut bytes = [sector, sectors, flags, 0].map(u64::to_le_bytes).concat();
            bytes.resize(512, 0);
            bytes
        };
        let mut log = [MAGIC, 1, 5].map(u64::to_le_bytes).concat();
        log.extend(512_u32.to_le_bytes());
        log.resize(512, 0);
        log.extend(entry(MARKS / SECTOR, 1, 0));
        log.extend(b"keep=none".iter().copied().chain([0; 503]));
        for (sector, byte) in [(0, b'a'), (8, b'b')] {
            log.extend(entry(sector, 8, 0));
            log.extend([byte; ATOM]);
            if sector == 0 {
                log.extend(entry(0, 0, FLUSH));
            }
        }
        log.extend(entry(MARKS / SECTOR, 1, 0));
        log.extend(b"keep=v1".iter().copied().chain([0; 505]));
        log
    }

    #[test]
    fn what_was_flushed_is_on_every_disk_and_the_rest_on_some() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("log"), log()).unwrap();
        fs::write(at("blank"), [0; 3 * ATOM]).unwrap();
        let log = Log::open(&at("log")).unwrap();
        assert_eq!(log.flushes(), 1);
        let mut random = Random::new(1);
        let cuts = log
            .cut(&at("blank"), folder.path(), 40, &mut random)
            .unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for cut in cuts {
            let disk = File::open(&cut.image).unwrap();
            let mut bytes = [[0; 1]; 2];
            for (block, byte) in bytes.iter_mut().enumerate() {
                disk.read_exact_at(byte, (block * ATOM) as u64).unwrap();
            }
            seen.insert((bytes.concat(), cut.allowed));
        }
        let is = |bytes: [u8; 2], mark: &str| seen.contains(&(bytes.to_vec(), mark.to_owned()));
        assert!(
            is([b'a', b'b'], "keep=v1") && is([b'a', 0], "keep=v1"),
            "{seen:?}"
        );
        assert!(
            is([0, 0], "keep=none") && !is([0, 0], "keep=v1"),
            "{seen:?}"
        );
        assert!(
            !seen.iter().any(|(bytes, _)| bytes[..] == [0, b'b']),
            "{seen:?}"
        );
    }
}
