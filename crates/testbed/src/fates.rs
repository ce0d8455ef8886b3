//! What becomes of a pod, written in its image's tag: KWOK plays it as a kubelet would report it.

use serde_json::{Value, json};

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is ready at once.
    Ready,
    /// It runs, and is never ready.
    NeverReady,
    /// It is ready after three seconds.
    SlowlyReady,
    /// The registry has no such image.
    ImageNotFound,
    /// The registry does not answer at first, and then does.
    PullPasses,
    /// The registry does not answer, and Kubernetes says no more than that it backs off.
    PullHangs,
    /// The registry gives the image to others only.
    AccessDenied,
    /// It crashes again and again.
    CrashLoop,
    /// It crashes once, and is ready then.
    CrashPasses,
    /// It takes more memory than it may, again and again.
    OutOfMemory,
    /// A Secret that it needs is missing.
    MissingSecret,
    /// Its image's name is none.
    InvalidImageName,
    /// It is ready, and crashes a second later, again and again.
    CrashesWhenReady,
}

/// One thing that a pod shows, and how long after the one before.
struct Step {
    after_ms: u64,
    phase: &'static str,
    ready: bool,
    restarts: u32,
    /// `state` and `lastState` of its containers, in YAML.
    state: String,
    last: String,
    /// A warning about it: reason and message.
    warning: Option<(&'static str, String)>,
}

impl Fate {
    /// All but [`Fate::Ready`].
    const BAD: [Self; 12] = [
        Self::NeverReady,
        Self::SlowlyReady,
        Self::ImageNotFound,
        Self::PullPasses,
        Self::PullHangs,
        Self::AccessDenied,
        Self::CrashLoop,
        Self::CrashPasses,
        Self::OutOfMemory,
        Self::MissingSecret,
        Self::InvalidImageName,
        Self::CrashesWhenReady,
    ];

    /// What the commit in a tag begins with.
    fn mark(self) -> &'static str {
        match self {
            Self::Ready => "abc",
            Self::NeverReady => "bad0",
            Self::SlowlyReady => "bad1",
            Self::ImageNotFound => "bad2",
            Self::PullPasses => "bad3",
            Self::PullHangs => "bad4",
            Self::AccessDenied => "bad5",
            Self::CrashLoop => "bad6",
            Self::CrashPasses => "bad7",
            Self::OutOfMemory => "bad8",
            Self::MissingSecret => "bad9",
            Self::InvalidImageName => "bada",
            Self::CrashesWhenReady => "badb",
        }
    }

    /// The tag of a build whose pods have this fate.
    pub fn tag(self, number: u64) -> String {
        format!("v{number}-{}1234", self.mark())
    }

    fn steps(self) -> Vec<Step> {
        let image = "docker.io/mastereflex123/portfolio";
        let not_found = format!(
            "rpc error: code = NotFound desc = failed to pull and unpack image: {image}: not found"
        );
        let denied = format!("failed to pull image: {image}: 401 Unauthorized: pull access denied");
        let timed_out =
            format!("failed to pull image: {image}: dial tcp 192.0.2.1:443: i/o timeout");
        let back_off = format!("Back-off pulling image \\\"{image}\\\"");
        match self {
            Self::Ready => vec![ready(0, 0, NONE)],
            Self::NeverReady => vec![running(0, 0, NONE)],
            Self::SlowlyReady => vec![running(0, 0, NONE), ready(3_000, 0, NONE)],
            Self::ImageNotFound => {
                vec![
                    waiting(100, "ErrImagePull", &not_found),
                    waiting(2_000, "ImagePullBackOff", &back_off),
                ]
            }
            Self::AccessDenied => {
                vec![
                    waiting(100, "ErrImagePull", &denied),
                    waiting(2_000, "ImagePullBackOff", &back_off),
                ]
            }
            Self::PullPasses => vec![
                waiting(100, "ErrImagePull", &timed_out),
                waiting(300, "ImagePullBackOff", &back_off),
                ready(1_200, 0, NONE),
            ],
            Self::PullHangs => {
                vec![
                    waiting(100, "ErrImagePull", &timed_out),
                    waiting(300, "ImagePullBackOff", &back_off),
                ]
            }
            Self::CrashLoop => crashes("Error", 3),
            Self::OutOfMemory => crashes("OOMKilled", 137),
            Self::CrashPasses => vec![
                running(100, 0, NONE),
                backing_off(300, 0, "Error", 3),
                running(600, 1, &ended("Error", 3)),
                ready(400, 1, &ended("Error", 3)),
            ],
            Self::MissingSecret => {
                vec![waiting(
                    100,
                    "CreateContainerConfigError",
                    "secret \\\"portfolio-secrets\\\" not found",
                )]
            }
            Self::InvalidImageName => {
                vec![waiting(
                    100,
                    "InvalidImageName",
                    "Failed to apply default image tag: couldn't parse image name",
                )]
            }
            Self::CrashesWhenReady => vec![
                ready(100, 0, NONE),
                backing_off(1_000, 0, "Error", 3),
                ready(600, 1, &ended("Error", 3)),
                backing_off(1_000, 1, "Error", 3),
                ready(1_200, 2, &ended("Error", 3)),
                backing_off(1_000, 2, "Error", 3),
            ],
        }
    }

    fn stages(self) -> Vec<Value> {
        let steps = self.steps();
        steps.into_iter().enumerate().map(|(index, step)| self.stage(index, &step)).collect()
    }

