//! The matrix of behaviours by kernel, as Markdown.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use crate::{Guest, KERNELS, Report, results};

/// The reports of a guest's last run of each kernel, in the table's order.
pub fn last_reports(guest: &Guest) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for source in KERNELS {
        let path = results(guest).join(format!("{}.json", source.name));
        let Ok(json) = fs::read(&path) else {
            continue;
        };
        let report = serde_json::from_slice(&json);
        reports.push(report.with_context(|| format!("read {}", path.display()))?);
    }
    Ok(reports)
}

/// A table for each section: a row for each check, a column for each kernel.
pub fn markdown(reports: &[Report]) -> String {
    let mut out = String::new();
    let mut ids: Vec<(&str, &str)> = Vec::new();
    for check in reports.iter().flat_map(|report| &report.checks) {
        if !ids.iter().any(|(id, _)| *id == check.id) {
            ids.push((&check.id, &check.row));
        }
    }
    // A section may have rows of several boots.
    let section_of = |id: &str| id.split("::").next().unwrap_or(id).to_owned();
    let mut sections: Vec<String> = ids.iter().map(|(id, _)| section_of(id)).collect();
    let mut seen = BTreeSet::new();
    sections.retain(|section| seen.insert(section.clone()));
    ids.sort_by_key(|(id, _)| sections.iter().position(|of| *of == section_of(id)));
    let mut section = "";
    for (id, name) in ids {
        let of = id.split("::").next().unwrap_or(id);
        if of != section {
            section = of;
            table(&mut out, section, reports);
        }
        row(&mut out, name, reports, |report| {
            let check = report.check(id)?;
            let wrong = if check.ok { "" } else { " (**unexpected**)" };
            Some(format!("{}{wrong}", check.observed))
        });
    }
    out
}

fn table(out: &mut String, title: &str, reports: &[Report]) {
    let kernels: Vec<&str> = reports
        .iter()
        .map(|report| report.version.as_str())
        .collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "\n### {title}\n\n| behaviour | {} |",
        kernels.join(" | ")
    );
    let _ = writeln!(out, "|---|{}", "---|".repeat(kernels.len()));
}

fn row(out: &mut String, name: &str, reports: &[Report], cell: impl Fn(&Report) -> Option<String>) {
    let cells: Vec<String> = reports
        .iter()
        .map(|report| escape(&cell(report).unwrap_or_else(|| "-".into())))
        .collect();
    let _ = writeln!(out, "| {} | {} |", escape(name), cells.join(" | "));
}

/// What would end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
