//! What of HTTP/1.1's framing is refused although hyper takes it.
//!
//! RFC 9112 leaves it to a server whether a request may have both `Content-Length` and `Transfer-Encoding` (§6.3), and whether a
//! line of a head may end in a bare LF (§2.2). hyper takes both and does not tell. What stands before this node and reads such a
//! request otherwise sees other requests in it than the node does, so they are refused: instead of the LF that ends the line at fault,
//! hyper reads [`MALFORMED`], and its 400 and the end of the connection are the answer.
//!
//! To know what is a head, [`Framing`] follows lengths and chunks. It refuses and never permits: where a request ends is for
//! hyper to say, and what hyper refuses too is not looked at further.

use memchr::memchr;

/// The end of a head or of trailers that nobody takes, whatever stands before it in its line (RFC 9110 §5.5). hyper looks at a head
/// that comes in pieces when it sees its end.
pub(super) const MALFORMED: &[u8] = b"\0\r\n\r\n";

/// Where the bytes of one HTTP/1.1 connection have come to; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Framing {
    place: Place,
    /// What came of a line whose end did not. hyper reads no further than its own limits for a head and for chunks, and what
    /// nobody reads is not shown to this.
    begun: Vec<u8>,
    head: Head,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// The request line or a field.
    #[default]
    Head,
    /// So many bytes of content.
    Content(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// So many bytes of a chunk, its CRLF among them.
    Chunk(u64),
    /// The fields after the last chunk.
    Trailers,
    /// What hyper does not read: it refuses what came before.
    Refused,
}

/// What the head has said so far.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    is_coded: bool,
    is_upgrade: bool,
}

impl Framing {
    /// Whether the last head that came asks for another protocol, so that what comes next may be that one's.
    pub(super) fn may_switch(&self) -> bool {
        self.head.is_upgrade && !self.head.has_begun
    }

    /// Looks at the next bytes of the connection. If hyper must not take them, how many of them it may is the answer, after which
    /// it is to read [`MALFORMED`].
    pub(super) fn fault(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match &mut self.place {
                Place::Content(left) | Place::Chunk(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let taken = rest.len().min(most);
                    *left -= taken as u64;
                    if *left == 0 {
                        self.place = self.place.after();
                    }
                    passed += taken;
                }
                Place::Head | Place::ChunkSize | Place::Trailers => {
                    let Some(end) = memchr(b'\n', rest) else {
                        self.begun.extend_from_slice(rest);
                        return None;
                    };
                    let next = if self.begun.is_empty() {
                        self.line(&rest[..end])
                    } else {
                        let mut line = std::mem::take(&mut self.begun);
                        line.extend_from_slice(&rest[..end]);
                        self.line(&line)
                    };
                    self.place = next.unwrap_or(Place::Refused);
                    if next.is_none() {
                        return Some(passed + end);
                    }
                    passed += end + 1;
                }
                Place::Refused => return None,
            }
        }
        None
    }

    /// What follows a line, which is given up to its LF; nothing if hyper must not take it.
    fn line(&mut self, line: &[u8]) -> Option<Place> {
        if self.place == Place::ChunkSize {
            return Some(chunk(line));
        }
        let line = line.strip_suffix(b"\r")?;
        match self.place {
            Place::Head if line.is_empty() => Some(self.content()),
            Place::Head => self.field(line),
            Place::Trailers if !line.is_empty() => Some(Place::Trailers),
            place => Some(place.after()),
        }
    }

    /// The request line, which says nothing that matters here, or a field.
    fn field(&mut self, line: &[u8]) -> Option<Place> {
        if !self.head.has_begun {
            self.head = Head {
                has_begun: true,
                ..Head::default()
            };
            return Some(Place::Head);
        }
        // The names that matter begin with C, T or U; most others are not compared.
        if !matches!(line[0] | 0x20, b'c' | b't' | b'u') {
            return Some(Place::Head);
        }
        let Some(colon) = memchr(b':', line) else {
            return Some(Place::Refused);
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            self.head.length = Some(decimal(value.trim_ascii())?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.is_coded = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.head.is_upgrade = true;
        }
        let has_two_ends = self.head.is_coded && self.head.length.is_some();
        (!has_two_ends).then_some(Place::Head)
    }

    /// What follows a head. An empty line before one is no head (RFC 9112 §2.2).
    fn content(&mut self) -> Place {
        if !self.head.has_begun {
            return Place::Head;
        }
        self.head.has_begun = false;
        match self.head.length {
            _ if self.head.is_coded => Place::ChunkSize,
            None | Some(0) => Place::Head,
            Some(length) => Place::Content(length),
        }
    }
}

