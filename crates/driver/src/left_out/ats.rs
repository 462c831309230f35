// SPDX-License-Identifier: MIT OR Apache-2.0
//! No devices that keep translations or ask for pages (feature `ats`). [`Features`](crate::Features) says that no
//! instance can have them.

/// No queue of page requests (§13).
pub(crate) mod pri_queue {
    use smmuv3_formats::PageRequest;
    use smmuv3_formats::register::PriqBase;

    use crate::platform::Platform;
    use crate::queue::Size;

    /// The queue of page requests: there is none without the feature `ats`.
    #[derive(Debug)]
    pub enum PriQueue {}

    impl PriQueue {
        pub(crate) unsafe fn new<P: Platform>(_: &P, _: Size) -> Option<Self> {
            None
        }

        pub(crate) fn move_to_page_0(&mut self) {
            match *self {}
        }

        pub(crate) unsafe fn free<P: Platform>(self, _: &P) {
            match self {}
        }

        #[cfg(feature = "alloc")]
        pub(crate) fn size(&self) -> Size {
            match *self {}
        }

        pub(crate) fn base_register(&self) -> PriqBase {
            match *self {}
        }

        pub(crate) fn restart<P: Platform>(
            &self,
            _: &P,
            _: &P::Mmio,
            _: &mut dyn FnMut(PageRequest),
        ) {
            match *self {}
        }

        pub(crate) fn aborted<P: Platform>(&self, _: &P) {
            match *self {}
        }

        pub(crate) fn forget_indices<P: Platform>(&self, _: &P) {
            match *self {}
        }
    }
}

#[cfg(feature = "alloc")]
pub(crate) use with_heap::{devices, gather, page_group, silent};

#[cfg(feature = "alloc")]
mod with_heap {
    /// No devices.
    pub(crate) mod devices {
        use smmuv3_formats::StreamId;

        use crate::error::{Failure, InstanceId};
        use crate::instance::Instance;
        use crate::invalidate::Scope;
        use crate::iommu::Core;
        use crate::master::MasterState;
        use crate::place::User;
        use crate::platform::Platform;
        use crate::shared::NoMemory;
        use crate::space::{Progress, Space, Targets};

        /// A device that an invalidation must reach: of those that there are none of, a list takes no memory.
        #[derive(Clone, Copy)]
        pub(crate) struct Device;

        impl Device {
            pub(crate) const fn new(_: InstanceId, _: StreamId, _: User) -> Self {
                Self
            }

            pub(crate) const fn is_of(&self, _: User) -> bool {
                false
            }

            pub(crate) const fn key(&self) {}
        }

        #[cfg(feature = "nested")]
        pub(crate) fn entry_changed(stream: StreamId) -> smmuv3_formats::Command {
            smmuv3_formats::command::CfgiSte::new()
                .with_sid(u64::from(stream.0))
                .with_leaf(true)
                .into()
        }

        pub(crate) const fn is_of_device(_: &Failure) -> bool {
            false
        }

        impl<P: Platform> Instance<P> {
            /// Entries that a predecessor had put in quarantine are as any that abort.
            pub(crate) fn cut_off_before(&self, _: &P, _: &[StreamId]) -> Result<(), NoMemory> {
                Ok(())
            }
        }

        #[cfg(feature = "nested")]
        impl<P: Platform> Instance<P> {
            pub(crate) fn is_quarantined(&self, _: &P, _: StreamId) -> bool {
                false
            }

            pub(crate) fn quarantine(&self, _: &P, _: StreamId) -> bool {
                false
            }

            pub(crate) fn tell_of(&self, _: &P, _: StreamId) {}

            #[cfg(feature = "nested")]
            pub(crate) fn may_keep(&self, _: &P, _: StreamId) -> bool {
                false
            }
        }

        impl MasterState {
            pub(crate) fn quarantined<P: Platform>(
                &self,
                _: &P,
                _: &Instance<P>,
            ) -> Option<StreamId> {
                None
            }

            pub(crate) fn forget_kept<P: Platform>(
                &self,
                _: &Core<P>,
                _: &Instance<P>,
                _: u32,
            ) -> Result<(), Failure> {
                Ok(())
            }

            pub(crate) fn switch_off<P: Platform>(&mut self, _: &Core<P>) {}

            pub(crate) fn switch_on<P: Platform>(
                &mut self,
                _: &Core<P>,
                _: &Instance<P>,
            ) -> Result<(), Failure> {
                Ok(())
            }
        }

