// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields as the architecture prints them, and the macro that turns a list of them into a type.

use core::fmt;

/// One field of a structure: bits `hi:lo` of 64-bit word `word`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The architecture's name.
    pub name: &'static str,
    /// Index of the 64-bit word that holds it.
    pub word: usize,
    /// Highest bit, inclusive.
    pub hi: u32,
    /// Lowest bit, inclusive.
    pub lo: u32,
    /// Whether the value is an address: it is read and written in place, not shifted down.
    pub address: bool,
}

impl Field {
    /// The bits of its word that the field takes.
    pub const fn mask(&self) -> u64 {
        mask(self.hi, self.lo)
    }

    /// The field's value in `word`, the word that holds it.
    pub const fn extract(&self, word: u64) -> u64 {
        if self.address { word & self.mask() } else { (word & self.mask()) >> self.lo }
    }

    /// `word` with the field replaced by `value`.
    ///
    /// # Errors
    /// [`DoesNotFit`] when `value` has bits that the field cannot hold.
    pub const fn insert(&self, word: u64, value: u64) -> Result<u64, DoesNotFit> {
        let max = if self.address { self.mask() } else { self.mask() >> self.lo };
        if value & !max != 0 {
            return Err(DoesNotFit { field: *self, value });
        }
        let bits = if self.address { value } else { value << self.lo };
        Ok(word & !self.mask() | bits)
    }
}

/// `name[hi:lo]`, or `name[bit]`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hi == self.lo {
            write!(f, "{}[{}]", self.name, self.lo)
        } else {
            write!(f, "{}[{}:{}]", self.name, self.hi, self.lo)
        }
    }
}

/// A value has bits outside the field it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotFit {
    /// The field.
    pub field: Field,
    /// The value.
    pub value: u64,
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} does not fit in {}", self.value, self.field)
    }
}

impl core::error::Error for DoesNotFit {}

/// A structure made of fields. Its types are those of this crate, all listed in
/// [`structure::ALL`](crate::structure::ALL).
pub trait Layout: crate::structure::Listed {
    /// The architecture's name of the structure.
    const NAME: &'static str;
    /// Section of the architecture reference that lists it.
    const SECTION: &'static str;
    /// 64-bit words it takes (1 for a 32-bit register too).
    const WORDS: usize;
    /// Bits of the whole: 32 for a 32-bit register.
    const BITS: u32;
    /// Offset in bytes of a register.
    const AT: Option<u32>;
    /// Its fields, in order of word and bit, without overlap.
    const FIELDS: &'static [Field];

    /// The 64-bit word at `index`; zero beyond the end.
    fn word(&self, index: usize) -> u64;

    /// Writes the structure's name and its non-zero fields.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct(Self::NAME);
        for field in Self::FIELDS {
            let value = field.extract(self.word(field.word));
            if value != 0 {
                out.field(field.name, &format_args!("{value:#x}"));
            }
        }
        out.finish()
    }
}

/// Bits `hi:lo`, inclusive.
pub(crate) const fn mask(hi: u32, lo: u32) -> u64 {
    (u64::MAX >> (63 - hi)) & (u64::MAX << lo)
}

