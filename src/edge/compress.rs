//! Compression of answers on their way from where they were made.
//!
//! It is done before an answer is stored, so that one is compressed once for each coding and not once for each viewer: the
//! stored answers are told apart by `Vary: Accept-Encoding`. An answer that came compressed is left as it is, and so is one
//! that must not be changed (`no-transform`, RFC 9111 section 5.2.2.6), has no content, or is a part of something.
//!
//! What the target wrote last is not kept back: when nothing more comes, what there is is flushed, so that an answer that is
//! written piece by piece arrives piece by piece.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::cache::{self, Recoded};
use crate::model::{Coding, Compression};

/// Compressed bytes that are sent on in one piece.
const PIECE: usize = 16 << 10;

/// Bytes that are taken in before the thread is given back: what gets very small makes no pieces for a long time.
const TURN: usize = 1 << 20;

/// gzip's level, of 9.
const GZIP_LEVEL: u32 = 5;

/// Brotli's quality, of 11, and the logarithm of its window: above this quality it takes several times as long.
const BROTLI: (u32, u32) = (4, 20);

/// Zstandard's level, of 22.
const ZSTD_LEVEL: i32 = 3;

/// The coding that suits a viewer best, of those that the behaviour has; none if it takes none of them, or would rather have
/// none.
pub(super) fn negotiate(compression: &Compression, request: &HeaderMap) -> Option<Coding> {
    let accepted = Accepted::of(request);
    // What is not named is taken, after what is.
    let identity = accepted.weight("identity").unwrap_or(1);
    let mut best: Option<(Coding, u16)> = None;
    for &coding in &compression.codings {
        let weight = accepted.named(coding).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((coding, weight));
        }
    }
    best.filter(|(_, weight)| *weight >= identity)
        .map(|(coding, _)| coding)
}

/// The tags of what a viewer has, as its request lists them.
pub(super) fn known(request: &HeaderMap) -> Vec<HeaderValue> {
    let lists = request.get_all(header::IF_NONE_MATCH);
    lists.iter().cloned().collect()
}

/// What `Accept-Encoding` says (RFC 9110 section 12.5.3): codings, and their weights in thousandths.
struct Accepted<'a>(Vec<(&'a str, u16)>);

impl<'a> Accepted<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let fields = headers.get_all(header::ACCEPT_ENCODING).iter();
        let members = fields
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(','));
        Self(
            members
                .filter_map(|member| {
                    let (coding, parameters) = member.split_once(';').unwrap_or((member, ""));
                    let coding = coding.trim();
                    (!coding.is_empty()).then(|| (coding, weight(parameters)))
                })
                .collect(),
        )
    }

    /// The weight of a coding that is named.
    fn weight(&self, coding: &str) -> Option<u16> {
        self.0
            .iter()
            .find(|(named, _)| named.eq_ignore_ascii_case(coding))
            .map(|(_, weight)| *weight)
    }

    /// The weight of a coding, by its name or by `*`.
    fn named(&self, coding: Coding) -> Option<u16> {
        let alias = (coding == Coding::Gzip).then(|| self.weight("x-gzip"));
        self.weight(coding.as_str())
            .or(alias.flatten())
            .or_else(|| self.weight("*"))
    }
}

