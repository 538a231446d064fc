//! Steps about servers, remotes, and what comes from them into a store or a tree.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use lxd_image::remote::{
    ClientOptions, CopyOptions, FirstUse, KnownRemote, Lxd, MirrorOptions, MirrorTarget, Mirrored, Protocol, Remote,
    RemoteRefresh, Settings, Simplestreams, UploadOptions, Wanted, copy, mirror,
};
use lxd_image::server::{Handler, Listener, ListenerOptions, ServerCertificate, ServerOptions, TrustedClients};
use lxd_image::store::{
    Alias, Filter, ImageQuery, Order, RefreshOptions, Refreshed, Store, StoreDescription, StoreOptions,
};
use lxd_image::transfer::RemoteTransfer;
use lxd_image::{Architecture, Cancel, Fingerprint, ImageType, Result};

use super::stores::{NOW, print};
use super::{Lines, Outcome, Place, quoted, text};

/// The server and the remote of a case.
#[derive(Default)]
pub(crate) struct Serving {
    server: Option<(Cancel, JoinHandle<()>)>,
    /// A server that caches what the first one has.
    cache: Option<(Cancel, JoinHandle<()>)>,
    /// Plain HTTP, TLS.
    urls: Vec<String>,
    remote: Option<Box<dyn Remote>>,
    /// The same remote, if it takes uploads.
    rest: Option<Lxd>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The cache first, which asks the other one.
        for (stop, thread) in self.cache.take().into_iter().chain(self.server.take()) {
            stop.cancel();
            thread.join().unwrap();
        }
    }
}

fn settings(place: &Place) -> Settings {
    Settings::open(place.dir.join("settings"))
}

fn serve(place: &mut Place) -> Lines {
    drop(std::mem::take(&mut place.serving));
    let store = place.store.clone().unwrap();
    settings(place).identity()?;
    let options = ListenerOptions::new()
        .certificate(ServerCertificate::kept_in(&place.dir.join("server"), &[])?)
        .trusted(TrustedClients::at(settings(place).certificate_file())?);
    let mut listener = Listener::new(Arc::new(Handler::new(store, ServerOptions::new())), options)?;
    listener.listen_plain(std::net::TcpListener::bind("127.0.0.1:0").unwrap())?;
    listener.bind("127.0.0.1:0".parse().unwrap())?;
    let url = |(address, tls)| format!("{}://{address}", if tls { "https" } else { "http" });
    place.serving.urls = listener.local_addresses().into_iter().map(url).collect();
    let stop = Cancel::new();
    let until = stop.clone();
    place.serving.server = Some((stop, std::thread::spawn(move || listener.run(&until).unwrap())));
    Ok(Vec::new())
}

/// Connects to the case's server without and with TLS, to a tree, or to a remote of the settings.
fn connect(place: &mut Place, what: &str, name: Option<&&[u8]>) -> Lines {
    let (mut remote, mut rest): (Option<Box<dyn Remote>>, Option<Lxd>) = (None, None);
    place.oci.disconnect();
    match what {
        "server" => rest = Some(Lxd::new(ClientOptions::new(), &place.serving.urls[0].parse()?)?),
        "trusted" => {
            let url = KnownRemote::address(&place.serving.urls[1], Protocol::Lxd)?;
            let known = KnownRemote::new(url, Protocol::Lxd);
            let FirstUse::Unknown(certificate) = known.first_use(&ClientOptions::new(), &place.monitor)? else {
                panic!("an authority vouches for the case's server")
            };
            settings(place).add("trusted", known.certificate(certificate))?;
            rest = Some(settings(place).connect_lxd("trusted", ClientOptions::new())?);
        }
        "registry" => remote = Some(Box::new(super::oci::connect(place, name)?)),
        "tree" => {
            let url = format!("file://{}/{}", place.dir.display(), text(name.unwrap()));
            remote = Some(Box::new(Simplestreams::new(ClientOptions::new(), &url.parse()?)?));
        }
        name => remote = Some(settings(place).connect(name, ClientOptions::new())?),
    }
    place.serving.remote = remote.or_else(|| rest.clone().map(|rest| Box::new(rest) as Box<dyn Remote>));
    place.serving.rest = rest;
    Ok(Vec::new())
}

