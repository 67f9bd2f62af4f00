//! Asking a server how it is.
//!
//! Each question has a connection of its own, so that what is checked is what a new viewer would meet. The task holds its server
//! weakly and ends with it.

use std::sync::{Arc, Weak};

use http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    OriginError,
    body::RequestBody,
    connect::Dialer,
    lease::Connection,
    message::{Message, Target},
    server::Server,
};
use crate::model::distribution::HealthCheck;

/// What is asked, and what follows from the answers.
pub(super) struct Check {
    pub(super) config: HealthCheck,
    pub(super) target: Target,
    pub(super) path: PathAndQuery,
}

/// Asks until the server is gone.
pub(super) async fn run(check: Check, dialer: Arc<Dialer>, server: Weak<Server>) {
    let mut tick = interval(check.config.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut verdict = Verdict::new(&check.config);
    loop {
        tick.tick().await;
        let answer = timeout(check.config.timeout, check.ask(&dialer)).await;
        let good = matches!(answer, Ok(Ok(true)));
        let Some(server) = server.upgrade() else {
            return;
        };
        if let Some(healthy) = verdict.changes_with(good) {
            server.health.checked(healthy);
            match healthy {
                true => tracing::info!(server = server.url(), "origin server is healthy"),
                false => tracing::warn!(server = server.url(), "origin server is unhealthy"),
            }
        }
    }
}

impl Check {
    /// Whether the answer is a good one.
    async fn ask(&self, dialer: &Dialer) -> Result<bool, OriginError> {
        let connection = dialer.dial(None).await?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("wharf-health-check"),
        );
        let message = Message {
            method: Method::GET,
            path: self.path.clone(),
            headers,
            body: RequestBody::Empty,
        };
        let http2 = matches!(connection, Connection::Http2(_));
        let request = self.target.address(message, None, http2)?;
        let response = connection.ask(request).await.map_err(OriginError::Failed)?;
        Ok(self.config.statuses.contains(&response.status().as_u16()))
    }
}

/// Counts answers in a row.
#[derive(Debug)]
struct Verdict {
    healthy: bool,
    /// Answers in a row that speak against what holds.
    against: u32,
    to_healthy: u32,
    to_unhealthy: u32,
}

impl Verdict {
    fn new(config: &HealthCheck) -> Self {
        Self {
            healthy: true,
            against: 0,
            to_healthy: config.healthy.max(1),
            to_unhealthy: config.unhealthy.max(1),
        }
    }

    /// What holds from now on, if this answer changes it.
    fn changes_with(&mut self, good: bool) -> Option<bool> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = match good {
            true => self.to_healthy,
            false => self.to_unhealthy,
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_some_answers_in_a_row_to_change_the_verdict() {
        let mut verdict = Verdict::new(&HealthCheck {
            healthy: 2,
            unhealthy: 3,
            ..HealthCheck::default()
        });
        let answers = "bbgbbbgbggb";
        let changes: Vec<Option<bool>> = answers
            .chars()
            .map(|answer| verdict.changes_with(answer == 'g'))
            .collect();
        let mut expected = vec![None; answers.len()];
        expected[5] = Some(false);
        expected[9] = Some(true);
        assert_eq!(changes, expected);
    }
}
