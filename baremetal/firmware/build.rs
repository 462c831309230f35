// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the linker where the image goes: as the large one.

fn main() {
    println!("cargo:rustc-link-search={}/..", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rustc-link-arg=-Timage.ld");
    println!("cargo:rustc-link-arg=-Tmemory.ld");
    println!("cargo:rerun-if-changed=../memory.ld");
    println!("cargo:rerun-if-changed=build.rs");
}