        impl<P: Platform> Space<P> {
            pub(crate) fn tell_devices<T>(
                &self,
                _: &Targets,
                _: (InstanceId, &Instance<P>),
                _: T,
                _: Scope,
                _: &mut Progress,
            ) -> bool {
                false
            }

            pub(crate) fn forget_kept(
                &self,
                _: InstanceId,
                _: Scope,
                _: bool,
            ) -> Result<(), Failure> {
                Ok(())
            }
        }
    }

    /// Nobody to tell of.
    pub(crate) mod silent {
        use smmuv3_formats::StreamId;

        use crate::platform::Platform;
        use crate::shared::NoMemory;

        pub(crate) struct Silent;

        impl Silent {
            pub(crate) const fn new() -> Self {
                Self
            }

            pub(crate) fn reserve<P: Platform>(
                &self,
                _: &P,
                _: &[StreamId],
            ) -> Result<(), NoMemory> {
                Ok(())
            }

            pub(crate) fn take<P: Platform>(&self, _: &P) -> Option<StreamId> {
                None
            }

            pub(crate) const fn is_any(&self) -> bool {
                false
            }
        }
    }

    /// No page requests.
    pub(crate) mod gather {
        use crate::shared::NoMemory;
        use crate::statistics::PageStatistics;

        pub(crate) struct Gather {
            pub(crate) pending: Nothing,
            pub(crate) counts: Nothing,
        }

        pub(crate) struct Nothing;

        impl Gather {
            pub(crate) const fn new(_: u32) -> Result<Self, NoMemory> {
                Ok(Self { pending: Nothing, counts: Nothing })
            }
        }

        impl Nothing {
            pub(crate) const fn count(&self) -> usize {
                0
            }

            pub(crate) fn statistics(&self) -> PageStatistics {
                PageStatistics::default()
            }
        }
    }

    /// No groups of them.
    pub(crate) mod page_group {
        use core::convert::Infallible;
        use core::fmt;
        use core::marker::PhantomData;

        use smmuv3_formats::Command;

        use crate::error::{Failure, InstanceId};
        use crate::fault::Report;
        use crate::instance::Instance;
        use crate::iommu::Core;
        use crate::master::MasterState;
        use crate::page_request::Answer;
        use crate::platform::Platform;
        use crate::shared::Shared;

        /// Pages that a device asks for: there are none without the feature `ats`.
        pub struct PageGroup<P: Platform> {
            none: Infallible,
            of: PhantomData<P>,
        }

        impl<P: Platform> fmt::Debug for PageGroup<P> {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.none {}
            }
        }

        impl<P: Platform> fmt::Display for PageGroup<P> {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.none {}
            }
        }

        impl<P: Platform> PartialEq for PageGroup<P> {
            fn eq(&self, _: &Self) -> bool {
                match self.none {}
            }
        }

        /// Which of a master's groups are over.
        pub(crate) enum Which {
            All,
            Substream(u32),
        }

        pub(crate) fn end<P: Platform>(
            _: &Core<P>,
            _: &Instance<P>,
            _: &MasterState,
            _: Which,
            _: Option<Answer>,
        ) -> Result<(), Failure> {
            Ok(())
        }

        pub(crate) fn drain<P: Platform>(
            _: &Shared<Core<P>>,
            _: InstanceId,
            _: &Instance<P>,
            _: usize,
            _: &mut dyn FnMut(Report<P>),
        ) -> bool {
            false
        }

        pub(crate) fn give_owed<P: Platform>(_: &Core<P>, _: &Instance<P>, _: &mut usize) -> bool {
            true
        }

        pub(crate) fn aborted<P: Platform>(_: &P, _: &Instance<P>, _: &mut dyn FnMut(Report<P>)) {}

        pub(crate) fn restart<P: Platform>(_: &P, _: &Instance<P>) {}

        pub(crate) fn unheard<P: Platform>(_: &P, _: &Instance<P>, _: Command) {}

        pub(crate) fn answer_all<P: Platform>(_: &P, _: &Instance<P>) -> Result<(), Failure> {
            Ok(())
        }

        pub(crate) fn forget<P: Platform>(_: &P, _: &Instance<P>) {}

        pub(crate) const fn share(_: usize, _: u32) -> u64 {
            0
        }

        pub(crate) fn taken<'a>(_: impl Iterator<Item = &'a MasterState>) -> u64 {
            0
        }
    }
}
