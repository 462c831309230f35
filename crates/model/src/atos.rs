// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation operations (§2.5): software asks what an address translates to. They use the caches that
//! transactions use, and fill them.
//!
//! An operation takes as many register reads as a handshake, or more. Of a stream whose both stages are on, stage 1 alone cannot
//! be asked for: it ends in INTERNAL_ERR.

use smmuv3_formats::register::{GatosAddr, GatosCtrl, GatosPar, GatosParFault, GatosSid};

use crate::context::Route;
use crate::fault::Stop;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;
use crate::transaction::{Access, Reason, Translation};
use crate::translate::Way;

/// The request cannot be carried out as it is.
const INV_REQ: u64 = 0xff;
/// A stage is asked for that the stream does not have.
const INV_STAGE: u64 = 0xfe;
/// It could not be completed.
const INTERNAL_ERR: u64 = 0xfd;

/// What is asked for (GATOS_ADDR.TYPE).
const STAGE_1: u64 = 1;
const STAGE_2: u64 = 2;
const BOTH: u64 = 3;

/// The registers of an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Atos {
    pub(crate) run: bool,
    /// Reads until it is over.
    pub(crate) wait: u32,
    pub(crate) sid: GatosSid,
    pub(crate) addr: GatosAddr,
    /// The result, of either form.
    pub(crate) par: u64,
}

impl<M: Memory> Model<M> {
    /// GATOS_CTRL is written.
    pub(crate) fn start_operation(&mut self, value: u32) {
        let run = GatosCtrl(value).run();
        if !self.profile.idr0.atos() || !run || self.registers.atos.run {
            return self.misuse(Misuse::NotWritable { offset: GatosCtrl::OFFSET });
        }
        if !self.registers.enabled() {
            return self
                .misuse(Misuse::GuardedWrite { offset: GatosCtrl::OFFSET, value: value.into() });
        }
        self.registers.atos.run = true;
        self.registers.atos.wait = self.draw_operation_delay();
    }

    /// SMMUEN became 0: what runs is over (§2.4).
    pub(crate) fn abandon_operation(&mut self) {
        if self.registers.atos.run {
            self.finish_operation(failed(INTERNAL_ERR, 0, 0));
        }
    }

    /// Carries out the operation whose time has come.
    pub(crate) fn run_operation(&mut self) {
        if !self.registers.atos.run || self.registers.atos.wait != 0 {
            return;
        }
        let result = self.operation();
        self.finish_operation(result);
    }

    fn finish_operation(&mut self, result: u64) {
        self.registers.atos.par = result;
        self.registers.atos.run = false;
    }

    fn operation(&mut self) -> u64 {
        let (sid, addr) = (self.registers.atos.sid, self.registers.atos.addr);
        let access = Access {
            stream: sid.stream_id() as u32,
            substream: sid.ssid_valid().then_some(sid.substream_id() as u32),
            address: addr.addr(),
            write: !addr.rnw(),
            privileged: addr.pnu(),
            instruction: addr.ind() && addr.rnw(),
        };
        let idr0 = self.profile.idr0;
        let known = match addr.kind() {
            STAGE_1 => idr0.s1p(),
            // An intermediate address has no substream.
            STAGE_2 => idr0.s2p() && access.substream.is_none(),
            BOTH => idr0.s1p() && idr0.s2p(),
            _ => false,
        };
        if !known {
            return failed(INV_REQ, 0, 0);
        }
        // What finds its own way to an event needs no stage.
        if let Some(error) = self.stages(access.stream, addr.kind()) {
            return failed(error, 0, 0);
        }
        // Without marking anything as written. Access flags may be set at any time, also without need (§14).
        let way = if addr.httui() { Way::Late } else { Way::Now };
        let found = match addr.kind() {
            STAGE_2 if self.stage_2_of(access.stream).is_some() => self.second_alone(access, way),
            _ => self.resolve(access, way).map(|it| it.translation),
        };
        match found {
            Ok(found) => result(&found),
            Err(stop) => refused(&stop),
        }
    }

    /// Why the stream does not have what is asked for.
    fn stages(&mut self, stream: u32, kind: u64) -> Option<u64> {
        let (route, _) = self.route(stream, false).ok()?;
        match (route, kind) {
            (Route::Stage1(contexts), STAGE_1) if contexts.nested => Some(INTERNAL_ERR),
            (Route::Stage1(contexts), BOTH) if contexts.nested => None,
            (Route::Stage1(contexts), STAGE_2) if contexts.nested => None,
            (Route::Stage1(_), STAGE_1) | (Route::Stage2, STAGE_2) => None,
            (Route::Stage1(_) | Route::Stage2 | Route::Bypass, _) => Some(INV_STAGE),
            (Route::Illegal | Route::Abort | Route::Unsupported(_), _) => None,
        }
    }
}

/// GATOS_PAR of a translation. Its attributes are not told: the model has none.
fn result(found: &Translation) -> u64 {
    let page = found.pa & !0xfff;
    if found.size <= 0x1000 {
        return GatosPar::default().with_addr(page).0;
    }
    // The lowest set bit says the size.
    let address = page & !(found.size - 1) | found.size >> 1;
    GatosPar::default().with_size(true).with_addr(address).0
}

fn refused(stop: &Stop) -> u64 {
    match (&stop.event, &stop.reason) {
        (Some(event), _) => {
            let reason = match (event.s2(), event.class()) {
                (false, _) => 0,
                (true, class) => class + 1,
            };
            failed(event.id(), reason, if event.s2() { event.fetch_addr() } else { 0 })
        }
        (None, Reason::Event(id) | Reason::Ignored(id)) => failed(*id as u64, 0, 0),
        (None, _) => failed(INV_STAGE, 0, 0),
    }
}

fn failed(code: u64, reason: u64, address: u64) -> u64 {
    let par = GatosParFault::default().with_fault(true).with_fault_code(code);
    par.with_reason(reason).with_faddr(address & !0xfff).0
}
