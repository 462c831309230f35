// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests of devices with PRI (§13).

use crate::field::layout;

layout! {
    /// PRI queue entry (§13).
    pub struct PageRequest([u64; 2]) = "PPR", "13" {
        0 bits (31:0)  sid    with_sid    "SID"
        0 bits (51:32) ssid   with_ssid   "SSID"
        0 bit  (58:58) privileged with_privileged "Priv"
        0 bit  (59:59) execute with_execute "X"
        0 bit  (60:60) read   with_read   "R"
        0 bit  (61:61) write  with_write  "W"
        0 bit  (62:62) last   with_last   "Last"
        0 bit  (63:63) ssv    with_ssv    "SSV"

        1 bits (8:0)   prg_index with_prg_index "PRGIndex"
        1 addr (63:12) addr      with_addr      "Addr"
    }
}

impl PageRequest {
    /// Whether this marks the end of a PASID's use and asks for no response (§13).
    pub const fn is_stop_marker(&self) -> bool {
        self.ssv() && self.last() && !self.read() && !self.write()
    }
}
