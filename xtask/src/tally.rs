// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting what passed, failed and was skipped, and reading those counts from `cargo test`.

use std::fmt;
use std::ops::AddAssign;

/// How many checks and tests ended in each of the three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    pub const ONE_PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub const ONE_FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    pub const ONE_SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What a run of `cargo test` printed, summed over its test binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestRun {
    /// All tests, doc tests included; ignored tests count as skipped.
    pub tally: Tally,
    /// How many of the passed, failed and ignored tests are doc tests.
    pub doc_tests: usize,
}

impl TestRun {
    /// Sums the `test result:` lines of `output`.
    pub fn parse(output: &str) -> Self {
        let mut run = Self::default();
        let mut in_doc_tests = false;
        for line in output.lines() {
            let heading = line.trim_start();
            if heading.starts_with("Doc-tests ") {
                in_doc_tests = true;
            } else if heading.starts_with("Running ") {
                in_doc_tests = false;
            } else if let Some(tally) = parse_result_line(line) {
                run.tally += tally;
                if in_doc_tests {
                    run.doc_tests += tally.passed + tally.failed + tally.skipped;
                }
            }
        }
        run
    }

    /// Corrects the counts by what the harness cannot know.
    ///
    /// A test that skips itself passes as far as the harness is concerned: `skipped_themselves` of
    /// them move from passed to skipped. A run that failed without any failed test (it did not
    /// build, or a test binary was killed) is one failure.
    pub fn corrected(mut self, success: bool, skipped_themselves: usize) -> Self {
        self.tally.passed = self.tally.passed.saturating_sub(skipped_themselves);
        self.tally.skipped += skipped_themselves;
        if !success && self.tally.failed == 0 {
            self.tally.failed = 1;
        }
        self
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; ...`.
///
/// Only at the beginning of a line: an indented one is quoted by a test. `None` for any other line.
fn parse_result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?;
    let mut tally = Tally::default();
    let mut known = 0;
    for part in counts.split(';') {
        let mut words = part.split_whitespace().rev();
        let (Some(what), Some(count)) = (words.next(), words.next()) else { continue };
        let place = match what {
            "passed" => &mut tally.passed,
            "failed" => &mut tally.failed,
            "ignored" => &mut tally.skipped,
            _ => continue,
        };
        *place = count.parse().ok()?;
        known += 1;
    }
    (known == 3).then_some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_BINARIES_AND_DOC_TESTS: &str = "\
     Running unittests src/lib.rs (target/debug/deps/smmuv3-0123)

running 4 tests
test queue::tests::wraps ... ok
test queue::tests::slow ... ignored
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s

     Running tests/scenarios.rs (target/debug/deps/scenarios-4567)
test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s

   Doc-tests smmuv3
test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.30s
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.30s

all doctests ran in 0.91s; merged doctests compilation took 0.60s
";

    #[test]
    fn the_counts_of_all_binaries_are_summed_and_doc_tests_are_among_them() {
        let run = TestRun::parse(TWO_BINARIES_AND_DOC_TESTS);
        assert_eq!(run.tally, Tally { passed: 16, failed: 2, skipped: 2 });
        assert_eq!(run.doc_tests, 9);
    }

    #[test]
    fn doc_tests_end_where_the_next_binary_begins() {
        let reversed = "   Doc-tests a\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n     \
            Running unittests src/lib.rs\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let run = TestRun::parse(reversed);
        assert_eq!((run.tally.passed, run.doc_tests), (5, 2));
    }

    #[test]
    fn lines_that_only_resemble_a_result_count_nothing() {
        for line in [
            "",
            "test result: ok.",
            "test result: ok. 3 passed",
            "test result: ok. x passed; 0 failed; 0 ignored",
            "test result: ok. 99999999999999999999999 passed; 0 failed; 0 ignored",
            "    test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test tally::tests::result: ok. 3 passed; 0 failed; 0 ignored ... ok",
        ] {
            assert_eq!(TestRun::parse(line), TestRun::default(), "{line:?}");
        }
    }

    #[test]
    fn a_test_that_skipped_itself_is_not_counted_as_passed() {
        let run = TestRun { tally: Tally { passed: 5, failed: 0, skipped: 1 }, doc_tests: 0 };
        let corrected = run.corrected(true, 2).tally;
        assert_eq!(corrected, Tally { passed: 3, failed: 0, skipped: 3 });
    }

    #[test]
    fn a_run_that_failed_without_a_failed_test_is_one_failure() {
        let run = TestRun { tally: Tally { passed: 5, failed: 0, skipped: 0 }, doc_tests: 0 };
        assert_eq!(run.corrected(false, 0).tally, Tally { passed: 5, failed: 1, skipped: 0 });
        let run = TestRun { tally: Tally { passed: 5, failed: 2, skipped: 0 }, doc_tests: 0 };
        assert_eq!(run.corrected(false, 0).tally.failed, 2);
    }

    #[test]
    fn a_tally_prints_as_the_closing_line() {
        let tally = Tally { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 3 skipped");
    }
}
