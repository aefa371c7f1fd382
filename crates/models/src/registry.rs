//! The providers of this process behind the one port.

use std::{path::PathBuf, sync::Arc};

use homarus_contract::{
    BoxStream,
    gate::{Granted, Permit},
    model::{Admission, ModelError, ModelErrorClass, ModelEvent, ModelInfo, ModelRef, ModelRequest, Models, Price},
    outbound::{Outbound, OutboundRequest, Reach, SecretRef, SecretUse},
    sandbox::WorkerLauncher,
};
use serde::Deserialize;

use crate::{
    anthropic, attempt,
    base_url::ProviderKind,
    breaker::{BreakerOptions, Breakers},
    gemini, http,
    local::Local,
    ollama, openai,
    prices::Prices,
    responses,
};

/// Window assumed of a model nobody described.
const CONTEXT_TOKENS_DEFAULT: u32 = 128_000;
const OUTPUT_TOKENS_MAX_DEFAULT: u32 = 8_192;
/// A server on this machine that does not answer within this time is not running.
const PROBE_MS: u64 = 300;
const LIST_BYTES_MAX: usize = 4 << 20;
/// Names kept of a listing.
const LISTED_MAX: usize = 2_000;

/// A provider with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderOptions {
    /// The part before the slash in `PROVIDER/MODEL`.
    pub id: String,
    pub kind: ProviderKind,
    /// As [`crate::base_url_from_env_value`] makes it: without `/v1`.
    pub base_url: String,
    pub secret: Option<SecretRef>,
    pub connect_ms: u64,
    /// Longest silence before the first byte and between two pieces of an answer.
    pub idle_ms: u64,
    /// Bounds of this provider's models, where they are tighter than what is known of them.
    pub context_tokens: Option<u32>,
    pub output_tokens_max: Option<u32>,
}

impl ProviderOptions {
    /// The provider where its maker serves it, without a key.
    pub fn new(kind: ProviderKind) -> Self {
        Self {
            id: kind.as_str().to_owned(),
            kind,
            base_url: kind.default_base_url().to_owned(),
            secret: None,
            connect_ms: 10_000,
            // A reasoning model, or a prompt read on a slow machine, may be silent for minutes.
            idle_ms: 300_000,
            context_tokens: None,
            output_tokens_max: None,
        }
    }
}

/// The embedded model, provider `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// The worker's executable, started as `WORKER --weights PATH --context-tokens N`.
    pub worker: PathBuf,
    pub weights: PathBuf,
    pub name: String,
    pub context_tokens: u32,
    pub memory_bytes: u64,
    /// The worker is ended when nothing was asked of it for this long.
    pub idle_ms: u64,
    /// Longest wait for the weights to load, and longest silence while it reads a prompt.
    pub silence_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub providers: Vec<ProviderOptions>,
    /// Those whose weights are here, by name; each has a worker of its own.
    pub locals: Vec<LocalOptions>,
    pub breaker: BreakerOptions,
}

/// All models this process can ask. Making one connects to nothing and starts nothing.
pub struct Registry {
    providers: Vec<Provider>,
    locals: Vec<Arc<Local>>,
    prices: Prices,
    breakers: Breakers,
}

/// A provider and the way out to it.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) options: Arc<ProviderOptions>,
    pub(crate) outbound: Arc<dyn Outbound>,
}

impl Registry {
    pub fn new(
        options: Options,
        outbound: Arc<dyn Outbound>,
        launcher: Arc<dyn WorkerLauncher>,
        prices: Prices,
    ) -> Self {
        let breakers = Breakers::new(options.breaker);
        let providers = options
            .providers
            .into_iter()
            .map(|options| Provider { options: Arc::new(options), outbound: outbound.clone() });
        let locals = options.locals.into_iter().map(|options| Arc::new(Local::new(options, launcher.clone())));
        Self { providers: providers.collect(), locals: locals.collect(), prices, breakers }
    }

    /// The ids of the providers, in the order they were given; `local` last.
    pub fn providers(&self) -> Vec<&str> {
        let local = (!self.locals.is_empty()).then_some(Local::PROVIDER);
        self.providers.iter().map(|provider| provider.options.id.as_str()).chain(local).collect()
    }

    /// The embedded models that can be asked, the preferred one first.
    pub fn local_names(&self) -> impl Iterator<Item = &str> {
        self.locals.iter().map(|local| local.name())
    }

