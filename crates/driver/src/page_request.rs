// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a record of the queue of page requests asks for, and the answer to a group of them (§13).
//!
//! A device asks for pages in groups, and waits for one answer to each, which is due when its last request is there;
//! members never come after that.

use core::fmt;

#[cfg(feature = "alloc")]
use smmuv3_formats::Opcode;
use smmuv3_formats::command::PriResp;
use smmuv3_formats::{Command, Iova, PageRequest, Ste, StreamId, SubstreamId};

#[cfg(feature = "alloc")]
use crate::features::Features;
use crate::stream_table::StreamTable;

/// A page that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whose group it belongs to.
    pub group: Group,
    /// First address, a multiple of 4 KiB.
    pub iova: Iova,
    /// It is to be read.
    pub read: bool,
    /// It is to be written. Where hardware does not mark what is written, whoever makes it writable counts it as written.
    pub write: bool,
    /// Instructions are to be fetched from it; only with a PASID.
    pub execute: bool,
    /// The access is privileged; only with a PASID.
    pub privileged: bool,
    /// The group is complete with it: an answer is due.
    pub last: bool,
}

/// What names a group while it waits for its answer. The device may use the number again after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The stream.
    pub stream: StreamId,
    /// The PASID, if it has one.
    pub pasid: Option<SubstreamId>,
    /// Its number, below 512.
    pub index: u16,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} of stream {}", self.index, self.stream)?;
        self.pasid.map_or(Ok(()), |pasid| write!(f, " with PASID {pasid}"))
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A page is asked for.
    Page(Page),
    /// A device has stopped to use a PASID: all that it asked for with it was before this. There is no answer.
    Stop {
        /// The stream.
        stream: StreamId,
        /// The PASID.
        pasid: SubstreamId,
    },
}

/// What a device is told of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its pages are there, or may be: it tries again.
    Success,
    /// One of them is not, and never will be.
    Invalid,
    /// Something is wrong: it makes no requests any more until it is set up anew.
    Failure,
}

impl Answer {
    #[cfg(feature = "alloc")]
    pub(crate) const ALL: [Self; 3] = [Self::Success, Self::Invalid, Self::Failure];
}

impl Request {
    /// Reads a record.
    pub const fn read(record: &PageRequest) -> Self {
        // SID has 32, SSID 20, and PRGIndex 9 bits.
        let stream = StreamId(record.sid() as u32);
        let pasid = SubstreamId(record.ssid() as u32);
        if record.is_stop_marker() {
            return Self::Stop { stream, pasid };
        }
        let with = record.ssv();
        let group = Group {
            stream,
            pasid: if with { Some(pasid) } else { None },
            index: record.prg_index() as u16,
        };
        Self::Page(Page {
            group,
            iova: Iova(record.addr()),
            read: record.read(),
            write: record.write(),
            // Without a PASID these fields are unknown.
            execute: with && record.execute(),
            privileged: with && record.privileged(),
            last: record.last(),
        })
    }
}

impl Group {
    /// Whether a group can be answered: commands must not name streams and PASIDs that an instance does not have, which it
    /// may take for others (§4).
    #[cfg(feature = "alloc")]
    pub(crate) fn is_answerable(&self, features: &Features, with_pasid: bool) -> bool {
        let pasid = self.pasid.filter(|_| with_pasid).map_or(0, |pasid| pasid.0);
        u64::from(self.stream.0) >> features.implemented_sid_bits() == 0
            && pasid >> features.ssid_bits == 0
    }

    /// The group that `command` answers, how, and whether with the PASID; `None` for other commands.
    #[cfg(feature = "alloc")]
    pub(crate) fn read(command: Command) -> Option<(Self, Answer, bool)> {
        let response = PriResp(command.0);
        if !command.is(Opcode::PriResp) {
            return None;
        }
        let answer = match response.resp() {
            0 => Answer::Failure,
            1 => Answer::Invalid,
            _ => Answer::Success,
        };
        // SID has 32, SSID 20, and PRGIndex 9 bits.
        let pasid = response.ssv().then_some(SubstreamId(response.ssid() as u32));
        let (stream, index) = (StreamId(response.sid() as u32), response.prg_index() as u16);
        Some((Self { stream, pasid, index }, answer, response.ssv()))
    }

