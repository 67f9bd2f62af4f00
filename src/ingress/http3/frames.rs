//! The frames of a stream, before h3 sees them.
//!
//! h3 0.0.8 keeps a frame in memory until it is whole, however long it says it is; it takes a body that ends in the middle of a
//! frame for one that is complete; and it takes an empty DATA frame for the end of the body. So frames pass through here, which
//! * bounds those that are kept: field sections by the limit of heads, and what control streams carry;
//! * takes out those that mean nothing: of unknown types (RFC 9114 §9), and empty DATA;
//! * ends the connection when a stream ends within a frame (RFC 9114 §7.1), or has one that does not belong there (§7.2).
//!
//! Of a frame's payload nothing is copied and nothing kept.

use std::ops::ControlFlow;

use bytes::{Buf as _, Bytes};
use h3::error::Code;

// RFC 9114 section 11.2.1. Those that HTTP/2 alone has are reserved.
const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const SETTINGS: u64 = 0x04;
const PUSH_PROMISE: u64 = 0x05;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;
const RESERVED: [u64; 4] = [0x02, 0x06, 0x08, 0x09];
/// What WebTransport begins a stream with, which has no length and so is no frame.
const WEBTRANSPORT: u64 = 0x41;

/// The type of the unidirectional stream that has frames (RFC 9114 section 6.2.1).
const CONTROL: u64 = 0x00;

/// The longest frame on a control stream: dozens of settings.
const CONTROL_FRAME: u64 = 1024;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A field section is longer than the limit of heads. That is about the request alone.
    HeadTooLarge,
    /// The connection is to be closed with this.
    Connection(Code, &'static str),
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A request.
    Request,
    /// Unidirectional, its type not read yet.
    Untyped,
    /// The client's control stream.
    Control,
    /// Something else, which is not looked at: QPACK's instructions, of which a table of no size has none, and streams of types
    /// that h3 asks the client to stop.
    Other,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Frames {
    kind: Kind,
    /// The most bytes of a field section.
    head: u64,
    /// What is left of a frame's payload.
    payload: u64,
    /// Whether the payload is for h3.
    wanted: bool,
    /// The beginning of a frame's type and length.
    partial: Vec<u8>,
    /// What was received and not looked at.
    received: Bytes,
}

impl Frames {
    /// Those of a request, whose head and trailers have up to `head` bytes each, encoded.
    pub(super) fn of_request(head: u64) -> Self {
        Self::new(Kind::Request, head)
    }

    /// Those of a unidirectional stream.
    pub(super) fn unidirectional() -> Self {
        Self::new(Kind::Untyped, 0)
    }

    fn new(kind: Kind, head: u64) -> Self {
        Self {
            kind,
            head,
            payload: 0,
            wanted: false,
            partial: Vec::new(),
            received: Bytes::new(),
        }
    }

    /// Takes what was received, when [`next`](Self::next) has given everything before.
    pub(super) fn receive(&mut self, bytes: Bytes) {
        debug_assert!(self.received.is_empty(), "what was received is taken first");
        self.received = bytes;
    }

    /// The next piece for h3, which is never empty.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.received.is_empty() {
            if self.kind == Kind::Other {
                return Ok(Some(std::mem::take(&mut self.received)));
            }
            if self.payload > 0 {
                let length = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let piece = self.received.split_to(length.min(self.received.len()));
                self.payload -= piece.len() as u64;
                if self.wanted {
                    return Ok(Some(piece));
                }
                continue;
            }
            if let ControlFlow::Break(piece) = self.begin()? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// What it means that the stream ends here.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.payload == 0 && self.partial.is_empty() {
            return Ok(());
        }
        if self.kind == Kind::Untyped {
            // RFC 9114 section 6.2: to be tolerated.
            return Ok(());
        }
        Err(Fault::Connection(
            Code::H3_FRAME_ERROR,
            "the stream ended within a frame",
        ))
    }

    /// Reads the type and length of a frame, or the type of the stream. What is to be handed on of it is the answer.
    fn begin(&mut self) -> Result<ControlFlow<Bytes>, Fault> {
        // Nearly always the whole of it is there, and then it is not copied.
        let fresh = self.partial.is_empty();
        let header = match fresh {
            true => Header::read(&self.received, self.kind),
            false => {
                self.partial.push(self.received.get_u8());
                Header::read(&self.partial, self.kind)
            }
        };
        let Some(header) = header else {
            if fresh {
                self.partial = self.received.to_vec();
                self.received.clear();
            }
            return Ok(ControlFlow::Continue(()));
        };
        let bytes = match fresh {
            true => self.received.split_to(header.size),
            false => Bytes::from(std::mem::take(&mut self.partial)),
        };
        if self.kind == Kind::Untyped {
            self.kind = match header.r#type {
                CONTROL => Kind::Control,
                _ => Kind::Other,
            };
            return Ok(ControlFlow::Break(bytes));
        }
        self.wanted = self.wants(header)?;
        self.payload = header.length;
        Ok(match self.wanted {
            true => ControlFlow::Break(bytes),
            false => ControlFlow::Continue(()),
        })
    }

    /// Whether a frame is for h3.
    fn wants(&self, Header { r#type, length, .. }: Header) -> Result<bool, Fault> {
        let unexpected = Err(Fault::Connection(
            Code::H3_FRAME_UNEXPECTED,
            "a frame that does not belong here",
        ));
        match (self.kind, r#type) {
            (Kind::Request, DATA) => Ok(length > 0),
            (Kind::Request, HEADERS) if length > self.head => Err(Fault::HeadTooLarge),
            (Kind::Request, HEADERS) => Ok(true),
            (
                Kind::Request,
                CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID | WEBTRANSPORT,
            ) => unexpected,
            (_, DATA | HEADERS | PUSH_PROMISE) => unexpected,
            (_, CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID) if length > CONTROL_FRAME => {
                Err(Fault::Connection(
                    Code::H3_EXCESSIVE_LOAD,
                    "a frame on the control stream is too long",
                ))
            }
            (_, CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID) => Ok(true),
            (_, reserved) if RESERVED.contains(&reserved) => unexpected,
            (_, _unknown) => Ok(false),
        }
    }
}

