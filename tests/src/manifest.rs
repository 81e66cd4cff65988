//! What `config/k8s` and `compose.yaml` say, read as Kubernetes and Compose read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

use crate::binary::workspace;

/// The documents of a YAML file of this repository, merge keys (`<<`) resolved.
#[track_caller]
pub fn yaml(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(workspace().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"));
    let parsed = |document| {
        let mut value = Value::deserialize(document).unwrap_or_else(|why| panic!("{path}: {why}"));
        value.apply_merge().unwrap_or_else(|why| panic!("{path}: {why}"));
        value
    };
    Deserializer::from_str(&text).map(parsed).collect()
}

/// Every object that `config/k8s/kustomization.yaml` names.
#[track_caller]
pub fn kubernetes() -> Vec<Value> {
    let directory = Path::new("config/k8s");
    let resources = yaml("config/k8s/kustomization.yaml")[0]["resources"].clone();
    let files = resources.as_sequence().expect("a list of files").iter().map(|name| name.as_str().expect("a name"));
    files.flat_map(|name| yaml(&directory.join(name).to_string_lossy())).collect()
}

/// The one object of a kind and name.
#[track_caller]
pub fn object(kind: &str, name: &str) -> Value {
    let found = kubernetes().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in config/k8s"))
}

/// A pod of the StatefulSet, as the kubelet starts its one container.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `rondo-0`.
    pub name: String,
    /// The names under which the other pods find it, the longest last.
    pub hosts: Vec<String>,
    /// The container's arguments.
    pub arguments: Vec<String>,
    /// Its variables, in their order, with everything put in.
    pub environment: Vec<(String, String)>,
    /// `spec.template.spec`.
    pub spec: Value,
}

impl Pod {
    /// The pod with this number, in a namespace, with labels in addition to those of the template.
    #[track_caller]
    pub fn of_stateful_set(number: usize, namespace: &str, labels: &[(&str, &str)]) -> Self {
        let set = object("StatefulSet", "rondo");
        let name = format!("{}-{number}", text(&set["metadata"]["name"]));
        let service = text(&set["spec"]["serviceName"]);
        let spec = set["spec"]["template"]["spec"].clone();
        let container = &spec["containers"][0];
        let strings = |list: &Value| list.as_sequence().into_iter().flatten().map(text).collect();
        let mut fields: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| (format!("metadata.labels['{key}']"), (*value).to_string())).collect();
        fields.insert("metadata.name".into(), name.clone());
        fields.insert("metadata.namespace".into(), namespace.into());
        let environment = environment(&container["env"], &fields);
        let hosts = vec![format!("{name}.{service}"), format!("{name}.{service}.{namespace}.svc")];
        Self { name, hosts, arguments: strings(&container["args"]), environment, spec }
    }

    /// A variable's value.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
    }

    /// Sets a variable, or changes it.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.environment.retain(|(variable, _)| variable != name);
        self.environment.push((name.into(), value.to_string()));
    }
}

/// Fields of the pod that it does not have are empty; `$(NAME)` stands for a variable defined before.
fn environment(list: &Value, fields: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in list.as_sequence().into_iter().flatten() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some(path) => fields.get(path).cloned().unwrap_or_default(),
            None => known
                .iter()
                .fold(text(&variable["value"]), |value, (name, known)| value.replace(&format!("$({name})"), known)),
        };
        known.push((text(&variable["name"]), value));
    }
    known
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text is needed: {value:?}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_as_the_kubelet_does() {
        let list =
            "[{name: A, value: x}, {name: B, value: $(A)-$(C)}, {name: C, valueFrom: {fieldRef: {fieldPath: f}}}]";
        let list: Value = serde_yaml_ng::from_str(list).expect("YAML");
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let missing = environment(&list, &BTreeMap::new());
        assert_eq!(missing, [pair("A", "x"), pair("B", "x-$(C)"), pair("C", "")]);
        let given = environment(&list, &BTreeMap::from([("f".to_string(), "y".to_string())]));
        assert_eq!(given[2], pair("C", "y"));
    }
}
