//! The policy: which rule decides, what it needs, and that no way into a store leads around it.

use lxd_image::format::{ImageSource, PackOptions, Rootfs};
use lxd_image::store::{
    Alias, Edit, ImportOptions, Newest, RefreshOptions, RefreshSource, Store, StoreOptions, StoredImage, UpdateSource,
};
use lxd_image::trust::{Candidate, Evidence, Policy, SecretKey, SignedList};
use lxd_image::{Error, ErrorKind, Fingerprint, Metadata, Monitor, Properties, Result};

use super::stores::vouch;
use crate::store::{Scratch, alias, assert_kind, fingerprint, stream, unified};

fn policy(text: &str) -> Policy {
    Policy::parse(text, "/nowhere".as_ref()).unwrap()
}

/// A policy with a key `builder` that every image needs a statement of.
pub(super) fn needs_statement(key: &SecretKey) -> Policy {
    let line = key.public_key().to_text().lines().nth(1).unwrap().to_owned();
    policy(&format!(
        "default = \"deny\"\n[keys]\nbuilder = \"{line}\"\n[[rule]]\nname = \"all\"\nstatements = [{{ key = \"builder\", type = \"urn:x:tested\" }}]\n"
    ))
}

pub(super) fn store_with(scratch: &Scratch, name: &str, policy: Policy) -> Store {
    StoreOptions::new().policy(policy).open(scratch.join(name)).unwrap()
}

