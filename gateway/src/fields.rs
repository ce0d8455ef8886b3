//! Reads the fields of a body and collects all that is wrong with them, so that a client hears everything at once. Pure.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::problem::{FieldError, Problem};

/// The largest number: 15 digits, all of which survive in every program that reads JSON (RFC 8259, section 6).
pub(crate) const MAX_NUMBER: u64 = 999_999_999_999_999;

/// The number that a JSON number is, however it is written: 42.0 is 42.
fn whole(number: &Number) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is cast is whole, and small enough"
    )]
    let float =
        |value: f64| (value.fract() == 0.0 && (0.0..1e15).contains(&value)).then_some(value as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(float))
}

/// The fields of one body. Fields that nobody asks for are passed over.
#[derive(Debug)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of a JSON object, or of a form made into one.
    pub(crate) fn new(body: Value) -> Result<Self, Problem> {
        match body {
            Value::Object(values) => Ok(Self { values, errors: Vec::new() }),
            _ => Err(Problem::fields(vec![FieldError {
                pointer: String::new(),
                detail: "the body is not an object".into(),
            }])),
        }
    }

    /// Says that a field is wrong.
    pub(crate) fn reject(&mut self, name: &str, detail: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError { pointer: format!("/{name}"), detail: detail.into() });
    }

    /// A text, if it is there; white space around it does not count, and nothing but that is as good as nothing.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.values.remove(name)? {
            Value::String(text) => match text.trim() {
                "" => None,
                trimmed if trimmed.len() == text.len() => Some(text),
                trimmed => Some(trimmed.to_owned()),
            },
            Value::Null => None,
            _ => {
                self.reject(name, "not a string");
                None
            }
        }
    }

    /// The same, of at most so many characters, white space around it included.
    pub(crate) fn optional_text_to(&mut self, name: &str, max: usize) -> Option<String> {
        let long = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() > max);
        if self.values.get(name).is_some_and(long) {
            self.values.remove(name);
            self.reject(name, format!("longer than {max} characters"));
        }
        self.optional_text(name)
    }

    /// A text that has to be there.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.text_to(name, usize::MAX)
    }

    /// A text that has to be there, of at most so many characters, white space around it included.
    pub(crate) fn text_to(&mut self, name: &str, max: usize) -> Option<String> {
        let wrong = self.errors.len();
        let text = self.optional_text_to(name, max);
        if text.is_none() && self.errors.len() == wrong {
            self.reject(name, "required");
        }
        text
    }

    /// A whole number from 0 on that has to be there. Forms and shell scripts write it as a string.
    pub(crate) fn number(&mut self, name: &str) -> Option<u64> {
        let number = match self.values.remove(name) {
            None | Some(Value::Null) => {
                self.reject(name, "required");
                return None;
            }
            Some(Value::Number(number)) => whole(&number),
            Some(Value::String(text)) if text.trim().bytes().all(|b| b.is_ascii_digit()) => {
                text.trim().parse().ok()
            }
            Some(_) => None,
        };
        let number = number.filter(|number| *number <= MAX_NUMBER);
        if number.is_none() {
            self.reject(name, format!("not a whole number from 0 to {MAX_NUMBER}"));
        }
        number
    }

    /// All is well, or everything that is not.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let body = json!({"a": 1, "b": "  ", "c": " x ", "d": null, "n": "12", "m": -1, "o": 1.5, "q": 42.0, "r": "1234567890123456", "s": "+1"});
        let mut fields = Fields::new(body).unwrap();
        assert_eq!(fields.text("a"), None);
        assert_eq!(fields.text("b"), None);
        assert_eq!(fields.text("c").as_deref(), Some("x"));
        assert_eq!(fields.optional_text("d"), None);
        assert_eq!(fields.number("n"), Some(12));
        assert_eq!(fields.number("m"), None);
        assert_eq!(fields.number("o"), None);
        assert_eq!(fields.number("p"), None);
        assert_eq!(fields.number("q"), Some(42));
        assert_eq!(fields.number("r"), None);
        assert_eq!(fields.number("s"), None);
        let problem = fields.finish().unwrap_err();
        let told: Vec<_> =
            problem.errors().iter().map(|e| (e.pointer.as_str(), &*e.detail)).collect();
        let whole = "not a whole number from 0 to 999999999999999";
        assert_eq!(
            told,
            [
                ("/a", "not a string"),
                ("/b", "required"),
                ("/m", whole),
                ("/o", whole),
                ("/p", "required"),
                ("/r", whole),
                ("/s", whole)
            ]
        );
    }

    #[test]
    fn a_body_is_an_object() {
        for body in [json!([]), json!("x"), json!(null), json!(1)] {
            assert_eq!(Fields::new(body).unwrap_err().errors()[0].pointer, "");
        }
    }
}
