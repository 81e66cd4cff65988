//! `rondo server`.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use rondo_config::{Flag, Loaded, Sources};
use rustix::process::{Signal, getpid, kill_process};

use super::arguments::ServerArgs;
use super::failure::Failure;

/// How long a node whose parent is gone may drain before it ends at once.
const DRAIN: Duration = Duration::from_secs(3);

pub(super) fn run(args: &ServerArgs) -> Result<(), Failure> {
    let settings = load(args)?.settings;
    if args.exit_with_parent {
        std::thread::spawn(follow_parent);
    }
    crate::server::run(settings).map_err(|error| Failure::Failed(error.to_string()))
}

/// The settings these flags, the environment and the file come to.
pub(super) fn load(args: &ServerArgs) -> Result<Loaded, Failure> {
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let environment = environment.map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();
    let sources = Sources { file: args.config.clone(), environment, flags: flags(args) };
    sources.load().map_err(|errors| Failure::Failed(errors.to_string()))
}

fn flags(args: &ServerArgs) -> Vec<Flag> {
    let insecure = args.insecure.then(|| "true".to_string());
    let given = [
        ("name", &args.name),
        ("data_dir", &args.data_dir),
        ("client_addr", &args.client_addr),
        ("peer_addr", &args.peer_addr),
        ("advertise", &args.advertise),
        ("advertise_client", &args.advertise_client),
        ("seeds", &args.seeds),
        ("bootstrap_expect", &args.bootstrap_expect),
        ("zone", &args.zone),
        ("weight", &args.weight),
        ("cluster_secret_file", &args.cluster_secret_file),
        ("insecure", &insecure),
    ];
    given.into_iter().filter_map(|(key, value)| Some(Flag { key, value: value.clone()? })).collect()
}

/// The parent holds the other end of stdin and writes nothing: it ends when the parent does, however that ends.
fn follow_parent() {
    let mut byte = [0];
    loop {
        match std::io::stdin().read(&mut byte) {
            Ok(0) => break,
            Err(e) if e.kind() != ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    // The first signal drains, the second ends at once.
    for _ in 0..2 {
        let _ = kill_process(getpid(), Signal::TERM);
        std::thread::sleep(DRAIN);
    }
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    #[test]
    fn every_flag_is_a_setting() {
        let line = "rondo --name a --data-dir d --client-addr 127.0.0.1:1 --peer-addr 127.0.0.1:2 --advertise h:1 \
                    --advertise-client h:2 --seeds h:3,h:4 --bootstrap-expect 3 --zone z --weight 2 \
                    --cluster-secret-file s --insecure";
        let flags = flags(&Line::parse_from(line.split_whitespace()).server);
        assert_eq!(flags.len(), 12);
        let settings = Sources { flags, ..Sources::default() }.load().unwrap().settings;
        assert_eq!((settings.name.as_str(), settings.seeds.len(), settings.weight), ("a", 2, 2));
        assert!(settings.insecure);
        let none: Vec<Flag> = super::flags(&ServerArgs::default());
        assert!(none.is_empty());
    }
}