    /// The models a provider says it has, in its own order (Ollama's is the last used first).
    pub async fn list(&self, provider: &str) -> Result<Vec<String>, ModelError> {
        if provider == Local::PROVIDER && !self.locals.is_empty() {
            return Ok(self.local_names().map(str::to_owned).collect());
        }
        let provider = self.provider(provider).ok_or_else(|| unknown_provider(provider))?;
        let kind = provider.options.kind;
        let path = match kind {
            ProviderKind::Anthropic => "/v1/models?limit=1000",
            ProviderKind::OpenAi | ProviderKind::OpenAiResponses => "/v1/models",
            ProviderKind::Gemini => "/v1beta/models?pageSize=1000",
            ProviderKind::Ollama => "/api/tags",
        };
        let response = http::send(&*provider.outbound, kind, "", provider.get(path)).await?;
        let body = http::read_body(response, LIST_BYTES_MAX).await?;
        let listing: Listing = serde_json::from_slice(&body).map_err(|error| {
            http::protocol(
                &format!("{kind} sent a list of models that cannot be read: {error}"),
                &String::from_utf8_lossy(&body),
            )
        })?;
        let entries = listing.data.or(listing.models).unwrap_or_default();
        Ok(entries.into_iter().filter(ListedModel::answers).filter_map(ListedModel::name).take(LISTED_MAX).collect())
    }

    /// Whether a server answers at the provider's address right now; waits at most 300 ms for each
    /// of connection and answer. No key is sent. The embedded model is always up.
    pub async fn is_up(&self, provider: &str) -> bool {
        if provider == Local::PROVIDER && !self.locals.is_empty() {
            return true;
        }
        let Some(provider) = self.provider(provider) else { return false };
        let path = match provider.options.kind {
            ProviderKind::Ollama => "/api/version",
            ProviderKind::Gemini => "/v1beta/models",
            ProviderKind::Anthropic | ProviderKind::OpenAi | ProviderKind::OpenAiResponses => "/v1/models",
        };
        let mut request = provider.get(path);
        request.secret = None;
        request.connect_ms = PROBE_MS;
        request.idle_ms = PROBE_MS;
        // Any answer will do: without a key it may well be 401.
        provider.outbound.send(request).await.is_ok_and(|response| response.status < 500)
    }

    /// One attempt, whoever asks.
    fn attempt(&self, request: ModelRequest) -> BoxStream<ModelEvent> {
        if request.model.provider == Local::PROVIDER && !self.locals.is_empty() {
            return match self.local(&request.model).cloned() {
                Some(local) => attempt::stream(move |sink| local.attempt(request, sink)),
                None => attempt::failed(no_such_local(&request.model.model)),
            };
        }
        let Some(provider) = self.provider(&request.model.provider).cloned() else {
            return attempt::failed(unknown_provider(&request.model.provider));
        };
        match provider.options.kind {
            ProviderKind::Anthropic => attempt::stream(move |sink| anthropic::attempt(provider, request, sink)),
            ProviderKind::OpenAi => attempt::stream(move |sink| openai::attempt(provider, request, sink)),
            ProviderKind::OpenAiResponses => attempt::stream(move |sink| responses::attempt(provider, request, sink)),
            ProviderKind::Gemini => attempt::stream(move |sink| gemini::attempt(provider, request, sink)),
            ProviderKind::Ollama => {
                let context_tokens = self.info(&request.model).context_tokens;
                attempt::stream(move |sink| ollama::attempt(provider, request, context_tokens, sink))
            }
        }
    }

    fn local(&self, model: &ModelRef) -> Option<&Arc<Local>> {
        self.locals.iter().find(|local| model.provider == Local::PROVIDER && local.name() == model.model)
    }

    fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.options.id == id)
    }
}

impl Models for Registry {
    fn stream(&self, permit: Permit, request: ModelRequest) -> BoxStream<ModelEvent> {
        if !matches!(permit.granted(), Granted::Model(model) if *model == request.model) {
            return attempt::failed(http::bad_request(format!("the permit is not for {}", request.model)));
        }
        let model = request.model.clone();
        self.breakers.watch(&model, self.attempt(request))
    }

