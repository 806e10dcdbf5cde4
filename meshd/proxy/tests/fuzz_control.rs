//! Properties of the control frames and of certificate reading on generated input; see `fuzz_http1.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use meshd_proxy::config::Resource;
use meshd_proxy::config::frames::ToProxy;
use meshd_proxy::control::{FrameDecoder, Holder};
use meshd_proxy::spiffe::{Spiffe, read_leaf};

/// All frames of a stream that arrives in pieces, and whether it broke.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(json)) => frames.push(json.to_vec()),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[test]
fn frames_are_the_same_however_they_arrive() {
    bolero::check!().with_type::<(Vec<Vec<u8>>, u8, Vec<u8>)>().for_each(|(bodies, size, tail)| {
        let mut stream = Vec::new();
        for body in bodies {
            stream.extend_from_slice(&(body.len() as u32).to_be_bytes());
            stream.extend_from_slice(body);
        }
        stream.extend_from_slice(tail);
        let whole = decode(std::iter::once(stream.as_slice()));
        assert_eq!(decode(stream.chunks(usize::from(*size).max(1))), whole);
        assert!(whole.0.len() >= bodies.len() && whole.0.iter().zip(bodies).all(|(a, b)| a == b));
    });
}

#[test]
fn frames_and_resources_never_panic_and_never_half_apply() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"type\"",
        "\"update\"",
        "\"put\"",
        "\"kind\"",
        "\"routes\"",
        "\"name\"",
        "\"api\"",
        "\"rules\"",
        "\"origin\"",
        "\"legs\"",
        "\"service\"",
        "\"match\"",
        "\"path_regex\"",
        "\"(a*)*\"",
        "1",
        "true",
        "null",
        "\"delete\"",
        "\"full\"",
        "{\"kind\":\"routes\",\"name\":\"api\",\"rules\":[]}",
        "{\"kind\":\"service\",\"name\":\"a\"}",
        "{\"type\":\"update\",\"update\":1,\"put\":[",
        "]}",
    ];
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes: &Vec<u8>| {
        let text: String = bytes.iter().map(|b| pieces[usize::from(*b) % pieces.len()]).collect();
        let _ = Resource::parse(&text);
        let Ok(ToProxy::Update(update)) = ToProxy::parse(text.as_bytes()) else { return };
        let mut holder = Holder::default();
        match holder.prepare(&update) {
            Ok(candidate) => {
                holder.commit(candidate);
                assert_eq!(holder.holds().len(), holder.dump().len());
            }
            Err(rejected) => assert!(holder.is_empty() && rejected.update == update.update),
        }
    });
}

#[test]
fn certificates_and_names_never_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        assert!(read_leaf(bytes).is_err());
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok(name) = Spiffe::parse(text)
        {
            assert_eq!(name.as_str(), text);
        }
    });
}
