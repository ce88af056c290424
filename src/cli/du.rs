//! `boundstore du`

use std::io::{IsTerminal, stdout};

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
};
use crate::{
    deployment::{Bytes, DiskUsage, disk_usage},
    repo::RepoView,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "By the bytes of objects, each of which is on disk once. Takes no lock and starts no \
    program."
)]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> Result<Exit, Failure> {
    let usage = disk_usage(&RepoView::open(&global.repo())?)?;
    let text = || human(&usage, stdout().is_terminal());
    global.output().result("du", &usage, text)?;
    Ok(Exit::Done)
}

fn human(usage: &DiskUsage, bars: bool) -> String {
    let all = usage.bytes;
    let mut text = format!(
        "repository {}: {}\n  sets {}, host {}, both {}, rest {}\n",
        usage.repository.display(),
        bytes(all.total),
        bytes(all.sets),
        bytes(all.host),
        bytes(all.both),
        bytes(all.rest),
    );
    let most = |all: &mut dyn Iterator<Item = u64>| if bars { all.max().unwrap_or(0) } else { 0 };
    let largest = most(&mut usage.deployments.iter().map(|one| one.bytes.total));
    for one in &usage.deployments {
        text += &format!("deployment {}\n{}", one.id, line(one.bytes, largest));
    }
    let largest = most(&mut usage.images.iter().map(|one| one.bytes.total));
    for one in &usage.images {
        let names: Vec<String> = one.names.iter().map(ToString::to_string).collect();
        let deployments = count(one.deployments.len(), "deployment");
        let (names, line) = (names.join(", "), line(one.bytes, largest));
        text += &format!("image {names} ({deployments})\n{line}");
    }
    if bars {
        text += &format!("{UNIQUE} unique  {SHARED} shared  {HOST} host\n");
    }
    text
}

const UNIQUE: &str = "█";
const SHARED: &str = "▒";
const HOST: &str = "░";
/// Of the bar of the largest, in characters.
const WIDTH: u64 = 32;

/// The numbers, and behind them a bar where `largest` is not 0.
fn line(of: Bytes, largest: u64) -> String {
    let numbers = format!(
        "  {:>10}  unique {:>10}  shared {:>10}  host {:>10}",
        bytes(of.total),
        bytes(of.unique),
        bytes(of.shared),
        bytes(of.host)
    );
    let bar = bar(of, largest);
    format!("{}\n", format!("{numbers}  {bar}").trim_end())
}

/// Each part ends where its sum with those before it does, so that rounding
/// does not add up.
fn bar(of: Bytes, largest: u64) -> String {
    let scaled = |sum: u64| {
        let scaled = u128::from(sum) * u128::from(WIDTH) / u128::from(largest.max(1));
        if largest == 0 {
            0
        } else {
            usize::try_from(scaled).unwrap_or(0)
        }
    };
    let ends = [of.unique, of.unique + of.shared, of.total].map(scaled);
    let parts = [
        (UNIQUE, ends[0]),
        (SHARED, ends[1] - ends[0]),
        (HOST, ends[2] - ends[1]),
    ];
    parts.map(|(part, width)| part.repeat(width)).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        let of = |unique, shared, host| Bytes {
            total: unique + shared + host,
            unique,
            shared,
            host,
        };
        let all = of(1, 2, 1);
        assert_eq!(bar(all, 4), "████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░");
        assert_eq!(bar(all, 8).chars().count(), 16);
        assert_eq!(bar(all, 0), "");
        assert_eq!(bar(of(0, 0, 0), 8), "");
        let huge = of(u64::MAX / 4, u64::MAX / 4, 1);
        assert_eq!(bar(huge, huge.total).chars().count(), 32);
    }
}
