// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a call that takes a value returns when it cannot do what it was asked.

use core::error::Error;
use core::fmt;

use crate::instance::EnableError;
#[cfg(feature = "alloc")]
use crate::{CloseMasterError, DetachError, StillAttached};

/// A call that would have used up `value` did not: here it is again, and why.
///
/// As an error it is `error`, whatever the value is: it shows the same, and `?` makes a boxed error of it, or `E` itself
/// in a function that returns that.
///
/// ```
/// use smmuv3::{Domain, EnableError, Platform, Probe, Refused, Smmu, StillAttached};
///
/// /// The value does not matter: `?`.
/// fn enable<P: Platform>(probe: Probe<P>) -> Result<Smmu<P>, EnableError> {
///     Ok(probe.enable()?)
/// }
///
/// /// It does.
/// fn close<P: Platform>(domain: Domain<P>, later: &mut Vec<Domain<P>>) {
///     if let Err(Refused { value, error: StillAttached { masters, .. } }) = domain.close() {
///         println!("{masters} masters use it");
///         later.push(value);
///     }
/// }
/// ```
#[must_use]
pub struct Refused<T, E> {
    /// What was handed over.
    pub value: T,
    /// Why it is handed back.
    pub error: E,
}

impl<T, E> Refused<T, E> {
    /// The error alone, for `map_err`; the value is dropped.
    pub fn into_error(self) -> E {
        self.error
    }

    /// The same with what `change` makes of the value: for a layer that wraps it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Refused<U, E> {
        Refused { value: change(self.value), error: self.error }
    }
}

impl<T, E: fmt::Debug> fmt::Debug for Refused<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for Refused<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T, E: Error> Error for Refused<T, E> {
    // It shows `error` itself; naming that as its source would show it twice.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<Refused<T, Self>> for EnableError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

#[cfg(feature = "removal")]
impl<T> From<Refused<T, Self>> for crate::RemoveError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

#[cfg(feature = "alloc")]
impl<T> From<Refused<T, Self>> for StillAttached {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

#[cfg(feature = "alloc")]
impl<T> From<Refused<T, Self>> for CloseMasterError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

#[cfg(feature = "alloc")]
impl<T> From<Refused<T, Self>> for DetachError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::string::ToString;

    #[test]
    fn as_an_error_it_is_the_error_whatever_the_value_is() {
        struct Opaque;
        let refused = || Refused { value: Opaque, error: EnableError::NoMemory };
        let boxed = || -> Result<(), Box<dyn Error>> { Err(refused())? };
        assert_eq!(boxed().unwrap_err().to_string(), EnableError::NoMemory.to_string());
        let alone = || -> Result<(), EnableError> { Err(refused())? };
        assert_eq!(alone(), Err(EnableError::NoMemory));
        assert_eq!(std::format!("{:?}", refused()), "Refused { error: NoMemory, .. }");
    }
}
