//! Steps: each is one named test on each kernel.

/// One step. `H` is what the steps of a guest work on.
pub struct Step<H> {
    /// `podman::battery::commit`
    pub id: String,
    /// What it is about, as people read it.
    pub row: String,
    /// Whether the steps after it need it.
    pub always: bool,
    /// Whether one kernel is enough.
    pub once: bool,
    /// Whether it can run beside its neighbours.
    pub together: bool,
    /// Does it. A panic is a failure.
    pub run: Box<dyn Fn(&H) -> Seen + Send + Sync>,
}

impl<H> std::fmt::Debug for Step<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

/// What came of a step, in the same few words every time.
#[derive(Debug)]
pub struct Seen {
    /// What was found.
    pub observed: String,
    /// What had to be, on a kernel like this.
    pub expected: String,
}

impl Seen {
    /// What every kernel must do.
    pub fn works() -> Self {
        Self::is("works", "works")
    }

    /// The first was found, the second had to be.
    pub fn is(observed: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            observed: observed.into(),
            expected: expected.into(),
        }
    }
}
