// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tools print, read back; what they printed was printed by the tools themselves.

use super::*;
use crate::structure::Kind;

/// An F_TRANSLATION record: SID 0x7900, STAG 0x80, a read at 0xffffe040, with an IPA.
const EVENT: [u64; 4] = [0x0000_7900_0000_0010, 0x0000_0208_0000_0080, 0xffff_e040, 0xffff_e000];
/// The STE of the reference's Appendix A1.
const STE: [u64; 8] = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];

fn read(kind: &str, text: &str, order: Order) -> Result<Words, WordsError> {
    let kind = Kind::find(kind).unwrap();
    let name = kind.with_article();
    parse(text, &kind.shape(&name).unwrap(), order)
}

#[track_caller]
fn assert_words(kind: &str, text: &str, words: &[u64], order: Order) {
    let found = read(kind, text, Order::Auto);
    let found = found.map(|found| (found.words, found.order));
    assert_eq!(found, Ok((words.to_vec(), order)), "{text}");
}

#[test]
fn events_in_every_form() {
    for text in [
        // Words, as people write them.
        "0x0000790000000010 0x0000020800000080 0x00000000ffffe040 0x00000000ffffe000",
        "0x790000000010, 0x20800000080, 0xffffe040, 0xffffe000",
        "790000000010 20800000080 ffffe040 ffffe000",
        "0x7900_0000_0010 0x208_0000_0080\n0xffff_e040\n\n0xffff_e000\n",
        "[0x790000000010ULL; 0x20800000080ul; 0xffffe040; 0xffffe000]",
        "[\"0x790000000010\", \"0x20800000080\", \"0xffffe040\", \"0xffffe000\"]",
        "0000790000000010 0000020800000080 00000000ffffe040 00000000ffffe000 # pasted\r\n",
        // Their halves.
        "0x10 0x7900 0x80 0x208 0xffffe040 0 0xffffe000 0",
        "00000010 00007900 00000080 00000208 ffffe040 00000000 ffffe000 00000000",
        // Bytes, and halves of halves.
        "10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00 40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00",
        "0x10 0x0 0x0 0x0 0x0 0x79 0x0 0x0 0x80 0x0 0x0 0x0 0x08 0x02 0x0 0x0 \
         0x40 0xe0 0xff 0xff 0x0 0x0 0x0 0x0 0x00 0xe0 0xff 0xff 0x0 0x0 0x0 0x0",
        "1000000000790000800000000802000040e0ffff0000000000e0ffff00000000",
        "0x0010 0x0000 0x7900 0x0000 0x0080 0x0000 0x0208 0x0000 \
         0xe040 0xffff 0x0000 0x0000 0xe000 0xffff 0x0000 0x0000",
        // xxd -p
        "1000000000790000800000000802000040e0ffff0000000000e0ffff0000\n0000\n",
        // xxd -e
        "00000000: 00000010 00007900 00000080 00000208  .....y..........\n\
         00000010: ffffe040 00000000 ffffe000 00000000  @...............\n",
        // xxd -g1
        "00000000: 10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00  .....y..........\n\
         00000010: 40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00  @...............\n",
        // hexdump -C
        "00000000  10 00 00 00 00 79 00 00  80 00 00 00 08 02 00 00  |.....y..........|\n\
         00000010  40 e0 ff ff 00 00 00 00  00 e0 ff ff 00 00 00 00  |@...............|\n\
         00000020\n",
        // hexdump
        "0000000 0010 0000 7900 0000 0080 0000 0208 0000\n\
         0000010 e040 ffff 0000 0000 e000 ffff 0000 0000\n0000020\n",
        // od -t x1, x2, x4, x8
        "0000000 10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00\n\
         0000020 40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00\n0000040\n",
        "0000000 0010 0000 7900 0000 0080 0000 0208 0000\n\
         0000020 e040 ffff 0000 0000 e000 ffff 0000 0000\n0000040\n",
        "0000000 00000010 00007900 00000080 00000208\n\
         0000020 ffffe040 00000000 ffffe000 00000000\n0000040\n",
        "0000000 0000790000000010 0000020800000080\n\
         0000020 00000000ffffe040 00000000ffffe000\n0000040\n",
        // od -A x -t x1z, od -A n -t x8
        "000000 10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00  >.....y..........<\n\
         000010 40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00  >@...............<\n000020\n",
        " 0000790000000010 0000020800000080\n 00000000ffffe040 00000000ffffe000\n",
        // QEMU: xp /4gx, /8wx, /32bx, /16hx
        "0000000080040000: 0x0000790000000010 0x0000020800000080\n\
         0000000080040010: 0x00000000ffffe040 0x00000000ffffe000\n",
        "0000000080040000: 0x00000010 0x00007900 0x00000080 0x00000208\n\
         0000000080040010: 0xffffe040 0x00000000 0xffffe000 0x00000000\n",
        "80040000: 0x10 0x00 0x00 0x00 0x00 0x79 0x00 0x00\n80040008: 0x80 0x00 0x00 0x00 0x08 0x02 0x00 0x00\n\
         80040010: 0x40 0xe0 0xff 0xff 0x00 0x00 0x00 0x00\n80040018: 0x00 0xe0 0xff 0xff 0x00 0x00 0x00 0x00\n",
        "80040000: 0x0010 0x0000 0x7900 0x0000 0x0080 0x0000 0x0208 0x0000\n\
         80040010: 0xe040 0xffff 0x0000 0x0000 0xe000 0xffff 0x0000 0x0000\n",
        // gdb: x/4gx, x/8wx, p/x
        "0x80040000:\t0x0000790000000010\t0x0000020800000080\n\
         0x80040010:\t0x00000000ffffe040\t0x00000000ffffe000\n",
        "0xffff800011a40000 <evtq>:\t0x00000010\t0x00007900\t0x00000080\t0x00000208\n\
         0xffff800011a40010 <evtq+16>:\t0xffffe040\t0x00000000\t0xffffe000\t0x00000000\n",
        "$1 = {0x790000000010, 0x20800000080, 0xffffe040, 0xffffe000}\n",
        // crash: rd -64, rd -32, rd -8
        "ffff000080040000:  0000790000000010 0000020800000080   .....y..........\n\
         ffff000080040010:  00000000ffffe040 00000000ffffe000   @...............\n",
        "ffff000080040000:  00000010 00007900 00000080 00000208   .....y..........\n\
         ffff000080040010:  ffffe040 00000000 ffffe000 00000000   @...............\n",
        "ffff000080040000:  10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00   .....y..........\n\
         ffff000080040010:  40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00   @...............\n",
        // U-Boot: md.q, md.l, md.w, md.b
        "80040000: 0000790000000010 0000020800000080    .....y..........\n\
         80040010: 00000000ffffe040 00000000ffffe000    @...............\n",
        "80040000: 00000010 00007900 00000080 00000208    .....y..........\n\
         80040010: ffffe040 00000000 ffffe000 00000000    @...............\n",
        "80040000: 0010 0000 7900 0000 0080 0000 0208 0000    .....y..........\n\
         80040010: e040 ffff 0000 0000 e000 ffff 0000 0000    @...............\n",
        "80040000: 10 00 00 00 00 79 00 00 80 00 00 00 08 02 00 00    .....y..........\n\
         80040010: 40 e0 ff ff 00 00 00 00 00 e0 ff ff 00 00 00 00    @...............\n",
        // devmem a word at a time, devmem2
        "0x00000010\n0x00007900\n0x00000080\n0x00000208\n0xFFFFE040\n0x00000000\n0xFFFFE000\n0x00000000\n",
        "/dev/mem opened.\nMemory mapped at address 0xffff8a2b0000.\n\
         Value at address 0x80040000 (0xffff8a2b0000): 0x790000000010\n\
         Value at address 0x80040008 (0xffff8a2b0008): 0x20800000080\n\
         Value at address 0x80040010 (0xffff8a2b0010): 0xFFFFE040\n\
         Value at address 0x80040018 (0xffff8a2b0018): 0xFFFFE000\n",
        // A kernel log, and lines with a number before them.
        "[  123.456789] arm-smmu-v3 2b400000.iommu: event 0x10 received:\n\
         [  123.456790] arm-smmu-v3 2b400000.iommu: \t0x0000790000000010\n\
         [  123.456791] arm-smmu-v3 2b400000.iommu: \t0x0000020800000080\n\
         [  123.456792] arm-smmu-v3 2b400000.iommu: \t0x00000000ffffe040\n\
         [  123.456793] arm-smmu-v3 2b400000.iommu: \t0x00000000ffffe000\n",
        "Nov 26 10:00:01 host kernel: arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000790000000010\n\
         Nov 26 10:00:01 host kernel: arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020800000080\n\
         Nov 26 10:00:01 host kernel: arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000000ffffe040\n\
         Nov 26 10:00:01 host kernel: arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000000ffffe000\n",
        "0: 0x790000000010\n1: 0x20800000080\n2: 0xffffe040\n3: 0xffffe000\n",
        "w0: 0x790000000010\nw1: 0x20800000080\nw2: 0xffffe040\nw3: 0xffffe000\n",
    ] {
        assert_words("event", text, &EVENT, Order::Memory);
    }
}

