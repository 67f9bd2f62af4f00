//! One order: from the hosts to a certificate, or to why there is none.

use std::{fmt, sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, KeyAuthorization, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    pki_types::PrivatePkcs8KeyDer,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::tls::{self, Answer, Challenges};

/// How an order is polled: after half a second, then less and less often, for two minutes.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// How often a question about a certificate that may have been given is asked again, and after how long. Another order would be
/// another certificate, of which there are few a week.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_secs(10);

/// How the types of problems begin.
const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// How the node shows that a host is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// An answer at port 80 (RFC 8555, section 8.3).
    Http,
    /// A handshake at port 443 (RFC 8737).
    TlsAlpn,
}

/// A certificate that was given, and its key, both PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The directory said no, or could not be asked.
    #[error("{}", said(.0))]
    Directory(#[source] Error),
    /// The directory does not offer this proof.
    #[error("the directory offers no {1} for `{0}`")]
    NotOffered(String, Proof),
    /// The directory did not find what it looked for.
    #[error("{proof} failed: {problem}")]
    Unproven {
        /// How it looked.
        proof: Proof,
        /// What it said.
        problem: String,
    },
    /// What a handshake is answered with could not be made.
    #[error("make a certificate for a challenge")]
    Challenge(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What asks for the certificate could not be made.
    #[error("make a request for a certificate")]
    Request(#[source] rcgen::Error),
}

impl OrderError {
    /// Whether the directory does not know the account, so that another one has to be made.
    pub(super) fn is_of_account(&self) -> bool {
        self.is("accountDoesNotExist")
    }

    /// Whether it is this problem (RFC 8555, section 6.7).
    fn is(&self, kind: &str) -> bool {
        let Self::Directory(Error::Api(problem)) = self else {
            return false;
        };
        let said = problem.r#type.as_deref();
        said.and_then(|said| said.strip_prefix(PROBLEM)) == Some(kind)
    }

    /// Whether another proof may succeed.
    pub(super) fn is_of_proof(&self) -> bool {
        match self {
            Self::NotOffered(..) | Self::Unproven { .. } => true,
            Self::Directory(_) | Self::Challenge(_) | Self::Request(_) => false,
        }
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        Self::Directory(error)
    }
}

/// Gets a certificate for these hosts. It takes seconds, and minutes where the directory is slow.
pub(super) async fn obtain(
    account: &Account,
    hosts: &[String],
    proof: Proof,
    challenges: &Arc<Challenges>,
) -> Result<Issued, OrderError> {
    patiently(|| order(account, hosts, proof, challenges)).await
}

/// Begins again what failed for its nonce, which may be refused for no reason. instant-acme gives up after three in a row.
pub(super) async fn patiently<T, F>(begin: impl Fn() -> F) -> Result<T, OrderError>
where
    F: Future<Output = Result<T, OrderError>>,
{
    for _ in 0..2 {
        match begin().await {
            Err(error) if error.is("badNonce") => {}
            ended => return ended,
        }
    }
    begin().await
}

async fn order(
    account: &Account,
    hosts: &[String],
    proof: Proof,
    challenges: &Arc<Challenges>,
) -> Result<Issued, OrderError> {
    let identifiers: Vec<_> = hosts.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let polled = match answer(&mut order, proof, challenges).await {
        Ok(answers) => {
            let polled = order.poll_ready(&POLL).await;
            drop(answers);
            polled.map_err(OrderError::from)
        }
        Err(error) => Err(error),
    };
    match polled {
        Ok(OrderStatus::Ready) => {}
        Ok(status) => {
            let problems = problems(&mut order).await;
            return Err(unproven(proof, &problems, format!("{status:?}")));
        }
        Err(error) => return Err(of_the_order(&mut order, proof, error).await),
    }
    let (key, request) = request(hosts).map_err(OrderError::Request)?;
    finalize(&mut order, &request).await?;
    let chain = certificate(&mut order).await?;
    Ok(Issued { chain, key })
}

/// A new key, and what asks for a certificate of it (a PKCS #10 request, DER).
fn request(hosts: &[String]) -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Asks for the certificate. Where the answer is lost it may have been heard.
async fn finalize(order: &mut Order, request: &[u8]) -> Result<(), Error> {
    let mut left = AGAIN;
    loop {
        match order.finalize_csr(request).await {
            Err(error) if left > 0 && is_of_the_way(&error) => {
                left -= 1;
                tokio::time::sleep(PAUSE).await;
                let state = order.refresh().await;
                if state.is_ok_and(|state| state.status != OrderStatus::Ready) {
                    return Ok(());
                }
            }
            ended => return ended,
        }
    }
}

/// Waits for the certificate, and fetches it.
async fn certificate(order: &mut Order) -> Result<String, Error> {
    let mut left = AGAIN;
    loop {
        match order.poll_certificate(&POLL).await {
            Err(error) if left > 0 && (is_of_the_way(&error) || is_timeout(&error)) => {
                left -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// Whether an answer was lost, or is none of the directory's.
fn is_of_the_way(error: &Error) -> bool {
    matches!(error, Error::Other(_) | Error::Json(_))
}

/// Whether it was not decided in the time of [`POLL`].
fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Timeout(_))
}

/// Answers what the directory is going to ask, and has it ask. What was shown before need not be shown again.
async fn answer(
    order: &mut Order,
    proof: Proof,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Answer>, OrderError> {
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let host = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(proof.kind()) else {
            return Err(OrderError::NotOffered(host, proof));
        };
        let expected = challenge.key_authorization();
        answers.push(match proof {
            Proof::Http => challenges.over_http(&challenge.token, expected.as_str()),
            Proof::TlsAlpn => {
                let config = handshake(&host, &expected).map_err(OrderError::Challenge)?;
                challenges.over_tls(&host, config)
            }
        });
        challenge.set_ready().await?;
    }
    Ok(answers)
}

/// How to shake hands with who validates a host: with a certificate that holds the digest it looks for (RFC 8737, section 3).
fn handshake(
    host: &str,
    expected: &KeyAuthorization,
) -> Result<Arc<rustls::ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    let identifier = CustomExtension::new_acme_identifier(expected.digest().as_ref());
    params.custom_extensions = vec![identifier];
    let certificate = params.self_signed(&key)?;
    let provider = tls::provider();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = provider.key_provider.load_private_key(key.into())?;
    // Not `with_single_cert`, which reads the certificate and knows no critical extension such as this one.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A problem that the directory tells is of the question, or of the order. One that looks at a challenge at once may say what it saw in
/// answer to that, before the order is called invalid; and one may look again for as long as it likes (RFC 8555, section 8.2), with
/// what it saw so far at the challenge.
async fn of_the_order(order: &mut Order, proof: Proof, error: OrderError) -> OrderError {
    let otherwise = match &error {
        OrderError::Directory(Error::Api(problem)) => problem.to_string(),
        OrderError::Directory(late) if is_timeout(late) => "it was not decided in time".to_owned(),
        _ => return error,
    };
    let Ok(state) = order.refresh().await else {
        return error;
    };
    let is_over = state.status == OrderStatus::Invalid || state.error.is_some();
    let problems = problems(order).await;
    match is_over || !problems.is_empty() {
        true => unproven(proof, &problems, otherwise),
        false => error,
    }
}

fn unproven(proof: Proof, problems: &[String], otherwise: String) -> OrderError {
    let problem = match problems.is_empty() {
        true => otherwise,
        false => problems.join("; "),
    };
    OrderError::Unproven { proof, problem }
}

/// What the directory did not find, as it tells at the challenges.
async fn problems(order: &mut Order) -> Vec<String> {
    let mut problems = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let host = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
        problems.extend(errors.map(|error| format!("`{host}`: {}", detail(error))));
    }
    problems
}

fn said(error: &Error) -> String {
    match error {
        Error::Api(problem) => detail(problem),
        error => error.to_string(),
    }
}

/// What a problem document says, in a line.
fn detail(problem: &instant_acme::Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind.strip_prefix(PROBLEM);
    let (kind, detail) = (kind.unwrap_or("problem"), problem.detail.as_deref());
    let detail = format!("{} ({kind})", detail.unwrap_or("no reason given"));
    detail.replace(|character: char| character.is_control(), " ")
}

impl Proof {
    fn kind(self) -> ChallengeType {
        match self {
            Self::Http => ChallengeType::Http01,
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
        })
    }
}
