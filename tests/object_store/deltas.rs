//! Deltas of simplestreams servers whose base lies in a bucket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lxd_image::format::{ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, pack};
use lxd_image::remote::{
    ClientOptions, CopyOptions, Proxy as HttpProxy, RemoteRefresh, Simplestreams, copy, open_source,
};
use lxd_image::simplestreams::{AddOptions, Tree, TreeOptions};
use lxd_image::store::{Alias, CheckOptions, ObjectBlobs, RefreshOptions, Refreshed, Store};
use lxd_image::{Architecture, Fingerprint, Metadata, Monitor};

use crate::proxy::{Fault, Proxy};
use crate::servers::{options_for, pattern, prefix, servers};
use crate::whole_store::Place;

/// A tree with versions of one image, each of which changes a few bytes of the one before; served on loopback until the
/// process ends.
struct Origin<'a> {
    place: &'a Place,
    tree: Tree,
    content: Vec<u8>,
    port: u16,
    /// The endings of the files of images that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl<'a> Origin<'a> {
    fn new(place: &'a Place) -> Self {
        let tree = TreeOptions::new().create(place.at("www")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (root, log) = (tree.path().to_path_buf(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let _ = lines.take_while(|line| !line.is_empty()).count();
                let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                if let Some(name) = path.strip_prefix("images/") {
                    log.lock().unwrap().push(name.rsplit('.').next().unwrap_or_default().to_owned());
                }
                let (status, bytes) = match fs::read(root.join(path)) {
                    Ok(bytes) => (200, bytes),
                    Err(_) => (404, Vec::new()),
                };
                let head =
                    format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
                // A client that has seen enough hangs up.
                let _ = (&stream).write_all(&[head.as_bytes(), &bytes].concat());
            }
        });
        Self { place, tree, content: pattern(3 << 20, 1), port, asked }
    }

    /// Adds a version with a delta from the one before.
    fn add(&mut self, number: i64) -> Fingerprint {
        let changed = usize::try_from(number).unwrap() * 500_000;
        self.content[changed..changed + 1000].fill(7);
        fs::write(self.place.at("root/large"), &self.content).unwrap();
        let mut metadata = Metadata::new("x86_64", 1_700_000_000 + number * 86_400).unwrap();
        for (key, value) in [("os", "Box"), ("release", "1"), ("variant", "default"), ("architecture", "amd64")] {
            metadata.properties_mut().set(key, value).unwrap();
        }
        let options = PackOptions::new(metadata).form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
        let root = Rootfs::open(self.place.at("root")).unwrap();
        let files = pack(&root, self.place.at(&format!("v{number}")), &options, &Monitor::none()).unwrap().files;
        let [meta, rootfs] = [0, 1].map(|file: usize| Input::open(&files[file]).unwrap());
        let options = AddOptions::new().delta_from(1);
        let added =
            self.tree.lock().unwrap().add(ImageSource::split(meta, rootfs), &options, &Monitor::none()).unwrap();
        assert_eq!(added.deltas.len(), usize::from(number > 0));
        added.fingerprint
    }

    fn remote(&self) -> Simplestreams {
        let url = format!("http://127.0.0.1:{}/", self.port).parse().unwrap();
        Simplestreams::new(client(), &url).unwrap()
    }

    /// The last version came as a delta, and its whole file was not asked for.
    #[track_caller]
    fn sent_a_delta(&self) {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        assert_eq!(asked.iter().filter(|ending| *ending == "vcdiff").count(), 1, "{asked:?}");
        assert!(!asked.contains(&"squashfs".to_owned()), "{asked:?}");
    }
}

fn client() -> ClientOptions {
    ClientOptions::new().proxy(HttpProxy::Direct)
}

fn options() -> CopyOptions {
    CopyOptions::new().architectures([Architecture::X86_64])
}

#[track_caller]
fn is_clean(store: &Store) {
    let report = store.check(&CheckOptions::new(), &Monitor::none()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn copy_makes_an_image_out_of_a_delta_and_a_base_in_a_bucket_with_few_requests() {
    for server in servers() {
        let place = Place::new(&format!("{}-copied-delta", server.name));
        let mut origin = Origin::new(&place);
        let proxy = Proxy::start(&server.endpoint);
        let blobs = ObjectBlobs::connect(&prefix(), &options_for(&proxy.endpoint())).unwrap();
        blobs.init("deltas").unwrap();
        let store = place.store(blobs);
        let first = origin.add(0);
        copy(&origin.remote(), &first.to_string(), &store, &options(), &Monitor::none()).unwrap();

        let second = origin.add(1);
        origin.asked.lock().unwrap().clear();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        proxy.plan(move |request| {
            counted.fetch_add(usize::from(request.method == "GET"), Ordering::Relaxed);
            Fault::Pass
        });
        let image = copy(&origin.remote(), &second.to_string(), &store, &options(), &Monitor::none()).unwrap();
        assert_eq!(image.fingerprint, second);
        origin.sent_a_delta();
        let requests = requests.load(Ordering::Relaxed);
        assert!((1..=20).contains(&requests), "{requests} requests for 3 MiB");
        is_clean(&store);
    }
}

#[test]
fn refresh_makes_an_image_out_of_a_delta_and_a_base_in_a_bucket() {
    for server in servers() {
        let place = Place::new(&format!("{}-refreshed-delta", server.name));
        let mut origin = Origin::new(&place);
        let store = place.store(server.blobs());
        origin.add(0);
        let followed = options().alias(Alias::new("mine").unwrap()).auto_update(true);
        let image = copy(&origin.remote(), "Box/1/default/amd64", &store, &followed, &Monitor::none()).unwrap();

        let second = origin.add(1);
        origin.asked.lock().unwrap().clear();
        let sources = RemoteRefresh::new(|source| open_source(source, client())).deltas_from(&store);
        let done = store.refresh(&image.fingerprint, &sources, &RefreshOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(done, Refreshed::Replaced { fingerprint: second });
        origin.sent_a_delta();
        assert_eq!(store.resolve("mine").unwrap().fingerprint, second);
        is_clean(&store);
    }
}
