//! The differences between a stream or consumer and its declaration, and the messages that a change
//! would lose. Pure.

use std::fmt;

use serde_json::Value;

/// One setting that differs from its declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The name of the setting.
    pub(crate) setting: String,
    /// The value on the server.
    pub(crate) found: Value,
    /// The declared value.
    pub(crate) wanted: Value,
}

impl Difference {
    /// Returns a difference whose value on the server does not matter.
    pub(crate) fn of(setting: &str, wanted: Value) -> Self {
        Self { setting: setting.to_owned(), found: Value::Null, wanted }
    }

    /// Returns whether the found limit is narrower than the declared one.
    fn shrinks(&self) -> bool {
        let (found, wanted) = (limit(&self.found), limit(&self.wanted));
        found.is_some_and(|found| wanted.is_none_or(|wanted| found < wanted))
    }
}

/// Returns a limit, or none if it is 0 or -1, with which the server means "no limit".
fn limit(value: &Value) -> Option<i64> {
    value.as_i64().filter(|limit| *limit > 0)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.setting, self.found, self.wanted)
    }
}

/// Settings of a stream without which messages would be lost or missed. The other settings are
/// limits, which an operator may have raised for good reasons.
const ESSENTIAL: [&str; 5] = ["subjects", "retention", "storage", "discard", "allow_msg_ttl"];

/// Limits that remove messages, even from a stream that refuses new ones when it is full.
const REMOVING: [&str; 2] = ["max_age", "max_msgs_per_subject"];

/// Settings of a consumer without which messages would be skipped, or never acknowledged.
const ESSENTIAL_OF_CONSUMER: [&str; 4] =
    ["filter_subject", "deliver_policy", "ack_policy", "max_deliver"];

/// Returns the settings of `wanted` that differ in `found`. A setting that is left out has the
/// server's default.
pub(crate) fn differences(found: &Value, wanted: &Value) -> Vec<Difference> {
    let neutral = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        // The server writes "no limit" as 0 or as -1.
        Value::Number(number) => number.as_i64().is_some_and(|number| number <= 0),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let wanted = wanted.as_object().into_iter().flatten();
    wanted
        .filter_map(|(setting, wanted)| {
            let found = &found[setting];
            let same = found == wanted || (neutral(found) && neutral(wanted));
            (!same).then(|| Difference {
                setting: setting.clone(),
                found: found.clone(),
                wanted: wanted.clone(),
            })
        })
        .collect()
}

/// Returns the differences that make a stream unusable.
pub(crate) fn essential(differences: &[Difference]) -> Vec<&Difference> {
    let of_service = |difference: &&Difference| {
        let setting = difference.setting.as_str();
        ESSENTIAL.contains(&setting) || (REMOVING.contains(&setting) && difference.shrinks())
    };
    differences.iter().filter(of_service).collect()
}

/// Returns the differences that make a consumer unusable.
pub(crate) fn essential_of_consumer(differences: &[Difference]) -> Vec<&Difference> {
    let of_service =
        |difference: &&Difference| ESSENTIAL_OF_CONSUMER.contains(&difference.setting.as_str());
    differences.iter().filter(of_service).collect()
}

/// Returns the reason why these changes would lose messages of a stream that holds `bytes`, if
/// there is one.
pub(crate) fn loss(differences: &[Difference], bytes: u64) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    differences.iter().find_map(|difference| {
        let (found, wanted) = (limit(&difference.found), limit(&difference.wanted));
        let shrinks = wanted.is_some_and(|wanted| found.is_none_or(|found| wanted < found));
        match difference.setting.as_str() {
            "retention" | "storage" => {
                Some(format!("{difference} cannot be changed while the stream holds messages"))
            }
            "max_bytes"
                if wanted.is_some_and(|wanted| {
                    u64::try_from(wanted).is_ok_and(|wanted| wanted < bytes)
                }) =>
            {
                Some(format!("{difference} is less than the {bytes} bytes that the stream holds"))
            }
            "max_age" | "max_msgs" | "max_msgs_per_subject" if shrinks => {
                Some(format!("{difference} could remove messages"))
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_limit_has_many_names() {
        let found = json!({"max_msgs": -1, "max_age": 0, "allow_direct": false, "subjects": ["a"]});
        let wanted = json!({
            "max_msgs": 0, "max_age": 0, "allow_direct": null, "subjects": ["a"],
            "allow_msg_ttl": false,
        });
        assert_eq!(differences(&found, &wanted), []);
    }

    #[test]
    fn a_difference_is_described_and_judged() {
        let found =
            json!({"max_bytes": 100, "max_age": 0, "retention": "limits", "subjects": ["a"]});
        for (wanted, essential_ones, loses) in [
            (json!({"max_bytes": 200}), 0, false),
            (json!({"max_bytes": 50}), 0, false),
            (json!({"max_bytes": 49}), 0, true),
            (json!({"max_age": 9}), 0, true),
            (json!({"retention": "workqueue"}), 1, true),
            (json!({"subjects": ["a", "b"]}), 1, false),
        ] {
            let differences = differences(&found, &wanted);
            assert_eq!(differences.len(), 1, "{wanted}");
            assert_eq!(essential(&differences).len(), essential_ones, "{wanted}");
            assert_eq!(loss(&differences, 50).is_some(), loses, "{wanted}");
            assert_eq!(loss(&differences, 0), None, "an empty stream loses nothing");
        }
    }

    #[test]
    fn a_limit_that_removes_messages_is_essential() {
        for (found, wanted, expected) in [
            (json!({"max_age": 9}), json!({"max_age": 0}), 1),
            (json!({"max_age": 9}), json!({"max_age": 10}), 1),
            (json!({"max_age": 10}), json!({"max_age": 9}), 0),
            (json!({"max_age": 0}), json!({"max_age": 9}), 0),
            (json!({"max_msgs_per_subject": 1}), json!({"max_msgs_per_subject": -1}), 1),
            (json!({"storage": "memory"}), json!({"storage": "file"}), 1),
        ] {
            let differences = differences(&found, &wanted);
            assert_eq!(essential(&differences).len(), expected, "{found} {wanted}");
        }
    }

    #[test]
    fn a_limit_that_is_lifted_loses_nothing() {
        let differences = differences(
            &json!({"max_age": 9, "max_bytes": 100}),
            &json!({"max_age": 0, "max_bytes": -1}),
        );
        assert_eq!(differences.len(), 2);
        assert_eq!(loss(&differences, 50), None);
    }
}
