//! The handshake: mutual challenge and response with keyed BLAKE3. Messages and checks, no I/O.
//!
//! The one who connects proves itself first, so that nobody can collect proofs from an open port.

use bytes::{Buf, Bytes};
use rondo_ring::NodeId;
use subtle::ConstantTimeEq;

use super::identity::{Identity, Secret};
use super::refusal::{Cause, Refused};

/// Version of the peer protocol: of the handshake and of all that follows it.
pub const PROTOCOL_VERSION: u8 = 1;
/// Most bytes of a handshake message: what is read before the proof.
pub(super) const MESSAGE_BYTES_MAX: usize = 256;
const MAGIC: [u8; 4] = *b"RNDP";
const NONCE_BYTES: usize = 32;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Purpose {
    Control = 0,
    Operations = 1,
}

/// First message: who connects, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) purpose: Purpose,
    pub(super) node: NodeId,
    pub(super) cluster: Option<u128>,
    pub(super) expects: Option<NodeId>,
    nonce: [u8; NONCE_BYTES],
}

/// Its answer: who is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) node: NodeId,
    cluster: Option<u128>,
    nonce: [u8; NONCE_BYTES],
}

/// Which end a proof comes from: a proof cannot be sent back to where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Connecting,
    Accepting,
}

impl Hello {
    pub(super) fn new(identity: &Identity, purpose: Purpose, expects: Option<NodeId>, nonce: [u8; 32]) -> Self {
        Self { purpose, node: identity.node(), cluster: identity.cluster(), expects, nonce }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = begin();
        out.push(self.purpose as u8);
        put_side(&mut out, self.node, self.cluster);
        put_option(&mut out, self.expects.map(|node| node.0));
        out.extend_from_slice(&self.nonce);
        out.into()
    }

    pub(super) fn decode(input: &mut Bytes) -> Result<Self, Cause> {
        check_version(input)?;
        let purpose = match input.try_get_u8().map_err(malformed)? {
            0 => Purpose::Control,
            1 => Purpose::Operations,
            _ => return Err(Cause::Malformed),
        };
        let (node, cluster) = take_side(input)?;
        let expects = take_option(input)?.map(NodeId);
        Ok(Self { purpose, node, cluster, expects, nonce: take_last(input)? })
    }

    /// The accepting side's checks, and its challenge.
    pub(super) fn answer(&self, identity: &Identity, nonce: [u8; 32]) -> Result<Challenge, Refused> {
        let refused = |cause| Refused { cause, node: Some(self.node) };
        if self.expects.is_some_and(|node| node != identity.node()) {
            return Err(refused(Cause::WrongNode));
        }
        let cluster = identity.cluster();
        check_clusters(self.purpose, self.cluster, cluster).map_err(refused)?;
        Ok(Challenge { node: identity.node(), cluster, nonce })
    }

    /// The connecting side's checks of what came back.
    pub(super) fn check(&self, challenge: &Challenge) -> Result<(), Refused> {
        let refused = |cause| Refused { cause, node: Some(challenge.node) };
        if self.expects.is_some_and(|node| node != challenge.node) {
            return Err(refused(Cause::WrongNode));
        }
        check_clusters(self.purpose, self.cluster, challenge.cluster).map_err(refused)
    }
}

impl Challenge {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = begin();
        put_side(&mut out, self.node, self.cluster);
        out.extend_from_slice(&self.nonce);
        out.into()
    }

    pub(super) fn decode(input: &mut Bytes) -> Result<Self, Cause> {
        check_version(input)?;
        let (node, cluster) = take_side(input)?;
        Ok(Self { node, cluster, nonce: take_last(input)? })
    }
}

/// Proof of the secret: over both messages as they travelled, so over ids, clusters, purpose and both nonces.
pub(super) fn proof(secret: &Secret, end: End, hello: &[u8], challenge: &[u8]) -> [u8; blake3::OUT_LEN] {
    let mut hasher = blake3::Hasher::new_keyed(secret.key());
    hasher.update(match end {
        End::Connecting => b"connecting",
        End::Accepting => b"accepting ",
    });
    hasher.update(&(hello.len() as u64).to_le_bytes()).update(hello).update(challenge);
    *hasher.finalize().as_bytes()
}

/// Whether a proof is the one expected. Takes the same time wherever they differ.
pub(super) fn proves(given: &[u8], expected: &[u8; blake3::OUT_LEN]) -> bool {
    given.ct_eq(expected).into()
}

/// Different clusters never talk; a node in none may use control messages, by which it finds or forms one.
fn check_clusters(purpose: Purpose, one: Option<u128>, other: Option<u128>) -> Result<(), Cause> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(Cause::OtherCluster),
        (Some(_), Some(_)) => Ok(()),
        _ if purpose == Purpose::Control => Ok(()),
        _ => Err(Cause::NotMember),
    }
}

/// A refusal as the other side is told of it.
pub(super) fn encode_refusal(cause: Cause, node: NodeId) -> Bytes {
    let mut out = begin();
    out.push(cause as u8);
    out.extend_from_slice(&node.0.to_le_bytes());
    out.into()
}

/// Of any version: the reason must come across even where nothing else does.
pub(super) fn decode_refusal(mut input: Bytes) -> Option<Refused> {
    if input.len() < 22 || input[..4] != MAGIC {
        return None;
    }
    input.advance(5);
    let cause = Cause::from_code(input.get_u8())?;
    Some(Refused { cause, node: Some(NodeId(input.get_u128_le())) })
}

