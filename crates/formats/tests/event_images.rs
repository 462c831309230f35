// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden images of the event records (§10): words put together from the reference's bit numbers by other
//! means than this crate. In the first image of each every field is non-zero; in the second neighbouring
//! fields have alternating bits.

mod common;

use common::{golden, words};
use smmuv3_formats::EventRecord;
use smmuv3_formats::event::record::*;

words!(array EventRecord, FUut, CBadStreamId, FSteFetch, CBadSte, FBadAtsTreq, FStreamDisabled, FTranslForbidden, CBadSubstreamId, FCdFetch, CBadCd, FWalkEabt, FTranslation, FAddrSize, FAccess, FPermission, FTlbConflict, FCfgConflict, EPageRequest, FVmsFetch);

/// §10.1: the union of all records.
#[test]
fn images_of_the_common_record() {
    golden!(EventRecord, [0xad2d_2d2d_9e1e_18cb, 0x0000_13ce_8001_f879, 0xa969_6969_6969_6969, 0x00a5_a5a5_a5a5_a5a8], {
        id with_id "EventID" = 0xcb; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879; gpcf with_gpcf "GPCF" = true;
        stall with_stall "Stall" = true; pnu with_pnu "PnU" = true; ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true; nsipa with_nsipa "NSIPA" = true; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3; ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0xa969696969696969;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00a5_a5a5_a5a5_a5a8;
    });
    golden!(EventRecord, [0x6f53_86cf_1af0_18aa, 0x0000_128a_0001_0b23, 0xb9fd_314a_8ec2_0675, 0x007d_a097_da09_7cd8], {
        id with_id "EventID" = 0xaa; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23; gpcf with_gpcf "GPCF" = true;
        stall with_stall "Stall" = false; pnu with_pnu "PnU" = true; ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true; nsipa with_nsipa "NSIPA" = false; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x2; ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0xb9fd314a8ec20675;
        fetch_addr with_fetch_addr "FetchAddr" = 0x007d_a097_da09_7cd8;
    });
}

