//! Any bytes as a template, in both dialects, with and without the peers' autoescape off: parsing and
//! rendering end within their limits, say the same each time, and name a place that is there.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use lxd_image::Error;
use lxd_image::templates::{Context, Dialect, ParseOptions, Template, Value};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    Context::new()
        .trigger("create")
        .path("/etc/hostname")
        .instance([("name", "c1"), ("type", "container"), ("architecture", "x86_64"), ("privileged", "false")])
        .config([("user.fqdn", "c1.example.org"), ("limits.memory", "2GiB"), ("user.html", "<a href='b'>&\u{e9}</a>")])
        .device("eth0", [("type", "nic"), ("hwaddr", "00:16:3e:11:22:33")])
        .device("root", [("type", "disk"), ("path", "/")])
        .properties([("default", "none"), ("", "\u{0}")])
        .variable("list", Value::list([Value::from("a"), Value::bytes(&b"\xff\xfe"[..]), Value::NIL]))
        .variable("map", Value::map([("k", Value::from("v")), ("l", Value::list([]))]))
        .now(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
});

/// The place that an error names, if it names one, is in the text.
fn check_place(error: &Error, source: &[u8]) {
    let Some((line, column)) = error.template_place().and_then(|place| place.position) else { return };
    let text = source.split(|&byte| byte == b'\n').nth((line as usize).wrapping_sub(1));
    let length = text.map(|text| text.len() as u32);
    assert!(length.is_some_and(|length| (1..=length + 1).contains(&column)), "{error} is at no place of the text");
}

fuzz_target!(|data: &[u8]| {
    let limits = lxd_image_fuzz::template_limits();
    for dialect in [Dialect::Lxd, Dialect::Incus] {
        for raw in [false, true] {
            let options = ParseOptions::new(dialect).raw(raw);
            let template = match Template::parse_with(data, options, &limits) {
                Ok(template) => template,
                Err(error) => {
                    check_place(&error, data);
                    continue;
                }
            };
            let _ = template.warnings();
            let rendered = template.render(&CONTEXT, &limits);
            match &rendered {
                Ok(output) => assert!(output.len() as u64 <= limits.template_output, "more than the limit"),
                Err(error) => check_place(error, data),
            }
            // What draws lots may say something else.
            if !data.windows(6).any(|window| window == b"random") {
                let again = template.render(&CONTEXT, &limits);
                assert_eq!(rendered.map_err(|error| error.to_string()), again.map_err(|error| error.to_string()));
            }
        }
    }
});
