//! Images and when to pull them.

/// An image and what it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, such as `sha256:…`: the same for the same content.
    pub id: Option<String>,
    /// Its digests in registries.
    pub digests: Vec<String>,
    /// The first part of its command line.
    pub entrypoint: Vec<String>,
    /// The arguments, unless others are given.
    pub command: Vec<String>,
    /// Its variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    /// The user, by name or id with an optional `:` and group; root if absent.
    pub user: Option<String>,
    /// Its stop signal.
    pub stop_signal: Option<String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every use.
    Always,
    /// If the engine does not have it.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// The progress of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes downloaded.
    pub loaded: u64,
    /// Bytes to download in total, as far as known; grows with each layer that is started.
    pub total: u64,
}
