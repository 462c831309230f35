// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the page calls in the WebAssembly module.
//!
//! A *block* is memory of this module: its first four bytes are a number of bytes, little-endian, and
//! that many bytes follow. The page asks for one ([`block_new`]), fills it, and hands it over; what it
//! gets back is one too, which it reads and gives up ([`block_free`]).

use std::cell::RefCell;

use crate::Log;

/// Bytes before those that are counted.
const HEAD: usize = 4;

thread_local! {
    /// The log that is being read. A page reads one at a time.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// A block of `len` bytes, all zero; null where that is more than a block can have, or than there is.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub extern "C" fn block_new(len: usize) -> *mut u8 {
    blank(len).map_or(std::ptr::null_mut(), hand_over)
}

/// Gives a block up.
///
/// # Safety
/// `block` is null, or came from a function of this module and was handed over to none since.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub unsafe extern "C" fn block_free(block: *mut u8) {
    // SAFETY: the caller's promise is `take`'s.
    drop(unsafe { take(block) });
}

/// The answer to the question in `block`.
///
/// # Safety
/// As [`block_free`].
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub unsafe extern "C" fn ask(block: *mut u8) -> *mut u8 {
    // SAFETY: the caller's promise is `take`'s.
    let question = unsafe { take(block) };
    give(crate::answer(&String::from_utf8_lossy(content(&question))).as_bytes())
}

/// Begins a log; one that was begun before is forgotten. The block has the options, as in the question
/// `log`.
///
/// # Safety
/// As [`block_free`].
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub unsafe extern "C" fn log_open(block: *mut u8) {
    // SAFETY: the caller's promise is `take`'s.
    let options = unsafe { take(block) };
    let log = Log::new(&String::from_utf8_lossy(content(&options)));
    LOG.with_borrow_mut(|open| *open = Some(log));
}

/// The next piece of the log, wherever it was cut.
///
/// # Safety
/// As [`block_free`].
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub unsafe extern "C" fn log_feed(block: *mut u8) {
    // SAFETY: the caller's promise is `take`'s.
    let piece = unsafe { take(block) };
    LOG.with_borrow_mut(|open| {
        if let Some(log) = open {
            log.feed(content(&piece));
        }
    });
}

/// The answer about the log that was begun; `{}` where none was.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub extern "C" fn log_close() -> *mut u8 {
    let answer = LOG.take().map_or_else(|| "{}".to_owned(), Log::finish);
    give(answer.as_bytes())
}

/// A block with these bytes; null where there is no memory for it.
fn give(bytes: &[u8]) -> *mut u8 {
    let Some(mut block) = blank(bytes.len()) else { return std::ptr::null_mut() };
    if let Some(content) = block.get_mut(HEAD..) {
        content.copy_from_slice(bytes);
    }
    hand_over(block)
}

/// A head that says `len`, and as many zeros.
fn blank(len: usize) -> Option<Vec<u8>> {
    let head = u32::try_from(len).ok()?.to_le_bytes();
    let whole = len.checked_add(HEAD)?;
    let mut block = Vec::new();
    block.try_reserve_exact(whole).ok()?;
    block.extend_from_slice(&head);
    block.resize(whole, 0);
    Some(block)
}

/// The address of what [`take`] takes.
fn hand_over(block: Vec<u8>) -> *mut u8 {
    Box::into_raw(block.into_boxed_slice()).cast()
}

/// The bytes of a block, head and all, which is freed when they are dropped; none for null.
///
/// # Safety
/// `block` is null, or came from [`hand_over`], and nobody uses it any more.
unsafe fn take(block: *mut u8) -> Box<[u8]> {
    if block.is_null() {
        return Box::default();
    }
    // SAFETY: a block from `hand_over` begins with HEAD bytes, of which none is ever uninitialised.
    let head = unsafe { block.cast::<[u8; HEAD]>().read() };
    let len = u32::from_le_bytes(head) as usize + HEAD;
    // SAFETY: `hand_over` made it of a boxed slice of that many bytes. The page could have written another
    // number into the head; it is written by us, beside this, and writes only behind it.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(block, len)) }
}

/// A block without its head.
fn content(block: &[u8]) -> &[u8] {
    block.get(HEAD..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page does it: fills a block that it asked for.
    fn filled(bytes: &[u8]) -> *mut u8 {
        let block = block_new(bytes.len());
        // SAFETY: the block has as many bytes behind its head.
        unsafe { block.add(HEAD).copy_from(bytes.as_ptr(), bytes.len()) };
        block
    }

    fn read(block: *mut u8) -> String {
        // SAFETY: it came from one of the functions above, and is given up here.
        String::from_utf8(content(&unsafe { take(block) }).to_vec()).unwrap()
    }

    #[test]
    fn a_question_in_a_block_gets_its_answer_in_one() {
        let question = r#"{"request": "nonsense"}"#;
        // SAFETY: a block of this module, handed over.
        let answer = read(unsafe { ask(filled(question.as_bytes())) });
        assert_eq!(answer, crate::answer(question));
        assert!(answer.contains("error"), "{answer}");
    }

    #[test]
    fn a_log_comes_in_pieces_cut_anywhere() {
        let text = b"smmu: event 0x10 received:\n 0x0000018000000010 0x0000020100000000 \
            0x00000000ffffe040 0x00000000ffffe000\n";
        // SAFETY: blocks of this module, handed over.
        unsafe { log_open(filled(b"{}")) };
        for piece in text.chunks(7) {
            // SAFETY: as above.
            unsafe { log_feed(filled(piece)) };
        }
        let answer = read(log_close());
        assert!(answer.contains("F_TRANSLATION"), "{answer}");
        assert_eq!(read(log_close()), "{}");
    }

    #[test]
    fn what_no_memory_can_hold_is_null() {
        for len in [usize::MAX, usize::MAX - HEAD, isize::MAX as usize, u32::MAX as usize + 1] {
            assert!(block_new(len).is_null(), "{len:#x}");
        }
    }

    #[test]
    fn nothing_is_a_block_too() {
        assert_eq!(read(block_new(0)), "");
        // SAFETY: null is allowed.
        unsafe { block_free(std::ptr::null_mut()) };
        // SAFETY: a block of this module, given up.
        unsafe { block_free(block_new(100)) };
    }
}