    /// The command that gives it `answer`; with its PASID, if it has one and devices of the stream need that
    /// ("PRG Response PASID Required").
    pub fn command(self, answer: Answer, with_pasid: bool) -> Command {
        let response = match answer {
            Answer::Failure => 0,
            Answer::Invalid => 1,
            Answer::Success => 2,
        };
        let command = PriResp::new()
            .with_sid(u64::from(self.stream.0))
            .with_prg_index(u64::from(self.index & 0x1ff))
            .with_resp(response);
        match self.pasid {
            // It has 20 bits.
            Some(pasid) if with_pasid => {
                command.with_ssv(true).with_ssid(u64::from(pasid.0 & 0xf_ffff)).into()
            }
            _ => command.into(),
        }
    }
}

/// What is to become of requests of a stream, by its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may ask; whether answers carry its PASID (STE.PPAR).
    Known {
        /// Whether they do.
        with_pasid: bool,
    },
    /// It has no ATS, is blocked, or does not exist: its groups are invalid.
    Unknown {
        /// As above: a stream that is blocked had a device that needs it.
        with_pasid: bool,
    },
}

impl Standing {
    /// Of a stream with the entry `ste`; without, of one beyond the table. The SMMU takes requests of any stream.
    pub const fn of(ste: Option<&Ste>) -> Self {
        const TRANSLATES: u64 = 0b101;
        match ste {
            Some(ste) if ste.v() && ste.config() >= TRANSLATES && ste.eats() != 0 => {
                Self::Known { with_pasid: ste.ppar() }
            }
            Some(ste) => Self::Unknown { with_pasid: ste.ppar() },
            None => Self::Unknown { with_pasid: false },
        }
    }

    /// Of `stream`, which may be any, by the entry that `streams` has for it.
    pub fn find<P: crate::Platform>(platform: &P, streams: &StreamTable, stream: StreamId) -> Self {
        let entry = streams.reaches(stream).then(|| streams.entry(platform, stream)).flatten();
        Self::of(entry.map(|entry| Ste(entry.load(platform))).as_ref())
    }
}

/// Why a page was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// The stream is blocked, has no translations of its own, is subject to the stage 1 of a guest that is shown no page requests, or
    /// does not exist; or it asked with a PASID that the SMMU does not have, or PASID 0, which is nobody's but a guest's.
    Unknown,
    /// Devices that ask for more than they may have taken all the room that there is, or those of a guest the guest's share of it
    /// ([`InstanceConfig::page_request_queue_log2`](crate::InstanceConfig::page_request_queue_log2)). The device is told to
    /// try again, as by the SMMU itself where its queue is full. Where all room is taken, a reset of the SMMU may throw away what
    /// it was told: it asks for more than it may, and goes without.
    Full,
    /// A group of the device with the same number waits for its answer already, which is the only one: a device that keeps
    /// to the rules uses a number anew when it was answered. The pages of the second are forgotten.
    Repeated,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it may not ask",
            Self::Full => "there is no room",
            Self::Repeated => "the group waits for its answer already",
        })
    }
}

/// Page requests that nobody will see. Groups that were complete were answered, and devices ask for pages of others
/// again, or wait for no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagesLost {
    /// The queue was full, and the SMMU answered in the driver's place: devices have more requests under way than it
    /// holds. So many groups had begun, and are forgotten.
    Overflow {
        /// How many.
        begun: usize,
    },
    /// The SMMU could not write to the queue (`GERROR.PRIQ_ABT_ERR`), and told devices that all has failed. So many groups
    /// had begun, and are forgotten.
    Aborted {
        /// How many.
        begun: usize,
    },
    /// There were too many pages of groups without an end: those of this one, up to now, are forgotten.
    Begun(Group),
    /// A reset emptied the queue. Complete groups were denied.
    Reset {
        /// Records that were thrown away; at most so many, if the SMMU's index made no sense.
        unread: usize,
        /// Others had not fitted before, or could not be written.
        overflow: bool,
    },
}