/// `q`, in thousandths; 1 where it is left out, 0 where it is malformed.
fn weight(parameters: &str) -> u16 {
    let Some((_, value)) = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
    else {
        return 1000;
    };
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "1" if digits => 1000,
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Compresses an answer, where it gains by it. `coding` is what [`negotiate`] found; the answer says that another viewer may
/// get another one. `known` is what the viewer has, by its `If-None-Match`.
pub(super) fn compress<B: Body<Data = Bytes>>(
    compression: &Compression,
    coding: Option<Coding>,
    known: &[HeaderValue],
    method: &Method,
    response: Response<B>,
) -> Response<Compressed<B>> {
    let (mut head, body) = response.into_parts();
    if coding.is_some()
        && head.status == StatusCode::NOT_MODIFIED
        && may_change(&head.headers)
        && has_compressed(known, &head.headers)
    {
        // As the answer would have been that it stands for (RFC 9110 section 15.4.5).
        cache::vary(&mut head.headers);
        let tag = recode(&mut head.headers);
        head.extensions.insert(Recoded { tag });
        return Response::from_parts(head, Compressed::plain(body));
    }
    if !gains(compression, head.status, &head.headers, &body) {
        return Response::from_parts(head, Compressed::plain(body));
    }
    cache::vary(&mut head.headers);
    let Some(coding) = coding else {
        head.extensions.insert(Recoded::default());
        return Response::from_parts(head, Compressed::plain(body));
    };
    let headers = &mut head.headers;
    headers.insert(
        header::CONTENT_ENCODING,
        HeaderValue::from_static(coding.as_str()),
    );
    let tag = recode(headers);
    head.extensions.insert(Recoded { tag });
    match method == Method::HEAD {
        true => Response::from_parts(head, Compressed::plain(body)),
        false => Response::from_parts(head, Compressed::new(body, coding)),
    }
}

/// Takes from fields what is not true of other bytes. Gives the tag that was the origin's, if they have another now.
fn recode(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    cache::strip_digests(headers);
    weaken(headers)
}

/// Other bytes want another validator: a weak one says that it is the same to a reader (RFC 9110 section 8.8.1). Gives the
/// strong one, if it was.
fn weaken(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(header::ETAG)?.as_bytes();
    if tag.starts_with(b"W/") {
        return None;
    }
    match HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    }
}

/// Whether a viewer has what a 304 is about compressed: then it has it by the weak form of the strong tag. By the status alone
/// nobody could tell whether the answer would have been worth it.
fn has_compressed(known: &[HeaderValue], headers: &HeaderMap) -> bool {
    let tag = headers.get(header::ETAG).map(HeaderValue::as_bytes);
    let opaque = tag
        .and_then(|tag| tag.strip_prefix(b"\""))
        .and_then(|tag| tag.strip_suffix(b"\""));
    opaque.is_some_and(|opaque| known.iter().any(|list| lists_weakly(list, opaque)))
}

/// Whether a list of tags has that one, and says that it is weak.
fn lists_weakly(list: &HeaderValue, opaque: &[u8]) -> bool {
    // No tag has a quotation mark in it.
    let mut parts = list.as_bytes().split(|byte| *byte == b'"');
    while let (Some(before), Some(tag)) = (parts.next(), parts.next()) {
        if tag == opaque && before.ends_with(b"W/") {
            return true;
        }
    }
    false
}

/// Whether nobody says that an answer must not be changed, or has compressed it.
fn may_change(headers: &HeaderMap) -> bool {
    let must_not = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"));
    !must_not && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether an answer may be compressed, and is worth it.
fn gains<B: Body>(
    compression: &Compression,
    status: StatusCode,
    headers: &HeaderMap,
    body: &B,
) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let announced = text(header::CONTENT_LENGTH)
        .and_then(|length| length.parse().ok())
        .or_else(|| body.size_hint().exact());
    !compression.codings.is_empty()
        && !matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS
                | StatusCode::NO_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::PARTIAL_CONTENT
        )
        && !headers.contains_key(header::CONTENT_RANGE)
        && may_change(headers)
        && text(header::CONTENT_TYPE).is_some_and(|kind| compression.takes(kind))
        && announced.is_none_or(|length| length >= compression.minimum.as_u64())
}

pin_project! {
    /// A body that is compressed as it is read, or left as it is.
    pub(super) struct Compressed<B> {
        #[pin]
        body: B,
        // In boxes: most bodies are not compressed, and all are handed from one to the next.
        encoder: Option<Box<Encoder>>,
        // What comes after the last compressed byte.
        trailers: Option<Box<HeaderMap>>,
        dirty: bool,
    }
}

impl<B> Compressed<B> {
    /// What is compressed.
    pub(super) fn into_body(self) -> B {
        self.body
    }

    fn plain(body: B) -> Self {
        Self {
            body,
            encoder: None,
            trailers: None,
            dirty: false,
        }
    }