/// Fails unless a result is the refusal of the rule `all`, and the store has no image.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, store: &Store) {
    let error = assert_kind(result, ErrorKind::Untrusted);
    assert!(error.to_string().contains("`all`"), "{error}");
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn unusable_policies_are_refused() {
    let key = "RWQp5riM67Qw32hs+4vbSv+iJZcHSWdIuyUKtf+1x+KgCRRgLDR+zU7u";
    for (what, text) in [
        ("unknown word", "defualt = \"deny\"".to_owned()),
        ("unknown verdict", "default = \"maybe\"".to_owned()),
        ("unknown word in a rule", "[[rule]]\nname = \"a\"\nverdict = \"deny\"\nremotes = \"x\"".to_owned()),
        ("rule without a name", "[[rule]]\nverdict = \"deny\"".to_owned()),
        ("rule without a need", "[[rule]]\nname = \"a\"\nalias = \"x\"".to_owned()),
        (
            "rule with verdict and need",
            "[[rule]]\nname = \"a\"\nverdict = \"allow\"\nsigned-list = [\"AB\"]".to_owned(),
        ),
        ("empty list of keys", "[[rule]]\nname = \"a\"\nsigned-list = []".to_owned()),
        ("unknown key", "[[rule]]\nname = \"a\"\nstatements = [{ key = \"b\" }]".to_owned()),
        ("no key", "[[rule]]\nname = \"a\"\nstatements = [{ type = \"urn:x\" }]".to_owned()),
        (
            "one key under two names",
            format!(
                "[keys]\na = \"{key}\"\nb = \"{key}\"\n[[rule]]\nname = \"r\"\nstatements = [{{ keys = [\"a\", \"b\"], count = 2 }}]"
            ),
        ),
        (
            "more keys than there are",
            format!("[keys]\na = \"{key}\"\n[[rule]]\nname = \"r\"\nstatements = [{{ key = \"a\", count = 2 }}]"),
        ),
        ("two rules of one name", "[[rule]]\nname = \"a\"\nverdict = \"deny\"\n".repeat(2)),
        ("fingerprint that is none", "[[rule]]\nname = \"a\"\nfingerprints = [\"abc\"]".to_owned()),
        ("key that is none", "[keys]\na = \"-----BEGIN PUBLIC KEY-----\"".to_owned()),
    ] {
        assert!(Policy::parse(&text, "/nowhere".as_ref()).is_err(), "{what}");
    }
    let unknown = policy("[[rule]]\nname = \"a\"\nremote = \"ubunut\"\nverdict = \"deny\"").with_remotes(|_| None);
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn first_rule_for_an_image_decides() {
    let policy = policy(
        r#"
        default = "deny"
        [[rule]]
        name = "bad"
        property = { os = "Evil*" }
        verdict = "deny"
        [[rule]]
        name = "signed"
        remote = "https://images.example/*"
        signed-list = ["ab cd"]
        [[rule]]
        name = "local"
        remote = "local"
        alias = "mine/*"
        verdict = "allow"
        "#,
    );
    let image = Fingerprint::of(b"image");
    let list = |key: &str| SignedList::new(key, None);
    let (good, bad) = (list("ABCD"), list("EF"));
    type Case<'a> =
        (Option<&'a str>, &'a [&'a str], &'a str, Option<&'a SignedList>, std::result::Result<&'a str, &'a str>);
    let cases: &[Case<'_>] = &[
        (None, &["mine/a"], "Debian", None, Ok("local")),
        (None, &["other", "mine/"], "Debian", None, Ok("local")),
        (None, &["other"], "Debian", None, Err("the default")),
        (None, &["mine/a"], "EvilOS", None, Err("`bad`")),
        (Some("https://images.example"), &[], "Debian", Some(&good), Ok("signed")),
        (Some("https://images.example/sub/"), &[], "Debian", Some(&good), Ok("signed")),
        (Some("https://images.example"), &[], "Debian", Some(&bad), Err("`signed`")),
        (Some("https://images.example"), &[], "Debian", None, Err("no signed list")),
        (Some("https://images.example.evil"), &["mine/a"], "Debian", Some(&good), Err("the default")),
        (Some("https://evil/https://images.example/"), &[], "Debian", Some(&good), Err("the default")),
    ];
    for (server, aliases, os, list, expected) in cases {
        let mut properties = Properties::new();
        properties.set("os", *os).unwrap();
        let candidate = Candidate {
            fingerprint: &image,
            server: *server,
            aliases,
            properties: &properties,
            list: *list,
            statements: &[],
        };
        match (policy.admit(&candidate), expected) {
            (Ok(admission), Ok(rule)) => assert_eq!(admission.rule.as_deref(), Some(*rule)),
            (Err(error), Err(text)) => {
                assert_eq!(error.kind(), ErrorKind::Untrusted);
                assert!(error.to_string().contains(text), "{error}");
                assert!(error.to_string().contains(&image.short()), "{error}");
            }
            (found, _) => panic!("{server:?} {aliases:?} {os}: {found:?}"),
        }
    }
}

#[test]
fn two_builders_are_two_keys() {
    let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let line = |key: &SecretKey| key.public_key().to_text().lines().nth(1).unwrap().to_owned();
    let policy = policy(&format!(
        "[keys]\none = \"{}\"\ntwo = \"{}\"\n[[rule]]\nname = \"both\"\nstatements = [{{ keys = [\"one\", \"two\"], count = 2 }}]",
        line(&one),
        line(&two)
    ));
    let scratch = Scratch::new();
    let store = store_with(&scratch, "s", policy);
    let with = |keys: &[&SecretKey]| {
        let statements = keys.iter().map(|key| vouch(&fingerprint("a"), key));
        ImportOptions::new().evidence(Evidence::new().statements(statements))
    };
    for keys in [&[][..], &[&one], &[&one, &one]] {
        let error =
            assert_kind(store.import(stream(unified("a")), &with(keys), &Monitor::none()), ErrorKind::Untrusted);
        assert!(error.to_string().contains("of the 2 keys"), "{error}");
    }
    store.import(stream(unified("a")), &with(&[&one, &two]), &Monitor::none()).unwrap();
    let (admission, _) = store.vouched(&fingerprint("a")).unwrap().admission.unwrap();
    assert_eq!((admission.rule.as_deref(), admission.vouched.len()), (Some("both"), 2));
}

#[test]
fn import_is_refused_without_the_statement() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let store = store_with(&scratch, "s", needs_statement(&key));
    assert_refused(store.import(stream(unified("a")), &ImportOptions::new(), &Monitor::none()), &store);
    // By a key that is not the builder's.
    let other = Evidence::new().statements([vouch(&fingerprint("a"), &SecretKey::generate().unwrap())]);
    assert_refused(store.import(stream(unified("a")), &ImportOptions::new().evidence(other), &Monitor::none()), &store);
    let good = Evidence::new().statements([vouch(&fingerprint("a"), &key)]);
    store.import(stream(unified("a")), &ImportOptions::new().evidence(good), &Monitor::none()).unwrap();
}

#[test]
fn written_image_is_refused_without_the_statement() {
    let scratch = Scratch::new();
    let store = store_with(&scratch, "s", needs_statement(&SecretKey::generate().unwrap()));
    let written = store.import_written(&ImportOptions::new(), &Monitor::none(), |out| {
        out.write_all(&unified("a")).map_err(|error| Error::new(ErrorKind::Io, "write").with_source(error))
    });
    assert_refused(written, &store);
}

#[test]
fn published_tree_is_refused_without_the_statement() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let store = store_with(&scratch, "s", needs_statement(&key));
    std::fs::create_dir_all(scratch.join("root/etc")).unwrap();
    let rootfs = Rootfs::open(scratch.join("root")).unwrap();
    let packing = PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap());
    assert_refused(store.publish(&rootfs, &packing, &ImportOptions::new(), &Monitor::none()), &store);
    // The statement is made when the fingerprint is known, and before the image is visible.
    let options = ImportOptions::new().stated_by(move |fingerprint| Ok(vouch(fingerprint, &key)));
    let (image, _) = store.publish(&rootfs, &packing, &options, &Monitor::none()).unwrap();
    assert_eq!(store.statements(&image.fingerprint).unwrap().len(), 1);
}

