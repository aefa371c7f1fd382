//! Which models there are, whether a server is up, and what is known of a model.

use homarus_contract::model::{ModelErrorClass, Models, Price};
use homarus_models::ProviderKind;
use homarus_test_kit::{ModelServer, Script};

use crate::support::{KINDS, SECRET, registry, registry_with};

async fn server() -> ModelServer {
    let models = ["zeta:1b", "alpha-2"].map(str::to_owned).to_vec();
    ModelServer::start(Script { models, ..Script::new(vec![]) }).await.unwrap()
}

#[tokio::test]
async fn models_are_listed() {
    for kind in KINDS {
        let server = server().await;
        let names = registry(kind, &server.base_url()).list(kind.as_str()).await.unwrap();
        assert_eq!(names, ["zeta:1b", "alpha-2"], "{kind}");
        let request = &server.requests()[0];
        let key =
            ["authorization", "x-api-key", "x-goog-api-key"].iter().find_map(|name| request.header(name)).unwrap();
        assert!(key.ends_with(SECRET), "{kind}");
    }
    let error = registry(ProviderKind::Ollama, "http://127.0.0.1:1").list("ollama").await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Network);
    let error = registry(ProviderKind::Ollama, "http://127.0.0.1:1").list("other").await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::NotFound);
}

#[tokio::test]
async fn a_probe_sends_no_key() {
    for kind in KINDS {
        let server = server().await;
        assert!(registry(kind, &server.base_url()).is_up(kind.as_str()).await, "{kind}");
        assert!(!format!("{:?}", server.requests()).contains(SECRET), "{kind}");
        assert!(!registry(kind, "http://127.0.0.1:1").is_up(kind.as_str()).await, "{kind}");
    }
}

#[tokio::test]
async fn what_is_known_of_a_model() {
    let info = |kind, model: &str| registry(kind, "http://127.0.0.1:1").info(&model.parse().unwrap());
    let unknown = info(ProviderKind::OpenAi, "openai/never-heard-of");
    assert_eq!((unknown.price, unknown.context_tokens, unknown.output_tokens_max), (None, 128_000, 8_192));
    assert!(info(ProviderKind::OpenAi, "openai/gpt-5-mini").price.is_some());
    let free = Some(Price { input: 0, output: 0, cache_read: 0, cache_write: 0 });
    let ollama = info(ProviderKind::Ollama, "ollama/qwen3:8b");
    assert!(ollama.price == free && ollama.is_local);
    let cloud = info(ProviderKind::Ollama, "ollama/gpt-oss:120b-cloud");
    assert!(cloud.price.is_none() && !cloud.is_local);
}

/// Under a name of one's own a model costs what its maker asks, where the maker serves it, and holds no more than was
/// said of the provider.
#[tokio::test]
async fn a_provider_of_ones_own_has_its_makers_prices_and_its_own_bounds() {
    let info = |base_url: &str| {
        let registry = registry_with(ProviderKind::OpenAiResponses, "http://127.0.0.1:1", |provider| {
            provider.id = "work".to_owned();
            provider.base_url = base_url.to_owned();
            provider.context_tokens = Some(5_000);
            provider.output_tokens_max = Some(300);
        });
        registry.info(&"work/gpt-5-mini".parse().unwrap())
    };
    let at_openai = info("https://api.openai.com");
    let known = registry(ProviderKind::OpenAi, "http://127.0.0.1:1").info(&"openai/gpt-5-mini".parse().unwrap());
    assert!(at_openai.price.is_some() && at_openai.price == known.price);
    assert_eq!((at_openai.context_tokens, at_openai.output_tokens_max), (5_000, 300));
    assert_eq!(info("https://gateway.example").price, None, "nobody knows what a gateway asks");
}

/// Gemini lists models that answer no questions: they are left out.
#[tokio::test]
async fn models_that_only_embed_are_not_listed() {
    let server = server().await;
    let names = registry(ProviderKind::Gemini, &server.base_url()).list("gemini").await.unwrap();
    assert!(!names.contains(&"embeds-only".to_owned()), "{names:?}");
}
