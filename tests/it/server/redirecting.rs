//! Downloads that a server sends elsewhere, and those that it does not.

use lxd_image::server::{Redirect, Response, ServerOptions};

use super::{Served, StoredImage, request, with};
use crate::store::unified;

const CDN: &str = "https://cdn.example.org/lab";

/// A server that redirects to `url`, with one public image. The first download is streamed and verified, and done.
fn served(url: &str) -> (Served, StoredImage) {
    let served = Served::with(ServerOptions::new().redirect(Redirect::Base { url: url.to_owned() }));
    let image = served.import("one", &["box"], true);
    let first = served.get(&export(&image));
    assert_eq!(first.status.as_u16(), 200);
    assert_eq!(first.body.read_to_end().unwrap(), unified("one"));
    (served, image)
}

fn export(image: &StoredImage) -> String {
    format!("/1.0/images/{}/export", image.fingerprint)
}

fn location(response: &Response) -> (u16, Option<&str>) {
    (response.status.as_u16(), response.header("location"))
}

#[test]
fn download_of_a_verified_image_is_redirected_to_its_object() {
    let (served, image) = served(CDN);
    let expected = format!("{CDN}/{}", image.objects.image);
    assert_eq!(location(&served.get(&export(&image))), (307, Some(&*expected)));
}

#[test]
fn redirect_is_never_cached() {
    let (served, image) = served(CDN);
    assert_eq!(served.get(&export(&image)).header("cache-control"), Some("no-store"));
}

#[test]
fn file_of_a_simplestreams_item_is_redirected() {
    let (served, image) = served(CDN);
    let expected = format!("{CDN}/{}", image.objects.image);
    let path = format!("/images/{}.incus_combined.tar.gz", image.fingerprint);
    assert_eq!(location(&served.get(&path)), (307, Some(&*expected)));
}

#[test]
fn clients_that_pin_the_certificate_are_not_redirected() {
    let (served, image) = served(CDN);
    for agent in ["LXD 5.0.2", "Incus 6.0.4"] {
        let response = served.handler.handle(with(request("GET", &export(&image)), "user-agent", agent));
        assert_eq!(location(&response), (200, None), "{agent}");
    }
}

#[test]
fn simplestreams_and_the_body_of_a_direct_address_redirect_all_clients() {
    let (served, image) = served(CDN);
    let expected = format!("{CDN}/{}", image.objects.image);
    for path in [format!("/images/{}.incus_combined.tar.gz", image.fingerprint), "/box".to_owned()] {
        for agent in ["LXD 5.0.2", "Incus 6.0.4"] {
            let request = with(request("GET", &path), "host", "images.example.org");
            let response = served.handler.handle(with(request, "user-agent", agent));
            assert_eq!(location(&response), (307, Some(&*expected)), "{path} {agent}");
        }
    }
}

#[test]
fn nobody_is_redirected_from_https_to_plain_http() {
    let (served, image) = served("http://cdn.example.org");
    assert_eq!(location(&served.get(&export(&image))), (200, None));
}

#[test]
fn head_is_answered_by_the_server_itself() {
    let (served, image) = served(CDN);
    let response = served.handler.handle(request("HEAD", &export(&image)));
    assert_eq!(location(&response), (200, None));
}

#[test]
fn private_image_is_not_found_rather_than_redirected() {
    let (served, _) = served(CDN);
    let hidden = served.import("two", &[], false);
    assert_eq!(location(&served.get(&export(&hidden))), (404, None));
}

#[test]
fn store_without_presigned_addresses_streams() {
    let served = Served::with(ServerOptions::new().redirect(Redirect::Presigned { lifetime: Redirect::LIFETIME }));
    let image = served.import("one", &[], true);
    for _ in 0..2 {
        let response = served.get(&export(&image));
        assert_eq!(location(&response), (200, None));
        assert_eq!(response.body.read_to_end().unwrap(), unified("one"));
    }
}
