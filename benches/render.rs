//! Parses and renders the typical templates of images, as a container's start does it.
//! `LXD_IMAGE_BENCH_INPUTS` names the directory with `templates/`; the same files stand in for it here.

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use lxd_image::Limits;
use lxd_image::templates::{Context, Dialect, Template};

const HOSTNAME: &str = "{{ container.name }}\n";
const HOSTS: &str = "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n{% if config_get(\"user.fqdn\", \"\") != \"\" %}\
    127.0.1.1\t{{ config_get(\"user.fqdn\", \"\") }}{% endif %}\n\n::1\tlocalhost ip6-localhost ip6-loopback\n\
    ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
const META_DATA: &str = "#cloud-config\ninstance-id: {{ container.name }}\nlocal-hostname: {{ container.name }}\n\
    {% if config_get(\"user.meta-data\", \"\") %}{{ config_get(\"user.meta-data\", properties.default) }}{% else %}\
    {{ properties.default }}{% endif %}\n{% for name, device in devices sorted %}{% if device.type == \"nic\" %}# {{ name }}: \
    {{ device.hwaddr|default:\"auto\" }}\n{% endif %}{% endfor %}\n";

fn source(name: &str, fallback: &str) -> Vec<u8> {
    let given = std::env::var_os("LXD_IMAGE_BENCH_INPUTS");
    let file = given.map(|dir| Path::new(&dir).join("templates").join(name));
    file.and_then(|file| std::fs::read(file).ok()).unwrap_or_else(|| fallback.as_bytes().to_vec())
}

fn context() -> Context {
    Context::new()
        .trigger("create")
        .path("/etc/hostname")
        .instance([
            ("name", "c1"),
            ("type", "container"),
            ("architecture", "x86_64"),
            ("privileged", "false"),
            ("ephemeral", "false"),
        ])
        .config([("user.fqdn", "c1.example.org"), ("image.os", "Debian"), ("limits.memory", "2GiB")])
        .device("eth0", [("type", "nic"), ("hwaddr", "00:16:3e:11:22:33")])
        .device("eth1", [("type", "nic")])
        .device("root", [("type", "disk"), ("path", "/"), ("pool", "default")])
        .properties([("default", "none")])
}

fn render(criterion: &mut Criterion) {
    let (limits, context) = (Limits::default(), context());
    for (name, fallback) in [("hostname.tpl", HOSTNAME), ("hosts.tpl", HOSTS), ("meta-data.tpl", META_DATA)] {
        let source = source(name, fallback);
        let parse = || Template::parse(&source, Dialect::Lxd, &limits).expect("a template");
        let template = parse();
        criterion.bench_function(&format!("parse and render {name}"), |bencher| {
            bencher.iter(|| parse().render(&context, &limits).expect("output"));
        });
        criterion.bench_function(&format!("render {name}"), |bencher| {
            bencher.iter(|| template.render(&context, &limits).expect("output"));
        });
    }
}

criterion_group!(benches, render);
criterion_main!(benches);
