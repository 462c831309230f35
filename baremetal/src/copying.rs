// SPDX-License-Identifier: MIT OR Apache-2.0
//! `memcpy` and `memset` as a kernel has them: many bytes an instruction. Those of the compiler's own library are weak, and
//! take an instruction for every other byte, which would be most of what is counted where buffers are copied.
//!
//! Only aligned accesses: the target asks for that.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.memcpy, "ax"
    .global memcpy
    .type memcpy, @function
memcpy:
    mov     x3, x0
    eor     x4, x0, x1
    tst     x4, #7
    b.ne    5f
    // Bytes until both are aligned.
1:  tst     x3, #7
    b.eq    2f
    cbz     x2, 6f
    ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    sub     x2, x2, #1
    b       1b
2:  subs    x2, x2, #64
    b.lo    3f
8:  ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    ldp     x8, x9, [x1], #16
    ldp     x10, x11, [x1], #16
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
    stp     x8, x9, [x3], #16
    stp     x10, x11, [x3], #16
    subs    x2, x2, #64
    b.hs    8b
3:  add     x2, x2, #64
4:  subs    x2, x2, #8
    b.lo    7f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
    b       4b
7:  add     x2, x2, #8
5:  cbz     x2, 6f
    ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    sub     x2, x2, #1
    b       5b
6:  ret
    .size memcpy, . - memcpy

    .section .text.memset, "ax"
    .global memset
    .type memset, @function
memset:
    mov     x3, x0
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
1:  tst     x3, #7
    b.eq    2f
    cbz     x2, 6f
    strb    w1, [x3], #1
    sub     x2, x2, #1
    b       1b
2:  subs    x2, x2, #64
    b.lo    3f
8:  stp     x1, x1, [x3], #16
    stp     x1, x1, [x3], #16
    stp     x1, x1, [x3], #16
    stp     x1, x1, [x3], #16
    subs    x2, x2, #64
    b.hs    8b
3:  add     x2, x2, #64
4:  subs    x2, x2, #8
    b.lo    7f
    str     x1, [x3], #8
    b       4b
7:  add     x2, x2, #8
5:  cbz     x2, 6f
    strb    w1, [x3], #1
    sub     x2, x2, #1
    b       5b
6:  ret
    .size memset, . - memset
    "#
);
