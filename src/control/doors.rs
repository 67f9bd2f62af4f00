//! The addresses that functions have for who calls from elsewhere.

use std::net::SocketAddr;

/// Where functions answer.
#[derive(Debug, Clone)]
pub struct Doors {
    /// In clear text.
    pub http: SocketAddr,
    /// With TLS, if there is that.
    pub https: Option<SocketAddr>,
    /// The domain that the node was given, whose certificates it has where it has TLS.
    pub domain: Option<String>,
}

impl Doors {
    /// The address for who calls from elsewhere: below the node's domain, with TLS if it has that; and without a domain below
    /// `localhost`, in clear text. `host` makes the host's name of that of the domain.
    pub(super) fn url(&self, host: impl FnOnce(&str) -> String) -> String {
        let (scheme, port) = match (&self.domain, self.https) {
            (Some(_), Some(https)) => ("https", https.port()),
            _ => ("http", self.http.port()),
        };
        let domain = self.domain.as_deref().unwrap_or("localhost");
        let host = host(domain.trim_matches('.')).to_ascii_lowercase();
        match (scheme, port) {
            ("https", 443) | ("http", 80) => format!("{scheme}://{host}/"),
            _ => format!("{scheme}://{host}:{port}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_domain_and_the_best_scheme_there_is() {
        for (http, https, domain, expected) in [
            (8080, None, None, "http://hello.localhost:8080/"),
            (80, None, None, "http://hello.localhost/"),
            // Certificates are for the domain.
            (8080, Some(8443), None, "http://hello.localhost:8080/"),
            (
                8080,
                None,
                Some("Example.com."),
                "http://hello.example.com:8080/",
            ),
            (80, None, Some("example.com"), "http://hello.example.com/"),
            (
                80,
                Some(8443),
                Some("example.com"),
                "https://hello.example.com:8443/",
            ),
            (
                8080,
                Some(443),
                Some("example.com"),
                "https://hello.example.com/",
            ),
        ] {
            let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
            let doors = Doors {
                http: at(http),
                https: https.map(at),
                domain: domain.map(str::to_owned),
            };
            assert_eq!(doors.url(|domain| format!("Hello.{domain}")), expected);
        }
    }
}
