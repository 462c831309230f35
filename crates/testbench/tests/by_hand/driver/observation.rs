// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking an SMMU what an address translates to (§2.5).

use smmuv3::{Mmio, Platform};
use smmuv3_formats::register::{GatosAddr, GatosCtrl, GatosPar, GatosSid};

use super::{Hand, STREAMS};

/// GATOS_ADDR.TYPE of stage 1.
const STAGE_1: u64 = 1;

impl Hand {
    /// Asks `instance` where `iova` leads.
    pub fn ask(&mut self, instance: usize, iova: u64) {
        let mmio = &self.smmus[instance].mmio;
        let sid = GatosSid::default().with_stream_id(STREAMS[instance].into());
        mmio.write64(GatosSid::OFFSET, sid.0);
        let addr = GatosAddr::default().with_addr(iova).with_kind(STAGE_1).with_rnw(true);
        mmio.write64(GatosAddr::OFFSET, addr.0);
        mmio.write32(GatosCtrl::OFFSET, GatosCtrl::default().with_run(true).0);
    }

    /// Waits for the answer.
    pub fn answered(&mut self, instance: usize) -> GatosPar {
        let mmio = &self.smmus[instance].mmio;
        while GatosCtrl(mmio.read32(GatosCtrl::OFFSET)).run() {
            self.platform.relax();
        }
        let half = |at| u64::from(mmio.read32(at));
        GatosPar(half(GatosPar::OFFSET) | half(GatosPar::OFFSET + 4) << 32)
    }
}
