//! What hands used to `lxc image` type, through the program: words, filters, cells, targets, names that move.

use std::fs;

use super::cli::Shell;
use super::*;

fn digits(tag: &str) -> String {
    fingerprint(tag).to_string()
}

#[test]
fn short_options_short_verbs_and_the_word_image_are_taken() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "one"]);
    let line = format!("one,{}\n", digits("one"));
    for words in [
        "list -f csv -c lF",
        "ls -fcsv -clF",
        "image list -c l,F -f csv",
        "-q image ls -clF --format=csv",
        "--store store image ls -clF -fcsv",
    ] {
        assert_eq!(shell.ok(&words.split(' ').collect::<Vec<_>>()), line, "{words}");
    }
    shell.ok(&["image", "alias", "mv", "one", "uno"]);
    assert!(shell.ok(&["alias", "ls", "-f", "csv"]).starts_with("uno,"));
    shell.ok(&["alias", "rm", "uno"]);
    shell.ok(&["rm", &digits("one")]);
    assert_eq!(shell.ok(&["ls", "-fcsv"]), "");
}

#[test]
fn lists_have_headers_as_the_peers_write_them() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a|<b>", "--alias", "c"]);
    for (format, expected) in [
        ("csv", "\"a|<b>\nc\",no\n"),
        ("csv,noheader", "\"a|<b>\nc\",no\n"),
        ("csv,header", "ALIASES,PUBLIC\n\"a|<b>\nc\",no\n"),
        ("markdown", "| ALIASES        | PUBLIC |\n|----------------|--------|\n| a\\|&lt;b><br>c | no     |\n"),
        ("markdown,noheader", "| a\\|&lt;b><br>c | no  |\n"),
        ("table,noheader", "+-------+----+\n| a|<b> | no |\n| c     |    |\n+-------+----+\n"),
        ("compact,noheader", " a|<b>  no \n c         \n"),
    ] {
        assert_eq!(shell.ok(&["list", "-c", "Lp", "-f", format]), expected, "{format}");
    }
    shell.ok(&["list", "-c", "Lp", "-f", "table,header"]);
    for format in ["json,header", "yaml,noheader", "csv,", "table,header,noheader", "html"] {
        assert_eq!(shell.run(&["list", "-f", format]).status.code(), Some(2), "{format}");
    }
    shell.fails(&["info", "c", "-f", "csv,header"], 1, "InvalidInput");
}

#[test]
fn every_value_that_a_list_shows_is_found_as_a_filter() {
    let shell = Shell::new();
    fs::write(shell.scratch.join("d.tar"), unified_with(&metadata("d", "  description: \"a (b) [c]\\te\"\n"), b""))
        .unwrap();
    shell.ok(&["import", "d.tar", "--alias", "long-name", "--alias", "d", "--public"]);
    shell.ok(&["set", "d", "expires_at=2031-01-31"]);
    shell.ok(&["import", "one.tar"]);
    for (letter, keys) in [
        ("l", &["alias"][..]),
        ("f", &["fingerprint"]),
        ("F", &["fingerprint"]),
        ("p", &["public"]),
        ("d", &["description", "properties.description"]),
        ("a", &["architecture"]),
        ("t", &["type"]),
        ("s", &["size"]),
        ("u", &["uploaded_at", "upload_date", "upload date"]),
        ("e", &["expires_at"]),
        ("c", &["cached"]),
        ("U", &["last_used_at"]),
    ] {
        let shown = shell.ok(&["list", "d", "-f", "csv", "-c", letter]);
        let shown = shown.trim_end_matches('\n').trim_matches('"');
        for key in keys {
            let found = shell.ok(&["list", "-f", "csv", "-c", "F", &format!("{key}={shown}")]);
            assert!(found.lines().count() >= 1, "{key}={shown}");
            let explained = shell.run(&["list", "-f", "csv", "-c", "l", &format!("{key}={shown}")]);
            assert!(String::from_utf8(explained.stdout).unwrap().contains("d (1 more)"), "{key}={shown}");
        }
    }
}

