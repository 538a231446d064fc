//! Reads the corpus's JSON: contexts with typed values, cases with two answers.
//! Shared by the corpus itself and by the comparison with a real pongo2.

use lxd_image::templates::{Context, Dialect, ParseOptions, Template, Value};
use lxd_image::{ErrorKind, Limits, TemplateStage};
use serde_json::Value as Json;

/// What a template came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Output(Vec<u8>),
    Error(TemplateStage, String),
    Limit(String),
}

impl Answer {
    /// Whether this is what was expected. The text of an error does not count.
    pub(crate) fn fits(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Output(a), Self::Output(b)) => a == b,
            (Self::Error(a, _), Self::Error(b, _)) => a == b,
            // "Bounded" is what such a case asks for. LXD's arithmetic keeps a sum of strings small where
            // Incus's grows, so that an answer is as good as a refusal: `limits.rs` checks the single ones.
            (Self::Limit(_) | Self::Output(_), Self::Limit(_)) => true,
            _ => false,
        }
    }

    pub(crate) fn expected(json: &Json) -> Self {
        if let Some(text) = json["output"].as_str() {
            return Self::Output(text.as_bytes().to_vec());
        }
        if let Some(text) = json["output_b64"].as_str() {
            return Self::Output(base64(text));
        }
        if json["limit"] == true {
            return Self::Limit(String::new());
        }
        let stage = if json["stage"] == "parse" { TemplateStage::Parse } else { TemplateStage::Exec };
        Self::Error(stage, json["error"].as_str().unwrap_or_default().to_owned())
    }

    /// Ours.
    pub(crate) fn ours(template: &[u8], dialect: Dialect, context: &Json) -> Self {
        let limits = Limits::default();
        let options = ParseOptions::new(dialect).raw(context["$raw"] == true);
        let rendered = Template::parse_with(template, options, &limits)
            .and_then(|template| template.render(&read_context(context), &limits));
        match rendered {
            Ok(output) => Self::Output(output),
            Err(error) if error.kind() == ErrorKind::LimitExceeded => Self::Limit(error.to_string()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Template, "{error}");
                let place = error.template_place().expect("an error of a template has a place");
                Self::Error(place.stage, error.to_string())
            }
        }
    }

    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Output(bytes) => format!("{:?}", lxd_image::Escaped(bytes).to_string()),
            Self::Error(stage, text) => format!("error ({stage}): {text}"),
            Self::Limit(text) => format!("limit: {text}"),
        }
    }
}

/// A context of the corpus.
pub(crate) fn read_context(json: &Json) -> Context {
    let entries = |json: &Json| -> Vec<(String, String)> {
        let map = json.as_object().into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let mut context = Context::empty();
    for (name, value) in json.as_object().expect("a context is an object") {
        context = match name.as_str() {
            "$raw" => context,
            "$config" => context.config(entries(value)),
            "trigger" => context.trigger(value.as_str().unwrap_or_default()),
            "devices" => value
                .as_object()
                .into_iter()
                .flatten()
                .fold(context, |context, (name, device)| context.device(name, entries(device))),
            _ => context.variable(name, read_value(value)),
        };
    }
    context
}

fn read_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::NIL,
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::list(items.iter().map(read_value)),
        Json::Object(map) => {
            if let Some(text) = json["$int"].as_str() {
                return Value::from(text.parse::<i64>().expect("an integer"));
            }
            if let Some(text) = json["$float"].as_str() {
                return Value::from(text.parse::<f64>().expect("a float"));
            }
            if let Some(text) = json["$bytes"].as_str() {
                return Value::bytes(base64(text));
            }
            Value::map(map.iter().map(|(key, value)| (key, read_value(value))))
        }
        Json::Number(_) => panic!("the corpus has no plain numbers"),
    }
}

/// Standard base64, as Go and the corpus write it.
pub(crate) fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.chars().filter_map(|c| DIGITS.find(c)) {
        bits = bits << 6 | u32::try_from(digit).expect("a digit");
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}
