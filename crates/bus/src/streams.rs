//! Whether a stream is what it shall be: what differs, and whether changing it would lose something. Pure.

use std::fmt;

use serde_json::Value;

/// One setting that is not what it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The setting's name.
    pub(crate) setting: String,
    /// What it is.
    pub(crate) found: Value,
    /// What it shall be.
    pub(crate) wanted: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.setting, self.found, self.wanted)
    }
}

/// Settings that services rely on. The others are limits, which an operator may have raised for good reasons.
const ESSENTIAL: [&str; 4] = ["subjects", "retention", "discard", "allow_atomic"];

/// The settings of `wanted` that `found` has otherwise. A setting that is left out has the server's default.
pub(crate) fn differences(found: &Value, wanted: &Value) -> Vec<Difference> {
    let neutral = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        // The server says "no limit" as 0 or as -1.
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

/// Of some differences, those with which a service cannot work.
pub(crate) fn essential(differences: &[Difference]) -> Vec<&Difference> {
    differences
        .iter()
        .filter(|difference| ESSENTIAL.contains(&difference.setting.as_str()))
        .collect()
}

/// Why making these changes to a stream that holds `bytes` would lose messages, if it would.
pub(crate) fn loss(differences: &[Difference], bytes: u64) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    let limit = |value: &Value| value.as_i64().filter(|limit| *limit > 0);
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
        let wanted = json!({"max_msgs": 0, "max_age": 0, "allow_direct": null, "subjects": ["a"], "allow_atomic": false});
        assert_eq!(differences(&found, &wanted), []);
    }

    #[test]
    fn a_difference_is_told_and_judged() {
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
    fn a_limit_that_is_lifted_loses_nothing() {
        let differences = differences(
            &json!({"max_age": 9, "max_bytes": 100}),
            &json!({"max_age": 0, "max_bytes": -1}),
        );
        assert_eq!(differences.len(), 2);
        assert_eq!(loss(&differences, 50), None);
    }
}
