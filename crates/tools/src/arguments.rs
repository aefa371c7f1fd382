//! Arguments as models send them: typed, and forgiving where the meaning is plain.

use homarus_contract::tool::ToolError;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Parses arguments. An error says what was expected, so that the next try can be right.
pub fn parse<T: DeserializeOwned>(tool: &str, example: &str, json: &str) -> Result<T, ToolError> {
    let json = unwrap_text(json);
    serde_json::from_str(&json).map_err(|error| {
        ToolError::BadArguments(format!("The arguments of {tool} are not right: {error}. Send for example {example}"))
    })
}

/// The JSON schema of arguments, inlined and without what models do not need. Properties stand in the order
/// of the fields: models write arguments in it, and choose better what to write once they have said where.
pub fn schema<T: JsonSchema>() -> String {
    let generator = SchemaGenerator::new(SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    }));
    let mut schema = generator.into_root_schema_for::<T>();
    schema.remove("title");
    schema.remove("description");
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(never_null);
    }
    serde_json::to_string(&schema).unwrap_or_else(|_| "{\"type\":\"object\"}".to_owned())
}

/// An argument that is not needed is left out, not sent as `null`.
fn never_null(property: &mut Value) {
    let Some(property) = property.as_object_mut() else { return };
    if let Some(Value::Array(types)) = property.get("type")
        && let Some(only) = types.iter().find(|kind| kind.as_str() != Some("null")).cloned()
    {
        property.insert("type".to_owned(), only);
    }
    property.retain(|key, value| !(key == "default" && value.is_null()));
}

/// A number, also where a model wrote it as text.
pub fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
        Nothing(()),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(Some(number)),
        Written::Text(text) if text.trim().is_empty() => Ok(None),
        Written::Text(text) => text.trim().parse().map(Some).map_err(serde::de::Error::custom),
        Written::Nothing(()) => Ok(None),
    }
}

/// Text, also where a model wrote `null` for "none".
pub fn maybe_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Text, also where a model wrote the JSON itself that is to be sent.
pub fn text_or_json<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        json => Some(json.to_string()),
    })
}

/// Some models send the object as a text that holds the object.
fn unwrap_text(json: &str) -> String {
    match serde_json::from_str::<String>(json) {
        Ok(inner) if inner.trim_start().starts_with('{') => inner,
        _ if json.trim().is_empty() => "{}".to_owned(),
        _ => json.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct Arguments {
        /// Where.
        #[serde(rename = "path")]
        _path: String,
        #[serde(rename = "content")]
        _content: String,
        #[serde(rename = "line", default, deserialize_with = "number")]
        _line: Option<u64>,
    }

    #[test]
    fn a_schema_keeps_the_order_of_the_fields_and_offers_no_null() {
        let schema = schema::<Arguments>();
        let at = |name: &str| schema.find(&format!("\"{name}\":")).unwrap();
        assert!(at("path") < at("content") && at("content") < at("line"), "{schema}");
        assert!(!schema.contains("null"), "{schema}");
    }
}