#[test]
fn groups_of_bytes_are_what_xxd_prints() {
    let text = "00000000: 1000 0000 0079 0000 8000 0000 0802 0000  .....y..........\n\
                00000010: 40e0 ffff 0000 0000 00e0 ffff 0000 0000  @...............\n";
    assert_words("event", text, &EVENT, Order::SwappedBytes);
    assert!(!read("event", text, Order::Auto).unwrap().deduced);
    // Asked for the order of memory, that is it.
    assert_eq!(read("event", text, Order::Memory).unwrap().words, EVENT);
    // xxd -g 8 looks like words; only one way to read it makes sense.
    let wide = "00000000: 1000000000790000 8000000008020000  .....y..........\n\
                00000010: 40e0ffff00000000 00e0ffff00000000  @...............\n";
    assert_words("event", wide, &EVENT, Order::SwappedBytes);
}

#[test]
fn a_text_column_may_hold_anything() {
    let text = "00000000: 1000 0000 3a20 3031 0000 0000 0000 0000  ....: 01........\n\
                00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ..  12 ..  00 ..\n";
    let words = [0x3130_203a_0000_0010, 0, 0, 0];
    assert_eq!(read("event", text, Order::Auto).unwrap().words, words);
    let canonical = "00000000  10 00 00 00 3a 20 7c 3e  00 00 00 00 00 00 00 00  |....: |>........|\n\
                     00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n";
    let words = [0x3e7c_203a_0000_0010, 0, 0, 0];
    assert_eq!(read("event", canonical, Order::Auto).unwrap().words, words);
}

