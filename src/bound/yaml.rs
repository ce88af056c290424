//! YAML as a tree that knows its lines, from a foreign file.
//!
//! An alias shares the node that it names, so that a short text cannot become a
//! large tree; and whoever walks one has a [`Fuel`] that runs out, since shared
//! nodes can still be walked more often than there are any.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::config::line_of;

/// Deeper than any manifest, and shallow enough for the stack.
const DEPTH_LIMIT: usize = 64;
/// As many steps as the longest file that is read has bytes.
const STEPS_LIMIT: usize = 1 << 20;

/// Text that is no YAML that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    #[source]
    pub fault: YamlFault,
}

/// What can be wrong with YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum YamlFault {
    /// No YAML.
    #[error("no YAML: {0}")]
    Syntax(String),
    /// No text.
    #[error("not UTF-8")]
    NotUtf8,
    /// Lists in lists in lists.
    #[error("nested more than {DEPTH_LIMIT} deep")]
    TooDeep,
    /// A key that is a list or a mapping, or is there twice.
    #[error("{0}")]
    Key(&'static str),
    /// An alias inside of what it names.
    #[error("an alias inside of what it stands for")]
    Cycle,
    /// Another kind of value than its place needs.
    #[error("{what} must be a {wanted}")]
    Shape {
        /// The place, like `spec.containers`.
        what: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// Aliases that multiply.
    #[error("its aliases say too much in too few words")]
    TooMuch,
}

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// With whether it has neither quotes nor a style of its own.
    Scalar(String, bool),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(String, Rc<Node>)>),
}

/// What a walk may still cost.
#[derive(Debug)]
pub(super) struct Fuel(Cell<usize>);

impl Fuel {
    pub(super) fn new() -> Self {
        Self(Cell::new(STEPS_LIMIT))
    }

    fn burn(&self, steps: usize, line: usize) -> Result<(), YamlError> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.ok_or(YamlError {
            line,
            fault: YamlFault::TooMuch,
        })?);
        Ok(())
    }
}

impl Node {
    fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true)
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn shape(&self, what: &'static str, wanted: &'static str) -> YamlError {
        YamlError {
            line: self.line,
            fault: YamlFault::Shape { what, wanted },
        }
    }

    /// The value of a key, a merged one (`<<`) too; nothing where it is null.
    pub(super) fn get(
        &self,
        key: &str,
        what: &'static str,
        fuel: &Fuel,
    ) -> Result<Option<&Rc<Node>>, YamlError> {
        Ok(self
            .look_up(key, what, fuel, DEPTH_LIMIT)?
            .filter(|node| !node.is_null()))
    }

    fn look_up(
        &self,
        key: &str,
        what: &'static str,
        fuel: &Fuel,
        depth: usize,
    ) -> Result<Option<&Rc<Node>>, YamlError> {
        let Value::Mapping(entries) = &self.value else {
            return Err(self.shape(what, "mapping"));
        };
        fuel.burn(entries.len() + 1, self.line)?;
        let of = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v);
        if let Some(node) = of(key) {
            return Ok(Some(node));
        }
        let Some(merged) = of("<<") else {
            return Ok(None);
        };
        let depth = depth.checked_sub(1).ok_or(YamlError {
            line: self.line,
            fault: YamlFault::TooMuch,
        })?;
        let one = std::slice::from_ref(merged);
        let several = match &merged.value {
            Value::Sequence(items) => items,
            _ => one,
        };
        for mapping in several {
            if let found @ Some(_) = mapping.look_up(key, "a merged value", fuel, depth)? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Its items.
    pub(super) fn items(&self, what: &'static str, fuel: &Fuel) -> Result<&[Rc<Node>], YamlError> {
        match &self.value {
            Value::Sequence(items) => fuel.burn(items.len(), self.line).map(|()| &items[..]),
            _ => Err(self.shape(what, "list")),
        }
    }

    /// Its keys and values, without merged ones.
    pub(super) fn entries(
        &self,
        what: &'static str,
        fuel: &Fuel,
    ) -> Result<&[(String, Rc<Node>)], YamlError> {
        match &self.value {
            Value::Mapping(entries) => fuel.burn(entries.len(), self.line).map(|()| &entries[..]),
            _ => Err(self.shape(what, "mapping")),
        }
    }

    /// Its text.
    pub(super) fn text(&self, what: &'static str) -> Result<&str, YamlError> {
        match &self.value {
            Value::Scalar(text, _) => Ok(text),
            _ => Err(self.shape(what, "text")),
        }
    }
}