/// Serves the store as a cache of the remote `trusted`, and connects to it.
fn cache(place: &mut Place) -> Lines {
    let store = place.store.clone().unwrap();
    let transfer = RemoteTransfer::new(settings(place), Some("trusted"), ClientOptions::new(), place.limits.clone())?;
    let serving = ServerOptions::new().limits(place.limits.clone()).image_transfer(transfer);
    let options = ListenerOptions::new().limits(place.limits.clone());
    let mut listener = Listener::new(Arc::new(Handler::new(store, serving)), options)?;
    listener.listen_plain(std::net::TcpListener::bind("127.0.0.1:0").unwrap())?;
    let url = format!("http://{}", listener.local_addresses()[0].0);
    let stop = Cancel::new();
    let until = stop.clone();
    place.serving.cache = Some((stop, std::thread::spawn(move || listener.run(&until).unwrap())));
    let rest = Lxd::new(ClientOptions::new(), &url.parse()?)?;
    place.serving.remote = Some(Box::new(rest.clone()));
    place.serving.rest = Some(rest);
    Ok(Vec::new())
}

fn remotes(place: &Place) -> Lines {
    let line = |(name, remote): (String, KnownRemote)| {
        let public = if remote.public { "public" } else { "private" };
        format!("{name} {} {} {public}", quoted(remote.url.to_string()), remote.protocol)
    };
    Ok(settings(place).remotes()?.into_iter().map(line).collect())
}

fn filters(words: &[&[u8]]) -> Result<Vec<Filter>> {
    words.iter().map(|filter| text(filter).parse()).collect()
}

fn fingerprints(images: impl IntoIterator<Item = lxd_image::store::StoredImage>) -> Vec<String> {
    images.into_iter().map(|image| image.fingerprint.to_string()).collect()
}

fn options(flags: &[u8], aliases: &[u8]) -> Result<CopyOptions> {
    let mut options = CopyOptions::new()
        .architectures([Architecture::X86_64])
        .public(flags.contains(&b'p'))
        .auto_update(flags.contains(&b'u'))
        .reuse_aliases(flags.contains(&b'r'))
        .replace_images(flags.contains(&b'x'))
        .copy_aliases(flags.contains(&b'n'));
    for name in text(aliases).split(',').filter(|name| *name != "-") {
        options = options.alias(Alias::new(name)?);
    }
    Ok(options)
}

fn upload(place: &Place, flags: &[u8], aliases: &[u8], of: &[u8]) -> Lines {
    let Some(server) = &place.serving.rest else {
        return Err(lxd_image::Error::new(lxd_image::ErrorKind::Unsupported, "this remote takes no images"));
    };
    let mut options = UploadOptions::new()
        .public(flags.contains(&b'p'))
        .reuse_aliases(flags.contains(&b'r'))
        .copy_aliases(flags.contains(&b'n'));
    for name in text(aliases).split(',').filter(|name| *name != "-") {
        options = options.alias(Alias::new(name)?);
    }
    let image = place.store.as_ref().unwrap().open_image(&text(of).parse()?)?;
    server.upload(&image, &options, &place.monitor).map(|()| Vec::new())
}

fn refresh(place: &Place, store: &Store, dry_run: bool) -> Lines {
    let settings = settings(place);
    let sources = RemoteRefresh::new(move |source| settings.open_source(source, ClientOptions::new()));
    let done = store.refresh_all(&sources, &RefreshOptions::new().dry_run(dry_run), &place.monitor)?;
    let line = |(image, result): (lxd_image::store::StoredImage, Result<Refreshed>)| match result {
        Ok(Refreshed::Replaced { fingerprint }) => format!("replaced {} {fingerprint}", image.fingerprint),
        Ok(Refreshed::Current) => format!("current {}", image.fingerprint),
        Ok(_) => format!("other {}", image.fingerprint),
        Err(error) => format!("failed {} {}", image.fingerprint, error.kind()),
    };
    Ok(done.into_iter().map(line).collect())
}

