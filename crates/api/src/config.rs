//! Operations on the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Tells the values that hold, and where each comes from.
    Get, "config.get", "GET" "/v1/config", needs "config:read", GetRequest => GetResponse
);
operation!(
    /// Sets one key in the file, or lets its default hold again.
    Set, "config.set", "PUT" "/v1/config/{key}", needs "config:write", SetRequest => SetResponse
);
operation!(
    /// Tells where configuration, state and weights lie.
    Path, "config.path", "GET" "/v1/config/path", needs "config:read", PathRequest => PathResponse
);
operation!(
    /// Checks a configuration file.
    Check, "config.check", "POST" "/v1/config/check", needs "config:read", CheckRequest => CheckResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRequest {
    /// A key, or a table of keys; everything if absent.
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetResponse {
    pub file: String,
    /// Whether there is such a file.
    pub exists: bool,
    pub settings: Vec<Setting>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub key: String,
    /// The value that holds.
    pub value: ConfigValue,
    pub default: ConfigValue,
    pub source: Source,
    /// The line of the file that sets it.
    pub line: Option<u32>,
    /// What it may be, in words.
    pub expected: String,
    pub about: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Default,
    File,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConfigValue {
    Flag(bool),
    Whole(i64),
    Amount(f64),
    Text(String),
    List(Vec<ConfigValue>),
    Table(BTreeMap<String, ConfigValue>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetRequest {
    pub key: String,
    /// `None`: the default.
    pub value: Option<ConfigValue>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetResponse {
    pub file: String,
    pub key: String,
    pub value: ConfigValue,
    pub previous: ConfigValue,
    pub source: Source,
    /// `false`: it was so already, and the file was not touched.
    pub changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PathRequest {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathResponse {
    pub file: String,
    /// Whether there is such a file.
    pub exists: bool,
    pub state: String,
    pub models: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The file that holds if absent.
    pub file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResponse {
    pub file: String,
    /// Whether there is such a file.
    pub exists: bool,
    pub ok: bool,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// From 1; `None`: no place can be named.
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub what: String,
    pub help: Option<String>,
}
