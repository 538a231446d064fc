//! Steps about fingerprints, metadata, images and templates.

use std::fs::{self, File};
use std::io::Read;

use lxd_image::format::{
    Container, ConvertOptions, Difference, Entry, EntryKind, Image, ImageForm, ImageSource, Input, PackOptions, Rootfs,
    RootfsFormat, UnpackOptions, VerifyOptions, VerifyReport, differences, fingerprint_of, pack,
};
use lxd_image::metadata::Metadata;
use lxd_image::templates::{
    ApplyOptions, ApplyReport, Context, Dialect, InstanceDir, ParseOptions, Template, Value, apply,
};
use lxd_image::{Error, Fingerprint, Result};
use serde_json::Value as Json;

use super::{Lines, Outcome, Place, quoted, shown, text};
use crate::templates::read_context;

/// A stream in small pieces.
struct Trickle(File);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(7);
        self.0.read(&mut buffer[..most])
    }
}

fn source(place: &Place, files: &[&[u8]], streamed: bool) -> ImageSource {
    let input = |file: &&[u8]| {
        let file = File::open(place.path(file)).unwrap();
        if streamed { Input::stream(Trickle(file)) } else { Input::file(file).unwrap() }
    };
    match files {
        [one, other] => ImageSource::split(input(one), input(other)),
        [one] => ImageSource::unified(input(one)),
        _ => panic!("one file or two"),
    }
}

pub(super) fn from_files(place: &Place, files: &[&[u8]]) -> ImageSource {
    source(place, files, false)
}

fn open(place: &Place, files: &[&[u8]]) -> Result<Image> {
    Image::open_with(source(place, files, false), &place.limits)
}

pub(super) fn form(form: ImageForm) -> &'static str {
    if form == ImageForm::Unified { "unified" } else { "split" }
}

