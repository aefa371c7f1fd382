"""Speaks to the scripted server with a provider's own client, and prints what that client understood as JSON.

Usage: official_clients.py openai|responses|anthropic|gemini BASE_URL

The server's turns: a whole answer, a streamed one with text, a call and sealed reasoning, a 429, a 400.
"""

import json
import sys

TOOL = "file-write"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
KEY = "sk-test-not-a-real-key"


def openai_chat(base_url):
    from openai import OpenAI

    client = OpenAI(base_url=base_url + "/v1", api_key=KEY, max_retries=0)
    tools = [{"type": "function", "function": {"name": TOOL, "parameters": SCHEMA}}]
    asked = dict(model="scripted", messages=[{"role": "user", "content": "go"}])
    answer = client.chat.completions.create(**asked)
    said = {"whole": answer.choices[0].message.content, "end": answer.choices[0].finish_reason}
    said["usage"] = [answer.usage.prompt_tokens, answer.usage.completion_tokens]
    text, name, arguments, usage = "", None, "", None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(stream=True, stream_options=options, tools=tools, **asked):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name = call.function.name or name
                arguments += call.function.arguments or ""
    said["stream"] = [text, name, json.loads(arguments), [usage.prompt_tokens, usage.completion_tokens]]
    said["sealed"] = None
    said["errors"] = failures(lambda: client.chat.completions.create(**asked))
    said["models"] = [model.id for model in client.models.list()]
    return said


def openai_responses(base_url):
    from openai import OpenAI

    client = OpenAI(base_url=base_url + "/v1", api_key=KEY, max_retries=0)
    tools = [{"type": "function", "name": TOOL, "parameters": SCHEMA, "strict": False}]
    asked = dict(model="scripted", input="go", store=False)
    answer = client.responses.create(**asked)
    said = {"whole": answer.output_text, "end": answer.status}
    said["usage"] = [answer.usage.input_tokens, answer.usage.output_tokens]
    text = ""
    # The client's own accumulation, which fails where events are missing or do not fit each other.
    with client.responses.stream(tools=tools, include=["reasoning.encrypted_content"], **asked) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    usage = [final.usage.input_tokens, final.usage.output_tokens]
    said["stream"] = [text, calls[0].name, json.loads(calls[0].arguments), usage]
    said["sealed"] = [item.encrypted_content for item in final.output if item.type == "reasoning"][0]
    said["errors"] = failures(lambda: client.responses.create(**asked))
    said["models"] = [model.id for model in client.models.list()]
    return said


def anthropic(base_url):
    from anthropic import Anthropic

    client = Anthropic(base_url=base_url, api_key=KEY, max_retries=0)
    tools = [{"name": TOOL, "input_schema": SCHEMA}]
    asked = dict(model="scripted", max_tokens=100, messages=[{"role": "user", "content": "go"}])
    answer = client.messages.create(**asked)
    said = {"whole": answer.content[0].text, "end": answer.stop_reason}
    said["usage"] = [answer.usage.input_tokens, answer.usage.output_tokens]
    with client.messages.stream(tools=tools, **asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    said["stream"] = [text, calls[0].name, calls[0].input, [final.usage.input_tokens, final.usage.output_tokens]]
    said["sealed"] = [block.signature for block in final.content if block.type == "thinking"][0]
    said["errors"] = failures(lambda: client.messages.create(**asked))
    said["models"] = [model.id for model in client.models.list()]
    return said


def gemini(base_url):
    from google import genai
    from google.genai import types

    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=base_url))
    function = types.FunctionDeclaration(name=TOOL, parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    answer = client.models.generate_content(model="scripted", contents="go")
    said = {"whole": answer.text, "end": answer.candidates[0].finish_reason.value}
    said["usage"] = [answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count]
    text, call, sealed, usage = "", None, None, None
    for chunk in client.models.generate_content_stream(model="scripted", contents="go", config=config):
        usage = chunk.usage_metadata or usage
        for part in chunk.candidates[0].content.parts or []:
            text += part.text or ""
            call = part.function_call or call
            sealed = part.thought_signature or sealed
    counts = [usage.prompt_token_count, usage.candidates_token_count]
    said["stream"] = [text, call.name, call.args, counts]
    said["sealed"] = sealed.hex()
    said["errors"] = failures(lambda: client.models.generate_content(model="scripted", contents="go"))
    said["models"] = [model.name for model in client.models.list()]
    return said


def failures(ask):
    """What the client makes of the next two turns: the class of its error and the status it read."""
    seen = []
    for _ in range(2):
        try:
            ask()
            seen.append("no error")
        except Exception as error:
            status = getattr(error, "status_code", None) or getattr(error, "code", None)
            seen.append([type(error).__name__, status])
    return seen


CLIENTS = {"openai": openai_chat, "responses": openai_responses, "anthropic": anthropic, "gemini": gemini}
print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2])))