/// Declares a structure from its fields.
///
/// A row is `word kind bits getter builder "Name"`: kind `bit` is a `bool`, `bits` a number shifted
/// down to bit 0, `addr` an address read in place. The builder takes what the getter gives; a value that
/// does not fit is a bug of the caller, found by a debug assertion and cut to the field otherwise.
macro_rules! layout {
    // A structure of several words.
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident([u64; $words:literal]) = $title:literal, $section:literal {
            $($w:literal $kind:ident ($hi:literal : $lo:literal) $get:ident $with:ident $field:literal)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        $vis struct $name(pub [u64; $words]);

        impl $name {
            $($crate::field::layout!{@accessors $kind $w $hi $lo $get $with $field})*

            const fn raw(&self, index: usize) -> u64 {
                self.0[index]
            }

            const fn replaced(mut self, index: usize, word: u64) -> Self {
                self.0[index] = word;
                self
            }
        }

        impl $crate::field::Layout for $name {
            const NAME: &'static str = $title;
            const SECTION: &'static str = $section;
            const WORDS: usize = $words;
            const BITS: u32 = 64 * $words;
            const AT: Option<u32> = None;
            const FIELDS: &'static [$crate::field::Field] =
                &[$($crate::field::layout!{@field $kind $w $hi $lo $field}),*];

            fn word(&self, index: usize) -> u64 {
                self.0.get(index).copied().unwrap_or(0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::field::Layout::describe(self, f)
            }
        }
    };

    // A register: one 32-bit or 64-bit number at an offset.
    (
        $(#[$doc:meta])*
        $vis:vis register $name:ident($int:ty) = $title:literal @ $offset:literal, $section:literal {
            $($kind:ident ($hi:literal : $lo:literal) $get:ident $with:ident $field:literal)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        $vis struct $name(pub $int);

        impl $name {
            /// Offset in bytes from the first page of the instance's registers.
            pub const OFFSET: u32 = $offset;

            $($crate::field::layout!{@accessors $kind 0 $hi $lo $get $with $field})*

            #[allow(dead_code, reason = "a register without fields has no accessor")]
            const fn raw(&self, _index: usize) -> u64 {
                self.0 as u64
            }

            #[allow(dead_code, reason = "a register without fields has no builder")]
            const fn replaced(self, _index: usize, word: u64) -> Self {
                Self(word as $int)
            }
        }

        impl $crate::field::Layout for $name {
            const NAME: &'static str = $title;
            const SECTION: &'static str = $section;
            const WORDS: usize = 1;
            const BITS: u32 = <$int>::BITS;
            const AT: Option<u32> = Some($offset);
            const FIELDS: &'static [$crate::field::Field] =
                &[$($crate::field::layout!{@field $kind 0 $hi $lo $field}),*];

            fn word(&self, index: usize) -> u64 {
                if index == 0 { u64::from(self.0) } else { 0 }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::field::Layout::describe(self, f)
            }
        }
    };

    (@field $kind:ident $w:literal $hi:literal $lo:literal $field:literal) => {
        $crate::field::Field {
            name: $field,
            word: $w,
            hi: $hi,
            lo: $lo,
            address: $crate::field::layout!(@is_address $kind),
        }
    };
    (@is_address addr) => { true };
    (@is_address $kind:ident) => { false };

    (@accessors bit $w:literal $hi:literal $lo:literal $get:ident $with:ident $field:literal) => {
        #[doc = concat!("`", $field, "`, bit ", $lo, " of word ", $w, ".")]
        pub const fn $get(&self) -> bool {
            const { assert!($hi == $lo) };
            self.raw($w) >> $lo & 1 == 1
        }

        #[doc = concat!("With `", $field, "`, bit ", $lo, " of word ", $w, ".")]
        #[must_use]
        pub const fn $with(self, value: bool) -> Self {
            self.replaced($w, self.raw($w) & !(1 << $lo) | (value as u64) << $lo)
        }
    };
    (@accessors bits $w:literal $hi:literal $lo:literal $get:ident $with:ident $field:literal) => {
        #[doc = concat!("`", $field, "`, bits ", $hi, ":", $lo, " of word ", $w, ".")]
        pub const fn $get(&self) -> u64 {
            self.raw($w) >> $lo & $crate::field::mask($hi - $lo, 0)
        }

        #[doc = concat!("With `", $field, "`, bits ", $hi, ":", $lo, " of word ", $w, ".")]
        #[must_use]
        pub const fn $with(self, value: u64) -> Self {
            debug_assert!(value & !$crate::field::mask($hi - $lo, 0) == 0);
            let mask = $crate::field::mask($hi, $lo);
            self.replaced($w, self.raw($w) & !mask | value << $lo & mask)
        }
    };
    (@accessors addr $w:literal $hi:literal $lo:literal $get:ident $with:ident $field:literal) => {
        #[doc = concat!("`", $field, "`, the address in bits ", $hi, ":", $lo, " of word ", $w, ", in place.")]
        pub const fn $get(&self) -> u64 {
            self.raw($w) & $crate::field::mask($hi, $lo)
        }

        #[doc = concat!("With `", $field, "`, the address in bits ", $hi, ":", $lo, " of word ", $w, ", in place.")]
        #[must_use]
        pub const fn $with(self, value: u64) -> Self {
            let mask = $crate::field::mask($hi, $lo);
            debug_assert!(value & !mask == 0);
            self.replaced($w, self.raw($w) & !mask | value & mask)
        }
    };
}
pub(crate) use layout;
