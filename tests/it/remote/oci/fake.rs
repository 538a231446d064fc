//! A registry in memory, as far as the specification wants it, for tests to change.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use lxd_image::oci::{Descriptor, Digest, Manifest, media_type, to_json};

use crate::remote::server::{Asked, Line, Then, answer};

pub(super) const LAYER: &str = "application/vnd.lxd-image.unified.v1.tar";
pub(super) const ARTIFACT: &str = "application/vnd.lxd-image.v1";

#[derive(Default)]
pub(super) struct Fake {
    /// By digest.
    pub(super) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By tag and by digest.
    pub(super) manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    /// What arrived of the one upload.
    pub(super) upload: Mutex<Vec<u8>>,
}

impl Fake {
    pub(super) fn add_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.lock().unwrap().insert(digest.to_string(), bytes.to_vec());
        digest
    }

    pub(super) fn add_document(&self, tag: &str, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        let mut manifests = self.manifests.lock().unwrap();
        for name in [tag.to_owned(), descriptor.digest.to_string()] {
            manifests.insert(name, (media_type.to_owned(), bytes.to_vec()));
        }
        descriptor
    }

    /// An image of LXD as an artifact under a tag.
    pub(super) fn add_image(&self, tag: &str, bytes: &[u8]) -> Descriptor {
        let layer = Descriptor::new(LAYER, self.add_blob(bytes), bytes.len() as u64);
        let config = Descriptor::new(media_type::EMPTY, self.add_blob(b"{}"), 2);
        let mut manifest = Manifest::new(config, vec![layer]);
        manifest.artifact_type = Some(ARTIFACT.to_owned());
        self.add_document(tag, media_type::IMAGE_MANIFEST, &to_json(&manifest).unwrap())
    }

    /// Answers as a registry with one repository, whatever its name.
    pub(super) fn respond(&self, asked: &Asked, line: &mut dyn Line) -> io::Result<Then> {
        let path = asked.path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let digest_header = |digest: &str| ("docker-content-digest".to_owned(), digest.to_owned());
        if path.contains("/manifests/") {
            if asked.method == "PUT" {
                let kind = asked.header("content-type").unwrap_or_default();
                let digest = self.add_document(name, kind, &asked.body).digest.to_string();
                return answer(line, 201, &[("docker-content-digest", &digest)], b"");
            }
            let there = self.manifests.lock().unwrap().get(name).cloned();
            let Some((kind, bytes)) = there else {
                return if asked.method == "HEAD" { answer(line, 404, &[], b"") } else { missing(line) };
            };
            let (key, digest) = digest_header(&Digest::of(&bytes).to_string());
            return answer(line, 200, &[("content-type", &kind), (&key, &digest)], body(asked, &bytes));
        }
        if path.contains("/blobs/uploads/") {
            return self.respond_to_upload(asked, line);
        }
        if path.contains("/blobs/") {
            let there = self.blobs.lock().unwrap().get(name).cloned();
            let Some(bytes) = there else {
                // An answer to HEAD has no body.
                return if asked.method == "HEAD" { answer(line, 404, &[], b"") } else { missing(line) };
            };
            let rest = asked.from().unwrap_or(0).min(bytes.len());
            if rest > 0 {
                let range = format!("bytes {rest}-{}/{}", bytes.len() - 1, bytes.len());
                return answer(line, 206, &[("content-range", &range)], &bytes[rest..]);
            }
            if asked.method == "HEAD" {
                super::super::server::head(line, 200, &[], Some(bytes.len()))?;
                return Ok(Then::Keep);
            }
            return answer(line, 200, &[], &bytes);
        }
        if path.ends_with("/tags/list") {
            let tags: Vec<String> =
                self.manifests.lock().unwrap().keys().filter(|name| !name.contains(':')).cloned().collect();
            let page = serde_json::json!({"name": "a", "tags": tags}).to_string();
            return answer(line, 200, &[], page.as_bytes());
        }
        if path == "/v2/" {
            return answer(line, 200, &[], b"{}");
        }
        missing(line)
    }

    fn respond_to_upload(&self, asked: &Asked, line: &mut dyn Line) -> io::Result<Then> {
        let location = ("location", "/v2/a/blobs/uploads/1?state=x");
        let mut upload = self.upload.lock().unwrap();
        match &*asked.method {
            "POST" => {
                upload.clear();
                answer(line, 202, &[location], b"")
            }
            "PATCH" => {
                upload.extend_from_slice(&asked.body);
                let range = format!("0-{}", upload.len().saturating_sub(1));
                answer(line, 202, &[location, ("range", &range)], b"")
            }
            "GET" => {
                let range = format!("0-{}", upload.len().saturating_sub(1));
                answer(line, 204, &[location, ("range", &range)], b"")
            }
            "PUT" => {
                upload.extend_from_slice(&asked.body);
                let digest = self.add_blob(&upload).to_string();
                let wanted = asked.path.split("digest=").nth(1).unwrap_or_default().replace("%3A", ":");
                if digest != wanted {
                    let refusal =
                        br#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#;
                    return answer(line, 400, &[("content-type", "application/json")], refusal);
                }
                answer(line, 201, &[("docker-content-digest", &digest)], b"")
            }
            _ => missing(line),
        }
    }
}

fn body<'a>(asked: &Asked, bytes: &'a [u8]) -> &'a [u8] {
    if asked.method == "HEAD" { b"" } else { bytes }
}

pub(super) fn missing(line: &mut dyn Line) -> io::Result<Then> {
    let refusal = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
    answer(line, 404, &[("content-type", "application/json")], refusal)
}
