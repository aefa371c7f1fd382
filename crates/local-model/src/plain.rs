//! Tools as a small model can use them.

use homarus_contract::message::ToolDefinition;
use serde_json::Value;

/// The tool without its optional numbers. A small model fills in every argument it is shown, and asks for
/// one line of a file or one second of time if it can; left out, the tool's own choice holds.
pub fn tool(tool: &ToolDefinition) -> ToolDefinition {
    let schema = serde_json::from_str(&tool.schema).ok().and_then(without_optional_numbers);
    ToolDefinition { schema: schema.unwrap_or_else(|| tool.schema.clone()), ..tool.clone() }
}

fn without_optional_numbers(mut schema: Value) -> Option<String> {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|other| other == name));
    let is_number =
        |property: &Value| matches!(property.get("type").and_then(Value::as_str), Some("integer" | "number"));
    let properties = schema.get_mut("properties")?.as_object_mut()?;
    properties.retain(|name, property| is_required(name) || !is_number(property));
    Some(schema.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_numbers_go_and_the_rest_stays_in_order() {
        let shown = |schema: &str| {
            tool(&ToolDefinition { name: "t".into(), description: "d".into(), schema: schema.into() }).schema
        };
        let schema = r#"{"type":"object","properties":{"path":{"type":"string"},"lines":{"type":"integer"},"count":{"type":"integer"},"by":{"type":"string"}},"required":["path","count"]}"#;
        assert_eq!(shown(schema), schema.replace(r#""lines":{"type":"integer"},"#, ""));
        assert_eq!(shown("{"), "{", "what is not JSON is for the grammar to refuse");
        assert_eq!(shown(r#"{"type":"object"}"#), r#"{"type":"object"}"#);
    }
}
