//! What a behaviour changes in the header fields of its answers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::super::{Cors, route};

/// What a behaviour changes in the header fields of its answers, from the cache or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseHeaders {
    /// Fields that tell browsers to be careful; none adds none.
    pub security: Option<SecurityHeaders>,
    /// What pages of other origins may do; then the node answers preflight requests itself. None leaves both to the origin.
    pub cors: Option<Cors>,
    /// Fields that are taken out.
    #[serde(with = "names")]
    pub remove: Vec<HeaderName>,
    /// Fields that are set, whatever the answer has.
    #[serde(with = "route::headers")]
    pub set: HeaderMap,
}

impl ResponseHeaders {
    /// Changes an answer's fields: first what is missing of the security fields is added, then fields are removed, then set.
    /// `secure` is whether the viewer came over TLS. CORS depends on the request, and is not done here.
    pub fn apply(&self, headers: &mut HeaderMap, secure: bool) {
        if let Some(security) = &self.security {
            for (name, value) in security.fields(secure) {
                headers.entry(name).or_insert(value);
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
        for name in self.set.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.append(name, value.clone());
        }
    }
}

/// Fields that tell browsers to be careful. They are added to an answer that does not have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security`, over TLS alone (RFC 6797 section 7.2).
    pub hsts: Option<Hsts>,
    /// `X-Content-Type-Options: nosniff`.
    pub nosniff: bool,
    /// `X-Frame-Options`.
    pub frame_options: Option<FrameOptions>,
    /// `Referrer-Policy`.
    pub referrer_policy: Option<ReferrerPolicy>,
    /// `Content-Security-Policy`, which depends on the site, so that there is none by default.
    pub content_security_policy: Option<String>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            hsts: Some(Hsts::default()),
            nosniff: true,
            frame_options: Some(FrameOptions::Sameorigin),
            referrer_policy: Some(ReferrerPolicy::StrictOriginWhenCrossOrigin),
            content_security_policy: None,
        }
    }
}

impl SecurityHeaders {
    /// The fields for a viewer who came over TLS (`secure`) or did not.
    pub fn fields(&self, secure: bool) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let hsts = self.hsts.filter(|_| secure).map(Hsts::value);
        let nosniff = self.nosniff.then(|| HeaderValue::from_static("nosniff"));
        let frame = self.frame_options.map(FrameOptions::as_str);
        let referrer = self.referrer_policy.map(ReferrerPolicy::as_str);
        let policy = self.content_security_policy.as_deref();
        [
            (header::STRICT_TRANSPORT_SECURITY, hsts),
            (header::X_CONTENT_TYPE_OPTIONS, nosniff),
            (header::X_FRAME_OPTIONS, frame.map(HeaderValue::from_static)),
            (
                header::REFERRER_POLICY,
                referrer.map(HeaderValue::from_static),
            ),
            (
                header::CONTENT_SECURITY_POLICY,
                policy.and_then(|policy| HeaderValue::from_str(policy).ok()),
            ),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// For how long a browser uses TLS alone for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hsts {
    /// How long; 365 days by default. Zero makes browsers forget it.
    pub max_age: Duration,
    /// Whether for the hosts under it too; not by default, as some of them may not have TLS.
    pub subdomains: bool,
    /// Whether browsers may know it before their first visit; not by default, as it is hard to take back.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(365 * 24 * 60 * 60),
            subdomains: false,
            preload: false,
        }
    }
}

impl Hsts {
    fn value(self) -> HeaderValue {
        let mut value = format!("max-age={}", self.max_age.as_secs());
        if self.subdomains {
            value.push_str("; includeSubDomains");
        }
        if self.preload {
            value.push_str("; preload");
        }
        HeaderValue::try_from(value).expect("only visible ASCII was written")
    }
}

/// Who may show the page in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameOptions {
    /// Nobody.
    Deny,
    /// Pages of the same origin.
    Sameorigin,
}

impl FrameOptions {
    /// The value of the field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "DENY",
            Self::Sameorigin => "SAMEORIGIN",
        }
    }
}

/// What the pages that a link leads to are told of the page with the link (W3C Referrer Policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the standard says what each is")]
pub enum ReferrerPolicy {
    NoReferrer,
    NoReferrerWhenDowngrade,
    Origin,
    OriginWhenCrossOrigin,
    SameOrigin,
    StrictOrigin,
    StrictOriginWhenCrossOrigin,
    UnsafeUrl,
}

impl ReferrerPolicy {
    /// The value of the field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoReferrer => "no-referrer",
            Self::NoReferrerWhenDowngrade => "no-referrer-when-downgrade",
            Self::Origin => "origin",
            Self::OriginWhenCrossOrigin => "origin-when-cross-origin",
            Self::SameOrigin => "same-origin",
            Self::StrictOrigin => "strict-origin",
            Self::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
            Self::UnsafeUrl => "unsafe-url",
        }
    }
}

mod names {
    use http::HeaderName;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        names: &[HeaderName],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(HeaderName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<HeaderName>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|name| name.parse().map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn an_answer_keeps_its_own_security_fields_and_loses_what_is_removed_or_set() {
        let policy = ResponseHeaders {
            security: Some(SecurityHeaders::default()),
            remove: vec![header::SERVER],
            set: map(&[("x-edge", "wharf"), ("x-edge", "again")]),
            cors: None,
        };
        let mut answer = map(&[
            ("server", "origin/1.0"),
            ("x-frame-options", "DENY"),
            ("x-edge", "its own"),
        ]);
        policy.apply(&mut answer, false);
        let expected = [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
            ("x-edge", "wharf"),
            ("x-edge", "again"),
        ];
        assert_eq!(answer, map(&expected));
    }

    #[test]
    fn browsers_are_bound_to_tls_over_tls_alone() {
        let mut security = SecurityHeaders::default();
        let hsts = |security: &SecurityHeaders, secure| {
            let mut fields = security.fields(secure);
            fields
                .find(|(name, _)| name == header::STRICT_TRANSPORT_SECURITY)
                .map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        assert_eq!(hsts(&security, false), None);
        assert_eq!(hsts(&security, true).as_deref(), Some("max-age=31536000"));
        security.hsts = Some(Hsts {
            max_age: Duration::from_secs(60),
            subdomains: true,
            preload: true,
        });
        assert_eq!(
            hsts(&security, true).as_deref(),
            Some("max-age=60; includeSubDomains; preload")
        );
    }

    #[test]
    fn a_referrer_policy_is_stored_as_it_is_sent() {
        for policy in [
            ReferrerPolicy::NoReferrer,
            ReferrerPolicy::NoReferrerWhenDowngrade,
            ReferrerPolicy::Origin,
            ReferrerPolicy::OriginWhenCrossOrigin,
            ReferrerPolicy::SameOrigin,
            ReferrerPolicy::StrictOrigin,
            ReferrerPolicy::StrictOriginWhenCrossOrigin,
            ReferrerPolicy::UnsafeUrl,
        ] {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
    }
}
