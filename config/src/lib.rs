//! Every crate's options composed into one set of settings, with the origin of each value.
//!
//! Layers, each over the one before: defaults, the configuration file, `RONDO_*` environment variables, flags.
//!
//! - **F1** A key that no setting has is an error that names the nearest one; nothing is ever ignored.
//! - **F2** An error says where the value came from, what it was and what is allowed, and all errors come together.
//! - **F3** Every value knows its [`Origin`].
//! - **F4** A node that can be reached from other machines has a cluster secret, and says that it knows what this
//!   release does not protect.

mod environment;
mod error;
mod file;
pub mod http;
mod layers;
mod schema;
pub mod secret;
pub mod settings;

pub use error::{ConfigError, ConfigErrors};
pub use http::{HttpLimits, LimitError};
pub use layers::{Flag, Loaded, Origin, Row, Sources};
pub use secret::{ClusterSecret, SecretError};
pub use settings::{LogFormat, LogOptions, Settings};

/// The configuration file as it is shipped: every setting with its default, commented out.
pub const SHIPPED: &str = include_str!("../rondo.toml");