impl Place {
    /// What follows the end of this.
    fn after(self) -> Self {
        match self {
            Self::Chunk(_) => Self::ChunkSize,
            _ => Self::Head,
        }
    }
}

/// What follows the line with a chunk's size (RFC 9112 §7.1). hyper takes neither a bare LF in it nor another size than this.
fn chunk(line: &[u8]) -> Place {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = str::from_utf8(&line[..digits.count()]).unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(0) => Place::Trailers,
        Ok(size) => size.checked_add(2).map_or(Place::Refused, Place::Chunk),
        Err(_) => Place::Refused,
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    let value = str::from_utf8(value).ok()?;
    value.parse().ok().filter(|_| !value.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The last LF is at fault.
    const FAULTY: &[&str] = &[
        "GET / HTTP/1.1\n",
        "\n",
        "\r\n\n",
        "GET / HTTP/1.1\r\nhost: h\n",
        "GET / HTTP/1.1\r\nhost: h\r\n\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\na: b\r\ncontent-length: 3\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: identity\r\ncontent-length: 0\r\n",
        "POST / HTTP/1.1\r\ncontent-length: x\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +3\r\n",
        "POST / HTTP/1.1\r\ncontent-length:\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\n",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\n",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET / HTTP/1.1\n",
    ];

    const TAKEN: &[&str] = &[
        "",
        "\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 8\r\n\r\na\nb\r\nc\n\n",
        "POST / HTTP/1.1\r\ncontent-length:3\r\nContent-Length:  3 \r\n\r\n\n\n\nGET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n\n\n\n\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\n",
        // What one head said is not the next one's.
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n\n",
        // What hyper refuses by itself, and nothing after it is looked at.
        "POST / HTTP/1.1\r\ncontent-length\r\n\r\n\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a\nb\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n\n",
    ];

    /// Where the fault is in these bytes, which come in pieces of these lengths and a last one.
    fn fault(text: &str, lengths: &[usize]) -> Option<usize> {
        let mut framing = Framing::default();
        let mut rest = text.as_bytes();
        let mut before = 0;
        for length in lengths.iter().copied().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            if let Some(passed) = framing.fault(piece) {
                return Some(before + passed);
            }
            before += piece.len();
            rest = after;
        }
        None
    }

    #[test]
    fn the_line_with_the_fault_is_the_end() {
        for text in FAULTY {
            assert_eq!(fault(text, &[]), Some(text.len() - 1), "{text:?}");
            let more = format!("{text}\n\nPOST / HTTP/1.1\n");
            assert_eq!(fault(&more, &[]), Some(text.len() - 1), "{text:?}");
        }
        for text in TAKEN {
            assert_eq!(fault(text, &[]), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_the_bytes_come(
            text in prop_oneof![
                prop::sample::select([FAULTY, TAKEN].concat()).prop_map(str::to_owned),
                "(POST / HTTP/1\\.1|content-length: 1?|transfer-encoding: chunked|1|0|a: b|\r\n|\n|\r\n\r\n){0,12}",
            ],
            lengths in prop::collection::vec(0_usize..20, 0..20),
        ) {
            prop_assert_eq!(fault(&text, &lengths), fault(&text, &[]));
        }
    }
}
