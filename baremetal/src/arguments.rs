// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the image was told when it was started: words `NAME=VALUE` in `bootargs` of the device tree.

use core::str::FromStr;

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};

/// The words.
#[derive(Clone, Copy, Debug)]
pub struct Arguments(&'static str);

impl Arguments {
    /// Those of a device tree.
    pub fn of(tree: Fdt<'static>) -> Self {
        let chosen = tree.find_node("/chosen");
        let words = chosen.and_then(|chosen| chosen.property("bootargs")?.value_as::<&str>().ok());
        Self(words.unwrap_or_default())
    }

    /// The value of `name`.
    pub fn text(self, name: &str) -> Option<&'static str> {
        let words = self.0.split_ascii_whitespace();
        words.filter_map(|word| word.split_once('=')).find(|(of, _)| *of == name).map(|(_, to)| to)
    }

    /// The number that is the value of `name`, or `default`.
    pub fn number<T: FromStr>(self, name: &str, default: T) -> T {
        match self.text(name).map(str::parse) {
            None => default,
            Some(Ok(number)) => number,
            Some(Err(_)) => panic!("{name} is not a number in `{}`", self.0),
        }
    }
}