pub(super) fn mirrored(done: &Mirrored) -> Vec<String> {
    let copied = done.copied.iter().map(|image| format!("copied {}", image.fingerprint));
    let removed = done.removed.iter().map(|of| format!("removed {of}"));
    let failed = done.failed.iter().map(|(of, error)| format!("failed {of} {}", error.kind()));
    copied.chain(removed).chain(failed).chain([format!("kept {}", done.kept)]).collect()
}

fn mirror_to(place: &Place, target: &[u8], flags: &[u8], words: &[&[u8]]) -> Lines {
    let mut options = MirrorOptions::new().delete(flags.contains(&b'd'));
    for filter in filters(words)? {
        options = options.filter(filter);
    }
    let remote = place.serving.remote.as_deref().unwrap();
    let target = match target {
        b"store" => MirrorTarget::Store(place.store.as_ref().unwrap()),
        _ => MirrorTarget::Tree(place.tree.as_ref().unwrap()),
    };
    mirror(remote, target, &options, &place.monitor).map(|done| mirrored(&done))
}

fn query(flags: &[u8], page: &[u8]) -> ImageQuery {
    let mut query = ImageQuery::new();
    for flag in flags {
        query = match flag {
            b'p' => query.public(true),
            b'q' => query.public(false),
            b'c' => query.cached(true),
            b'k' => query.cached(false),
            b'u' => query.auto_update(true),
            b'a' => query.order(Order::Alias),
            b'v' => query.image_type(ImageType::VirtualMachine),
            _ => query,
        };
    }
    match text(page).parse().unwrap() {
        0 => query,
        page => query.limit(page),
    }
}

