//! `rondo config show | check | secret`.

use std::path::Path;

use rondo_config::{ClusterSecret, Loaded, Row};
use serde_json::{Value, json};

use super::arguments::{ConfigCommand, ServerArgs};
use super::failure::Failure;
use super::output::{Output, print, print_json, table};
use super::serve;

pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show { server, output } => show(&serve::load(server)?, *output),
        ConfigCommand::Check { server } => check(server),
        ConfigCommand::Secret { file } => secret(file),
    }
}

fn secret(file: &Path) -> Result<(), Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Failure::Failed(format!("no random bytes: {error}")))?;
    let made = ClusterSecret::make(file, &random).map_err(|error| Failure::Failed(error.to_string()))?;
    print(&format!("{}: {}", file.display(), if made { "a new cluster secret" } else { "the cluster secret is kept" }))
}

fn show(loaded: &Loaded, output: Output) -> Result<(), Failure> {
    let rows = loaded.rows();
    match output {
        Output::Table => print(&table(&["setting", "value", "set by"], &cells(&rows))),
        Output::Json => {
            let item = |row: &Row| json!({"key": row.key, "value": row.value, "origin": row.origin.to_string()});
            print_json(&Value::Array(rows.iter().map(item).collect()))
        }
    }
}

fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let shown = |value: &Value| if value.is_null() { "-".into() } else { value.to_string() };
    rows.iter().map(|row| vec![row.key.clone(), shown(&row.value), row.origin.to_string()]).collect()
}

/// The secret file is looked at as well: a node would not start without it.
fn check(server: &ServerArgs) -> Result<(), Failure> {
    let loaded = serve::load(server)?;
    loaded.settings.cluster_secret().map_err(|error| Failure::Failed(error.to_string()))?;
    print("the settings are valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondo_config::Origin;

    #[test]
    fn a_setting_without_a_value_is_a_dash() {
        let row = |value| Row { key: "zone".into(), value, origin: Origin::Environment("RONDO_ZONE".into()) };
        assert_eq!(cells(&[row(json!("a"))]), [["zone", "\"a\"", "RONDO_ZONE"]]);
        assert_eq!(cells(&[row(Value::Null)])[0][1], "-");
    }
}