    fn admission(&self, model: &ModelRef) -> Admission {
        self.breakers.admission(model)
    }
    fn info(&self, model: &ModelRef) -> ModelInfo {
        if let Some(local) = self.local(model) {
            return local.info();
        }
        let provider = self.provider(&model.provider).map(|provider| provider.options.as_ref());
        // A provider under a name of one's own that is where its maker serves it costs what the maker asks.
        let known = self.prices.find(model).or_else(|| {
            let maker = provider.filter(|options| options.base_url == options.kind.default_base_url())?.kind.maker();
            self.prices.find(&ModelRef { provider: maker.to_owned(), model: model.model.clone() })
        });
        // Ollama also passes on to models that run, and cost, elsewhere.
        let is_ollama = provider.is_some_and(|options| options.kind == ProviderKind::Ollama);
        let is_local = is_ollama && !model.model.ends_with("cloud");
        let free = is_local.then_some(Price { input: 0, output: 0, cache_read: 0, cache_write: 0 });
        let output_max = known.and_then(|known| known.output_tokens_max).unwrap_or(OUTPUT_TOKENS_MAX_DEFAULT);
        let own = |bound: fn(&ProviderOptions) -> Option<u32>| provider.and_then(bound);
        let bounds = [known.and_then(|known| known.context_tokens), own(|options| options.context_tokens)];
        let prompt_tokens_max = bounds.into_iter().flatten().min();
        ModelInfo {
            context_tokens: prompt_tokens_max.unwrap_or(u32::MAX).min(bounds[0].unwrap_or(CONTEXT_TOKENS_DEFAULT)),
            prompt_tokens_max,
            output_tokens_max: output_max.min(own(|options| options.output_tokens_max).unwrap_or(u32::MAX)),
            price: known.and_then(|known| known.price).or(free),
            is_local,
        }
    }
}

impl Provider {
    /// A model call.
    pub(crate) fn post(&self, path: &str, body: Vec<u8>) -> OutboundRequest {
        let mut request = self.get(path);
        request.method = "POST".to_owned();
        request.headers.push(("content-type".to_owned(), "application/json".to_owned()));
        request.body = body;
        request
    }

    pub(crate) fn get(&self, path: &str) -> OutboundRequest {
        let options = &self.options;
        let secret = options.secret.clone().map(|secret| match options.kind {
            ProviderKind::Anthropic => SecretUse::Header { name: "x-api-key".to_owned(), secret },
            ProviderKind::Gemini => SecretUse::Header { name: "x-goog-api-key".to_owned(), secret },
            ProviderKind::OpenAi | ProviderKind::OpenAiResponses | ProviderKind::Ollama => SecretUse::Bearer(secret),
        });
        let (name, value) = anthropic::VERSION_HEADER;
        let is_anthropic = options.kind == ProviderKind::Anthropic;
        OutboundRequest {
            method: "GET".to_owned(),
            url: format!("{}{path}", options.base_url),
            headers: if is_anthropic { vec![(name.to_owned(), value.to_owned())] } else { Vec::new() },
            body: Vec::new(),
            secret,
            reach: Reach::Any,
            connect_ms: options.connect_ms,
            idle_ms: options.idle_ms,
        }
    }
}

fn no_such_local(name: &str) -> ModelError {
    ModelError {
        class: ModelErrorClass::NotFound,
        message: format!("the embedded model {name} is not here: `homarus models pull {name}` fetches it"),
        raw: String::new(),
        retry_after_ms: None,
    }
}

fn unknown_provider(id: &str) -> ModelError {
    ModelError {
        class: ModelErrorClass::NotFound,
        message: format!("there is no provider {id}; `homarus models list` shows those there are"),
        raw: String::new(),
        retry_after_ms: None,
    }
}

/// OpenAI and Anthropic list under `data` by `id`, Ollama and Gemini under `models` by `name`.
#[derive(Deserialize)]
struct Listing {
    data: Option<Vec<ListedModel>>,
    models: Option<Vec<ListedModel>>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: Option<String>,
    name: Option<String>,
    /// Gemini lists models of embeddings and pictures too.
    #[serde(rename = "supportedGenerationMethods")]
    methods: Option<Vec<String>>,
}

impl ListedModel {
    fn answers(&self) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|method| method == "generateContent"))
    }

    fn name(self) -> Option<String> {
        self.id.or(self.name).map(|name| name.strip_prefix("models/").map_or(name.clone(), str::to_owned))
    }
}
