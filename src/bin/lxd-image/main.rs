//! The command line `lxd-image`, for people who know `lxc image`.
//!
//! It parses arguments, calls the library and prints results; it holds no rules of its own about images, stores or
//! servers. Each verb is one module with its clap arguments and a `run` function. Shared modules:
//!
//! - [`options`]: global options and the [`Session`] that every verb gets: limits, threads, progress, cancellation;
//! - [`location`]: `REMOTE:NAME` references and connections to remotes;
//! - [`store`]: the local store and how references select an image in it;
//! - [`output`]: results on standard output in all formats, escaped for terminals;
//! - [`manual`]: the pages of `help TOPIC`;
//! - [`failure`], [`signals`], [`progress`]: errors and exit statuses, Ctrl-C, progress on standard error.
//!
//! To add a verb: write a module with an `Arguments` type and `run`, add it to [`Verb`] and to the `run` function
//! here, and add its examples to the table in [`help`]. Completions and manual pages follow from these.
//!
//! What a verb may rely on, and must keep:
//!
//! - nothing is printed to standard output before the verb has succeeded, except for lists that are printed while they
//!   are
//!   computed (`diff`);
//! - every long call of the library gets a monitor of the session, so that Ctrl-C, progress and the record of
//!   omissions work;
//! - text from images and servers is escaped before it is printed;
//! - an option that has no effect for the given arguments is an error, never ignored.
//!
//! Results go to standard output; progress, notes, warnings and errors go to standard error, so that a pipe only ever
//! sees results. Doc comments on the argument types are the help texts; everything else about a verb is documented at
//! the top of its module.

mod alias;
mod bundle;
mod check;
mod convert;
mod copy;
mod delete;
mod delta;
mod diff;
mod disk;
mod edit;
mod export;
mod failure;
mod fingerprint;
mod help;
mod import;
mod info;
mod inspect;
mod list;
mod location;
mod lxc_compat;
mod manual;
mod mark_used;
mod mirror;
mod oci_layout;
mod options;
mod out_file;
mod output;
mod owners;
mod pack;
mod policy;
mod progress;
mod prune;
mod publish;
mod refresh;
mod registry;
mod remote;
mod remote_keys;
mod reproduce;
mod serve;
mod shell;
mod signals;
mod signing;
mod simplestreams;
mod simplestreams_build;
mod statement;
mod store;
mod store_verbs;
mod template;
mod unpack;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lxd_image::{Error, ErrorKind};

use crate::failure::Failure;
use crate::options::{Global, Session};

/// Read, verify, unpack, template and pack LXD and Incus images.
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
    Delta(delta::Arguments),
    Template(template::Arguments),
    Import(import::Arguments),
    #[command(visible_alias = "cp")]
    Copy(copy::Arguments),
    #[command(visible_alias = "ls")]
    List(list::Arguments),
    Info(info::Info),
    Show(info::Show),
    Edit(edit::Arguments),
    SetProperty(edit::SetProperty),
    GetProperty(edit::GetProperty),
    UnsetProperty(edit::UnsetProperty),
    Set(edit::Set),
    #[command(visible_alias = "rm")]
    Delete(delete::Arguments),
    Export(export::Arguments),
    Publish(publish::Arguments),
    Alias(alias::Arguments),
    Refresh(refresh::Arguments),
    Prune(prune::Arguments),
    Check(check::Arguments),
    Use(mark_used::Arguments),
    Mirror(mirror::Arguments),
    Bundle(bundle::Arguments),
    Simplestreams(simplestreams::Arguments),
    Statement(statement::Arguments),
    Reproduce(reproduce::Arguments),
    Remote(remote::Arguments),
    Store(store_verbs::Arguments),
    Serve(serve::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

impl Verb {
    /// Whether the verb prints a text that no format can change; `--format` is then refused instead of ignored.
    fn is_text(&self) -> bool {
        match self {
            Self::Completions(_) | Self::Man(_) => true,
            Self::Template(verb) => verb.is_text(),
            _ => false,
        }
    }
}

/// Parses the command line, runs the verb, and turns its result into an exit status.
///
/// Omissions are printed last, also after a failure, because they say what the verb left out until then.
fn main() -> ExitCode {
    let words = lxc_compat::translated(std::env::args_os());
    if let Some(page) = manual::asked(&words) {
        return match manual::print(page) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => Failure::from(error).report(),
        };
    }
    let matches = help::complete(Arguments::command()).get_matches_from(words);
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let global = arguments.global;
    if global.format.is_some() && arguments.verb.is_text() {
        let sentence = "`--format` has no effect on text that is printed as it is";
        return Failure::from(Error::new(ErrorKind::InvalidInput, sentence)).report();
    }
    let session = match global.start() {
        Ok(session) => session,
        Err(failure) => return failure.report(),
    };
    match run(arguments.verb, &session) {
        Ok(()) => {
            session.report_omissions();
            ExitCode::SUCCESS
        }
        // The reader of standard output has gone (`| head`): print nothing more.
        Err(failure) if failure.is_closed_pipe() => failure.report(),
        Err(failure) => {
            // The error first, because scripts and people look for it; notes follow.
            let status = failure.report();
            session.report_omissions();
            status
        }
    }
}

/// Calls the function of the verb.
fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Inspect(verb) => inspect::run(&verb, session),
        Verb::Fingerprint(verb) => fingerprint::run(&verb, session),
        Verb::Verify(verb) => verify::run(&verb, session),
        Verb::Unpack(verb) => unpack::run(&verb, session),
        Verb::Pack(verb) => pack::run(&verb, session),
        Verb::Convert(verb) => convert::run(&verb, session),
        Verb::Diff(verb) => diff::run(&verb, session),
        Verb::Delta(verb) => delta::run(&verb, session),
        Verb::Template(verb) => template::run(&verb, session),
        Verb::Import(verb) => import::run(&verb, session),
        Verb::Copy(verb) => copy::run(&verb, session),
        Verb::List(verb) => list::run(&verb, session),
        Verb::Info(verb) => info::info(&verb, session),
        Verb::Show(verb) => info::show(&verb, session),
        Verb::Edit(verb) => edit::run(&verb, session),
        Verb::SetProperty(verb) => edit::set_property(&verb, session),
        Verb::GetProperty(verb) => edit::get_property(&verb, session),
        Verb::UnsetProperty(verb) => edit::unset_property(&verb, session),
        Verb::Set(verb) => edit::set(&verb, session),
        Verb::Delete(verb) => delete::run(&verb, session),
        Verb::Export(verb) => export::run(&verb, session),
        Verb::Publish(verb) => publish::run(&verb, session),
        Verb::Alias(verb) => alias::run(&verb, session),
        Verb::Refresh(verb) => refresh::run(&verb, session),
        Verb::Prune(verb) => prune::run(&verb, session),
        Verb::Check(verb) => check::run(&verb, session),
        Verb::Use(verb) => mark_used::run(&verb, session),
        Verb::Mirror(verb) => mirror::run(&verb, session),
        Verb::Bundle(verb) => bundle::run(&verb, session),
        Verb::Simplestreams(verb) => simplestreams::run(&verb, session),
        Verb::Statement(verb) => statement::run(&verb, session),
        Verb::Reproduce(verb) => reproduce::run(&verb, session),
        Verb::Remote(verb) => remote::run(&verb, session),
        Verb::Store(verb) => store_verbs::run(&verb, session),
        Verb::Serve(verb) => serve::run(&verb, session),
        Verb::Completions(verb) => shell::completions(&verb),
        Verb::Man(verb) => shell::man(&verb),
    }
}
