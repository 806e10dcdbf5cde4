//! Names, and a zoo of leaf certificates built byte by byte (their signatures are webpki's matter).

use super::der::{Reader, time};
use super::{Leaf, MAX_URI, Refusal, Spiffe, read_leaf};

const NAME: &str = "spiffe://td/svc/web/n/a/i/web-1";

#[test]
fn names_are_read_exactly() {
    let name = Spiffe::parse(NAME).unwrap();
    assert_eq!((name.trust_domain(), name.service(), name.node(), name.id()), ("td", Some("web"), "a", Some("web-1")));
    assert!(name.is_instance("web/a/web-1") && !name.is_instance("web/a/web-1/x") && !name.is_instance("web/a"));
    let role = Spiffe::parse("spiffe://mesh.local/role/ca/a").unwrap();
    assert_eq!((role.role(), role.node(), role.service()), (Some("ca"), "a", None));
    assert_eq!(Spiffe::parse("spiffe://td/node/a").unwrap().node(), "a");
}

const BAD_NAMES: [&str; 27] = [
    "",
    "http://td/svc/web/n/a/i/1",
    "SPIFFE://td/svc/web/n/a/i/1",
    "spiffe://td",
    "spiffe://td/",
    "spiffe:///svc/web/n/a/i/1",
    "spiffe://TD/svc/web/n/a/i/1",
    "spiffe://td:80/svc/web/n/a/i/1",
    "spiffe://u@td/svc/web/n/a/i/1",
    "spiffe://td/svc/web/n/a/i/1/",
    "spiffe://td//svc/web/n/a/i/1",
    "spiffe://td/svc/web/n/a/i/1?x",
    "spiffe://td/svc/web/n/a/i/1#x",
    "spiffe://td/svc/we%62/n/a/i/1",
    "spiffe://td/svc/../n/a/i/1",
    "spiffe://td/svc/./n/a/i/1",
    "spiffe://td/svc/we b/n/a/i/1",
    "spiffe://td/svc/we\r\nb/n/a/i/1",
    "spiffe://td/svc/we\0b/n/a/i/1",
    "spiffe://td/svc/w\u{e9}b/n/a/i/1",
    "spiffe://td/svc/web/n/a/i",
    "spiffe://td/svc/web/n/a/i/1/x/2",
    "spiffe://td/svc/web/node/a/i/1",
    "spiffe://td/ns/x/sa/y",
    "spiffe://td/node",
    "spiffe://td/role/ca",
    "spiffe://t%64/node/a",
];

#[test]
fn class_15_names_that_are_not_ours_are_refused() {
    for name in BAD_NAMES {
        assert!(Spiffe::parse(name).is_err(), "{name:?}");
    }
    let long = |n: usize| format!("spiffe://td/node/{}", "a".repeat(n - "spiffe://td/node/".len()));
    assert!(Spiffe::parse(&long(MAX_URI)).is_ok());
    assert!(Spiffe::parse(&long(MAX_URI + 1)).is_err());
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(6, oid), &tlv(4, value)])
}

fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let inner: Vec<u8> = list.iter().flat_map(|(tag, text)| tlv(*tag, text)).collect();
    extension(&[0x55, 0x1d, 0x11], &tlv(0x30, &inner))
}

fn usages(list: &[u8]) -> Vec<u8> {
    let inner: Vec<u8> = list.iter().flat_map(|last| tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, *last])).collect();
    extension(&[0x55, 0x1d, 0x25], &tlv(0x30, &inner))
}

fn constraints(content: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x13], &tlv(0x30, content))
}

fn key_usage(bits: u8) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x0f], &[3, 2, 1, bits])
}

/// What every good leaf has besides its names: it signs, both ways, and is no CA.
fn rest() -> Vec<u8> {
    [key_usage(0x80), usages(&[1, 2]), constraints(&[])].concat()
}

