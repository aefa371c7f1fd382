//! Operations on the profiles of the browser.

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Lists the profiles that keep cookies and storage from run to run.
    Profiles, "browser.profiles", "GET" "/v1/browser/profiles", needs "browser:read", ProfilesRequest => ProfilesResponse
);
operation!(
    /// Removes a profile with all that is in it.
    Clear, "browser.clear", "DELETE" "/v1/browser/profiles/{profile}", needs "browser:write", ClearRequest => ClearResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfilesRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfilesResponse {
    pub profiles: Vec<ProfileRow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileRow {
    pub name: String,
    pub bytes: u64,
    /// A run uses it now.
    pub in_use: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClearRequest {
    pub profile: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClearResponse {
    pub profile: String,
}
