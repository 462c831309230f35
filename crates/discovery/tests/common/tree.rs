// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees made by hand.

/// A flattened device tree, as it is written.
#[derive(Default)]
pub struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn pad(&mut self) {
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
    }

    /// Begins a node.
    pub fn open(&mut self, name: &str) -> &mut Self {
        self.word(1);
        self.structure.extend(name.as_bytes());
        self.structure.push(0);
        self.pad();
        self
    }

    /// Ends it.
    pub fn close(&mut self) -> &mut Self {
        self.word(2);
        self
    }

    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let entry = [name.as_bytes(), b"\0"].concat();
        let at = self.strings.windows(entry.len()).position(|window| window == entry);
        // A name may be the end of another.
        let at = at.unwrap_or_else(|| {
            self.strings.extend(&entry);
            self.strings.len() - entry.len()
        });
        self.word(3);
        self.word(value.len() as u32);
        self.word(at as u32);
        self.structure.extend(value);
        self.pad();
        self
    }

    pub fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.bytes(name, &[text.as_bytes(), b"\0"].concat())
    }

    /// The blob.
    pub fn blob(&self) -> Vec<u8> {
        let mut structure = self.structure.clone();
        structure.extend(9u32.to_be_bytes());
        let (offset, strings) = (56, 56 + structure.len());
        let total = strings + self.strings.len();
        let header = [0xd00d_feed, total, offset, strings, 40, 17, 16, 0, self.strings.len()];
        let mut blob: Vec<u8> = Vec::new();
        header.iter().for_each(|word| blob.extend((*word as u32).to_be_bytes()));
        blob.extend((structure.len() as u32).to_be_bytes());
        blob.extend([0; 16]);
        blob.extend(structure);
        blob.extend(&self.strings);
        blob
    }
}