/// A list or a mapping that has begun.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Rc<Node>>),
    Mapping {
        entries: Vec<(String, Rc<Node>)>,
        seen: HashSet<String>,
        key: Option<String>,
    },
}

/// The documents of a text that are not empty. Any bytes are accepted as input.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn parse_yaml(text: &[u8]) -> Result<Vec<Rc<Node>>, YamlError> {
    let text = std::str::from_utf8(text).map_err(|error| YamlError {
        line: line_of(text, error.valid_up_to()),
        fault: YamlFault::NotUtf8,
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // At the end of the text, the parser is one line beyond it.
    let last = 1 + text.trim_end().matches(['\n', '\r']).count();
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line().clamp(1, last),
            fault: YamlFault::Syntax(error.info().to_owned()),
        })?;
        builder.add(event, span.start.line().clamp(1, last))?;
    }
    Ok(builder.documents)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
}

impl Builder {
    fn add(&mut self, event: Event<'_>, line: usize) -> Result<(), YamlError> {
        let fail = |fault| YamlError { line, fault };
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or(fail(YamlFault::Cycle))?;
                return self.place(node, line);
            }
            Event::Scalar(text, style, anchor, _) => {
                let value = Value::Scalar(text.into_owned(), style == ScalarStyle::Plain);
                return self.close(Node { line, value }, anchor);
            }
            Event::SequenceStart(anchor, _) => {
                return self.begin(line, anchor, Content::Sequence(Vec::new()));
            }
            Event::MappingStart(anchor, _) => {
                let content = Content::Mapping {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                };
                return self.begin(line, anchor, content);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(done) = self.open.pop() {
                    let value = match done.content {
                        Content::Sequence(items) => Value::Sequence(items),
                        Content::Mapping { entries, .. } => Value::Mapping(entries),
                    };
                    let line = done.line;
                    return self.close(Node { line, value }, done.anchor);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, anchor: usize, content: Content) -> Result<(), YamlError> {
        if self.open.len() == DEPTH_LIMIT {
            let fault = YamlFault::TooDeep;
            return Err(YamlError { line, fault });
        }
        self.open.push(Open {
            line,
            anchor,
            content,
        });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        let (line, node) = (node.line, Rc::new(node));
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, line)
    }

