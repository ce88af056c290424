//! `boundstore lint`

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    Global, bootc,
    failure::{Exit, Failure},
    output::count,
};
use crate::{
    bound::{
        lint::{Finding, Rule, Severity, lint, sarif, sort},
        shown,
    },
    config::{Config, ConfigError},
    error::with_causes,
    sys::RootDir,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Runs nothing of DIR and needs no root. The rules: docs/lint.md.")]
pub(super) struct Args {
    /// The root of a host image, unpacked [default: the running system]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A rule that may be broken; also `lint.allow` of the root's config.toml
    #[arg(long, value_name = "RULE")]
    allow: Vec<Rule>,
    /// Write the findings as SARIF 2.1.0
    #[arg(long)]
    sarif: bool,
}

/// What was found, as `--json` tells it.
#[derive(Debug, Serialize)]
struct Report {
    root: String,
    errors: usize,
    warnings: usize,
    notes: usize,
    /// How many findings are left out, because their rules may be broken.
    allowed: usize,
    findings: Vec<Finding>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.sarif && global.json {
        let message = "--sarif is a document of its own: leave out --json";
        return Err(Failure::new(Exit::Usage, message));
    }
    let path = args.root.as_ref().unwrap_or(&global.host_root);
    let root = RootDir::open(path)?;
    // Of another root nothing is run, not even to ask for its version.
    let bootc = args
        .root
        .is_none()
        .then(|| bootc::version(global))
        .flatten();
    let mut findings = lint(&root, bootc);
    let mut allow = args.allow.clone();
    match Config::load(path) {
        Ok(config) => allow.extend(config.lint.allow),
        Err(error) => {
            findings.push(of_config(&error, path));
            sort(&mut findings);
        }
    }
    let all = findings.len();
    findings.retain(|finding| !allow.contains(&finding.rule));
    let of = |severity| {
        findings
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    let report = Report {
        root: path.display().to_string(),
        errors: of(Severity::Error),
        warnings: of(Severity::Warning),
        notes: of(Severity::Note),
        allowed: all - findings.len(),
        findings,
    };
    if args.sarif {
        global.output().document(&sarif(&report.findings))?;
    } else {
        global.output().result("lint", &report, || human(&report))?;
    }
    Ok(match report.errors {
        0 => Exit::Done,
        _ => Exit::Unhealthy,
    })
}

fn of_config(error: &ConfigError, root: &Path) -> Finding {
    let (path, line, message) = match error {
        ConfigError::Invalid {
            path,
            line,
            message,
        } => (path, Some(*line), message.clone()),
        ConfigError::TooLarge(path) => (path, None, error.to_string()),
        ConfigError::Path(error) => (&error.path, None, with_causes(error)),
    };
    let file = path.strip_prefix(root).unwrap_or(path);
    Finding::unreadable(file, line, &message)
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!("{}:{line}: ", shown(file)),
            (Some(file), None) => format!("{}: ", shown(file)),
            (None, _) => String::new(),
        };
        let (severity, rule) = (finding.severity, finding.rule);
        text += &format!("{place}{severity}: {} [{rule}]\n", finding.message);
        text += &format!("    {}\n", finding.advice);
    }
    let counts = [
        count(report.errors, "error"),
        count(report.warnings, "warning"),
        count(report.notes, "note"),
    ];
    text += &counts.join(", ");
    if report.allowed > 0 {
        text += &format!(", {} allowed", report.allowed);
    }
    text + "\n"
}