    fn new(body: B, coding: Coding) -> Self {
        match Encoder::new(coding) {
            Ok(encoder) => Self {
                encoder: Some(Box::new(encoder)),
                ..Self::plain(body)
            },
            // There is no memory for it: see `Encoder::new`.
            Err(error) => {
                tracing::error!(%error, "an answer breaks off: no encoder");
                Self {
                    encoder: Some(Box::new(Encoder::Broken)),
                    ..Self::plain(body)
                }
            }
        }
    }
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompressError<E> {
    /// What is compressed breaks off.
    #[error(transparent)]
    Body(E),
    /// The compressor failed.
    #[error("compress the answer")]
    Encoder(#[source] io::Error),
}

impl<B: Body<Data = Bytes>> Body for Compressed<B> {
    type Data = Bytes;
    type Error = CompressError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let mut taken = 0;
        loop {
            let Some(encoder) = this.encoder else {
                if let Some(trailers) = this.trailers.take() {
                    return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
                }
                let frame = ready!(this.body.poll_frame(context));
                return Poll::Ready(frame.map(|frame| frame.map_err(CompressError::Body)));
            };
            let piece = match this.body.as_mut().poll_frame(context) {
                Poll::Pending if *this.dirty => {
                    *this.dirty = false;
                    encoder.flush()
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        *this.dirty |= !data.is_empty();
                        taken += data.len();
                        let piece = encoder.write(&data);
                        if taken >= TURN && piece.as_ref().is_ok_and(Bytes::is_empty) {
                            context.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        piece
                    }
                    Err(frame) => {
                        *this.trailers = frame.into_trailers().ok().map(Box::new);
                        if let Some(trailers) = this.trailers {
                            cache::strip_digests(trailers);
                        }
                        let piece = encoder.finish();
                        *this.encoder = None;
                        piece
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(CompressError::Body(error))));
                }
                Poll::Ready(None) => {
                    let piece = encoder.finish();
                    *this.encoder = None;
                    piece
                }
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(error) => return Poll::Ready(Some(Err(CompressError::Encoder(error)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.encoder {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

/// A compressor that writes into memory.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// It failed, or is done.
    Broken,
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        let (quality, window) = BROTLI;
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP_LEVEL),
            )),
            Coding::Br => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                PIECE,
                quality,
                window,
            ))),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    /// Compresses `data`. What there is then is given out when it is worth it.
    fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        self.writer()?.write_all(data)?;
        match self.written()?.len() {
            0..PIECE => Ok(Bytes::new()),
            _ => Ok(std::mem::take(self.written()?).into()),
        }
    }

    /// All that was compressed so far, so that a reader can make the whole of what was written of it.
    fn flush(&mut self) -> io::Result<Bytes> {
        self.writer()?.flush()?;
        Ok(std::mem::take(self.written()?).into())
    }

    /// The rest.
    fn finish(&mut self) -> io::Result<Bytes> {
        let rest = match std::mem::replace(self, Self::Broken) {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok(rest.into())
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        Ok(match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
        })
    }

