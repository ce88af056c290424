//! Trying again what the network refused for the moment.

use std::time::{Duration, Instant};

use crate::{
    error::with_causes,
    source::{Failing, SourceError},
};

/// How long to try again what failed in a way that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The longest time from the first failure to the last try.
    pub limit: Duration,
    /// The first pause; each next is twice as long, up to [`LONGEST_PAUSE`].
    pub first_pause: Duration,
}

/// The longest pause between two tries.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A failure that is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed<'a> {
    /// This one, with its causes.
    Anew(&'a str),
    /// The same as before.
    SameAgain,
}

impl<'a> Failed<'a> {
    /// What people are told.
    pub(crate) fn text(self) -> &'a str {
        match self {
            Self::Anew(text) => text,
            Self::SameAgain => "the same again",
        }
    }
}

impl Retry {
    /// Never.
    pub const NEVER: Self = Self::within(Duration::ZERO);

    /// With pauses of 1, 2, 4 .. seconds, as long as `limit`.
    pub const fn within(limit: Duration) -> Self {
        Self {
            limit,
            first_pause: Duration::from_secs(1),
        }
    }

    /// Does `attempt` until it succeeds, fails for good, or the limit is
    /// reached; `tell` hears of each failure that is to be tried again, and
    /// whether it is the same as the one before it.
    pub(crate) fn run<T>(
        self,
        mut attempt: impl FnMut() -> Result<T, SourceError>,
        tell: impl Fn(Failed<'_>, Duration),
    ) -> Result<T, SourceError> {
        let mut pause = self.first_pause;
        let mut first_failure = None;
        let mut last: Option<String> = None;
        loop {
            let error = match attempt() {
                Err(error) if error.failing() == Failing::Transient => error,
                done => return done,
            };
            let since = *first_failure.get_or_insert_with(Instant::now);
            if since.elapsed() + pause > self.limit {
                return Err(error);
            }
            let text = with_causes(&error);
            match last.as_deref() == Some(text.as_str()) {
                true => tell(Failed::SameAgain, pause),
                false => tell(Failed::Anew(&text), pause),
            }
            last = Some(text);
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failure(failing: Failing) -> SourceError {
        SourceError::Skopeo {
            doing: "inspect",
            reference: "docker://localhost/x".into(),
            message: "connection refused".into(),
            failing,
        }
    }

    /// Tries with a first pause of 1 ms: how often it tried and told, and
    /// whether it succeeded.
    fn tries(limit_ms: u64, outcome: impl Fn(u32) -> Option<Failing>) -> (u32, u32, bool) {
        let retry = Retry {
            limit: Duration::from_millis(limit_ms),
            first_pause: Duration::from_millis(1),
        };
        let (tried, told) = (Cell::new(0), Cell::new(0));
        let attempt = || {
            tried.set(tried.get() + 1);
            outcome(tried.get()).map_or(Ok(()), |failing| Err(failure(failing)))
        };
        let done = retry.run(attempt, |failed, _| {
            let anew = matches!(failed, Failed::Anew(_));
            assert_eq!(anew, told.get() == 0, "all failures are alike");
            told.set(told.get() + 1);
        });
        (tried.get(), told.get(), done.is_ok())
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_within_the_limit() {
        assert_eq!(tries(1000, |_| None), (1, 0, true));
        let third = |n| (n < 3).then_some(Failing::Transient);
        assert_eq!(tries(1000, third), (3, 2, true));
        assert_eq!(tries(1000, |_| Some(Failing::Denied)), (1, 0, false));
        assert_eq!(tries(0, |_| Some(Failing::Transient)), (1, 0, false));
        let (tried, told, done) = tries(100, |_| Some(Failing::Transient));
        // 1, 2, 4 .. 32 ms make 63; the next pause would be 64.
        assert!((2..=7).contains(&tried), "{tried}");
        assert_eq!((told, done), (tried - 1, false));
    }
}