    fn stage(self, index: usize, step: &Step) -> Value {
        let image = match self {
            Self::Ready => {
                json!({"key": ".spec.containers[0].image | contains(\"-bad\") | tostring", "operator": "In", "values": ["false"]})
            }
            _ => {
                json!({"key": format!(".spec.containers[0].image | contains(\"-{}\") | tostring", self.mark()), "operator": "In", "values": ["true"]})
            }
        };
        // Pods remember in a condition of their own how far they have come.
        let step_key = "[.status.conditions[]? | select(.type == \"testbed/step\") | .reason] | first // \"0\"";
        let mut next = json!({ "statusTemplate": status_template(index + 1, step) });
        if let Some((reason, message)) = &step.warning {
            next["event"] = json!({"type": "Warning", "reason": reason, "message": message});
        }
        json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Stage",
            "metadata": {"name": format!("pod-{}-{index}", self.mark())},
            "spec": {
                "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
                "selector": {"matchExpressions": [
                    {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
                    image,
                    {"key": step_key, "operator": "In", "values": [index.to_string()]},
                ]},
                "delay": {"durationMilliseconds": step.after_ms},
                "next": next,
            },
        })
    }
}

/// The stages of all fates, as KWOK's configuration.
pub(crate) fn stages() -> String {
    let all = std::iter::once(Fate::Ready).chain(Fate::BAD).flat_map(Fate::stages);
    all.fold(String::new(), |text, stage| format!("{text}---\n{stage}\n"))
}

const NONE: &str = "{}";
const RUNNING: &str = "{ running: { startedAt: {{ $now }} }, waiting: null, terminated: null }";

fn ended(reason: &str, code: i32) -> String {
    format!(
        "{{ terminated: {{ reason: {reason}, exitCode: {code}, startedAt: {{{{ $now }}}}, finishedAt: {{{{ $now }}}} }} }}"
    )
}

fn ready(after_ms: u64, restarts: u32, last: &str) -> Step {
    Step { ready: true, ..running(after_ms, restarts, last) }
}

fn running(after_ms: u64, restarts: u32, last: &str) -> Step {
    let (state, last) = (RUNNING.to_owned(), last.to_owned());
    Step { after_ms, phase: "Running", ready: false, restarts, state, last, warning: None }
}

/// Not even started. `message` has its quotes escaped.
fn waiting(after_ms: u64, reason: &str, message: &str) -> Step {
    let state = format!(
        "{{ waiting: {{ reason: {reason}, message: \"{message}\" }}, running: null, terminated: null }}"
    );
    // As the kubelet has it, which then tells no reason while it backs off.
    let warning = match reason {
        "ErrImagePull" => ("Failed", format!("Failed to pull image \"x\": {message}")),
        "ImagePullBackOff" => ("BackOff", "Error: ImagePullBackOff".to_owned()),
        _ => ("Failed", format!("Error: {message}")),
    };
    Step {
        after_ms,
        phase: "Pending",
        ready: false,
        restarts: 0,
        state,
        last: NONE.to_owned(),
        warning: Some(warning),
    }
}

fn backing_off(after_ms: u64, restarts: u32, reason: &str, code: i32) -> Step {
    let state = "{ waiting: { reason: CrashLoopBackOff, message: back-off restarting failed container }, running: null, terminated: null }";
    Step {
        restarts,
        phase: "Running",
        last: ended(reason, code),
        state: state.to_owned(),
        warning: Some(("BackOff", "Back-off restarting failed container".to_owned())),
        ..waiting(after_ms, "", "")
    }
}

/// It runs for a moment, ends, and is started again ever more rarely.
fn crashes(reason: &str, code: i32) -> Vec<Step> {
    let end = Step {
        state: ended(reason, code).replacen(
            "{ terminated",
            "{ running: null, waiting: null, terminated",
            1,
        ),
        ..running(300, 0, NONE)
    };
    vec![
        running(100, 0, NONE),
        end,
        backing_off(200, 0, reason, code),
        running(700, 1, &ended(reason, code)),
        backing_off(300, 1, reason, code),
        running(1_500, 2, &ended(reason, code)),
        backing_off(300, 2, reason, code),
    ]
}

const POD_IP: &str = "\
{{ with PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index . 0 | Quote }}
podIPs: [{ ip: {{ index . 0 | Quote }} }]
{{ end }}
";

fn status_template(step_now: usize, step: &Step) -> String {
    let Step { phase, ready, restarts, state, last, .. } = step;
    let is_ready = if *ready { "True" } else { "False" };
    // A pod keeps the address that it got first.
    let address = if step_now == 1 { POD_IP } else { "" };
    format!(
        r#"{{{{ $now := Now | Quote }}}}
phase: {phase}
startTime: {{{{ $now }}}}
conditions:
- {{ type: testbed/step, status: "True", reason: "{step_now}", lastTransitionTime: {{{{ $now }}}} }}
- {{ type: Initialized, status: "True", lastTransitionTime: {{{{ $now }}}} }}
- {{ type: ContainersReady, status: "{is_ready}", lastTransitionTime: {{{{ $now }}}} }}
- {{ type: Ready, status: "{is_ready}", lastTransitionTime: {{{{ $now }}}} }}
containerStatuses:
{{{{ range .spec.containers }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  ready: {ready}
  started: {ready}
  restartCount: {restarts}
  state: {state}
  lastState: {last}
{{{{ end }}}}
{address}"#
    )
}
