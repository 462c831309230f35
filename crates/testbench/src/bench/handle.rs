// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver gave, and may be given back while the run goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle of the driver's, or none at the moment.
pub(crate) struct Handle<T>(Mutex<Option<Arc<T>>>);

impl<T> Handle<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Some(Arc::new(value))))
    }

    pub(crate) const fn none() -> Self {
        Self(Mutex::new(None))
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It, for a call.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.place().clone()
    }

    /// It, to be given back; `None` also while somebody uses it.
    pub(crate) fn take(&self) -> Option<T> {
        self.place().take().and_then(Arc::into_inner)
    }

    /// Another one in its place.
    pub(crate) fn put(&self, value: T) {
        *self.place() = Some(Arc::new(value));
    }
}
