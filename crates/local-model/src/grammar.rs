//! The grammar a call must follow, as Lark text for llguidance.
//!
//! It begins behind the mark of a call and ends with its arguments: the name is one of the tools, or
//! [`ANSWER`], and the arguments follow that tool's schema, so a call is always well-formed. Strings
//! without a bound of their own get one: a small model that starts to repeat itself would otherwise
//! write until its tokens run out.

use homarus_contract::message::ToolDefinition;
use serde_json::{Map, Value, json};

use crate::render::{ANSWER, ANSWER_SCHEMA, call_head, json_string};

/// Bound on a string that its schema leaves open.
const STRING_CHARS_MAX: u64 = 6_000;
/// Bound on a number that its schema leaves open: one without a bound may have digits without end.
const INTEGER_MAX: u64 = 1_000_000_000_000;
/// Bound on a list that its schema leaves open.
const LIST_ITEMS_MAX: u64 = 100;
/// A schema deeper than this is refused.
const SCHEMA_DEPTH_MAX: usize = 24;

/// The grammar of a call of one of `tools`. Errors name the tool and what is wrong.
pub fn call(tools: &[ToolDefinition]) -> Result<String, String> {
    let mut names = String::from("start: answer");
    let mut rules = rule("answer", ANSWER, &one_spelling(parse(ANSWER, ANSWER_SCHEMA)?));
    for (index, tool) in tools.iter().enumerate() {
        names.push_str(&format!(" | call_{index}"));
        rules.push_str(&rule(&format!("call_{index}"), &tool.name, &bounded_schema(tool)?));
    }
    Ok(format!("{names}\n{rules}"))
}

fn rule(rule: &str, name: &str, schema: &Value) -> String {
    format!("{rule}: {} {rule}_arguments\n{rule}_arguments: %json {schema}\n", json_string(&call_head(name)))
}

fn bounded_schema(tool: &ToolDefinition) -> Result<Value, String> {
    let mut schema = parse(&tool.name, &tool.schema)?;
    bound(&mut schema, SCHEMA_DEPTH_MAX)
        .map_err(|()| format!("the schema of tool `{}` is nested too deeply", tool.name))?;
    if !schema.is_object() {
        return Err(format!("the schema of tool `{}` is not an object", tool.name));
    }
    Ok(one_spelling(schema))
}

fn parse(name: &str, schema: &str) -> Result<Value, String> {
    serde_json::from_str(schema).map_err(|error| format!("the schema of tool `{name}` is not JSON: {error}"))
}

/// The spelling Python's json module writes, which is what models have seen most.
fn one_spelling(mut schema: Value) -> Value {
    if let Value::Object(object) = &mut schema {
        object.insert(
            "x-guidance".into(),
            json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
        );
    }
    schema
}

/// Puts bounds on strings and lists that have none, and closes objects that say nothing of other keys.
fn bound(schema: &mut Value, depth: usize) -> Result<(), ()> {
    let depth = depth.checked_sub(1).ok_or(())?;
    match schema {
        Value::Object(object) => {
            match object.get("type").and_then(Value::as_str) {
                Some("string") => {
                    default_to(object, "maxLength", STRING_CHARS_MAX, &["enum", "const", "pattern", "format"])
                }
                Some("integer") => default_to(object, "maximum", INTEGER_MAX, &["enum", "const"]),
                Some("array") => default_to(object, "maxItems", LIST_ITEMS_MAX, &[]),
                Some("object") if object.contains_key("properties") => {
                    object.entry("additionalProperties").or_insert(Value::Bool(false));
                }
                _ => {}
            }
            object.values_mut().try_for_each(|value| bound(value, depth))
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| bound(value, depth)),
        _ => Ok(()),
    }
}

fn default_to(object: &mut Map<String, Value>, key: &str, value: u64, unless: &[&str]) {
    if !unless.iter().any(|other| object.contains_key(*other)) {
        object.entry(key).or_insert(value.into());
    }
}

#[cfg(test)]
mod tests {
    use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
    use toktrie::ApproximateTokEnv;

    use super::*;

    fn tools() -> Vec<ToolDefinition> {
        let read = r#"{"type":"object","properties":{"path":{"type":"string"},"lines":{"type":"integer","minimum":1}},"required":["path"]}"#;
        let run =
            r#"{"type":"object","properties":{"command":{"type":"string","maxLength":5}},"required":["command"]}"#;
        [("file.read", read), ("shell.execute", run)]
            .map(|(name, schema)| ToolDefinition {
                name: name.into(),
                description: String::new(),
                schema: schema.into(),
            })
            .into()
    }

    /// Whether the grammar takes all of `call` and may end there.
    fn accepts(call: &str) -> bool {
        let env = ApproximateTokEnv::single_byte_env();
        let factory = ParserFactory::new_simple(&env).expect("a factory");
        let grammar = TopLevelGrammar::from_lark(super::call(&tools()).expect("a grammar"));
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        let tokens = env.tokenize_bytes(call.as_bytes());
        let taken = matcher.try_consume_tokens(&tokens);
        assert!(!matcher.is_error() || taken.is_err(), "{:?}", matcher.get_error());
        taken.is_ok_and(|count| count == tokens.len()) && matcher.is_accepting().unwrap_or(true)
    }

    #[test]
    fn calls() {
        let check = |call: &str, expected: bool| assert_eq!(accepts(call), expected, "{call}");
        check(r#"{"name": "file.read", "arguments": {"path": "a"}"#, true);
        check(r#"{"name": "file.read", "arguments": {"path": "a", "lines": 3}"#, true);
        check(r#"{"name": "file.read", "arguments": {"path": "a" "#, false);
        check(r#"{"name": "file.read", "arguments": {}"#, false);
        check(r#"{"name": "file.read", "arguments": {"path": "a", "lines": 0}"#, false);
        check(r#"{"name": "file.read", "arguments": {"path": "a", "other": 0}"#, false);
        check(r#"{"name": "rm", "arguments": {}"#, false);
        check(r#"{"name": "shell.execute", "arguments": {"command": "12345"}"#, true);
        check(r#"{"name": "shell.execute", "arguments": {"command": "123456"}"#, false);
        check(r#"{"name": "answer", "arguments": {"text": "Done: 3 < 4."}"#, true);
        check("I look.", false);
        check("", false);
    }

    #[test]
    fn open_strings_and_lists_are_bounded() {
        let mut schema = json!({"type": "object", "properties": {
            "a": {"type": "string"}, "n": {"type": "integer"}, "b": {"type": "string", "enum": ["x"]}, "c": {"type": "array", "items": {"type": "string", "maxLength": 2}}}});
        bound(&mut schema, SCHEMA_DEPTH_MAX).expect("not deep");
        assert_eq!(schema["properties"]["a"]["maxLength"], STRING_CHARS_MAX);
        assert_eq!(schema["properties"]["n"]["maximum"], INTEGER_MAX);
        assert_eq!(schema["properties"]["b"].get("maxLength"), None);
        assert_eq!(schema["properties"]["c"]["maxItems"], LIST_ITEMS_MAX);
        assert_eq!(schema["properties"]["c"]["items"]["maxLength"], 2);
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn a_bad_schema_is_named() {
        let bad = |schema: &str| {
            call(&[ToolDefinition { name: "x.y".into(), description: String::new(), schema: schema.into() }])
                .unwrap_err()
        };
        assert!(bad("{").contains("`x.y` is not JSON"));
        assert!(bad("3").contains("is not an object"));
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(bad(&deep).contains("nested too deeply"));
    }
}