#[test]
fn filters_are_regular_expressions_and_a_literal_match_always_counts() {
    let shell = Shell::new();
    for (name, release) in [("a", "22.04"), ("b", "24.04"), ("c", "2[24].04"), ("d", "c++"), ("e", "x(")] {
        let text = metadata(name, &format!("  edition: \"{release}\"\n"));
        fs::write(shell.scratch.join("x.tar"), unified_with(&text, b"")).unwrap();
        shell.ok(&["import", "x.tar", "--alias", name]);
    }
    let found = |filter: &str| shell.ok(&["list", "-f", "csv", "-c", "l", filter]).replace('\n', "");
    for (filter, names) in [
        ("edition=2[24].04", "abc"),
        ("edition=2", ""),
        ("edition=^2", "abc"),
        ("edition=04$", "abc"),
        ("edition=c++", "d"),
        ("edition=x(", "e"),
        ("edition=.*", "abcde"),
        ("edi=22.04", "a"),
        ("alias=[ab]", "ab"),
    ] {
        assert_eq!(found(filter), names, "{filter}");
    }
}

#[test]
fn alias_columns_show_all_or_the_shortest() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "debian/12", "--alias", "debian/bookworm", "--alias", "d12"]);
    assert_eq!(shell.ok(&["list", "-c", "L", "-f", "csv"]), "\"d12\ndebian/12\ndebian/bookworm\"\n");
    let table = shell.ok(&["list", "-c", "L"]);
    assert!(!table.contains("\\n") && table.lines().count() == 7, "{table}");
    assert_eq!(shell.ok(&["list", "-c", "l", "-f", "csv"]), "d12 (2 more)\n");
}

#[test]
fn target_with_a_final_slash_is_a_directory() {
    let shell = Shell::new();
    fs::create_dir_all(shell.scratch.join("tree/etc")).unwrap();
    shell.ok(&["import", "one.tar", "--alias", "uni"]);
    shell.ok(&["import", "meta.tar", "root.tar", "--alias", "split"]);
    let names = |directory: &str| {
        let mut names: Vec<_> = fs::read_dir(shell.scratch.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    shell.ok(&["export", "uni", "e1/"]);
    shell.ok(&["export", "split", "e2/"]);
    shell.ok(&["pack", "tree", "p/", "--architecture", "amd64", "--compression", "gzip"]);
    shell.ok(&["convert", "one.tar", "c/", "--compression", "xz"]);
    shell.ok(&["unpack", "one.tar", "u/"]);
    assert_eq!(names("e1"), ["one.tar"]);
    assert_eq!(names("e2"), ["meta-root.tar", "root.tar"]);
    assert_eq!(names("p"), ["tree.tar.gz"]);
    assert_eq!(names("c"), ["one.tar.xz"]);
    assert_eq!(names("u"), ["metadata.yaml", "rootfs"]);
    let before = names("");
    shell.fails(&["convert", "no.tar", "n1/"], 4, "NotFound");
    shell.fails(&["export", "uni", "no/such/"], 1, "Io");
    shell.fails(&["pack", "tree", "one.tar/", "--architecture", "amd64"], 5, "AlreadyExists");
    assert_eq!(names(""), before);
}

#[test]
fn importing_an_image_again_adds_what_is_new() {
    let shell = Shell::new();
    let first = shell.ok(&["import", "one.tar", "--alias", "a"]);
    assert_eq!(shell.ok(&["import", "one.tar", "--alias", "a", "--alias", "b", "--public", "x=y"]), first);
    let shown = shell.ok(&["show", "b"]);
    assert!(shown.contains("public: true") && shown.contains("x: \"y\""), "{shown}");
    shell.ok(&["unpack", "one.tar", "tree"]);
    let published = shell.ok(&["publish", "tree", "--alias", "p"]);
    assert_eq!(shell.ok(&["publish", "tree", "--alias", "p2"]), published);
    shell.fails(&["import", "two.tar", "--alias", "a"], 5, "AlreadyExists");
    let split = shell.ok(&["import", "meta.tar", "root.tar"]);
    assert_eq!(shell.ok(&["import", "root.tar", "meta.tar", "--alias", "s"]), split);
}

#[test]
fn reuse_removes_images_without_alias_unless_kept() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "daily"]);
    let output = shell.run(&["import", "two.tar", "--alias", "daily", "--reuse"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&digits("one")) && said.contains("`daily`"), "{said}");
    assert_eq!(shell.ok(&["list", "-f", "csv", "-c", "F"]), format!("{}\n", digits("two")));
    shell.ok(&["set-property", "daily", "keep", "true"]);
    shell.ok(&["import", "one.tar", "--alias", "daily", "--alias", "other", "--reuse"]);
    assert_eq!(shell.ok(&["list", "-f", "csv", "-c", "F"]).lines().count(), 2);
    shell.ok(&["import", "meta.tar", "root.tar", "--alias", "daily", "--reuse"]);
    assert_eq!(shell.ok(&["info", "other", "--format", "{{ fingerprint }}"]), format!("{}\n", digits("one")));
    shell.ok(&["import", "meta.tar", "root.tar", "--alias", "daily", "--reuse"]);
    shell.ok(&["info", "daily"]);
    shell.ok(&["check"]);
}