fn begin() -> Vec<u8> {
    let mut out = Vec::with_capacity(MESSAGE_BYTES_MAX);
    out.extend_from_slice(&MAGIC);
    out.push(PROTOCOL_VERSION);
    out
}

fn check_version(input: &mut Bytes) -> Result<(), Cause> {
    if input.len() < 5 || input.split_to(4) != MAGIC[..] {
        return Err(Cause::Malformed);
    }
    if input.get_u8() == PROTOCOL_VERSION { Ok(()) } else { Err(Cause::Version) }
}

fn put_side(out: &mut Vec<u8>, node: NodeId, cluster: Option<u128>) {
    out.extend_from_slice(&node.0.to_le_bytes());
    put_option(out, cluster);
}

fn take_side(input: &mut Bytes) -> Result<(NodeId, Option<u128>), Cause> {
    let node = NodeId(input.try_get_u128_le().map_err(malformed)?);
    Ok((node, take_option(input)?))
}

fn put_option(out: &mut Vec<u8>, value: Option<u128>) {
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(&value.unwrap_or_default().to_le_bytes());
}

fn take_option(input: &mut Bytes) -> Result<Option<u128>, Cause> {
    let some = input.try_get_u8().map_err(malformed)?;
    let value = input.try_get_u128_le().map_err(malformed)?;
    match some {
        0 if value == 0 => Ok(None),
        1 => Ok(Some(value)),
        _ => Err(Cause::Malformed),
    }
}

/// The nonce, and nothing after it.
fn take_last(input: &mut Bytes) -> Result<[u8; NONCE_BYTES], Cause> {
    <[u8; NONCE_BYTES]>::try_from(&input[..]).map_err(|_| Cause::Malformed)
}

fn malformed(_: bytes::TryGetError) -> Cause {
    Cause::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: u128, secret: &[u8], cluster: Option<u128>) -> Identity {
        let identity = Identity::new(NodeId(node), Secret::new(secret));
        if let Some(cluster) = cluster {
            identity.set_cluster(cluster);
        }
        identity
    }

    fn hello(purpose: Purpose, cluster: Option<u128>, expects: Option<u128>) -> Hello {
        Hello::new(&identity(1, b"s", cluster), purpose, expects.map(NodeId), [5; 32])
    }

    #[test]
    fn messages_come_back_as_they_were_and_are_small() {
        let hello = hello(Purpose::Operations, Some(9), Some(2));
        let bytes = hello.encode();
        assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(Hello::decode(&mut bytes.clone()), Ok(hello.clone()));
        let challenge = hello.answer(&identity(2, b"s", Some(9)), [6; 32]).unwrap();
        assert_eq!(Challenge::decode(&mut challenge.encode()), Ok(challenge.clone()));
        assert_eq!(hello.check(&challenge), Ok(()));
        for len in 0..bytes.len() {
            assert_eq!(Hello::decode(&mut bytes.slice(..len)), Err(Cause::Malformed));
        }
    }

    #[test]
    fn another_version_is_recognised_whatever_follows() {
        let mut newer = b"RNDP".to_vec();
        newer.extend_from_slice(&[PROTOCOL_VERSION + 1, 1, 2, 3]);
        assert_eq!(Hello::decode(&mut newer.into()), Err(Cause::Version));
    }

    #[test]
    fn both_sides_refuse_another_node_and_another_cluster() {
        let here = identity(2, b"s", Some(9));
        let cause = |hello: Hello| hello.answer(&here, [0; 32]).map(drop).map_err(|refused| refused.cause);
        assert_eq!(cause(hello(Purpose::Operations, Some(9), Some(3))), Err(Cause::WrongNode));
        assert_eq!(cause(hello(Purpose::Control, Some(8), None)), Err(Cause::OtherCluster));
        assert_eq!(cause(hello(Purpose::Operations, None, Some(2))), Err(Cause::NotMember));
        assert_eq!(cause(hello(Purpose::Control, None, Some(2))), Ok(()));

        let challenge = hello(Purpose::Control, None, None).answer(&here, [0; 32]).unwrap();
        let cause = |hello: Hello| hello.check(&challenge).map_err(|refused| refused.cause);
        assert_eq!(cause(hello(Purpose::Control, Some(9), Some(3))), Err(Cause::WrongNode));
        assert_eq!(cause(hello(Purpose::Control, Some(8), Some(2))), Err(Cause::OtherCluster));
        assert_eq!(cause(hello(Purpose::Operations, None, Some(2))), Err(Cause::NotMember));
    }

    #[test]
    fn a_proof_depends_on_secret_end_and_both_messages() {
        let (secret, other) = (Secret::new(b"s"), Secret::new(b"t"));
        let good = proof(&secret, End::Connecting, b"hello", b"challenge");
        assert!(proves(&good, &proof(&secret, End::Connecting, b"hello", b"challenge")));
        assert!(!proves(&good, &proof(&other, End::Connecting, b"hello", b"challenge")));
        assert!(!proves(&good, &proof(&secret, End::Accepting, b"hello", b"challenge")));
        assert!(!proves(&good, &proof(&secret, End::Connecting, b"helloc", b"hallenge")));
        assert!(!proves(&good[..31], &good));
        assert!(!proves(b"", &good));
    }

    #[test]
    fn refusals_come_across() {
        for cause in Cause::ALL {
            let refused = decode_refusal(encode_refusal(cause, NodeId(4)));
            assert_eq!(refused, Some(Refused { cause, node: Some(NodeId(4)) }));
        }
        assert_eq!(decode_refusal(Bytes::from_static(b"<html>nginx is not a peer</html>")), None);
    }
}
