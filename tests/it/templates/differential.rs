//! Random templates, ours against a real pongo2 that is built from the Debian package.
//! `LXD_IMAGE_DIFFERENTIAL_ROUNDS` and `_SEED` steer it; `LXD_IMAGE_PONGO2_V6` is a GOPATH with pongo2 6.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lxd_image::TemplateStage;
use lxd_image::templates::Dialect;
use serde_json::{Value as Json, json};

use super::cases::{Answer, base64};
use super::grammar::{Generator, Random};

/// A pongo2 that answers.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
            out.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

impl Peer {
    fn build(gopath: &Path, name: &str) -> Result<Self, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/pongo2");
        let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if !gopath.join("src/github.com/flosch/pongo2").exists() {
            return Err(format!("no pongo2 below {}", gopath.display()));
        }
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&binary)
            .arg(".")
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "")
            .env("GOPATH", format!("{}:{}", source.join("gopath").display(), gopath.display()))
            .current_dir(&source)
            .output()
            .map_err(|error| format!("go: {error}"))?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        let spawned = Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Ok(Self { child, input, output })
    }

    fn answer(&mut self, template: &[u8], context: &Json) -> Answer {
        let request = json!({ "template": encoded(template), "context": context });
        writeln!(self.input, "{request}").expect("a peer that listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a peer that answers");
        let json: Json = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(template)));
        match json["error"].as_str() {
            Some(text) => {
                let stage = if json["stage"] == "parse" { TemplateStage::Parse } else { TemplateStage::Exec };
                Answer::Error(stage, text.to_owned())
            }
            None => Answer::Output(base64(json["output"].as_str().unwrap_or_default())),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where ours differs on purpose: in pongo2 4 an error inside a macro is the macro's text, and may then
/// vanish in a comparison. Ours is an error, as in pongo2 6.
fn is_meant(template: &[u8], ours: &Answer, theirs: &Answer, dialect: Dialect) -> bool {
    let has_macro = template.windows(6).any(|window| window == b"macro ");
    dialect == Dialect::Lxd
        && has_macro
        && matches!((ours, theirs), (Answer::Error(TemplateStage::Exec, _), Answer::Output(_)))
}

fn context() -> Json {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates/core.json");
    let text = std::fs::read_to_string(file).expect("the corpus");
    let corpus: Json = serde_json::from_str(&text).expect("JSON");
    let mut context = corpus["contexts"]["typed"].clone();
    for (key, value) in corpus["contexts"]["lxd"].as_object().expect("a context") {
        context[key] = value.clone();
    }
    context
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(gopath: &Path, name: &str, dialect: Dialect) {
    let mut peer = match Peer::build(gopath, name) {
        Ok(peer) => peer,
        Err(reason) if required() => panic!("no peer to compare with: {reason}"),
        Err(reason) => return println!("skipped: no pongo2 to compare with: {reason}"),
    };
    let seed = number("LXD_IMAGE_DIFFERENTIAL_SEED", 1);
    let rounds = number("LXD_IMAGE_DIFFERENTIAL_ROUNDS", 400);
    let plain = context();
    let mut raw = plain.clone();
    raw["$raw"] = json!(true);
    let (mut outputs, mut differences) = (0, 0);
    for round in 0..rounds {
        let mut random = Random::new(seed.wrapping_mul(1 << 32).wrapping_add(round));
        let context = if random.one_in(8) { &raw } else { &plain };
        let template = Generator::new(&mut random, dialect).template();
        let theirs = peer.answer(&template, context);
        let ours = Answer::ours(&template, dialect, context);
        outputs += u64::from(matches!(theirs, Answer::Output(_)));
        if ours.fits(&theirs) || is_meant(&template, &ours, &theirs, dialect) {
            continue;
        }
        // A map that was walked without `sorted` may come in any order.
        if (0..6).any(|_| ours.fits(&peer.answer(&template, context))) {
            continue;
        }
        differences += 1;
        let shown = lxd_image::Escaped(&template).to_string();
        println!("round {round}: {shown}\n  theirs: {}\n  ours:   {}", theirs.shown(), ours.shown());
    }
    println!("{dialect:?}: {rounds} rounds, {outputs} with output, {differences} differences");
    assert_eq!(differences, 0);
}

/// Every verb with every flag on every type, which random templates take long to come by.
#[test]
fn differential_every_verb_prints_values_as_go_does() {
    let mut peer = match Peer::build(Path::new("/usr/share/gocode"), "pongo2-verbs") {
        Ok(peer) => peer,
        Err(reason) if required() => panic!("no peer to compare with: {reason}"),
        Err(reason) => return println!("skipped: no pongo2 to compare with: {reason}"),
    };
    let values =
        "i0 i5 im3 big f0 f25 fm fbig fint s se sp su sh nl t f nil l li lm lol m me mm bytes trigger devices s.0";
    let context = context();
    let mut differences = 0;
    for verb in "s d v q x X f F e E g G t c U o O b T z é".split(' ') {
        for flags in ["", "#", "0", "+", "-", " ", "#+", "+0", "-0", "# ", "#0"] {
            for size in ["", "9", ".0", ".3", "9.2", ".25", "*", ".*"] {
                let show = |value: &str| format!("{{{{ {value}|stringformat:\"%{flags}{size}{verb}\" }}}}\n");
                let template: String = values.split(' ').map(show).collect();
                let theirs = peer.answer(template.as_bytes(), &context);
                let ours = Answer::ours(template.as_bytes(), Dialect::Lxd, &context);
                if !ours.fits(&theirs) {
                    differences += 1;
                    println!("%{flags}{size}{verb}\n  theirs: {}\n  ours:   {}", theirs.shown(), ours.shown());
                }
            }
        }
    }
    assert_eq!(differences, 0);
}

fn required() -> bool {
    std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_some_and(|value| value == "1")
}

#[test]
fn differential_random_templates_render_as_pongo2_4() {
    run(Path::new("/usr/share/gocode"), "pongo2-4", Dialect::Lxd);
}

#[test]
fn differential_random_templates_render_as_pongo2_6() {
    match std::env::var_os("LXD_IMAGE_PONGO2_V6") {
        Some(gopath) => run(&PathBuf::from(gopath), "pongo2-6", Dialect::Incus),
        None => println!("skipped: LXD_IMAGE_PONGO2_V6 names no GOPATH with pongo2 6"),
    }
}
