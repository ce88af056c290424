//! docs/hostile-inputs.md, as it is written for people: a row has a case's name and
//! what becomes of it, with code for what must be seen.

use std::collections::BTreeMap;

/// What becomes of a case.
#[derive(Debug)]
pub enum Outcome {
    /// This exit status, and all of these words on stderr.
    Refused { exit: i32, words: Vec<String> },
    /// An image that has all of these.
    Accepted { facts: Vec<String> },
}

/// The rows by their cases.
pub type Page = BTreeMap<String, Outcome>;

pub fn read() -> Page {
    parse(include_str!("../../docs/hostile-inputs.md"))
}

fn parse(text: &str) -> Page {
    let mut page = Page::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let mut cell = || {
            cells
                .next()
                .unwrap_or_else(|| panic!("a cell lacks: {row}"))
        };
        let (case, outcome) = (cell().trim_matches('`'), cell());
        let code = outcome.split('`').skip(1).step_by(2);
        let code: Vec<String> = code.map(str::to_owned).collect();
        assert!(!code.is_empty(), "nothing to see: {row}");
        let outcome = match outcome.strip_prefix("refused (") {
            Some(rest) => Outcome::Refused {
                exit: rest.split(')').next().unwrap().parse().unwrap(),
                words: code,
            },
            None if outcome.starts_with("accepted") => Outcome::Accepted { facts: code },
            None => panic!("neither refused nor accepted: {row}"),
        };
        let before = page.insert(case.to_owned(), outcome);
        assert!(before.is_none(), "twice: {row}");
    }
    page
}