#[test]
fn repeated_lines_are_written_out() {
    for text in [
        "00000000  0b 00 02 80 00 00 00 00  d4 00 00 00 00 00 00 00  |................|\n\
         00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000040\n",
        "0000000 000000008002000b 00000000000000d4\n0000020 0000000000000000 0000000000000000\n*\n0000100\n",
        "00000000: 0b 00 02 80 00 00 00 00 d4 00 00 00 00 00 00 00  ................\n\
         00000010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n*\n\
         00000030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n",
        "$3 = {data = {0x8002000b, 0xd4, 0x0 <repeats 6 times>}}",
        "0x8002000b 0xd4 0x0 <repeats 6 times>",
        "0x8002000b 0x0 0xd4 0x0 0 0 0 0 0 0 0 0 0 0 0 0",
    ] {
        assert_words("ste", text, &STE, Order::Memory);
    }
}

#[test]
fn lines_are_put_in_the_order_of_their_addresses() {
    let text = "0000000080040010: 0x00000000ffffe040 0x00000000ffffe000\n\
                0000000080040000: 0x0000790000000010 0x0000020800000080\n";
    assert_words("event", text, &EVENT, Order::Memory);
    let gap = "0000000080040000: 0x0000790000000010 0x0000020800000080\n\
               0000000080040020: 0x00000000ffffe040 0x00000000ffffe000\n";
    let expected = WordsError::Gap { expected: 0x8004_0010, next: 0x8004_0020 };
    assert_eq!(read("event", gap, Order::Auto), Err(expected));
}

#[test]
fn other_orders_are_asked_for_or_the_only_ones_that_make_sense() {
    let halves = "0x7900 0x10 0x208 0x80 0 0xffffe040 0 0xffffe000";
    assert_words("event", halves, &EVENT, Order::HighFirst);
    assert!(read("event", halves, Order::Auto).unwrap().deduced);
    assert!(!read("event", halves, Order::HighFirst).unwrap().deduced);
    assert_eq!(read("event", halves, Order::HighFirst).unwrap().words, EVENT);
    let asked = read("event", halves, Order::Memory).unwrap().words;
    assert_eq!(asked[0], 0x10_0000_7900);
    let reversed = "0xffffe000 0xffffe040 0x20800000080 0x790000000010";
    assert_words("event", reversed, &EVENT, Order::LastFirst);
    // A number of 256 bits, as bytes from the most significant one on: not told by itself.
    let bytes = "00000000ffffe000 00000000ffffe040 0000020800000080 0000790000000010";
    assert_eq!(read("event", bytes, Order::LastFirst).unwrap().words, EVENT);
    // A command that makes sense as it stands is taken as it stands.
    assert_words("cmd", "0x3 0x103 0x1 0x0", &[0x103_0000_0003, 1], Order::Memory);
    // A CMD_SYNC with its halves exchanged, and a CMD_RESUME with its last half first: nobody can know.
    let unclear = read("cmd", "0x0 0x46 0x0 0x44", Order::Auto);
    let orders = vec![Order::HighFirst, Order::LastFirst];
    assert_eq!(unclear, Err(WordsError::Ambiguous { orders }));
    assert_eq!(read("cmd", "0x0 0x46 0x0 0x44", Order::HighFirst).unwrap().words, [0x46, 0x44]);
}