#[test]
fn migrated_image_is_refused_without_the_statement() {
    let scratch = Scratch::new();
    let from = Store::in_memory().unwrap();
    crate::store::import(&from, "a", &["a"]);
    let store = store_with(&scratch, "s", needs_statement(&SecretKey::generate().unwrap()));
    assert_refused(store.migrate_from(&from, &Monitor::none()), &store);
}

/// A store whose image came before its policy.
fn store_before_policy(scratch: &Scratch, key: &SecretKey) -> (Store, StoredImage) {
    let image = crate::store::import(&Store::open(scratch.join("s")).unwrap(), "a", &["a"]);
    (store_with(scratch, "s", needs_statement(key)), image)
}

#[test]
fn image_that_came_before_the_policy_is_not_shown_in_another_way() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let (store, image) = store_before_policy(&scratch, &key);
    let fingerprint = &image.fingerprint;
    let untrusted = ErrorKind::Untrusted;
    assert_kind(store.adopt(fingerprint, &ImportOptions::new().alias(alias("b")), &Monitor::none()), untrusted);
    assert_kind(store.create_alias(&alias("b"), fingerprint), untrusted);
    assert_kind(store.move_alias(&alias("b"), fingerprint), untrusted);
    assert_kind(store.rename_alias("a", "b", None), untrusted);
    assert_kind(store.edit(fingerprint, &Edit::new().public(true), None), untrusted);
    assert_kind(store.edit(fingerprint, &Edit::new().property("os", "x").unwrap(), None), untrusted);
    // It stays, and can lose what it has; and once somebody vouches, it is as any other.
    store.delete_alias("a", None).unwrap();
    store.mark_used(fingerprint).unwrap();
    store.attach_statements(fingerprint, vec![vouch(fingerprint, &key)]).unwrap();
    store.create_alias(&alias("b"), fingerprint).unwrap();
    assert!(store.vouched(fingerprint).unwrap().admission.is_some());
    store.delete(fingerprint).unwrap();
}

/// A source whose newest image is `b`.
struct Upstream(Evidence);

impl RefreshSource for Upstream {
    fn newest(&self, _: &StoredImage, _: &UpdateSource, _: &Monitor) -> Result<Newest> {
        Ok(Newest::new(fingerprint("b")).evidence(self.0.clone()))
    }

    fn fetch(&self, _: &StoredImage, _: &UpdateSource, _: &Newest, _: &Monitor) -> Result<ImageSource> {
        Ok(stream(unified("b")))
    }
}

#[test]
fn refresh_is_refused_without_the_statement_and_leaves_the_old_image() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let options = ImportOptions::new()
        .alias(Alias::new("a").unwrap())
        .source(UpdateSource::new("https://images.example", "simplestreams", "a"))
        .auto_update(true);
    Store::open(scratch.join("s")).unwrap().import(stream(unified("a")), &options, &Monitor::none()).unwrap();
    let store = store_with(&scratch, "s", needs_statement(&key));
    let refresh =
        |evidence| store.refresh(&fingerprint("a"), &Upstream(evidence), &RefreshOptions::new(), &Monitor::none());
    assert_kind(refresh(Evidence::new()), ErrorKind::Untrusted);
    assert_eq!(store.resolve("a").unwrap().fingerprint, fingerprint("a"));
    refresh(Evidence::new().statements([vouch(&fingerprint("b"), &key)])).unwrap();
    assert_eq!(store.resolve("a").unwrap().fingerprint, fingerprint("b"));
}
