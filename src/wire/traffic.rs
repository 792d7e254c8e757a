//! Traffic control over rtnetlink: a token bucket on a link, and what comes in by a link sent out by another.

use crate::netlink::{
    Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, Writer, read_u32,
};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// `tcmsg`: family, index, handle, parent, info.
const HEADER_LEN: usize = 20;
/// The handle of what is on a link itself, and of what takes in what comes.
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const FIRST_HANDLE: u32 = 0x0001_0000;

const CREATE: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

/// A token bucket, in bytes and bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub rate: u64,
    pub burst: u32,
    /// What may wait in it.
    pub limit: u32,
}

/// Lets a link send no more than a bucket gives.
pub fn add_bucket(w: &mut Writer, sequence: u32, link: u32, bucket: &Bucket) {
    w.message(RTM_NEWQDISC, CREATE, sequence, |w| {
        header(w, link, FIRST_HANDLE, ROOT, 0);
        w.str(TCA_KIND, "tbf");
        w.nest(TCA_OPTIONS, |w| {
            // Rate and peak rate of twelve bytes each, of which the last four are the rate; limit, buffer, mtu.
            let mut parameters = Vec::with_capacity(36);
            parameters.extend_from_slice(&[0; 8]);
            let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
            parameters.extend_from_slice(&rate.to_ne_bytes());
            parameters.extend_from_slice(&[0; 12]);
            parameters.extend_from_slice(&bucket.limit.to_ne_bytes());
            parameters.extend_from_slice(&[0; 8]);
            w.bytes(TCA_TBF_PARMS, &parameters);
            if bucket.rate > u64::from(u32::MAX) {
                w.bytes(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
            }
            w.u32(TCA_TBF_BURST, bucket.burst);
        });
    });
}

/// Makes the place on a link at which filters see what comes in.
pub fn add_ingress(w: &mut Writer, sequence: u32, link: u32) {
    w.message(RTM_NEWQDISC, CREATE, sequence, |w| {
        header(w, link, INGRESS_HANDLE, INGRESS, 0);
        w.str(TCA_KIND, "ingress");
    });
}

/// Has all that comes in by `link` go out by `to` first.
pub fn redirect_all(w: &mut Writer, sequence: u32, link: u32, to: u32) {
    const PRIORITY: u32 = 1 << 16;
    const ETH_P_ALL: u16 = 3;
    const TERMINAL: u8 = 1;
    const STOLEN: i32 = 4;
    const EGRESS_REDIRECT: i32 = 1;
    let info = PRIORITY | u32::from(ETH_P_ALL.to_be());
    w.message(RTM_NEWTFILTER, CREATE, sequence, |w| {
        header(w, link, 0, INGRESS_HANDLE, info);
        w.str(TCA_KIND, "u32");
        w.nest(TCA_OPTIONS, |w| {
            w.u32(TCA_U32_CLASSID, FIRST_HANDLE | 1);
            // A selector with one key, which asks for nothing: sixteen bytes each.
            let mut selector = [0; 32];
            selector[0] = TERMINAL;
            selector[2] = 1;
            w.bytes(TCA_U32_SEL, &selector);
            w.nest(TCA_U32_ACT, |w| {
                w.nest(1, |w| {
                    w.str(TCA_ACT_KIND, "mirred");
                    w.nest(TCA_ACT_OPTIONS, |w| {
                        let numbers = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to.cast_signed()];
                        let octets: Vec<u8> =
                            numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                        w.bytes(TCA_MIRRED_PARMS, &octets);
                    });
                });
            });
        });
    });
}

/// Asks for what there is on links.
pub fn dump(w: &mut Writer, sequence: u32) {
    w.message(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| header(w, 0, 0, 0, 0));
}

/// Reads an answer to [`dump`]: the link and its bucket, whose burst is left out; `None` for all else.
pub fn parse_bucket(message: &Message<'_>) -> Option<(u32, Bucket)> {
    if message.kind != RTM_NEWQDISC {
        return None;
    }
    let find = |kind| message.attributes(HEADER_LEN).find(|attribute| attribute.kind == kind);
    if find(TCA_KIND)?.str() != Some("tbf") || read_u32(message.payload, 12)? != ROOT {
        return None;
    }
    let mut bucket = Bucket::default();
    for attribute in find(TCA_OPTIONS)?.nested() {
        match attribute.kind {
            TCA_TBF_PARMS => {
                bucket.limit = read_u32(attribute.value, 24)?;
                bucket.rate = bucket.rate.max(u64::from(read_u32(attribute.value, 8)?));
            }
            TCA_TBF_RATE64 => bucket.rate = u64::from_ne_bytes(attribute.value.try_into().ok()?),
            _ => {}
        }
    }
    Some((read_u32(message.payload, 4)?, bucket))
}

fn header(w: &mut Writer, link: u32, handle: u32, parent: u32, info: u32) {
    w.raw(&[0; 4]);
    for number in [link, handle, parent, info] {
        w.raw(&number.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::messages;

    #[test]
    fn a_bucket_is_read_as_it_is_written() {
        for rate in [125_000, 5 << 32] {
            let bucket = Bucket { rate, burst: 9000, limit: 12_000 };
            let mut w = Writer::new();
            add_bucket(&mut w, 1, 7, &bucket);
            add_ingress(&mut w, 2, 7);
            redirect_all(&mut w, 3, 7, 8);
            let bytes = w.finish().unwrap();
            let read: Vec<_> = messages(&bytes).flatten().map(|m| parse_bucket(&m)).collect();
            assert_eq!(read, [Some((7, Bucket { burst: 0, ..bucket })), None, None]);
            // What lies about its length is not read.
            for n in 0..bytes.len() {
                messages(&bytes[..n]).flatten().for_each(|m| {
                    let _ = parse_bucket(&m);
                });
            }
        }
    }
}
