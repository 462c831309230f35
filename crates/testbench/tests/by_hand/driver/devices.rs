// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations: their switches, and what they are told (§4.2, §8.2, §12.3).

use std::ops::Range;

use smmuv3::Mmio;
use smmuv3_formats::command::{AtcInv, PriResp};
use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};
use smmuv3_model::Page;
use smmuv3_testbench::oracle::PAGE;

use super::{Hand, STREAMS};

/// log2 of the entries of queues of page requests.
const REQUESTS_LOG2: u64 = 4;
/// Size of a CMD_ATC_INV that means everything.
const EVERYTHING: u64 = 52;

impl Hand {
    /// Gives an instance a queue for page requests, which nobody reads.
    pub(super) fn enable_requests(&self, instance: usize) {
        let queue = self.allocate(16 << REQUESTS_LOG2);
        let base = PriqBase::default().with_addr(queue).with_log2size(REQUESTS_LOG2);
        let mmio = &self.smmus[instance].mmio;
        mmio.write64(PriqBase::OFFSET, base.0);
        mmio.write32(PriqProd::OFFSET, 0);
        mmio.write32(PriqCons::OFFSET, 0);
    }

    /// Switches ATS and PRI on or off in the device behind `instance`.
    pub fn switch(&mut self, instance: usize, on: bool) {
        let mut model = self.world.machine().model(instance).expect("it is a model");
        let device = model.endpoint_mut(STREAMS[instance]).expect("the device has ATS");
        (device.ats, device.pri) = (on, on);
    }

    /// Switches the device off, and makes it forget everything: all as it must be (§8.2).
    pub fn leave_device(&mut self, instance: usize) {
        self.switch(instance, false);
        self.forget_device(instance);
        self.sync(instance);
    }

    /// Tells the device behind `instance` to forget everything.
    pub fn forget_device(&mut self, instance: usize) {
        let sid = STREAMS[instance].into();
        self.send(instance, AtcInv::new().with_sid(sid).with_size(EVERYTHING));
    }

    /// Tells the device behind `instance` to forget `range`, a power of two of pages.
    pub fn atc_inv(&mut self, instance: usize, range: &Range<u64>) {
        let size = ((range.end - range.start) / PAGE).trailing_zeros();
        let command = AtcInv::new().with_sid(STREAMS[instance].into()).with_addr(range.start);
        self.send(instance, command.with_size(size.into()));
    }

    /// The device behind `instance` asks for a page; the PRGIndex of the group.
    pub fn ask_for_page(&mut self, instance: usize, iova: u64) -> u16 {
        let mut model = self.world.machine().model(instance).expect("it is a model");
        let page = Page { address: iova, read: true, write: false };
        let index = model.ask_for_pages(STREAMS[instance], None, &[page], true);
        index.expect("PRI is on")
    }

    /// As [`Hand::ask_for_page`], for a PASID.
    pub fn ask_for_page_of(&mut self, instance: usize, pasid: u32, iova: u64) -> u16 {
        let mut model = self.world.machine().model(instance).expect("it is a model");
        let page = Page { address: iova, read: true, write: false };
        let index = model.ask_for_pages(STREAMS[instance], Some(pasid), &[page], true);
        index.expect("PRI is on")
    }

    /// As [`Hand::respond`], with the PASID that was asked for.
    pub fn respond_to(&mut self, instance: usize, pasid: u32, index: u16) {
        let command = PriResp::new().with_sid(STREAMS[instance].into()).with_resp(2);
        let command = command.with_ssv(true).with_ssid(pasid.into());
        self.send(instance, command.with_prg_index(index.into()));
        self.sync(instance);
    }

    /// Answers a group: the pages are there.
    pub fn respond(&mut self, instance: usize, index: u16) {
        let command = PriResp::new().with_sid(STREAMS[instance].into()).with_resp(2);
        self.send(instance, command.with_prg_index(index.into()));
        self.sync(instance);
    }

    /// Looks whether every group was answered.
    pub fn judge_answers(&mut self) {
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.all_answered(&self.world);
    }
}
