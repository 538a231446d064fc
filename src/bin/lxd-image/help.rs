//! Text of help and manual pages beyond the options: examples of each verb, files, environment, exit statuses.
//!
//! The tables here are the only source: `--help` and the manual pages (`shell::man`) print the same rows. A new verb
//! gets its examples in `EXAMPLES`, under its path such as `alias create`.

use clap::Command;

/// Examples of each verb, by its path below the program (`alias create`). The program's name is added when they are
/// printed.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "inspect",
        &[
            "inspect debian.tar.xz",
            "inspect meta.tar.xz rootfs.squashfs --format json",
            "inspect images:debian/12",
            "inspect disk.vmdk",
        ],
    ),
    ("fingerprint", &["fingerprint meta.tar.xz rootfs.squashfs"]),
    ("verify", &["verify debian.tar.xz --fingerprint 0123456789ab"]),
    (
        "unpack",
        &[
            "unpack debian.tar.xz c1",
            "unpack debian/12 c1 --map-ids 0:100000:65536",
            "unpack debian/12 --vm vm1 --disk-format qcow2",
            "unpack vm.tar.zst --to-device /dev/vg0/vm1",
        ],
    ),
    (
        "pack",
        &[
            "pack rootfs box.tar.zst --architecture amd64 --property os=Box",
            "pack rootfs box --split --rootfs-format squashfs --architecture arm64",
            "pack appliance.ova vm.tar.zst --architecture amd64",
            "pack disk.img.xz vm.tar.zst --disk-input raw --architecture amd64",
        ],
    ),
    (
        "convert",
        &[
            "convert debian.tar.xz out/ --compression zstd:19",
            "convert debian.tar.xz debian --to split --rootfs-format squashfs",
            "convert vm.tar.xz vm2.tar --disk-format qcow2",
            "convert disk.vmdk disk.img --disk-format raw",
            "convert disk.qcow2.xz disk.img --disk-format raw",
        ],
    ),
    ("diff", &["diff old.tar.xz new.tar.xz"]),
    ("delta", &["delta make old.squashfs new.squashfs new.vcdiff", "delta apply old.squashfs new.vcdiff new.squashfs"]),
    ("delta make", &["delta make old.squashfs new.squashfs new.vcdiff"]),
    ("delta apply", &["delta apply old.squashfs new.vcdiff new.squashfs", "delta apply old.img - new.img <new.vcdiff"]),
    ("template", &["template list debian.tar.xz", "template apply c1 --trigger create --name c1 --dry-run"]),
    ("template list", &["template list debian.tar.xz"]),
    ("template show", &["template show debian.tar.xz hosts.tpl"]),
    ("template check", &["template check debian.tar.xz --dialect incus"]),
    ("template render", &["template render hostname.tpl --context context.json"]),
    ("template apply", &["template apply c1 --trigger create --name c1"]),
    (
        "import",
        &[
            "import box.tar.zst --alias box os=Box",
            "import meta.tar.xz rootfs.squashfs --alias debian/12",
            "import https://images.example/box --alias box --auto-update",
            "import box.tar.zst server: --alias box",
            "import ./alpine-layout --alias alpine",
        ],
    ),
    (
        "copy",
        &[
            "copy images:debian/12 local: --alias debian/12 --auto-update",
            "copy debian/12 server: --public",
            "copy docker:library/alpine:3.20 local: --alias alpine",
            "copy debian/12 registry:team/debian:12",
        ],
    ),
    ("bundle", &["bundle create images.tar debian/12 images:alpine/3.20", "bundle import images.tar"]),
    ("bundle create", &["bundle create images.tar debian/12", "bundle create images/ debian/12 ubuntu/24.04"]),
    ("bundle import", &["bundle import images.tar --reuse"]),
    (
        "list",
        &[
            "list",
            "list debian -c lfsu",
            "list 'release=2[24].04' type=virtual-machine",
            "list images: debian -f csv",
            "list docker:library/alpine/",
        ],
    ),
    ("info", &["info debian/12", "info images:debian/12 --vm"]),
    ("show", &["show debian/12 >image.yaml"]),
    ("edit", &["edit debian/12", "edit debian/12 <image.yaml"]),
    ("set-property", &["set-property debian/12 variant minimal", "set-property nightly keep true"]),
    ("get-property", &["get-property debian/12 os"]),
    ("unset-property", &["unset-property debian/12 variant"]),
    ("set", &["set debian/12 public=true", "set debian/12 expires_at=30d", "set debian/12 expires_at=2027-01-31"]),
    ("delete", &["delete debian/12 0123456789ab", "delete server:debian/12", "delete debian/12 --vm"]),
    ("export", &["export debian/12 out/", "export box - | ssh host lxc image import -"]),
    (
        "publish",
        &[
            "publish c1 --alias mine description='our base'",
            "publish c1 --alias nightly --reuse",
            "publish c1 --split --rootfs-format squashfs",
        ],
    ),
    ("alias", &["alias list", "alias create stable debian/12", "alias rename stable old"]),
    ("alias create", &["alias create stable debian/12 --description 'what we run'"]),
    ("alias delete", &["alias delete stable", "alias delete stable --vm"]),
    ("alias rename", &["alias rename stable old"]),
    ("alias list", &["alias list", "alias list images: debian"]),
    ("refresh", &["refresh", "refresh debian/12 --dry-run"]),
    ("prune", &["prune", "prune --unused-for 2w --dry-run"]),
    ("check", &["check", "check --repair"]),
    ("use", &["use debian/12"]),
    ("store", &["store info", "store migrate /var/lib/lxd-image /etc/lxd-image/store.toml"]),
    ("store init", &["store init", "--store /etc/lxd-image/store.toml store init"]),
    ("store info", &["store info"]),
    ("store migrate", &["store migrate /var/lib/lxd-image /etc/lxd-image/store.toml"]),
    ("mirror", &["mirror images: /srv/www release=bookworm", "mirror images: local: debian --delete"]),
    ("simplestreams", &["simplestreams add /srv/www meta.tar.xz rootfs.squashfs", "simplestreams list /srv/www"]),
    (
        "simplestreams add",
        &[
            "simplestreams add /srv/www meta.tar.xz rootfs.squashfs --alias debian",
            "simplestreams add /srv/www meta.tar.xz rootfs.squashfs --delta-from 2",
        ],
    ),
    ("simplestreams list", &["simplestreams list /srv/www"]),
    ("simplestreams remove", &["simplestreams remove /srv/www 0123456789ab"]),
    ("simplestreams verify", &["simplestreams verify /srv/www"]),
    ("simplestreams prune", &["simplestreams prune /srv/www --keep 3"]),
    ("simplestreams build", &["simplestreams build /srv/www --retain-builds 10 --deltas"]),
    (
        "simplestreams generate-metadata",
        &["simplestreams generate-metadata incus.tar.xz --os Box --release 1 --architecture amd64"],
    ),
    ("statement", &["statement sign debian/12 --key builder.key", "statement verify debian/12 --key builder.pub"]),
    (
        "statement sign",
        &[
            "statement sign debian/12 --key builder.key",
            "statement sign debian/12 --key builder.key --predicate sbom.json --type https://spdx.dev/Document",
        ],
    ),
    ("statement attach", &["statement attach debian/12 debian.tar.xz.intoto.jsonl"]),
    ("statement list", &["statement list debian/12"]),
    ("statement verify", &["statement verify debian/12 --key builder.pub --type https://slsa.dev/provenance/v1"]),
    ("reproduce", &["reproduce box rootfs", "reproduce box.tar.zst rootfs --templates templates"]),
    ("remote", &["remote add server https://server.example:8443", "remote list"]),
    (
        "remote add",
        &[
            "remote add server https://server.example:8443",
            "remote add web https://images.example --protocol simplestreams",
        ],
    ),
    ("remote list", &["remote list --format json"]),
    ("remote remove", &["remote remove server"]),
    ("remote rename", &["remote rename server box"]),
    ("remote set-url", &["remote set-url server https://new.example:8443"]),
    ("serve", &["serve", "serve --listen 127.0.0.1:8443"]),
    ("completions", &["completions bash >~/.local/share/bash-completion/completions/lxd-image"]),
    ("man", &["man /usr/local/share/man/man1"]),
];