fn p256() -> Vec<u8> {
    let algorithm = [tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])];
    sequence(&[&tlv(0x30, &algorithm.concat()), &tlv(3, &[0, 4])])
}

fn certificate(extensions: &[Vec<u8>]) -> Vec<u8> {
    with_key(&p256(), extensions)
}

fn with_key(key: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let empty = sequence(&[]);
    let validity = sequence(&[&tlv(0x17, b"261123000000Z"), &tlv(0x18, b"20500101000000Z")]);
    let list = tlv(0xa3, &tlv(0x30, &extensions.concat()));
    let parts: [&[u8]; 8] =
        [&tlv(0xa0, &tlv(2, &[2])), &tlv(2, &[0, 0xab, 0x01]), &empty, &empty, &validity, &empty, key, &list];
    sequence(&[&sequence(&parts), &empty, &tlv(3, &[0])])
}

fn read(extensions: &[Vec<u8>]) -> Result<Leaf, Refusal> {
    read_leaf(&certificate(extensions))
}

#[test]
fn a_good_leaf_is_read() {
    let leaf = read(&[names(&[(0x86, NAME.as_bytes())]), rest()]).unwrap();
    assert_eq!(leaf.spiffe.as_str(), NAME);
    assert_eq!(&*leaf.serial, "ab01");
    assert_eq!((leaf.not_before_ms, leaf.not_after_ms), (1_795_392_000_000, 2_524_608_000_000));
}

#[test]
fn class_15_cve_2022_40716_leaves_with_no_or_several_or_bad_names() {
    let uri = |text: &'static str| (0x86u8, text.as_bytes());
    let both = rest;
    let good = || names(&[uri(NAME)]);
    let zoo: Vec<Vec<Vec<u8>>> = vec![
        vec![both()],
        vec![names(&[]), both()],
        vec![names(&[uri(NAME), uri("spiffe://td/node/b")]), both()],
        vec![names(&[uri(NAME), uri(NAME)]), both()],
        vec![names(&[uri(NAME), uri("http://elsewhere/")]), both()],
        vec![names(&[uri(NAME)]), names(&[uri(NAME)]), both()],
        vec![names(&[(0x82, NAME.as_bytes())]), both()],
        vec![names(&[(0x81, NAME.as_bytes())]), both()],
        vec![names(&[(0xa0, b"\x06\x01\x00\x0c\x04spif")]), both()],
        vec![names(&[(0x86, b"spiffe://td/svc/web/n/a/i/web-1\0.evil")]), both()],
        vec![names(&[(0x86, b"")]), both()],
        vec![names(&[uri(NAME), (0x82, b"peer.td")]), both()],
        vec![names(&[uri(NAME), (0x87, &[127, 0, 0, 1])]), both()],
        vec![names(&[uri("spiffe://td/role/ca/a")]), both()],
        vec![names(&[uri("spiffe://td/role/ca/a"), (0x82, b"peer.td.evil")]), both()],
        vec![good()],
        vec![good(), key_usage(0x80), constraints(&[])],
        vec![good(), key_usage(0x80), constraints(&[]), usages(&[])],
        vec![good(), key_usage(0x80), constraints(&[]), usages(&[1])],
        vec![good(), key_usage(0x80), constraints(&[]), usages(&[2])],
        vec![good(), key_usage(0x80), constraints(&[]), usages(&[3])],
        vec![good(), key_usage(0x80), constraints(&[]), usages(&[1, 2]), usages(&[1, 2])],
        vec![good(), key_usage(0x80), usages(&[1, 2])],
        vec![good(), key_usage(0x80), usages(&[1, 2]), constraints(&[1, 1, 0xff])],
        vec![good(), key_usage(0x80), usages(&[1, 2]), constraints(&[1, 1, 1])],
        vec![good(), both(), constraints(&[])],
        vec![good(), usages(&[1, 2]), constraints(&[])],
        vec![good(), usages(&[1, 2]), constraints(&[]), key_usage(0x08)],
        vec![good(), usages(&[1, 2]), constraints(&[]), key_usage(0x86)],
        vec![good(), both(), key_usage(0)],
    ];
    for (i, extensions) in zoo.iter().enumerate() {
        assert!(read(extensions).is_err(), "leaf {i}");
    }
    for name in BAD_NAMES {
        assert!(read(&[names(&[(0x86, name.as_bytes())]), both()]).is_err(), "{name:?}");
    }
    let long = format!("spiffe://td/node/{}", "a".repeat(MAX_URI));
    assert!(read(&[names(&[(0x86, long.as_bytes())]), both()]).is_err());
}

