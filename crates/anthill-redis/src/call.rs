//! One call of a script: asks the node that has the queue, and goes on asking while nothing was done, until the deadline.
//!
//! - CA1. What was refused was not done, so it may be asked again: at another node (`MOVED`, `ASK`, `READONLY`), with the whole text
//!   (`NOSCRIPT`), or a little later (`LOADING`, `TRYAGAIN`, `CLUSTERDOWN`, `MASTERDOWN`, `BUSY`). Also what was not sent.
//! - CA2. What was sent and not answered may have been done. It is sent once more if the caller says that this is no harm (B12), and
//!   half of the time is left.
//! - CA3. What stores jobs is acknowledged only when as many replicas have confirmed it as the program wants. Otherwise it is an
//!   error, though it was done: the caller may repeat it.

use crate::connection::Request;
use crate::errors::{Failure, Refusal, unavailable};
use crate::keys::Keys;
use crate::node::Node;
use crate::pool::Pool;
use crate::route::Route;
use crate::scripts::Script;
use anthill_jobs::QueueError;
use redis::{Cmd, Value};
use std::time::{Duration, Instant};

/// The first and the longest pause before the next try.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How often nodes may send a call to each other before it waits.
const REDIRECTS: u32 = 8;

/// Whether a call may be sent again when nobody knows whether it was done (B12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Once,
    /// A claim: the jobs of a second one would be others. What somebody does by hand: the answer would be that there was nothing to do.
    Never,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// The call was sent twice, and the first may have been done.
    pub(crate) is_repeated: bool,
}

/// What a call needs to know.
pub(crate) struct Call<'c> {
    pub(crate) pool: &'c Pool,
    pub(crate) route: &'c Route,
    pub(crate) keys: &'c Keys,
    pub(crate) script: Script,
    pub(crate) args: &'c Cmd,
    pub(crate) again: Again,
    /// How many replicas have to confirm what it stores.
    pub(crate) replicas: u32,
    /// Whether it waits for a server that cannot be reached.
    pub(crate) is_patient: bool,
}

/// Where to ask next.
enum Next {
    AtOnce {
        asking: Option<Node>,
        is_whole: bool,
    },
    Later,
}

impl Call<'_> {
    pub(crate) fn run(&self, timeout: Duration) -> Result<Answer, Failure> {
        let begin = Instant::now();
        let deadline = begin + timeout;
        let mut pause = PAUSE.0;
        let (mut asking, mut is_whole) = (None, false);
        let (mut redirects, mut unreached, mut was_sent) = (0, 0, false);
        loop {
            let command = self.script.command(is_whole, &self.keys.all, self.args);
            let node = asking.clone().unwrap_or_else(|| self.route.node());
            let request = Request {
                command: &command,
                asking: asking.is_some(),
                replicas: self.replicas,
            };
            let answer = self.pool.request(&node, &request, deadline);
            let failure = match answer {
                Ok(value) => {
                    return Ok(Answer {
                        value,
                        is_repeated: was_sent,
                    });
                }
                Err(failure) => failure,
            };
            let next = match &failure {
                Failure::Refused(refusal) => self.after_refusal(refusal, &node, is_whole),
                Failure::NotSent(error) => {
                    self.route.failed(&node);
                    unreached += 1;
                    let is_over = !self.is_patient && unreached >= self.route.number();
                    (may_heal(error) && !is_over).then_some(Next::Later)
                }
                Failure::TooLate(_) | Failure::Unconfirmed(_) => None,
                Failure::Unanswered(_) => {
                    self.route.failed(&node);
                    let has_time = begin.elapsed() < timeout / 2;
                    let may = self.again == Again::Once && !was_sent && has_time;
                    was_sent = true;
                    may.then_some(Next::Later)
                }
            };
            // What may have been done is not known any better after another try that failed.
            let failure = match failure {
                Failure::NotSent(error) | Failure::TooLate(error) if was_sent => {
                    Failure::Unanswered(error)
                }
                // A queue that is gone has what was done no more.
                Failure::Refused(Refusal { code, text }) if was_sent && code != "NOQUEUE" => {
                    Failure::Unanswered(unavailable(format!("{text} [{code}]")))
                }
                other => other,
            };
            let next = match next {
                None => return Err(failure),
                Some(Next::AtOnce { .. }) if redirects >= REDIRECTS => Next::Later,
                Some(next) => next,
            };
            match next {
                Next::AtOnce {
                    asking: node,
                    is_whole: whole,
                } => {
                    redirects += 1;
                    (asking, is_whole) = (node, whole);
                }
                Next::Later => {
                    (asking, redirects) = (None, 0);
                    // Not all at once, when a server is back.
                    let part = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    if Instant::now() + part >= deadline {
                        return Err(failure);
                    }
                    std::thread::sleep(part);
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// CA1. None, if the server means it.
    fn after_refusal(&self, refusal: &Refusal, node: &Node, is_whole: bool) -> Option<Next> {
        // As in `MOVED 3999 10.0.0.1:6381`.
        let named = || {
            refusal
                .text
                .split_whitespace()
                .next_back()
                .unwrap_or_default()
        };
        match &*refusal.code {
            "NOSCRIPT" if !is_whole => Some(Next::AtOnce {
                asking: None,
                is_whole: true,
            }),
            "MOVED" => Some(if self.route.moved(node, named()) {
                Next::AtOnce {
                    asking: None,
                    is_whole,
                }
            } else {
                Next::Later
            }),
            "ASK" => Some(match node.named(named()) {
                // It may not know the script.
                Some(node) => Next::AtOnce {
                    asking: Some(node),
                    is_whole: true,
                },
                None => Next::Later,
            }),
            "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" => {
                self.route.failed(node);
                Some(Next::Later)
            }
            "LOADING" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" => Some(Next::Later),
            _ => None,
        }
    }
}

/// Whether a connect that failed may succeed a little later.
fn may_heal(error: &QueueError) -> bool {
    !matches!(
        error,
        QueueError::Denied(_) | QueueError::Address { .. } | QueueError::Corrupt(_)
    )
}
