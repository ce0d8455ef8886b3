//! Properties of every image reference, tag, job name and rollout state.

use events::{BuildTag, ImageReference, JobName};
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,300}") {
        let _ = text.parse::<ImageReference>();
        let _ = text.parse::<BuildTag>();
        let _ = text.parse::<JobName>();
    }

    #[test]
    fn a_reference_in_full_reads_back_as_itself(
        registry in "([a-z0-9]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?",
        path in "[a-z0-9]{1,8}((_|__|-{1,3})[a-z0-9]{1,4}){0,2}\
            (/[a-z0-9]{1,8}(\\.[a-z0-9]{1,8})?){0,2}",
        tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
        digest in "(@sha256:[0-9a-f]{64})?",
    ) {
        let image: ImageReference = format!("{registry}{path}{tag}{digest}").parse().unwrap();
        prop_assert_eq!(&image.to_string().parse::<ImageReference>().unwrap(), &image);
        prop_assert_eq!(image.tag().unwrap_or_default(), tag.trim_start_matches(':'));
        if !registry.is_empty() {
            prop_assert_eq!(image.registry(), registry.trim_end_matches('/'));
        }
    }

    #[test]
    fn a_build_tag_reads_back_as_itself(number in any::<u64>(), commit in "[0-9a-f]{4,64}") {
        let tag = BuildTag { number, commit };
        prop_assert_eq!(tag.to_string().parse::<BuildTag>().unwrap(), tag);
    }

    #[test]
    fn a_build_tag_is_a_valid_tag(number in any::<u64>(), commit in "[0-9a-f]{4,64}") {
        let tag = BuildTag { number, commit }.to_string();
        let image: ImageReference = format!("a/b:{tag}").parse().unwrap();
        prop_assert_eq!(image.tag(), Some(tag.as_str()));
    }

    #[test]
    fn two_jobs_never_share_a_subject(a in "\\PC{1,20}", b in "\\PC{1,20}") {
        if let (Ok(a), Ok(b)) = (a.parse::<JobName>(), b.parse::<JobName>()) {
            let allowed = |b: u8| b.is_ascii_graphic() && !b".*>".contains(&b);
            let is_token = |text: &str| text.bytes().all(allowed);
            prop_assert!(is_token(&a.subject_token()));
            prop_assert_eq!(a == b, a.subject_token() == b.subject_token());
        }
    }
}

#[test]
fn nothing_follows_a_verdict_and_every_other_state_leads_to_one() {
    use events::RolloutState::{
        Accepted, AwaitingArgocd, Failed, Patching, Progressing, Rejected, Reverted, RolledBack,
        RollingBack, SmokeTesting, Succeeded, Superseded,
    };
    let all = [
        Accepted,
        Rejected,
        Superseded,
        Patching,
        Progressing,
        SmokeTesting,
        AwaitingArgocd,
        RollingBack,
        Succeeded,
        Failed,
        RolledBack,
        Reverted,
    ];
    for before in all {
        let followed = all.iter().any(|state| state.may_follow(before));
        assert_eq!(followed, !before.is_terminal(), "{before}");
        assert!(!Accepted.may_follow(before), "{before} has begun");
        assert_eq!(
            RolledBack.may_follow(before),
            before == RollingBack,
            "only a rollback ends rolled back: {before}"
        );
        assert_eq!(Rejected.may_follow(before), before == Accepted, "{before}");
    }
    assert!(!Succeeded.may_follow(RollingBack), "a rollout that failed does not succeed");
}