#[test]
fn class_15_only_p256_keys_speak_for_anybody_and_roles_have_their_dns_name() {
    let extensions = [names(&[(0x86, NAME.as_bytes())]), rest()];
    let ed25519 = sequence(&[&sequence(&[&tlv(6, &[0x2b, 0x65, 0x70])]), &tlv(3, &[0])]);
    assert_eq!(read_leaf(&with_key(&ed25519, &extensions)), Err(Refusal("the key is not ECDSA P-256")));
    assert!(read_leaf(&with_key(&sequence(&[]), &extensions)).is_err());
    let role = read(&[names(&[(0x86, b"spiffe://td/role/ca/a"), (0x82, b"peer.td")]), rest()]).unwrap();
    assert_eq!(role.spiffe.role(), Some("ca"));
}

#[test]
fn damaged_certificates_are_refused_without_a_panic() {
    let good = certificate(&[names(&[(0x86, NAME.as_bytes())]), rest()]);
    for end in 0..good.len() {
        assert!(read_leaf(&good[..end]).is_err(), "cut at {end}");
    }
    for at in 0..good.len() {
        for value in [0, 0x7f, 0x80, 0x84, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            // Some bytes may change (serial, times): only the identity may not become another one.
            if let Ok(leaf) = read_leaf(&bad) {
                assert!(Spiffe::parse(leaf.spiffe.as_str()).is_ok());
            }
        }
    }
    assert!(read_leaf(&[good, vec![0]].concat()).is_err());
}

#[test]
fn lengths_and_times_are_read_in_one_way_only() {
    for bad in [&[0x30][..], &[0x30, 0x80], &[0x30, 0x81, 0x7f], &[0x30, 0x82, 0, 0xff], &[0x30, 0x85, 1, 1, 1, 1, 1]] {
        assert!(Reader(bad).next().is_err(), "{bad:?}");
    }
    assert_eq!(time(0x17, b"700101000000Z"), Ok(0));
    assert_eq!(time(0x18, b"20000229120000Z"), Ok(951_825_600_000));
    assert_eq!(time(0x18, b"19000101000000Z"), Ok(0));
    for bad in [&b"261123000000"[..], b"2611230000000", b"261323000000Z", b"26112300000xZ", b""] {
        assert!(time(0x17, bad).is_err(), "{bad:?}");
    }
}

/// A root certificate (base64), valid for a century, whose key was thrown away.
pub(crate) fn root() -> &'static str {
    ROOT
}

const ROOT: &str = "MIIBKzCB0qADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCXRlc3Qgcm9vdDAgFw0yNjAxMDEwMDAwMDBaGA8yMTI2MDEw\
    MTAwMDAwMFowFDESMBAGA1UEAwwJdGVzdCByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEe5ooom/z9myFVlrY70SJXBDr\
    /vXT5+d8spA6rsk3HJGl0dNmo32cmEFW/Lmd3DOcz2PJwaRWNOX4j+dHoX07TaMTMBEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjO\
    PQQDAgNIADBFAiEA8kSRArkhovIoV1Vt7BW4xHG11nfayOBuoi1n2/Z32tYCIGnHbSHPtd0ngc+ilOs1nwLngI2orz9FBI8tmMsH\
    6mnG";
