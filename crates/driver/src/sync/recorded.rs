// SPDX-License-Identifier: MIT OR Apache-2.0
//! The language's atomics, which say what lines of memory they write, to a test that asks: a line that two CPUs write goes to and fro
//! between them, whatever it is that each writes there.

use core::sync::atomic::{self, Ordering};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Bytes of a line.
pub(crate) const LINE: usize = 64;

std::thread_local! {
    static WRITTEN: RefCell<Option<BTreeSet<usize>>> = const { RefCell::new(None) };
}

/// The first addresses of the lines that `run` writes on this thread: by atomics that are these, and where [`write`] says so.
pub(crate) fn lines_of(run: impl FnOnce()) -> BTreeSet<usize> {
    WRITTEN.set(Some(BTreeSet::new()));
    run();
    WRITTEN.take().unwrap_or_default()
}

/// So many bytes are written at an address.
pub(crate) fn write(address: usize, bytes: usize) {
    WRITTEN.with_borrow_mut(|written| {
        if let Some(written) = written {
            let (first, last) = (address / LINE, (address + bytes.max(1) - 1) / LINE);
            written.extend((first..=last).map(|line| line * LINE));
        }
    });
}

macro_rules! recorded {
    ($name:ident$(<$parameter:ident>)?, $value:ty, $($operation:ident),*) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name$(<$parameter>)?(atomic::$name$(<$parameter>)?);

        #[allow(dead_code, reason = "each algorithm uses some of them")]
        impl$(<$parameter>)? $name$(<$parameter>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            fn note(&self) {
                write(core::ptr::from_ref(self) as usize, size_of::<Self>());
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.note();
                self.0.store(value, order);
            }

            pub(crate) fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            /// Whether or not it is exchanged: the line is this CPU's then.
            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.note();
                self.0.compare_exchange(old, new, success, failure)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.note();
                self.0.compare_exchange_weak(old, new, success, failure)
            }

            $(pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                self.note();
                self.0.$operation(value, order)
            })*
        }
    };
}

recorded!(AtomicBool, bool, swap);
recorded!(AtomicUsize, usize, fetch_add, fetch_sub);
recorded!(AtomicPtr<T>, *mut T, swap);
recorded!(AtomicU32, u32, swap);
recorded!(AtomicU64, u64, swap, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor, fetch_max);
