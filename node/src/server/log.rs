//! What the node writes to stderr.

use rondo_config::{LogFormat, LogOptions};
use tracing_subscriber::EnvFilter;

/// Begins to log; the level has been checked with the settings, and a second call changes nothing.
pub fn begin(options: &LogOptions) {
    // The tables' crate says a line for each directory at every start; who wants them asks for them: `lsm_tree=info`.
    let filter = EnvFilter::try_new(format!("lsm_tree=warn,{}", options.level));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let begun = match options.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    drop(begun);
}
