// SPDX-License-Identifier: MIT OR Apache-2.0
//! No guests (feature `nested`).

pub(crate) mod state {
    use core::convert::Infallible;

    use smmuv3_formats::Ste;

    use crate::attach::{AttachError, Goal};
    use crate::configuration::Configuration;
    use crate::entry::Stage2;
    use crate::features::Features;
    use crate::instance::Instance;
    use crate::iommu::Core;
    use crate::platform::Platform;
    use crate::shared::Shared;
    use crate::space::Space;
    use crate::targets::Retired;

    /// The SMMU of a guest.
    pub(crate) enum NestState {}

    impl NestState {
        pub(crate) const fn has_page_requests(&self) -> bool {
            match *self {}
        }
    }

    /// What a guest asks of a master.
    pub(crate) struct Nesting<P: Platform> {
        pub(crate) space: Shared<Space<P>>,
        _none: Infallible,
    }

    /// What changes in what guests are given.
    pub(crate) struct Moves;

    impl Moves {
        #[expect(clippy::unnecessary_wraps, reason = "as where there are guests")]
        pub(crate) fn prepare<P: Platform>(
            _: &Configuration<P>,
            _: usize,
            _: u32,
            _: &Goal<'_, P>,
        ) -> Result<Self, AttachError> {
            Ok(Self)
        }

        pub(crate) fn enter<P: Platform>(
            &mut self,
            _: &mut Configuration<P>,
            _: usize,
            _: &Features,
            _: Option<Stage2>,
            _: &Goal<'_, P>,
        ) -> (Option<Ste>, Option<Retired<Infallible>>) {
            (None, None)
        }

        pub(crate) fn begin<P: Platform>(
            &self,
            _: &Core<P>,
            _: &Configuration<P>,
            _: &Instance<P>,
            _: usize,
            _: &Goal<'_, P>,
        ) {
        }

        pub(crate) fn end<P: Platform>(&self, _: &Configuration<P>, _: usize) {}

        pub(crate) fn leaves_nobody(&self) -> bool {
            true
        }

        pub(crate) fn emptied(&self) -> [Option<u16>; 2] {
            [None; 2]
        }

        pub(crate) fn leave<P: Platform>(
            &mut self,
            _: &mut Configuration<P>,
            _: usize,
        ) -> [Option<Retired<Infallible>>; 2] {
            [None, None]
        }
    }
}