/// §10.2.
#[test]
fn images_of_f_uut() {
    golden!(FUut, [0xad2d_2d2d_9e1e_1801, 0x0000_000e_0000_f879, 0xe5a5_a5a5_a5a5_a5a5, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x1; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; pnu with_pnu "PnU" = true; ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true; input_addr with_input_addr "InputAddr" = 0xe5a5a5a5a5a5a5a5;
    });
    golden!(FUut, [0x6f53_86cf_1af0_1801, 0x0000_000a_0000_0b23, 0xa629_51d8_40cb_73ef, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x1; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; pnu with_pnu "PnU" = true; ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true; input_addr with_input_addr "InputAddr" = 0xa62951d840cb73ef;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_streamid() {
    golden!(CBadStreamId, [0xad2d_2d2d_9e1e_1802, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x2; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadStreamId, [0x6f53_86cf_1af0_1802, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x2; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_ste_fetch() {
    golden!(FSteFetch, [0xad2d_2d2d_9e1e_1803, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x3; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FSteFetch, [0x6f53_86cf_1af0_1803, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x3; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_ste() {
    golden!(CBadSte, [0xad2d_2d2d_9e1e_1804, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x4; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadSte, [0x6f53_86cf_1af0_1804, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x4; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_bad_ats_treq() {
    golden!(FBadAtsTreq, [0xad2d_2d2d_9e1e_1805, 0x0000_0000_0000_0000, 0xb878_7878_7878_7879, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x5; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        input_addr with_input_addr "InputAddr" = 0xb878787878787879;
    });
    golden!(FBadAtsTreq, [0x6f53_86cf_1af0_1805, 0x0000_0000_0000_0000, 0xad5c_4f7e_6918_0b23, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x5; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        input_addr with_input_addr "InputAddr" = 0xad5c4f7e69180b23;
    });
}

/// §10.2.
#[test]
fn images_of_f_stream_disabled() {
    golden!(FStreamDisabled, [0xad2d_2d2d_0000_0006, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x6; sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(FStreamDisabled, [0x6f53_86cf_0000_0006, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x6; sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_transl_forbidden() {
    golden!(FTranslForbidden, [0xad2d_2d2d_0000_0007, 0x0000_0008_0000_0000, 0xc3c3_c3c3_c3c3_c3c3, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x7; sid with_sid "StreamID" = 0xad2d2d2d; rnw with_rnw "RnW" = true;
        input_addr with_input_addr "InputAddr" = 0xc3c3c3c3c3c3c3c3;
    });
    golden!(FTranslForbidden, [0x6f53_86cf_0000_0007, 0x0000_0000_0000_0000, 0x5c4f_7e69_180b_3a2d, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x7; sid with_sid "StreamID" = 0x6f5386cf;
        rnw with_rnw "RnW" = false; input_addr with_input_addr "InputAddr" = 0x5c4f7e69180b3a2d;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_substreamid() {
    golden!(CBadSubstreamId, [0xe1e1_e1e1_e969_7008, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x8; ssid with_ssid "SubstreamID" = 0xe9697;
        sid with_sid "StreamID" = 0xe1e1e1e1;
    });
    golden!(CBadSubstreamId, [0x1af1_af01_a62e_9008, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x8; ssid with_ssid "SubstreamID" = 0xa62e9;
        sid with_sid "StreamID" = 0x1af1af01;
    });
}

/// §10.2.
#[test]
fn images_of_f_cd_fetch() {
    golden!(FCdFetch, [0xad2d_2d2d_9e1e_1809, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x9; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FCdFetch, [0x6f53_86cf_1af0_1809, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x9; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}

/// §10.2.
#[test]
fn images_of_c_bad_cd() {
    golden!(CBadCd, [0xad2d_2d2d_9e1e_180a, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0xa; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
    });
    golden!(CBadCd, [0x6f53_86cf_1af0_180a, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0xa; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
    });
}

/// §10.2.
#[test]
fn images_of_f_walk_eabt() {
    golden!(FWalkEabt, [0xad2d_2d2d_9e1e_180b, 0x0000_038e_0001_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00f0_f0f0_f0f0_f0e8], {
        id with_id "EventID" = 0xb; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; gpcf with_gpcf "GPCF" = true;
        pnu with_pnu "PnU" = true; ind with_ind "InD" = true; rnw with_rnw "RnW" = true;
        s2 with_s2 "S2" = true; class with_class "CLASS" = 0x3;
        input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f0_f0f0_f0f0_f0e8;
    });
    golden!(FWalkEabt, [0x6f53_86cf_1af0_180b, 0x0000_0104_0001_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0008_196e_7f4c_5d28], {
        id with_id "EventID" = 0xb; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; gpcf with_gpcf "GPCF" = true;
        pnu with_pnu "PnU" = false; ind with_ind "InD" = true; rnw with_rnw "RnW" = false;
        s2 with_s2 "S2" = false; class with_class "CLASS" = 0x1;
        input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        fetch_addr with_fetch_addr "FetchAddr" = 0x0008_196e_7f4c_5d28;
    });
}

/// §10.2.
#[test]
fn images_of_f_translation() {
    golden!(FTranslation, [0xad2d_2d2d_9e1e_1810, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x10; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879; stall with_stall "Stall" = true; pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3; input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FTranslation, [0x6f53_86cf_1af0_1810, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x10; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23; stall with_stall "Stall" = true; pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = false; s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1; input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_addr_size() {
    golden!(FAddrSize, [0xad2d_2d2d_9e1e_1811, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x11; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879; stall with_stall "Stall" = true; pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3; input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FAddrSize, [0x6f53_86cf_1af0_1811, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x11; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23; stall with_stall "Stall" = true; pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = false; s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1; input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_access() {
    golden!(FAccess, [0xad2d_2d2d_9e1e_1812, 0x0000_038e_8000_f879, 0x92d2_d2d2_d2d2_d2d3, 0x00e1_e1e1_e1e1_d000], {
        id with_id "EventID" = 0x12; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879; stall with_stall "Stall" = true; pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3; input_addr with_input_addr "InputAddr" = 0x92d2d2d2d2d2d2d3;
        ipa with_ipa "IPA" = 0x00e1_e1e1_e1e1_d000;
    });
    golden!(FAccess, [0x6f53_86cf_1af0_1812, 0x0000_0104_8000_0b23, 0xbbbb_bbbb_bbbb_bbab, 0x0032_dcfe_98ba_5000], {
        id with_id "EventID" = 0x12; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23; stall with_stall "Stall" = true; pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = false; s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1; input_addr with_input_addr "InputAddr" = 0xbbbbbbbbbbbbbbab;
        ipa with_ipa "IPA" = 0x0032_dcfe_98ba_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_permission() {
    golden!(FPermission, [0xad2d_2d2d_9e1e_1813, 0x0000_138e_8000_f879, 0x9e1e_1e1e_1e1e_1e1d, 0x0096_9696_9696_9000], {
        id with_id "EventID" = 0x13; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        stag with_stag "STAG" = 0xf879; stall with_stall "Stall" = true; pnu with_pnu "PnU" = true;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        class with_class "CLASS" = 0x3; ttrnw with_ttrnw "TTRnW" = true;
        input_addr with_input_addr "InputAddr" = 0x9e1e1e1e1e1e1e1d;
        ipa with_ipa "IPA" = 0x0096_9696_9696_9000;
    });
    golden!(FPermission, [0x6f53_86cf_1af0_1813, 0x0000_0104_8000_0b23, 0x4761_032d_cfe9_8ba5, 0x0014_a8ec_2067_5000], {
        id with_id "EventID" = 0x13; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        stag with_stag "STAG" = 0xb23; stall with_stall "Stall" = true; pnu with_pnu "PnU" = false;
        ind with_ind "InD" = true; rnw with_rnw "RnW" = false; s2 with_s2 "S2" = false;
        class with_class "CLASS" = 0x1; ttrnw with_ttrnw "TTRnW" = false;
        input_addr with_input_addr "InputAddr" = 0x4761032dcfe98ba5;
        ipa with_ipa "IPA" = 0x0014_a8ec_2067_5000;
    });
}

/// §10.2.
#[test]
fn images_of_f_tlb_conflict() {
    golden!(FTlbConflict, [0xad2d_2d2d_9e1e_1820, 0x0000_008e_0000_f879, 0xfc3c_3c3c_3c3c_3c3b, 0x00f8_7878_7878_7000], {
        id with_id "EventID" = 0x20; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; pnu with_pnu "PnU" = true; ind with_ind "InD" = true;
        rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        input_addr with_input_addr "InputAddr" = 0xfc3c3c3c3c3c3c3b;
        ipa with_ipa "IPA" = 0x00f8_7878_7878_7000;
    });
    golden!(FTlbConflict, [0x6f53_86cf_1af0_1820, 0x0000_008a_0000_0b23, 0xa460_2ceb_5713_df89, 0x00ef_cd23_0164_7000], {
        id with_id "EventID" = 0x20; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; pnu with_pnu "PnU" = true; ind with_ind "InD" = false;
        rnw with_rnw "RnW" = true; s2 with_s2 "S2" = true;
        input_addr with_input_addr "InputAddr" = 0xa4602ceb5713df89;
        ipa with_ipa "IPA" = 0x00ef_cd23_0164_7000;
    });
}

/// §10.2.
#[test]
fn images_of_f_cfg_conflict() {
    golden!(FCfgConflict, [0xad2d_2d2d_9e1e_1821, 0x0000_0000_0000_f879, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x21; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879;
    });
    golden!(FCfgConflict, [0x6f53_86cf_1af0_1821, 0x0000_0000_0000_0b23, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x21; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23;
    });
}

/// §10.2.
#[test]
fn images_of_e_page_request() {
    golden!(EPageRequest, [0xad2d_2d2d_9e1e_1824, 0x000b_b0ee_0000_0000, 0xf878_7878_7878_7000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x24; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        u_x with_u_x "uX" = true; u_w with_u_w "uW" = true; u_r with_u_r "uR" = true;
        p_x with_p_x "pX" = true; p_w with_p_w "pW" = true; p_r with_p_r "pR" = true;
        span with_span "Span" = 0xbb;
        input_addr with_input_addr "InputAddr" = 0xf878_7878_7878_7000;
    });
    golden!(EPageRequest, [0x6f53_86cf_1af0_1824, 0x000a_a0a4_0000_0000, 0x89ef_cd23_0164_7000, 0x0000_0000_0000_0000], {
        id with_id "EventID" = 0x24; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        u_x with_u_x "uX" = false; u_w with_u_w "uW" = true; u_r with_u_r "uR" = false;
        p_x with_p_x "pX" = true; p_w with_p_w "pW" = false; p_r with_p_r "pR" = true;
        span with_span "Span" = 0xaa;
        input_addr with_input_addr "InputAddr" = 0x89ef_cd23_0164_7000;
    });
}

/// §10.2.
#[test]
fn images_of_f_vms_fetch() {
    golden!(FVmsFetch, [0xad2d_2d2d_9e1e_1825, 0x0000_0000_0001_f879, 0x0000_0000_0000_0000, 0x00f8_7878_7878_7878], {
        id with_id "EventID" = 0x25; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x9e1e1; sid with_sid "StreamID" = 0xad2d2d2d;
        reason with_reason "Reason" = 0xf879; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00f8_7878_7878_7878;
    });
    golden!(FVmsFetch, [0x6f53_86cf_1af0_1825, 0x0000_0000_0001_0b23, 0x0000_0000_0000_0000, 0x00be_d04b_ed04_be68], {
        id with_id "EventID" = 0x25; ssv with_ssv "SSV" = true;
        ssid with_ssid "SubstreamID" = 0x1af01; sid with_sid "StreamID" = 0x6f5386cf;
        reason with_reason "Reason" = 0xb23; gpcf with_gpcf "GPCF" = true;
        fetch_addr with_fetch_addr "FetchAddr" = 0x00be_d04b_ed04_be68;
    });
}
