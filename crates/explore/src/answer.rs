// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions of the page and their answers.

use serde_json::{Value, json};

use crate::Log;

/// The answer to a question.
pub fn answer(request: &str) -> String {
    let Ok(question) = serde_json::from_str::<Value>(request) else {
        return json!({"error": "not JSON"}).to_string();
    };
    let text = |name: &str| question.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("request") {
        "log" => {
            let mut log = Log::new("{}");
            log.feed(text("text").as_bytes());
            log.finish()
        }
        _ => json!({"error": "no such request"}).to_string(),
    }
}