impl fmt::Display for PagesLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow { begun } => {
                write!(f, "the queue of page requests was full; {begun} groups had begun")
            }
            Self::Aborted { begun } => {
                write!(
                    f,
                    "page requests could not be written to the queue; {begun} groups had begun"
                )
            }
            Self::Begun(Group { stream, index, .. }) => {
                write!(f, "stream {stream}: pages of group {index} were forgotten before its end")
            }
            Self::Reset { unread, overflow } => {
                write!(f, "a reset threw {unread} page requests away")?;
                f.write_str(if *overflow { ", and others had not fitted" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_the_architecture_prints_them() {
        // SID [31:0], SSID [51:32], Priv 58, X 59, R 60, W 61, Last 62, SSV 63; PRGIndex [8:0], Addr [63:12].
        let record = PageRequest([0xf000_0003_0000_0105, 0x12_3456_7000 | 0x1ff]);
        let group = Group { stream: StreamId(0x105), pasid: Some(SubstreamId(3)), index: 0x1ff };
        let page = Page {
            group,
            iova: Iova(0x12_3456_7000),
            read: true,
            write: true,
            execute: false,
            privileged: false,
            last: true,
        };
        assert_eq!(Request::read(&record), Request::Page(page));
        let record = PageRequest([0x1c00_0003_0000_0105, 7]);
        let Request::Page(plain) = Request::read(&record) else { panic!("{record:?}") };
        assert_eq!(plain.group, Group { pasid: None, index: 7, ..group });
        assert_eq!((plain.read, plain.write, plain.last), (true, false, false));
        // Means nothing without a PASID.
        assert_eq!((plain.execute, plain.privileged), (false, false));
        let record = PageRequest([0x9c00_0003_0000_0105, 7]);
        let Request::Page(full) = Request::read(&record) else { panic!("{record:?}") };
        assert_eq!((full.execute, full.privileged), (true, true));
    }

    #[test]
    fn a_stop_marker_has_a_pasid_and_asks_for_nothing() {
        let stop = Request::Stop { stream: StreamId(5), pasid: SubstreamId(3) };
        assert_eq!(Request::read(&PageRequest([0xc000_0003_0000_0005, 0])), stop);
        // Without a PASID it is the last request of a group.
        let Request::Page(page) = Request::read(&PageRequest([0x4000_0000_0000_0005, 0])) else {
            panic!("no page")
        };
        assert!(page.last && !page.read && !page.write);
    }

    #[test]
    fn answers_are_these_words() {
        let group = Group { stream: StreamId(0x100), pasid: Some(SubstreamId(1)), index: 5 };
        // The reference's example, and its neighbours: Resp [13:12].
        assert_eq!(group.command(Answer::Success, true), Command([0x0000_0100_0000_1841, 0x2005]));
        assert_eq!(group.command(Answer::Success, false), Command([0x0000_0100_0000_0041, 0x2005]));
        assert_eq!(group.command(Answer::Invalid, false), Command([0x0000_0100_0000_0041, 0x1005]));
        let plain = Group { pasid: None, ..group };
        assert_eq!(plain.command(Answer::Failure, true), Command([0x0000_0100_0000_0041, 5]));
        #[cfg(feature = "alloc")]
        {
            let read = |words| Group::read(Command(words));
            let with = read([0x0000_0100_0000_1841, 0x2005]);
            assert_eq!(with, Some((group, Answer::Success, true)));
            assert_eq!(read([0x0000_0100_0000_0041, 5]), Some((plain, Answer::Failure, false)));
            assert_eq!(read([0x0000_0100_0000_0044, 0x2005]), None);
        }
    }

    #[test]
    fn only_streams_that_translate_with_ats_may_ask() {
        let of = |words: [u64; 2]| Standing::of(Some(&Ste([words[0], words[1], 0, 0, 0, 0, 0, 0])));
        let (eats, ppar) = (1 << 28, 1 << 18);
        assert_eq!(of([0x8002_000b, eats]), Standing::Known { with_pasid: false });
        assert_eq!(of([0xd, eats | ppar]), Standing::Known { with_pasid: true });
        // Over both stages, of stage 1 alone (§5.2).
        assert_eq!(of([0x8002_000f, 2 * eats]), Standing::Known { with_pasid: false });
        for words in [[0x8002_000b, 0], [0x8002_000a, eats], [1, eats], [3, eats], [9, eats]] {
            assert_eq!(of(words), Standing::Unknown { with_pasid: false }, "{words:x?}");
        }
        // Blocked, and so answered as before.
        assert_eq!(of([1, ppar]), Standing::Unknown { with_pasid: true });
        assert_eq!(Standing::of(None), Standing::Unknown { with_pasid: false });
    }
}