#[test]
fn properties_given_to_publish_go_into_the_image_and_those_of_an_import_are_said_to_stay() {
    let shell = Shell::new();
    shell.ok(&["unpack", "one.tar", "tree"]);
    shell.ok(&["publish", "tree", "age=32", "--property", "os=Mine", "--alias", "p"]);
    let quiet = shell.run(&["export", "p", "published"]);
    assert!(quiet.stderr.is_empty());
    let file = String::from_utf8(quiet.stdout).unwrap();
    let inspected = shell.ok(&["inspect", file.trim(), "-f", "json"]);
    assert!(inspected.contains("\"age\": \"32\"") && inspected.contains("\"os\": \"Mine\""), "{inspected}");
    shell.ok(&["import", "two.tar", "age=33", "--alias", "i"]);
    let output = shell.run(&["export", "i", "imported.tar"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("property `age`"));
    assert_eq!(fs::read(shell.scratch.join("imported.tar")).unwrap(), unified("two"));
}

#[test]
fn verbs_for_files_take_names_of_the_store_and_a_file_comes_first() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "two.tar", "--alias", "web"]);
    assert_eq!(shell.ok(&["fingerprint", "two.tar"]).trim(), digits("two"), "the file");
    for words in [
        &["fingerprint", "web"][..],
        &["fingerprint", "local:web"],
        &["verify", "web"],
        &["inspect", "web", "--format", "{{ fingerprint }}"],
        &["unpack", "web", "dest"],
        &["unpack", &digits("one")[..12], "dest2"],
    ] {
        let output = shell.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), digits("one"), "{words:?}: {said}");
        assert!(said.contains("the store"), "{words:?}: {said}");
    }
    shell.ok(&["convert", "web", "out.tar", "--compression", "none"]);
    shell.ok(&["template", "list", "web"]);
    shell.ok(&["diff", "web", "one.tar"]);
    let said = shell.fails(&["inspect", "wob"], 4, "NotFound");
    assert!(said.contains("lxd-image list"), "{said}");
}

#[test]
fn name_that_is_no_file_creates_no_store() {
    let shell = Shell::new();
    shell.fails(&["inspect", "nothing"], 4, "NotFound");
    assert!(!shell.scratch.join("store").exists());
}

#[test]
fn times_are_dates_moments_or_durations_and_never_a_bare_year() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    for text in ["2027", "30", "20270131", "2027-13-01", "10000-01-01", "soon"] {
        shell.fails(&["set", "a", &format!("expires_at={text}")], 1, "InvalidInput");
    }
    for (text, shown) in [
        ("2027-01-31", "2027-01-31T00:00:00Z"),
        ("2027-01-31T10:00:00+02:00", "2027-01-31T08:00:00Z"),
        ("2027/01/31 10:30 UTC", "2027-01-31T10:30:00Z"),
        ("9999-12-30T12:00:00Z", "9999-12-30T12:00:00Z"),
    ] {
        shell.ok(&["set", "a", &format!("expires_at={text}")]);
        assert!(shell.ok(&["show", "a"]).contains(shown), "{text}");
    }
    for text in ["30d", "2w", "1h30m"] {
        shell.ok(&["set", "a", &format!("expires_at={text}")]);
        assert!(shell.ok(&["show", "a"]).contains("expires_at: \"20"), "{text}");
    }
    fs::create_dir(shell.scratch.join("tree")).unwrap();
    let pack = |date: &str| {
        shell.run(&["pack", "tree", "-", "--architecture", "amd64", "--creation-date", date]).status.code()
    };
    assert_eq!((pack("2027"), pack("2027-01-31"), pack("1700000000")), (Some(2), Some(0), Some(0)));
    shell.ok(&["prune", "--unused-for", "1w2d"]);
}
