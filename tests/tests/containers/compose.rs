//! `compose.yaml`, brought up as its first lines say.

use std::process::Command;
use std::time::Duration;

use rondo_tests::{eventually, holds, request, workspace};
use serde_json::Value;

use super::engine::{docker, fresh_name, inspect, said};
use super::image::image;

const UP: Duration = Duration::from_secs(90);

/// `docker compose`, or the program that was there before it.
fn program() -> Option<Vec<&'static str>> {
    let runs = |command: &[&str]| {
        let output = Command::new(command[0]).args(&command[1..]).arg("version").output();
        output.is_ok_and(|output| output.status.success())
    };
    [vec!["docker", "compose"], vec!["docker-compose"]].into_iter().find(|command| runs(command))
}

/// A project with ports that the engine chooses. Removed at the end, with its volumes (K4).
struct Project {
    program: Vec<&'static str>,
    name: String,
}

impl Project {
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).args(["--project-name", &self.name]).args(arguments);
        command.current_dir(workspace()).env("RONDO_IMAGE", image());
        for port in ["RONDO_PORT_N1", "RONDO_PORT_N2", "RONDO_PORT_N3"] {
            command.env(port, "0");
        }
        said(command.output().unwrap())
    }

    #[track_caller]
    fn up(&self) {
        self.run(&["up", "--detach", "--no-build"]).unwrap();
        for name in ["n1", "n2", "n3"] {
            eventually(UP, "a healthy service", || {
                let state = inspect(&self.container(name))["State"].clone();
                holds(state["Health"]["Status"] == "healthy", || format!("{name}: {state}"))
            });
        }
    }

    #[track_caller]
    fn container(&self, service: &str) -> String {
        self.run(&["ps", "--quiet", service]).unwrap()
    }

    #[track_caller]
    fn url(&self, service: &str, path: &str) -> String {
        let published = docker(&["port", &self.container(service), "7700/tcp"]);
        assert!(published.starts_with("127.0.0.1:"), "others can reach it: {published}");
        format!("http://{published}{path}")
    }

    #[track_caller]
    fn cluster(&self) -> Value {
        request("GET", &self.url("n1", "/v1/cluster")).send().expect(200).json()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", self.run(&["logs", "--tail", "40"]));
        }
        if let Err(why) = self.run(&["down", "--volumes", "--timeout", "40"]) {
            eprintln!("left over: {}: {why}", self.name);
        }
    }
}

#[test]
#[ignore = "needs a container engine: make containers"]
fn three_nodes_come_up_and_their_data_survives_down_and_up() {
    let Some(program) = program() else {
        println!("SKIPPED: neither docker compose nor docker-compose is installed, so compose.yaml was not brought up");
        return;
    };
    let project = Project { program, name: fresh_name() };
    project.up();
    let before = project.cluster();
    assert_eq!(before["members"].as_array().map(Vec::len), Some(3), "{before}");
    request("PUT", &project.url("n1", "/v1/kv/fruit/apple")).w(3).body("red").send().expect(204);
    assert_eq!(request("GET", &project.url("n3", "/v1/kv/fruit/apple")).r(2).send().expect(200).text(), "red");

    project.run(&["down", "--timeout", "40"]).unwrap();
    project.up();
    assert_eq!(project.cluster()["cluster_id"], before["cluster_id"]);
    assert_eq!(request("GET", &project.url("n2", "/v1/kv/fruit/apple")).r(3).send().expect(200).text(), "red");
}
