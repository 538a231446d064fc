//! Names of architectures: those of the kernel, of distributions, and those that nobody knows.

use lxd_image::{Architecture, ErrorKind};

use super::{HEAD, assert_malformed, parse};

#[test]
fn every_architecture_name_parses() {
    let table = [
        ("i686", "i386 i586 386 x86 generic_32"),
        ("x86_64", "amd64 amd64v3 generic_64 x86_64_v1 x86_64_v2 x86_64_v3 x86_64_v4"),
        ("armv6l", "armel arm"),
        ("armv7l", "armhf armhfp armv7 armv7a_hardfp armv7a_vfpv3_hardfp"),
        ("armv8l", ""),
        ("aarch64", "arm64 arm64_generic"),
        ("ppc", "powerpc"),
        ("ppc64", "powerpc64"),
        ("ppc64le", "ppc64el"),
        ("s390x", ""),
        ("mips", "mipsel mipsle"),
        ("mips64", "mips64el mips64le"),
        ("riscv32", ""),
        ("riscv64", ""),
        ("loongarch64", "loong64"),
    ];
    assert_eq!(table.len(), Architecture::ALL.len());
    for (kernel, aliases) in table {
        let architecture: Architecture = kernel.parse().unwrap();
        assert_eq!(architecture.to_string(), kernel);
        assert_eq!(architecture.aliases().join(" "), aliases);
        assert_eq!(Architecture::from_uname(kernel), Some(architecture));
        for alias in aliases.split_whitespace() {
            assert_eq!(alias.parse::<Architecture>().unwrap(), architecture, "{alias}");
        }
    }
}

#[test]
fn debian_names_parse_back_except_armhf() {
    for architecture in Architecture::ALL {
        let again: Architecture = architecture.debian_name().parse().unwrap();
        assert!(again == *architecture || *architecture == Architecture::Armv8l, "{architecture}");
    }
}

#[test]
fn unknown_architecture_is_kept_as_text() {
    let error = "vax".parse::<Architecture>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "`vax` is no architecture that is known here");
    assert!(error.hint().unwrap().contains("x86_64"));
    assert!("AMD64".parse::<Architecture>().is_err());
    assert_eq!(Architecture::from_uname("vax"), None);

    let metadata = parse("architecture: vax\ncreation_date: 1\n").unwrap();
    assert_eq!(metadata.architecture(), "vax");
    assert_eq!(metadata.known_architecture(), None);
}

#[test]
fn architecture_alias_stays_as_written() {
    let metadata = parse("architecture: 386\ncreation_date: 1\n").unwrap();
    assert_eq!(metadata.architecture(), "386");
    assert_eq!(metadata.known_architecture(), Some(Architecture::I686));
    assert_eq!(Architecture::from_uname("i486"), Some(Architecture::I686));
}

#[test]
fn missing_or_empty_architecture_is_malformed() {
    assert_malformed(parse("creation_date: 1\n"), "line 1, column 1, architecture: missing");
    for nothing in ["", "~", "null", "''", "!!null ''"] {
        assert_malformed(
            parse(format!("architecture: {nothing}\ncreation_date: 1\n")),
            "line 1, column 1, architecture: missing",
        );
    }
    assert_malformed(parse("creation_date: 1\narchitecture: [x86_64]\n"), "line 2, column 15, architecture: ");
    assert!(parse(HEAD).is_ok());
}
