//! Values of the file as values of the wire, and as people write them.

use homarus_api::config::ConfigValue;
use toml_edit::{InlineTable, Value};

pub fn to_wire(value: &Value) -> ConfigValue {
    match value {
        Value::Boolean(flag) => ConfigValue::Flag(*flag.value()),
        Value::Integer(number) => ConfigValue::Whole(*number.value()),
        Value::Float(number) => ConfigValue::Amount(*number.value()),
        Value::String(text) => ConfigValue::Text(text.value().clone()),
        Value::Array(list) => ConfigValue::List(list.iter().map(to_wire).collect()),
        Value::InlineTable(table) => {
            ConfigValue::Table(table.iter().map(|(name, value)| (name.to_owned(), to_wire(value))).collect())
        }
        // No key takes a date.
        Value::Datetime(_) => ConfigValue::Text(value.to_string().trim().to_owned()),
    }
}

/// For a script: texts without quotes, the entries of a list a line each.
pub fn plain(value: &ConfigValue) -> String {
    match value {
        ConfigValue::Flag(flag) => flag.to_string(),
        ConfigValue::Whole(number) => number.to_string(),
        ConfigValue::Amount(number) => number.to_string(),
        ConfigValue::Text(text) => text.clone(),
        ConfigValue::List(list) => list.iter().map(plain).collect::<Vec<_>>().join("\n"),
        table @ ConfigValue::Table(_) => in_toml(table),
    }
}

/// As it stands in a file.
pub fn in_toml(value: &ConfigValue) -> String {
    from_wire(value).to_string().trim().to_owned()
}

fn from_wire(value: &ConfigValue) -> Value {
    match value {
        ConfigValue::Flag(flag) => Value::from(*flag),
        ConfigValue::Whole(number) => Value::from(*number),
        ConfigValue::Amount(number) => Value::from(*number),
        ConfigValue::Text(text) => Value::from(text.as_str()),
        ConfigValue::List(list) => Value::from_iter(list.iter().map(from_wire)),
        ConfigValue::Table(table) => {
            Value::from(table.iter().map(|(name, value)| (name, from_wire(value))).collect::<InlineTable>())
        }
    }
}
