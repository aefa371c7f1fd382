//! Operations on models.

use homarus_contract::model::ModelRef;
use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Lists providers, whether they can be used, and their models.
    List, "models.list", "GET" "/v1/models", needs "models:read", ListRequest => ListResponse
);
operation!(
    /// Downloads the weights of an embedded model.
    Pull, "models.pull", "POST" "/v1/models/pull", needs "models:pull", PullRequest => PullResponse
);
operation!(
    /// Asks a model for one word.
    Test, "models.test", "POST" "/v1/models/test", needs "models:test", TestRequest => TestResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResponse {
    pub providers: Vec<ProviderRow>,
    pub embedded: Vec<EmbeddedRow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderRow {
    pub provider: String,
    pub address: String,
    /// Whether it is set up: a key is set, or a server answers.
    pub ready: bool,
    /// Why it is not ready, or why its models could not be listed.
    pub note: Option<String>,
    pub models: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EmbeddedRow {
    pub name: String,
    pub bytes: u64,
    pub present: bool,
    pub path: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullRequest {
    pub name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullResponse {
    pub name: String,
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
    /// `false`: it was there already.
    pub downloaded: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestRequest {
    pub model: Option<ModelRef>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestResponse {
    pub model: ModelRef,
    pub answer: String,
    pub first_ms: u64,
    pub wall_ms: u64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
}
