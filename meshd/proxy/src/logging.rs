//! The proxy's own log: JSON lines on stderr.

use std::io::Write;

/// One JSON line on stderr: the proxy's own log.
pub fn log(level: &str, message: &str, fields: &[(&str, &str)]) {
    let mut line = serde_json::Map::new();
    line.insert("at".into(), crate::clock::unix_seconds().into());
    line.insert("level".into(), level.into());
    line.insert("message".into(), message.into());
    line.extend(fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())));
    let text = serde_json::Value::Object(line).to_string() + "\n";
    let _ = std::io::stderr().write_all(text.as_bytes());
}
