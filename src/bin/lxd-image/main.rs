//! The command line `lxd-image`: a face over the library for people who know `lxc image`.
//! Reads arguments, calls the library, shows results; each verb has a file of its own.

mod convert;
mod diff;
mod failure;
mod fingerprint;
mod inspect;
mod options;
mod output;
mod pack;
mod progress;
mod shell;
mod unpack;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::options::Global;

/// Read, verify, unpack and pack LXD and Incus images.
#[derive(Parser)]
#[command(name = "lxd-image", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Inspect(inspect::Arguments),
    Fingerprint(fingerprint::Arguments),
    Verify(verify::Arguments),
    Unpack(unpack::Arguments),
    Pack(pack::Arguments),
    Convert(convert::Arguments),
    Diff(diff::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let global = arguments.global;
    let done = global.start().and_then(|session| match arguments.verb {
        Verb::Inspect(verb) => inspect::run(&verb, &session),
        Verb::Fingerprint(verb) => fingerprint::run(&verb, &session),
        Verb::Verify(verb) => verify::run(&verb, &session),
        Verb::Unpack(verb) => unpack::run(&verb, &session),
        Verb::Pack(verb) => pack::run(&verb, &session),
        Verb::Convert(verb) => convert::run(&verb, &session),
        Verb::Diff(verb) => diff::run(&verb, &session),
        Verb::Completions(verb) => shell::completions(&verb),
        Verb::Man(verb) => shell::man(&verb),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