/// How a frame begins, or, of a length that is nothing, a unidirectional stream.
#[derive(Debug, Clone, Copy)]
struct Header {
    r#type: u64,
    length: u64,
    /// The bytes that say so.
    size: usize,
}

impl Header {
    fn read(bytes: &[u8], kind: Kind) -> Option<Self> {
        let (r#type, size) = integer(bytes)?;
        if kind == Kind::Untyped {
            return Some(Self {
                r#type,
                length: 0,
                size,
            });
        }
        let (length, more) = integer(&bytes[size..])?;
        Some(Self {
            r#type,
            length,
            size: size + more,
        })
    }
}

/// A variable-length integer, and of how many bytes it is (RFC 9000 section 16).
fn integer(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let size = 1 << (first >> 6);
    let rest = bytes.get(1..size)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What h3 gets of a stream that comes in pieces of this size, and how it ends.
    fn passed(frames: &mut Frames, bytes: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
        let mut passed = Vec::new();
        for piece in bytes.chunks(size) {
            frames.receive(Bytes::copy_from_slice(piece));
            while let Some(piece) = frames.next()? {
                assert!(!piece.is_empty());
                passed.extend_from_slice(&piece);
            }
        }
        frames.end()?;
        Ok(passed)
    }

    fn frame(r#type: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        for value in [r#type, payload.len() as u64] {
            // Always in the longest form, which is as good as the shortest.
            frame.extend_from_slice(&(value | 0xc0 << 56).to_be_bytes());
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn integers_are_as_in_the_standard() {
        // RFC 9000, appendix A.1.
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(integer(bytes), Some((value, bytes.len())));
            assert_eq!(integer(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn what_means_nothing_is_taken_out() {
        let wanted = [frame(HEADERS, b"head"), frame(DATA, b"body")].concat();
        let sent = [
            frame(0x21, b"grease"),
            frame(HEADERS, b"head"),
            frame(DATA, b""),
            frame(0x40 + 0x1f, b""),
            frame(DATA, b"body"),
            frame(0xf_0700, b"priority"),
        ]
        .concat();
        for size in 1..sent.len() {
            let got = passed(&mut Frames::of_request(100), &sent, size);
            assert_eq!(got.unwrap(), wanted);
        }
    }

    #[test]
    fn what_does_not_belong_on_a_stream_ends_the_connection() {
        let request = || Frames::of_request(10);
        let control = || {
            let mut frames = Frames::unidirectional();
            assert_eq!(passed(&mut frames, &[0], 1).unwrap(), [0]);
            frames
        };
        let code = |mut frames: Frames, bytes: &[u8]| match passed(&mut frames, bytes, 3) {
            Err(Fault::Connection(code, _)) => Some(code),
            Err(Fault::HeadTooLarge) | Ok(_) => None,
        };
        for unexpected in [SETTINGS, GOAWAY, PUSH_PROMISE, WEBTRANSPORT, 0x02, 0x09] {
            let code = code(request(), &frame(unexpected, b"x"));
            assert_eq!(code, Some(Code::H3_FRAME_UNEXPECTED), "{unexpected:#x}");
        }
        for unexpected in [DATA, HEADERS, PUSH_PROMISE, 0x06, 0x08] {
            let code = code(control(), &frame(unexpected, b"x"));
            assert_eq!(code, Some(Code::H3_FRAME_UNEXPECTED), "{unexpected:#x}");
        }
        for expected in [SETTINGS, GOAWAY, MAX_PUSH_ID, CANCEL_PUSH, 0xf_0700] {
            assert_eq!(code(control(), &frame(expected, b"x")), None);
            let endless = &frame(expected, &[0; 2000])[..16];
            let longest = code(control(), endless);
            let known = expected != 0xf_0700;
            let wanted = match known {
                true => Code::H3_EXCESSIVE_LOAD,
                false => Code::H3_FRAME_ERROR,
            };
            assert_eq!(longest, Some(wanted));
        }
        let whole = frame(DATA, b"body");
        for length in 1..whole.len() {
            let code = code(request(), &whole[..length]);
            assert_eq!(code, Some(Code::H3_FRAME_ERROR));
        }
    }

    #[test]
    fn a_head_is_bounded_before_it_came() {
        let mut frames = Frames::of_request(10);
        let endless = &frame(HEADERS, &[0; 11])[..16];
        assert_eq!(passed(&mut frames, endless, 16), Err(Fault::HeadTooLarge));
        let mut frames = Frames::of_request(10);
        assert!(passed(&mut frames, &frame(HEADERS, &[0; 10]), 16).is_ok());
    }

    #[test]
    fn streams_of_other_types_pass_as_they_are() {
        for r#type in [1, 2, 3, 0x54] {
            let sent = [&[r#type][..], b"\x00\xffanything"].concat();
            let got = passed(&mut Frames::unidirectional(), &sent, 2);
            // 0x54 is the beginning of a longer type.
            assert_eq!(got.unwrap(), sent);
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let whole = passed(&mut Frames::of_request(50), &bytes, 1000);
            let pieces = passed(&mut Frames::of_request(50), &bytes, size);
            prop_assert_eq!(whole, pieces);
        }
    }
}
