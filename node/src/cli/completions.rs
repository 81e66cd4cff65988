//! `rondo completions`: what a shell needs to know to complete a command line of ours.

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell as Generator, generate};

use super::arguments::Arguments;
use super::failure::Failure;
use super::output::print_bytes;

/// Shells that a script is made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    print_bytes(&script(shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    generate(generator, &mut Arguments::command(), "rondo", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn every_shell_learns_commands_flags_and_values() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for word in ["completions", "bootstrap-expect", "value-size", "json"] {
                assert!(script.contains(word), "{shell:?}: {word}");
            }
        }
    }

    #[test]
    fn shells_that_are_here_can_read_their_script() {
        for (shell, program, flag) in
            [(Shell::Bash, "bash", "-n"), (Shell::Zsh, "zsh", "-n"), (Shell::Fish, "fish", "--no-execute")]
        {
            let reading = Command::new(program).arg(flag).stdin(Stdio::piped()).spawn();
            let Ok(mut reading) = reading else { continue };
            reading.stdin.take().unwrap().write_all(&script(shell)).unwrap();
            assert!(reading.wait().unwrap().success(), "{program} {flag}");
        }
    }
}
