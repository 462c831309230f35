// SPDX-License-Identifier: MIT OR Apache-2.0
//! An IORT with one of everything, byte by byte.

/// Bytes from hexadecimal digits. What follows a `;` on a line is ignored.
pub fn bytes(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split(';').next().unwrap());
    let words = lines.flat_map(str::split_ascii_whitespace);
    let digits: Vec<u8> = words.flat_map(str::bytes).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The sum of its bytes made 0.
pub fn summed(mut table: Vec<u8>) -> Vec<u8> {
    let sum = table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    table[9] = table[9].wrapping_sub(sum);
    table
}

/// A table of these nodes, of revision 6.
pub fn table(count: u32, nodes: &str) -> Vec<u8> {
    let nodes = bytes(nodes);
    let mut table = b"IORT".to_vec();
    table.extend((48 + nodes.len() as u32).to_le_bytes());
    // Revision, checksum, OEM.
    table.extend(b"\x06\x00FIRMWAGOLDEN  \x02\x00\x00\x00MAKE\x01\x00\x00\x00");
    table.extend(count.to_le_bytes());
    // Where the first node is.
    table.extend([0x30, 0, 0, 0, 0, 0, 0, 0]);
    table.extend(nodes);
    summed(table)
}

/// One of everything.
pub fn golden() -> Vec<u8> {
    table(11, NODES)
}

const NODES: &str = "
; 0x30: ITS group of ITS 5 and 3
00 1c00 01 01000000 00000000 00000000
02000000 05000000 03000000
; 0x4c: SMMUv3, revision 5
04 8000 05 02000000 03000000 44000000
0000402b00000000            ; base 0x2b400000
1d000000 00000000           ; coherent, HTTU 2, proximity and DeviceID valid
0000422b00000000            ; VATOS
00000000                    ; generic
6a000000 00000000 6d000000 6c000000 ; event 106, no PRI, errors 109, sync 108
07000000                    ; proximity domain
02000000                    ; its own mapping is number 2
00000000 ffff0000 00000100 30000000 00000000 ; 0..=0xffff -> DeviceIDs from 0x10000
00000100 ff000000 00000900 30000000 00000000 ; 0x10000..=0x100ff -> from 0x90000
00000000 00000000 cdab0000 30000000 01000000 ; itself -> 0xabcd
; 0xcc: SMMUv3 of Cavium, revision 1, everything by one line, no messages
04 4400 01 03000000 00000000 00000000
0000602b00000000 00000000 00000000 0000000000000000
02000000 90000000 90000000 90000000 90000000 00000000 00000000
; 0x110: root complex of segment 1, revision 4
02 5000 04 04000000 02000000 28000000
01000000 00 0000 03         ; coherent
01000000 01000000           ; ATS, segment
30 1400 00 01000000         ; 48-bit addresses, 20-bit PASIDs
00000000 ff000000 00010000 4c000000 00000000 ; 0..=0xff -> streams from 0x100 of the first SMMU
00010000 ff000000 00010000 30000000 00000000 ; 0x100..=0x1ff -> the ITS at once
; 0x160: root complex of segment 0, revision 0, not coherent
02 3400 00 05000000 01000000 20000000
0000000000000000 00000000 00000000
00000000 ffff0000 00000000 cc000000 00000000 ; all -> the second SMMU
; 0x194: named component
01 5000 04 06000000 02000000 28000000
29000000                    ; may stall, 20-bit PASIDs
0000000000000000 20         ; not coherent, 32-bit addresses
5c5f53422e444d413000 00     ; \\_SB.DMA0
00000000 00000000 77000000 4c000000 01000000 ; itself -> stream 0x77
10000000 0f000000 00020000 4c000000 00000000 ; 0x10..=0x1f -> from 0x200
; 0x1e4: RMR, revision 3
06 5800 03 07000000 01000000 1c000000
16000000                    ; write-back, privileged
02000000 30000000
00000000 00000000 77000000 4c000000 01000000 ; stream 0x77
0000008000000000 0000010000000000 00000000   ; 64 KiB at 2 GiB
0000009000000000 0000020000000000 00000000   ; 128 KiB
; 0x23c: PMCG
05 2800 01 08000000 00000000 00000000
0020402b00000000 6e000000 4c000000 0020412b00000000
; 0x264: SMMUv2, with a word of its own
03 1400 03 09000000 00000000 00000000 efbeadde
; 0x278: named component behind it
01 3c00 02 0a000000 01000000 28000000
00000000 0100000000000000 28
5c5f53422e475055 3000 00    ; \\_SB.GPU0
00000000 00000000 01000000 64020000 01000000
; 0x2b4: a type that nobody knows
09 1000 00 0b000000 00000000 00000000
";
