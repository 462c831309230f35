// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands as they are shown: words, name and operands (§4.1).

use serde::{Serialize, Serializer};
use serde_json::Value;
use smmuv3_formats::{Command, Opcode};

use crate::hex::Word;

/// A command with its operands.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: &'static str,
    /// Its words.
    pub words: [Word; 2],
    /// Its operands, by the architecture's names; in JSON those in lower case.
    #[serde(serialize_with = "as_object")]
    operands: Vec<(&'static str, Value)>,
}

impl From<Command> for Shown {
    fn from(command: Command) -> Self {
        let opcode = command.opcode();
        let fields = opcode.map_or(&[][..], Opcode::fields).iter();
        let operands = fields.map(|field| {
            // Commands have two words.
            let value = field.extract(command.0[field.word & 1]);
            let value = match (field.hi - field.lo, field.name) {
                (0, _) => (value != 0).into(),
                (_, "Addr" | "MSIAddr" | "SID" | "SSID" | "ASID" | "VMID") => {
                    format!("{value:#x}").into()
                }
                _ => value.into(),
            };
            (field.name, value)
        });
        Self {
            name: opcode.map_or("reserved", Opcode::name),
            words: command.0.map(Word),
            operands: operands.collect(),
        }
    }
}

impl Shown {
    /// The operand of that name, as it is printed; empty where the command has none.
    pub fn operand(&self, name: &str) -> String {
        let found = self.operands.iter().find(|(of, _)| *of == name);
        found.map_or_else(String::new, |(_, value)| printed(value))
    }

    /// On a line: its words, its name, and the operands that say something. Not its code, nor what is 0 where that is
    /// nothing.
    pub fn line(&self) -> String {
        let [first, second] = self.words;
        let mut line = format!("  {:#018x} {:#018x}  {}", first.0, second.0, self.name);
        for (name, value) in &self.operands {
            let value = printed(value);
            let said = matches!(*name, "ASID" | "VMID" | "SID" | "Size" | "Addr");
            if *name != "Opcode" && (said || !matches!(value.as_str(), "0" | "0x0")) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(value) => value.clone(),
        Value::Bool(value) => u8::from(*value).to_string(),
        other => other.to_string(),
    }
}

fn as_object<S: Serializer>(operands: &[(&'static str, Value)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(operands.iter().map(|(name, value)| (name.to_lowercase(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_those_of_the_command() {
        // §4.1: ATC_INV of all of stream 0x100; a PRI response; a CMD_SYNC that tells nobody.
        let line = |words| Shown::from(Command(words)).line();
        assert_eq!(
            line([0x0000_0100_0000_0040, 0x34]),
            "  0x0000010000000040 0x0000000000000034  CMD_ATC_INV SID=0x100 Size=52 Addr=0x0"
        );
        assert_eq!(
            line([0x0000_0100_0000_1841, 0x2005]),
            "  0x0000010000001841 0x0000000000002005  CMD_PRI_RESP SSV=1 SSID=0x1 SID=0x100 \
             PRGIndex=5 Resp=2"
        );
        assert_eq!(line([0x46, 0]), "  0x0000000000000046 0x0000000000000000  CMD_SYNC");
        assert!(line([0xff, 0]).ends_with("  reserved"));
        let shown = serde_json::to_value(Shown::from(Command([0x0005_0007_0000_0011, 0]))).unwrap();
        let operands = serde_json::json!({ "opcode": 17, "vmid": "0x7", "asid": "0x5" });
        assert_eq!(shown["operands"], operands);
    }
}