#[test]
fn two_bytes_without_a_tool_are_read_if_one_way_makes_sense() {
    let od = "0010 0000 7900 0000 0080 0000 0208 0000 e040 ffff 0000 0000 e000 ffff 0000 0000";
    assert_words("event", od, &EVENT, Order::Memory);
    let xxd = "1000 0000 0079 0000 8000 0000 0802 0000 40e0 ffff 0000 0000 00e0 ffff 0000 0000";
    assert_words("event", xxd, &EVENT, Order::SwappedBytes);
    let either = read("pri", "0100 0000 0000 0000 0000 0000 0000 0000", Order::Auto);
    let orders = vec![Order::Memory, Order::SwappedBytes];
    assert_eq!(either, Err(WordsError::Ambiguous { orders }));
    let told = read("pri", "0100 0000 0000 0000 0000 0000 0000 0000", Order::SwappedBytes).unwrap();
    assert_eq!(told.words, [1, 0]);
}

#[test]
fn registers_of_any_width() {
    assert_words("cr0", "0xd", &[0xd], Order::Memory);
    assert_words("cr0", "000000000000000d", &[0xd], Order::Memory);
    assert_words("cr0", "09050020: 0d 00 00 00  ....", &[0xd], Order::Memory);
    assert_words("strtab_base", "0x80040000 0x40000000", &[0x4000_0000_8004_0000], Order::Memory);
    let large = WordsError::DoesNotFit { value: 1 << 32, name: "CR0".to_owned() };
    assert_eq!(read("cr0", "0x100000000", Order::Auto), Err(large));
    let idrs = [0x0d44_101b, 0x0273_0010, 0, 0x1414, 0, 0x74];
    for text in [
        "0x0d44101b 0x02730010 0 0x1414 0 0x74",
        "0000000009050000: 0x0d44101b 0x02730010 0x00000000 0x00001414\n\
         0000000009050010: 0x00000000 0x00000074\n",
        "0x09050000:\t0x027300100d44101b\t0x0000141400000000\n0x09050010:\t0x0000007400000000\n",
        "00000000: 1b10 440d 1000 7302 0000 0000 1414 0000  ..D...s.........\n\
         00000010: 0000 0000 7400 0000                      ....t...\n",
        "0D44101B\n02730010\n00000000\n00001414\n00000000\n00000074\n",
    ] {
        assert_eq!(registers(text, Order::Auto), Ok(idrs.to_vec()), "{text}");
    }
}

#[test]
fn what_cannot_be_read_says_what_to_do() {
    let said = |kind: &str, text: &str| read(kind, text, Order::Auto).unwrap_err().to_string();
    assert_eq!(
        said("event", "0x10 0x0"),
        "an event record is 4 64-bit words, or 8 32-bit words, or 32 bytes; given: 2 numbers of up to 8 bits"
    );
    assert_eq!(
        said("ste", "0x0000000000000001 0x0000000000000000"),
        "an STE is 8 64-bit words, or 16 32-bit words, or 64 bytes; given: 2 numbers of up to 64 bits"
    );
    assert!(
        said("event", "").starts_with("no words were given; an event record is 4 64-bit words")
    );
    assert!(
        said("event", "event 0x10 received")
            .starts_with("\"event\" is no hexadecimal number; give")
    );
    assert!(said("cmd", "0x00000001000000000000000000000003").contains("more than 64 bits"));
    assert!(said("cmd", "100000000000000000000000000000000").contains("half a byte is missing"));
    // Two STEs of 64-bit words are not one of 32-bit words.
    let two = "0x0000000000000001 0 0 0 0 0 0 0 0x0000000000000001 0 0 0 0 0 0 0";
    assert!(said("ste", two).ends_with("given: 16 numbers of up to 64 bits"));
    assert!(said("event", &"0 ".repeat(MOST_TEXT)).contains("too long for one structure"));
    assert!(said("ste", "0x0 <repeats 9999999999 times>").contains("given: 4096 numbers"));
}