pub(super) fn yes(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

fn print(metadata: &Metadata) -> Vec<String> {
    let known = metadata.known_architecture();
    let (kernel, debian) = known.map_or(("", ""), |known| (known.kernel_name(), known.debian_name()));
    let mut lines = vec![
        format!("architecture {} kernel {} debian {}", quoted(metadata.architecture()), quoted(kernel), quoted(debian)),
        format!("created {} expires {}", metadata.creation_date(), metadata.expiry_date().unwrap_or(0)),
    ];
    lines.extend(metadata.properties().iter().map(|(k, v)| format!("property {} {}", quoted(k), quoted(v))));
    for (path, rule) in metadata.templates() {
        lines.push(format!(
            "rule {} {} create_only {} uid {} gid {} mode {}",
            quoted(path),
            quoted(rule.template()),
            yes(rule.create_only()),
            quoted(rule.uid().unwrap_or("")),
            quoted(rule.gid().unwrap_or("")),
            quoted(rule.mode().unwrap_or(""))
        ));
        lines.extend(rule.when().map(|event| format!("when {}", quoted(event))));
        lines.extend(rule.properties().iter().map(|(k, v)| format!("set {} {}", quoted(k), quoted(v))));
    }
    lines.push(format!("yaml {}", quoted(metadata.to_yaml())));
    lines
}

pub(super) fn verified(verification: &VerifyReport, all: bool) -> Vec<String> {
    let counts = &verification.counts;
    let metadata = verification.metadata.as_ref().map_or("-".to_owned(), |metadata| quoted(metadata.architecture()));
    let mut lines = vec![
        format!("fingerprint {}", verification.fingerprint),
        format!("type {}", verification.image_type.name()),
        format!("metadata {metadata}"),
    ];
    if !all {
        return lines;
    }
    lines.push(format!(
        "files {} directories {} symlinks {} hard_links {} devices {} others {} bytes {}",
        counts.files,
        counts.directories,
        counts.symlinks,
        counts.hard_links,
        counts.devices,
        counts.others,
        counts.bytes
    ));
    lines.extend(verification.templates.iter().map(|name| format!("template {}", quoted(name))));
    lines.extend(verification.strays.iter().map(|path| format!("stray {}", quoted(path))));
    lines.extend(verification.findings.iter().map(|error| format!("finding {}", shown(error))));
    lines
}

fn entry(entry: &Entry) -> String {
    let (letter, size, target) = match &entry.kind {
        EntryKind::File { size } => ('-', *size, &[][..]),
        EntryKind::Directory => ('d', 0, &[][..]),
        EntryKind::Symlink { target } => ('l', 0, target.as_slice()),
        EntryKind::HardLink { target } => ('h', 0, target.as_slice()),
        EntryKind::CharDevice(_) => ('c', 0, &[][..]),
        EntryKind::BlockDevice(_) => ('b', 0, &[][..]),
        EntryKind::Fifo => ('p', 0, &[][..]),
        EntryKind::Socket => ('s', 0, &[][..]),
        _ => ('?', 0, &[][..]),
    };
    let (path, mode, uid, gid) = (quoted(&entry.path), entry.mode, entry.uid, entry.gid);
    format!("{letter} {path} {mode:04o} {uid}:{gid} {size} {}", quoted(target))
}

fn container(container: Container) -> String {
    format!("{} codec {}", container.name(), container.codec().map_or("-", lxd_image::format::Codec::name))
}

fn expected(word: &[u8]) -> Result<Option<Fingerprint>> {
    if word == b"-" { Ok(None) } else { text(word).parse().map(Some) }
}

fn dialect(word: &[u8]) -> Dialect {
    if word == b"incus" { Dialect::Incus } else { Dialect::Lxd }
}

/// The context that the C interface makes of the same JSON, for the names that these cases use.
fn named(json: &[u8]) -> Context {
    let json: Json = serde_json::from_slice(json).unwrap();
    let texts = |json: &Json| -> Vec<(String, String)> {
        let map = json.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
    };
    let mut context = Context::new();
    for (key, value) in json.as_object().unwrap() {
        context = match key.as_str() {
            "container" => context.instance(texts(value)),
            "trigger" => context.trigger(value.as_str().unwrap()),
            "path" => context.path(value.as_str().unwrap()),
            "config" => context.config(texts(value)),
            "properties" => context.properties(texts(value)),
            "devices" => {
                let devices = value.as_object().unwrap();
                devices.iter().fold(context, |context, (name, device)| context.device(name, texts(device)))
            }
            _ => {
                context.variable(key, value.as_i64().map_or_else(|| Value::from(value.as_str().unwrap()), Value::from))
            }
        };
    }
    context
}

fn convert(place: &Place, words: &[&[u8]]) -> Lines {
    let [to_form, rootfs, codec, out, files @ ..] = words else { panic!("convert") };
    let mut options = ConvertOptions::new();
    if *to_form != b"-" {
        options = options.form(if *to_form == b"split" { ImageForm::Split } else { ImageForm::Unified });
    }
    if *rootfs != b"-" {
        options = options.rootfs_format(text(rootfs).parse::<RootfsFormat>().unwrap());
    }
    if *codec != b"-" {
        options = options.compression(text(codec).parse()?);
    }
    let written = open(place, files)?.convert(place.path(out), &options, &place.monitor)?;
    Ok(if *codec == b"none" { vec![format!("fingerprint {}", written.fingerprint)] } else { Vec::new() })
}

fn stage(place: &Place, words: &[&[u8]]) -> Lines {
    let [wanted, destination, name, files @ ..] = words else { panic!("stage") };
    let staged = open(place, files)?.stage(place.path(destination), &UnpackOptions::new(), &place.monitor)?;
    let staged = match expected(wanted)? {
        Some(wanted) => staged.verify(&wanted)?,
        None => staged.accept_unverified(),
    };
    let path = staged.commit(text(name)).map_err(Error::from)?;
    Ok(vec![quoted(path.file_name().unwrap().as_encoded_bytes())])
}

fn differing(difference: &Difference) -> String {
    let path = quoted(difference.path());
    match difference {
        Difference::OnlyInFirst(_) => format!("first {path}"),
        Difference::OnlyInSecond(_) => format!("second {path}"),
        Difference::Changed(_, attributes) => {
            let names: Vec<_> = attributes.iter().map(|(name, ..)| name.as_str()).collect();
            format!("changed {path} {}", names.join(" "))
        }
        _ => panic!("a new kind of difference"),
    }
}

fn applied(place: &Place, directory: &[u8], trigger: &[u8], json: &[u8]) -> Outcome {
    let instance = InstanceDir::open(place.path(directory))?;
    let metadata = instance.metadata(&place.limits)?;
    let options = ApplyOptions::new().limits(place.limits.clone());
    let trigger = text(trigger).parse()?;
    let lines = |applied: &ApplyReport| {
        let line = |outcome: &lxd_image::templates::RuleOutcome| {
            format!("{} {} {}", outcome.action.name(), quoted(&outcome.path), quoted(&outcome.template))
        };
        applied.outcomes.iter().map(line).collect()
    };
    match apply(&instance, metadata.templates(), trigger, &named(json), &options, &place.monitor) {
        Ok(applied) => Ok((lines(&applied), None)),
        Err(failed) => Ok((lines(&failed.report), Some(failed.error))),
    }
}

fn asked(place: &Place, name: &str, words: &[&[u8]]) -> Option<Lines> {
    let one = |line: String| Ok(vec![line]);
    Some(match (name, words) {
        ("parse-fingerprint", [word]) => text(word).parse::<Fingerprint>().and_then(|found| one(found.to_string())),
        ("fingerprint", files) => {
            let inputs: Vec<_> = files.iter().map(|file| Input::open(place.path(file)).unwrap()).collect();
            fingerprint_of(&inputs, None, &place.monitor).and_then(|found| one(found.to_string()))
        }
        ("metadata", [yaml]) => Metadata::parse(yaml, &place.limits).map(|metadata| print(&metadata)),
        ("build", [architecture, date, properties @ ..]) => {
            let metadata = Metadata::new(text(architecture), text(date).parse().unwrap());
            metadata.and_then(|mut metadata| {
                for property in properties {
                    let (key, value) = text(property).split_once('=').unwrap();
                    metadata.properties_mut().set(key, value)?;
                }
                Ok(print(&metadata))
            })
        }
        ("image", files) => open(place, files).map(|image| {
            let mut containers = image.containers();
            let first = container(containers.next().unwrap());
            let rootfs = containers.next().map(|rootfs| format!("rootfs {}", container(rootfs)));
            std::iter::once(format!("form {} container {first}", form(image.form()))).chain(rootfs).collect()
        }),
        ("image-stream", files) => Image::open_with(source(place, files, true), &place.limits)
            .and_then(|image| image.verify(&VerifyOptions::new(), &place.monitor))
            .map(|verified| vec![format!("fingerprint {}", verified.fingerprint)]),
        ("image-metadata", files) => {
            open(place, files).and_then(|image| image.metadata()).map(|metadata| print(&metadata))
        }
        ("image-template", [name, files @ ..]) => {
            open(place, files).and_then(|image| image.template(text(name))).and_then(|bytes| one(quoted(bytes)))
        }
        ("verify", files) => {
            let verified_image =
                open(place, files).and_then(|image| image.verify(&VerifyOptions::new(), &place.monitor));
            verified_image.map(|found| verified(&found, true))
        }
        ("entries", files) => open(place, files).and_then(|image| {
            let mut lines = Vec::new();
            image.survey(&VerifyOptions::new(), &place.monitor, &mut |shown, _| {
                lines.push(entry(shown));
                Ok(())
            })?;
            Ok(lines)
        }),
        ("unpack", [wanted, destination, files @ ..]) => open(place, files).and_then(|image| {
            let (to, options) = (place.path(destination), UnpackOptions::new());
            let done = match expected(wanted)? {
                Some(wanted) => image.unpack_verified(to, &wanted, &options, &place.monitor)?,
                None => image.unpack_unverified(to, &options, &place.monitor)?,
            };
            one(format!("entries {} bytes {}", done.report.entries, done.report.bytes))
        }),
        ("stage", words) => stage(place, words),
        ("cat", [path]) => match fs::read(place.path(path)) {
            Ok(bytes) => one(quoted(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::new(lxd_image::ErrorKind::NotFound, "there is no such file"))
            }
            Err(error) => panic!("{error}"),
        },
        ("exists", [path]) => one(yes(place.path(path).symlink_metadata().is_ok()).to_owned()),
        ("convert", words) => convert(place, words),
        ("pack", [tree, yaml, codec, out]) => PackOptions::from_metadata_bytes(yaml.to_vec(), &Default::default())
            .and_then(|options| {
                let options = options.compression(text(codec).parse()?);
                pack(&Rootfs::Directory(place.path(tree)), place.path(out), &options, &place.monitor)
                    .map(|_| Vec::new())
            }),
        ("differences", [first, second]) => {
            let (first, second) = (open(place, &[first]), open(place, &[second]));
            first
                .and_then(|first| differences(&first, &second?, &VerifyOptions::new(), &place.monitor))
                .map(|found| found.iter().map(differing).collect())
        }
        ("template", [of, source, json]) => Template::parse(source, dialect(of), &place.limits)
            .and_then(|template| template.render(&named(json), &place.limits))
            .and_then(|bytes| one(quoted(bytes))),
        ("variables", [of, how, source, json]) => {
            let options = ParseOptions::new(dialect(of)).raw(*how == b"raw");
            let context = read_context(&serde_json::from_slice(json).unwrap());
            Template::parse_with(source, options, &place.limits)
                .and_then(|template| template.render(&context, &place.limits))
                .and_then(|bytes| one(quoted(bytes)))
        }
        _ => return None,
    })
}

pub(super) fn step(place: &Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    if let ("apply", [directory, trigger, json]) = (name, words) {
        return Some(applied(place, directory, trigger, json));
    }
    asked(place, name, words).map(|lines| lines.map(|lines| (lines, None)))
}