fn of_store(place: &Place, store: &Store, name: &str, words: &[&[u8]]) -> Option<Lines> {
    let remote = place.serving.remote.as_deref();
    Some(match (name, words) {
        ("query", [flags, page, rest @ ..]) => filters(rest).and_then(|filters| {
            let mut found = Vec::new();
            let mut each = |image: lxd_image::store::StoredImage| {
                if filters.iter().all(|filter| filter.matches(&image)) {
                    found.push(image);
                }
                Ok(())
            };
            store.for_each(&query(flags, page), &mut each, &mut |_, _| {})?;
            Ok(fingerprints(found))
        }),
        ("totals", [flags]) => store
            .totals(&query(flags, b"0"))
            .map(|totals| vec![format!("images {} bytes {}", totals.images, totals.bytes)]),
        ("delete-unchanged", [of]) => text(of).parse::<Fingerprint>().and_then(|of| {
            let image = store.image(&of)?;
            store.delete_unchanged(&of, &image.etag()).map(|_| Vec::new())
        }),
        ("copy", [flags, aliases, reference]) => options(flags, aliases)
            .and_then(|options| copy(remote.unwrap(), text(reference), store, &options, &place.monitor))
            .map(|image| print(&image)),
        ("fetch", [reference]) => options(b"-", b"-")
            .and_then(|options| store.get_or_fetch(remote.unwrap(), text(reference), &options, &place.monitor))
            .map(|image| print(&image)),
        ("refresh", []) => refresh(place, store, false),
        ("refresh", [_]) => refresh(place, store, true),
        _ => return None,
    })
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    let nothing = |()| Vec::new();
    let lines = match (name, words) {
        ("store-of", [description]) => {
            place.clock.store(NOW, Ordering::Relaxed);
            let clock = Arc::clone(&place.clock);
            let options = StoreOptions::new().limits(place.limits.clone()).clock(move || clock.load(Ordering::Relaxed));
            let opened = StoreDescription::from_toml(text(description), &place.dir)
                .and_then(|description| options.open_described(&description));
            opened.map(|store| {
                place.store = Some(store);
                Vec::new()
            })
        }
        ("serve", []) => serve(place),
        ("cache", []) => cache(place),
        ("stop", []) => {
            if let Some((stop, thread)) = place.serving.server.take() {
                stop.cancel();
                thread.join().unwrap();
            }
            Ok(Vec::new())
        }
        ("connect", [what, rest @ ..]) => connect(place, text(what), rest.first()),
        ("remotes", []) => remotes(place),
        ("remote-add", [name, url, protocol]) => text(protocol)
            .parse()
            .and_then(|protocol| Ok(KnownRemote::new(KnownRemote::address(text(url), protocol)?, protocol)))
            .and_then(|known| settings(place).add(text(name), known))
            .map(nothing),
        ("remote-rename", [name, new]) => settings(place).rename(text(name), text(new)).map(nothing),
        ("remote-set-url", [name, url]) => settings(place)
            .get(text(name))
            .and_then(|known| settings(place).set_url(text(name), KnownRemote::address(text(url), known.protocol)?))
            .map(nothing),
        ("remote-remove", [name]) => settings(place).remove(text(name)).map(nothing),
        ("images", words) => filters(words).and_then(|filters| {
            let images = place.serving.remote.as_deref().unwrap().list(&place.monitor)?;
            Ok(fingerprints(images.into_iter().filter(|image| filters.iter().all(|filter| filter.matches(image)))))
        }),
        ("find", [reference, rest @ ..]) => {
            let mut wanted = Wanted::new(text(reference)).architectures([Architecture::X86_64]);
            if let Some(of) = rest.first() {
                wanted = wanted.image_type(text(of).parse().unwrap());
            }
            let found = place.serving.remote.as_deref().unwrap().resolve(&wanted, &place.monitor);
            found.map(|image| fingerprints([image]))
        }
        ("upload", [flags, aliases, of]) => upload(place, flags, aliases, of),
        ("mirror", [target, flags, rest @ ..]) => mirror_to(place, target, flags, rest),
        ("delta", [old, new, out]) => delta(place, old, new, out),
        ("patch", [expected, old, delta, out]) => patch(place, expected, old, delta, out),
        _ => {
            let store = place.store.clone()?;
            of_store(place, &store, name, words)?
        }
    };
    Some(lines.map(|lines| (lines, None)))
}

fn blob(place: &Place, word: &[u8]) -> Result<lxd_image::io::Blob> {
    let file = fs::File::open(place.path(word))
        .map_err(|error| lxd_image::Error::new(lxd_image::ErrorKind::NotFound, "no such file").with_source(error))?;
    Ok(lxd_image::io::Blob::file(file).unwrap())
}

fn delta(place: &Place, old: &[u8], new: &[u8], out: &[u8]) -> Lines {
    let options = lxd_image::delta::DeltaOptions::new().level(0);
    let (old, new) = (blob(place, old)?, blob(place, new)?);
    let report = lxd_image::delta::make_file(&old, &new, place.path(out), &options, &place.monitor)?;
    Ok(vec![format!("delta {} new {} copied {}", report.delta_bytes, report.new_bytes, report.copied_bytes)])
}

fn patch(place: &Place, expected: &[u8], old: &[u8], delta: &[u8], out: &[u8]) -> Lines {
    let expected = if expected == b"-" { None } else { Some(text(expected).parse()?) };
    let (old, delta) = (blob(place, old)?, fs::File::open(place.path(delta)).unwrap());
    let out = place.path(out);
    let report = lxd_image::delta::apply_file(&old, delta, out, expected.as_ref(), &place.limits, &place.monitor)?;
    Ok(vec![format!("delta {} new {} copied {}", report.delta_bytes, report.output_bytes, report.copied_bytes)])
}