    fn written(&mut self) -> io::Result<&mut Vec<u8>> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, io::Read};

    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    fn decode(coding: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded)?,
            "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded)?,
            "zstd" => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut decoded)?,
            _ => panic!("{coding}"),
        };
        Ok(decoded)
    }

    fn request(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, accept.parse().unwrap())])
    }

    /// RFC 9110 section 12.5.3.
    #[test]
    fn the_viewer_decides_and_of_what_it_likes_equally_the_behaviour() {
        let compression = Compression::on();
        for (accept, expected) in [
            ("", None),
            ("gzip", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip, zstd", Some("zstd")),
            ("gzip;q=1.0, br;q=0.9", Some("gzip")),
            ("br;q=0", None),
            ("br;q=0, *", Some("zstd")),
            ("*;q=0", None),
            ("gzip;q=0.5, identity", None),
            // No coding at all is less than any that is named.
            ("gzip;q=0.5", Some("gzip")),
            ("gzip;q=0.5, identity;q=0.5", Some("gzip")),
            ("gzip;q=0.001, identity;q=0", Some("gzip")),
            ("identity", None),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("gzip ; q = 1", Some("gzip")),
            ("deflate", None),
            (",, ,gzip", Some("gzip")),
        ] {
            let coding = negotiate(&compression, &request(accept)).map(Coding::as_str);
            assert_eq!(coding, expected, "{accept}");
        }
        assert_eq!(negotiate(&Compression::default(), &request("gzip")), None);
    }

    async fn compressed(coding: Coding, response: Response<Full<Bytes>>) -> Response<Bytes> {
        let response = compress(
            &Compression::on(),
            Some(coding),
            &[],
            &Method::GET,
            response,
        );
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(head, body)
    }

    fn page() -> Response<Full<Bytes>> {
        Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", "100000")
            .header("etag", "\"1\"")
            .header("accept-ranges", "bytes")
            .header("content-digest", "sha-256=:AAAA:")
            .header("repr-digest", "sha-256=:AAAA:")
            .header("digest", "SHA-256=AAAA")
            .header("content-md5", "AAAA")
            .body(Full::from(vec![b'a'; 100_000]))
            .unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_compressed_and_says_so() {
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let response = compressed(coding, page()).await;
            let headers = response.headers();
            assert_eq!(headers["content-encoding"], coding.as_str());
            assert_eq!(headers["vary"], "accept-encoding");
            assert_eq!(headers["etag"], "W/\"1\"");
            assert!(!headers.contains_key("content-length"));
            assert!(!headers.contains_key("accept-ranges"));
            let origins = response.extensions().get::<Recoded>().unwrap().tag.as_ref();
            assert_eq!(origins.unwrap(), "\"1\"");
            assert!(response.body().len() < 1000);
            let decoded = decode(coding.as_str(), response.body()).unwrap();
            assert_eq!(decoded, vec![b'a'; 100_000]);
        }
    }

    #[tokio::test]
    async fn what_must_not_or_need_not_be_compressed_is_left_as_it_is() {
        let changes: [(&str, &str, &str); 6] = [
            ("compressed already", "content-encoding", "gzip"),
            ("not to be changed", "cache-control", "public, No-Transform"),
            ("a part", "content-range", "bytes 0-99999/200000"),
            ("an image", "content-type", "image/png"),
            ("small", "content-length", "999"),
            ("of an unknown type", "content-type", "\u{e4}"),
        ];
        for (what, name, value) in changes {
            let mut response = page();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            response
                .headers_mut()
                .insert(header::HeaderName::from_static(name), value);
            let before = response.headers().clone();
            let response = compressed(Coding::Gzip, response).await;
            assert_eq!(*response.headers(), before, "{what}");
            assert_eq!(response.body().len(), 100_000, "{what}");
        }
        // Another viewer may have got it compressed, and a cache has to know.
        let response = compress(&Compression::on(), None, &[], &Method::GET, page());
        assert_eq!(response.headers()["vary"], "accept-encoding");
        assert_eq!(response.headers()["etag"], "\"1\"");
        assert_eq!(response.body().size_hint().exact(), Some(100_000));
    }

    /// RFC 9530 sections 2 and 3: both digests are of the coded bytes, and so were those before them.
    #[tokio::test]
    async fn no_digest_of_other_bytes_is_passed_on() {
        let digests = ["content-digest", "repr-digest", "digest", "content-md5"];
        let response = compressed(Coding::Gzip, page()).await;
        for name in digests {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let plain = compress(&Compression::on(), None, &[], &Method::GET, page());
        for name in digests {
            assert!(plain.headers().contains_key(name), "{name}");
        }
        // They may come behind the content, too.
        let trailers: HeaderMap = [("repr-digest", "sha-256=:AAAA:"), ("x-other", "1")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>();
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from("hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = Compressed::new(StreamBody::new(futures::stream::iter(frames)), Coding::Br);
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-other"]);
    }

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|&(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        fields.collect()
    }

    /// The fields of a 304 to a request with these tags.
    fn not_modified(coding: Option<Coding>, request: &HeaderMap, answer: HeaderMap) -> HeaderMap {
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = answer;
        let (known, method) = (known(request), Method::GET);
        let response = compress(&Compression::on(), coding, &known, &method, response);
        assert!(response.body().is_end_stream());
        response.headers().clone()
    }

    /// RFC 9110 section 15.4.5.
    #[tokio::test]
    async fn a_304_has_the_tag_and_the_vary_of_the_answer_that_was_compressed() {
        let whole = compressed(Coding::Br, page()).await;
        for tags in [
            vec![("if-none-match", "W/\"1\"")],
            vec![("if-none-match", "\"a,b\",W/\"0\" , W/\"1\", \"2\"")],
            vec![("if-none-match", "\"0\""), ("if-none-match", "W/\"1\"")],
        ] {
            let answer = fields(&[("etag", "\"1\""), ("repr-digest", "sha-256=:AAAA:")]);
            let headers = not_modified(Some(Coding::Br), &fields(&tags), answer);
            for name in ["etag", "vary", "repr-digest"] {
                assert_eq!(headers.get(name), whole.headers().get(name), "{tags:?}");
            }
            assert!(!headers.contains_key("content-encoding"));
        }
    }

    #[test]
    fn a_304_that_is_not_about_what_was_compressed_here_is_left_as_it_is() {
        let (br, weak, tag) = (Some(Coding::Br), "W/\"1\"", ("etag", "\"1\""));
        let keep = ("cache-control", "no-transform");
        for (what, coding, tags, answer) in [
            ("no coding", None, weak, vec![tag]),
            ("as the origin sent it", br, "\"1\"", vec![tag]),
            ("another", br, "W/\"11\", \"1\", W/\"2\"", vec![tag]),
            ("anything", br, "*", vec![tag]),
            ("by a date", br, weak, vec![]),
            ("weak before", br, weak, vec![("etag", weak)]),
            ("not to be changed", br, weak, vec![tag, keep]),
            (
                "compressed already",
                br,
                weak,
                vec![tag, ("content-encoding", "gzip")],
            ),
        ] {
            let answer = fields(&answer);
            let request = fields(&[("if-none-match", tags)]);
            assert_eq!(
                not_modified(coding, &request, answer.clone()),
                answer,
                "{what}"
            );
        }
    }

    /// RFC 9110 section 9.3.2.
    #[test]
    fn the_head_of_an_answer_is_the_same_for_head() {
        let response = compress(
            &Compression::on(),
            Some(Coding::Br),
            &[],
            &Method::HEAD,
            page().map(|_| Full::<Bytes>::default()),
        );
        assert_eq!(response.headers()["content-encoding"], "br");
        assert!(!response.headers().contains_key("content-length"));
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn what_was_written_arrives_before_the_rest_is_there() {
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let (sender, mut receiver) = mpsc::unbounded_channel::<Frame<Bytes>>();
            let frames = futures::stream::poll_fn(move |context| {
                receiver
                    .poll_recv(context)
                    .map(|frame| frame.map(Ok::<_, Infallible>))
            });
            let mut body = Compressed::new(StreamBody::new(frames), coding);
            assert!(body.frame().now_or_never().is_none());
            sender.send(Frame::data("hello ".into())).unwrap();
            let first = body.frame().now_or_never().unwrap().unwrap().unwrap();
            let first = first.into_data().unwrap();
            assert!(!first.is_empty());
            assert!(body.frame().now_or_never().is_none(), "flushed once");
            sender.send(Frame::data("world".into())).unwrap();
            let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))]);
            sender.send(Frame::trailers(trailers.clone())).unwrap();
            drop(sender);
            let rest = body.collect().await.unwrap();
            assert_eq!(rest.trailers(), Some(&trailers));
            let whole = [&first[..], &rest.to_bytes()].concat();
            assert_eq!(decode(coding.as_str(), &whole).unwrap(), b"hello world");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_ended() {
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let frames = VecDeque::from([Ok(Frame::data(Bytes::from("hello"))), Err("broken")]);
            let mut body = Compressed::new(StreamBody::new(futures::stream::iter(frames)), coding);
            let mut bytes = Vec::new();
            let error = loop {
                match body.frame().await.unwrap() {
                    Ok(frame) => bytes.extend(frame.into_data().unwrap()),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, CompressError::Body("broken")));
            assert!(decode(coding.as_str(), &bytes).is_err(), "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_compressed_in_whatever_pieces_comes_back(
            pieces in prop::collection::vec(prop::collection::vec(0_u8..4, 0..20_000), 0..12),
            coding in prop::sample::select(vec![Coding::Gzip, Coding::Br, Coding::Zstd]),
        ) {
            let frames = pieces.clone().into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece.into())));
            let body = Compressed::new(StreamBody::new(futures::stream::iter(frames)), coding);
            let bytes = body.collect().now_or_never().unwrap().unwrap().to_bytes();
            prop_assert_eq!(decode(coding.as_str(), &bytes).unwrap(), pieces.concat());
        }

        #[test]
        fn no_accept_encoding_is_too_strange(accept in "[ -~]{0,60}") {
            negotiate(&Compression::on(), &request(&accept));
        }
    }
}