/// Files and directories, and their content. `--store` and the environment override these paths.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("/var/lib/lxd-image", "the store of root"),
    ("$XDG_DATA_HOME/lxd-image (~/.local/share/lxd-image)", "the store of any other user"),
    (
        "$XDG_CONFIG_HOME/lxd-image (~/.config/lxd-image)",
        "remotes, the client certificate of this user, and policy.toml (what images need)",
    ),
];

/// Environment variables and their effect. Variables of the store and the configuration are also read by the systemd
/// units in `contrib`.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("LXD_IMAGE_STORE", "the directory of the store, like --store"),
    ("LXD_IMAGE_CONFIG", "the directory of remotes and certificates"),
    ("SOURCE_DATE_EPOCH", "the creation date of packed images, in seconds since 1970"),
    ("VISUAL, EDITOR", "the editor of `edit`; vi without them"),
    ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "proxies for connections to servers"),
];

/// Exit statuses and their meaning. They are a contract with scripts; a new meaning gets a new number.
pub(crate) const STATUSES: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong usage"),
    ("3", "a verb that compares found a mismatch"),
    ("4", "not found"),
    ("5", "already exists"),
    ("130", "cancelled"),
];

/// The examples of a verb as they are typed; none for an unknown path.
pub(crate) fn examples(path: &str) -> impl Iterator<Item = String> {
    let found = EXAMPLES.iter().find(|(verb, _)| *verb == path).map_or(&[][..], |(_, examples)| examples);
    found.iter().map(|example| format!("lxd-image {example}"))
}

/// Adds the tables and examples to the clap definition.
///
/// `--help` of the program shows the tables, `-h` only refers to them; every verb shows its examples.
pub(crate) fn complete(command: Command) -> Command {
    let table = |title: &str, rows: &[(&str, &str)]| {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let rows: String = rows.iter().map(|(name, what)| format!("  {name:width$}  {what}\n")).collect();
        format!("{title}:\n{rows}\n")
    };
    let text = table("Files", FILES)
        + &table("Environment", ENVIRONMENT)
        + &table("Exit status", STATUSES)
        + &crate::manual::topics();
    let command = command
        .after_long_help(text.trim_end().to_owned())
        .after_help("`--help` shows files, environment and exit statuses.");
    with_examples(command, "")
}

/// Adds the examples to every verb below `command`, recursively. `path` is the verb's path, such as `alias create`.
fn with_examples(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(&name, |verb| {
            let lines: String = examples(&path).map(|example| format!("\n  {example}")).collect();
            let verb = if lines.is_empty() { verb } else { verb.after_help(format!("Examples:{lines}")) };
            with_examples(verb, &path)
        });
    }
    command
}
