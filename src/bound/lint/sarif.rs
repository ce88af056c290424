//! Findings as SARIF 2.1.0, for what shows them beside the code.

use serde_json::{Value, json};

use super::{Finding, Rule};

/// The document of a run that found these.
pub fn sarif(findings: &[Finding]) -> Value {
    let rules = Rule::ALL.map(|rule| {
        json!({
            "id": rule.id(),
            "shortDescription": {"text": rule.summary()},
            "help": {"text": rule.advice()},
            "defaultConfiguration": {"level": rule.severity()},
        })
    });
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "boundstore",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": finding.severity,
        "message": {"text": format!("{}\n{}", finding.message, finding.advice)},
    });
    if let Some(file) = &finding.file {
        let mut place = json!({"artifactLocation": {"uri": uri(file), "uriBaseId": "ROOT"}});
        if let Some(line) = finding.line {
            place["region"] = json!({"startLine": line});
        }
        result["locations"] = json!([{"physicalLocation": place}]);
    }
    result
}

/// A path as the relative reference of a URI (RFC 3986).
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@+,=".contains(&byte);
    let escaped = |byte| {
        if plain(byte) {
            return char::from(byte).to_string();
        }
        format!("%{byte:02X}")
    };
    path.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("usr/lib/a@1.container"), "usr/lib/a@1.container");
        assert_eq!(uri("a b%/é:?#"), "a%20b%25/%C3%A9%3A%3F%23");
    }
}