    /// Puts a node where the text has it. `line` is that place's: an alias
    /// stands elsewhere than what it names.
    fn place(&mut self, node: Rc<Node>, line: usize) -> Result<(), YamlError> {
        let fail = |text| YamlError {
            line,
            fault: YamlFault::Key(text),
        };
        match self.open.last_mut().map(|open| &mut open.content) {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping { entries, seen, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Value::Scalar(text, _) = &node.value else {
                        return Err(fail("a key that is no text"));
                    };
                    if !seen.insert(text.clone()) {
                        return Err(fail("a key that is there twice"));
                    }
                    *key = Some(text.clone());
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> (usize, YamlFault) {
        let error = parse_yaml(text.as_bytes()).unwrap_err();
        (error.line, error.fault)
    }

    fn one(text: &str) -> Rc<Node> {
        let mut documents = parse_yaml(text.as_bytes()).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn get<'a>(node: &'a Node, key: &str) -> Option<(&'a str, usize)> {
        let found = node.get(key, "it", &Fuel::new()).unwrap()?;
        Some((found.text("it").unwrap(), found.line))
    }

    #[test]
    fn values_have_their_lines() {
        let node =
            one("# c\na: 1\nb: >\n  x\n  y\nc:\n- \"null\"\n- {d: 'e'}\nf: ~\ng: null\nh:\n");
        assert_eq!(get(&node, "a"), Some(("1", 2)));
        assert_eq!(get(&node, "b").unwrap().0, "x y\n");
        for null in ["f", "g", "h", "none"] {
            assert_eq!(get(&node, null), None, "{null}");
        }
        let fuel = Fuel::new();
        let list = node.get("c", "c", &fuel).unwrap().unwrap();
        let items = list.items("c", &fuel).unwrap();
        assert_eq!((items[0].text("").unwrap(), items[0].line), ("null", 7));
        assert_eq!(get(&items[1], "d"), Some(("e", 8)));
        assert!(items[0].get("k", "it", &fuel).is_err());
        assert!(list.text("it").is_err() && node.items("it", &fuel).is_err());
        assert!(list.entries("it", &fuel).is_err());
        assert_eq!(node.entries("it", &fuel).unwrap().len(), 6);
    }

    #[test]
    fn documents_that_are_not_empty() {
        let count = |text: &str| parse_yaml(text.as_bytes()).unwrap().len();
        assert_eq!(count(""), 0);
        assert_eq!(count("# c\n---\n---\n~\n...\n"), 0);
        assert_eq!(count("a: 1\n---\nb: 2\n---\n\n"), 2);
        assert_eq!(count("\u{feff}{\"json\": [1]}"), 1);
    }

    #[test]
    fn aliases_and_merges() {
        let node = one(
            "base: &b {a: 1, m: 2}\nc: &c {m: 3, n: 4}\nd:\n  <<: [*b, *c]\n  a: 5\ne: {<<: *b}\n",
        );
        let fuel = Fuel::new();
        let below = |key| node.get(key, "it", &fuel).unwrap().unwrap();
        assert_eq!(get(below("d"), "a"), Some(("5", 5)));
        assert_eq!(get(below("d"), "m"), Some(("2", 1)));
        assert_eq!(get(below("d"), "n"), Some(("4", 2)));
        assert_eq!(get(below("e"), "n"), None);
    }

    #[test]
    fn what_is_no_yaml_is_told_by_line() {
        assert!(matches!(fault("a: 1\nb: [1\n"), (_, YamlFault::Syntax(_))));
        assert!(matches!(fault("a: *x"), (1, YamlFault::Syntax(_))));
        assert_eq!(
            fault("a: 1\n? [b]\n: 2\n").1,
            YamlFault::Key("a key that is no text")
        );
        assert_eq!(
            fault("a: 1\nb: 2\na: 3"),
            (3, YamlFault::Key("a key that is there twice"))
        );
        assert_eq!(fault("a: &x\n  b: *x\n"), (2, YamlFault::Cycle));
        assert_eq!(fault(&"[".repeat(100)), (1, YamlFault::TooDeep));
        let error = parse_yaml(b"a: 1\n\xff").unwrap_err();
        assert_eq!((error.line, error.fault), (2, YamlFault::NotUtf8));
    }

    /// Ten lists of ten of the list before, nine times: a thousand million
    /// items, in a tree of a hundred nodes that cannot be walked.
    #[test]
    fn a_bomb_does_not_go_off() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let before = vec![format!("*a{}", n - 1); 10].join(", ");
            text += &format!("a{n}: &a{n} [{before}]\n");
        }
        fn walk(node: &Node, fuel: &Fuel) -> Result<(), YamlError> {
            if node.text("").is_ok() {
                return Ok(());
            }
            let items = node.items("", fuel)?;
            items.iter().try_for_each(|item| walk(item, fuel))
        }
        let node = one(&text);
        let fuel = Fuel::new();
        let top = node.get("a9", "", &fuel).unwrap().unwrap();
        assert_eq!(walk(top, &fuel).unwrap_err().fault, YamlFault::TooMuch);

        let mut text = String::from("a0: &a0 {k: 1}\n");
        for n in 1..100 {
            text += &format!("a{n}: &a{n} {{<<: [*a{0}, *a{0}]}}\n", n - 1);
        }
        let (node, fuel) = (one(&text), Fuel::new());
        let top = node.get("a99", "", &fuel).unwrap().unwrap();
        let error = top.get("other", "", &fuel).unwrap_err();
        assert_eq!(error.fault, YamlFault::TooMuch);
    }

    proptest! {
        #[test]
        fn any_text(text in r"([ \-?:\[\]{}&*#|>!%'ab,~\n<]{0,10}\n){0,8}") {
            let lines = text.lines().count() + 1;
            match parse_yaml(text.as_bytes()) {
                Err(error) => prop_assert!((1..=lines).contains(&error.line)),
                Ok(documents) => prop_assert!(documents.iter().all(|node| node.line <= lines)),
            }
        }
    }
}
