//! Uploads and downloads of 96 MiB through `ObjectBlobs`, in turns with transfers to the same S3 server by `curl`, which sends
//! one request and hashes nothing, and by `boto3`, whose transfers (in parts, signed) are those of the `aws` program. The goal is
//! a ratio of at least 0.9.
//!
//! `MOTO_SERVER` or `RADOSGW_ROOT` (from `tests/peers/install.sh`) name the server to start; `S3_ENDPOINT` one that runs
//! already, with the keys of `tests/peers/radosgw.sh`. `OBJECT_MIB` sets another size: the gateway of `RADOSGW_ROOT` holds 2 GiB, and 15 objects must fit. `MOTO_SERVER` also tells where
//! `boto3` is.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lxd_image::io::ReadAt;
use lxd_image::store::{BlobKey, BlobStore, ObjectBlobs, ObjectOptions, Scratch};
use lxd_image::{Fingerprint, Monitor};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;

const ROUNDS: usize = 5;
const HOUR: Duration = Duration::from_secs(3600);

/// The transport of a client that signs addresses and sends nothing.
#[derive(Debug)]
struct SignsOnly;

impl HttpConnector for SignsOnly {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

impl HttpService for SignsOnly {
    fn call<'a, 'b>(
        &'a self,
        _: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        unreachable!("an address is signed without a request")
    }
}

/// Starts the server that the environment names. It stops when this process ends.
fn server() -> Option<(String, Option<Child>)> {
    if let Ok(endpoint) = std::env::var("S3_ENDPOINT") {
        return Some((endpoint, None));
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut command = Command::new("bash");
    if let Some(root) = std::env::var_os("RADOSGW_ROOT") {
        let run = std::env::temp_dir().join(format!("lxi-bench-{}", std::process::id()));
        command.arg(scripts.join("radosgw.sh")).arg("run").arg(root).arg(run);
    } else {
        command.arg(scripts.join("moto.sh")).arg(std::env::var_os("MOTO_SERVER")?);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("S3_ENDPOINT=").expect("the server did not start").to_owned();
    Some((endpoint, Some(child)))
}

/// Sends a file and gets it back, and prints the seconds of both.
const BOTO: &str = "\
import boto3, sys, time
endpoint, path, key = sys.argv[1:]
s3 = boto3.client('s3', endpoint_url=endpoint, aws_access_key_id='AK', aws_secret_access_key='SK', region_name='us-east-1')
begun = time.monotonic()
s3.upload_file(path, 'lxd-image', key)
sent = time.monotonic()
s3.download_file('lxd-image', key, '/dev/null')
print(sent - begun, time.monotonic() - sent)
s3.delete_object(Bucket='lxd-image', Key=key)
";

/// Seconds of an upload and a download by `boto3`, if it is here.
fn boto(endpoint: &str, file: &Path, key: &str) -> Option<(f64, f64)> {
    let python = Path::new(&std::env::var_os("MOTO_SERVER")?).with_file_name("python");
    let output = Command::new(python).args(["-c", BOTO, endpoint]).arg(file).arg(key).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (up, down) = text.trim().split_once(' ')?;
    Some((up.parse().ok()?, down.parse().ok()?))
}

/// Seconds of a piece of work.
fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn curl(arguments: &[&str]) {
    let status = Command::new("curl").args(["-fsS", "-o", "/dev/null"]).args(arguments).status().unwrap();
    assert!(status.success(), "curl {arguments:?}");
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned()
}

/// The median of some times.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let Some((endpoint, _server)) = server() else {
        println!("left out: set RADOSGW_ROOT or MOTO_SERVER (tests/peers/install.sh prints both)");
        return;
    };
    let mebibytes: usize = std::env::var("OBJECT_MIB").map_or(96, |text| text.parse().unwrap());
    let place = std::env::temp_dir().join(format!("lxd-image-bench-objects-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let keys: PathBuf = place.join("credentials");
    std::fs::write(&keys, "[default]\naws_access_key_id = AK\naws_secret_access_key = SK\n").unwrap();
    let options = ObjectOptions::new().endpoint(&endpoint).allow_http(true).credentials_file(&keys);
    let prefix = format!("s3://lxd-image/bench-{}", std::process::id());
    let blobs = ObjectBlobs::connect(&prefix, &options).unwrap();
    println!("connect with probe: {:.3} s", timed(|| drop(ObjectBlobs::connect(&prefix, &options).unwrap())));

    let mut state = 1_u64;
    let mut chunk = Vec::new();
    for _ in 0..(1 << 20) / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.extend_from_slice(&state.to_le_bytes());
    }
    let scratch = Scratch::directory(place.join("scratch")).unwrap();
    let mut staged = scratch.create().unwrap();
    let raw = place.join("raw");
    let mut copy = std::fs::File::create(&raw).unwrap();
    for number in 0..mebibytes {
        chunk[..8].copy_from_slice(&(number as u64).to_le_bytes());
        staged.write_all(&chunk).unwrap();
        copy.write_all(&chunk).unwrap();
    }
    drop(copy);
    let size = (mebibytes as f64) * 1.048_576;

    let (mut up, mut raw_up, mut down, mut raw_down) = (vec![], vec![], vec![], vec![]);
    let (mut boto_up, mut boto_down) = (vec![], vec![]);
    let bucket = AmazonS3Builder::new()
        .with_endpoint(&endpoint)
        .with_allow_http(true)
        .with_bucket_name("lxd-image")
        .with_access_key_id("AK")
        .with_secret_access_key("SK")
        .with_http_connector(SignsOnly)
        .build()
        .unwrap();
    let raw_object = ObjectPath::from(format!("bench-{}/raw", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..ROUNDS {
        let key = BlobKey::pair(&Fingerprint::of(round.to_string().as_bytes())).0;
        // By a presigned address: curl's own signature of an unsigned body is one that Ceph refuses.
        let signed = bucket.signed_url("PUT".parse().unwrap(), &raw_object, HOUR);
        let signed = runtime.block_on(signed).unwrap();
        raw_up.push(timed(|| curl(&["-H", "Expect:", "-T", raw.to_str().unwrap(), signed.as_str()])));
        up.push(timed(|| blobs.put(&key, &mut staged, &Monitor::none()).unwrap()));
        let link = blobs.link(&key, HOUR).unwrap().unwrap();
        raw_down.push(timed(|| curl(&[&link])));
        down.push(timed(|| {
            let blob = blobs.open(&key).unwrap();
            let (mut buffer, mut at) = (vec![0; 256 << 10], 0);
            while at < blob.len() {
                at += blob.read_at(&mut buffer, at).unwrap() as u64;
            }
        }));
        blobs.delete(&[key]).unwrap();
        if let Some((sent, got)) = boto(&endpoint, &raw, &format!("bench-{}/boto", std::process::id())) {
            boto_up.push(sent);
            boto_down.push(got);
        }
    }
    for (name, ours, theirs, boto) in
        [("upload", &mut up, &mut raw_up, &mut boto_up), ("download", &mut down, &mut raw_down, &mut boto_down)]
    {
        let ours = median(ours);
        print!("{name} of {mebibytes} MiB: {:.0} MB/s", size / ours);
        for (program, times) in [("curl", theirs), ("boto3", boto)] {
            if !times.is_empty() {
                let theirs = median(times);
                print!("; {program} {:.0} MB/s, ratio {:.2}", size / theirs, theirs / ours);
            }
        }
        println!();
    }
    println!("peak memory: {}", peak_memory());
    drop(staged);
    let _ = std::fs::remove_dir_all(&place);
}
