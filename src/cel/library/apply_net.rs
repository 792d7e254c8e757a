//! Functions of addresses, networks, URLs, named formats and questions to the authorizer.

use std::net::IpAddr;
use std::sync::Arc;

use crate::functions::{FORMATS, Op};
use crate::value::auth::{self, Auth, Host, Put};
use crate::value::net;
use crate::value::{NO_OVERLOAD, Out, Val, fail};

pub(crate) fn nets<'a>(op: Op, args: &[Val<'a>]) -> Option<Out<Val<'a>>> {
    let parsed_ip = |text: &str| match net::ip(text) {
        Ok(address) => Ok(Val::Ip(address)),
        Err(why) => fail(why),
    };
    let parsed_cidr = |text: &str| match net::cidr(text) {
        Ok((address, bits)) => Ok(Val::Cidr(address, bits)),
        Err(why) => {
            fail(format!("network address parse error during conversion from string: {why}"))
        }
    };
    Some(match (op, args) {
        (Op::Ip, [Val::Cidr(address, _)]) => Ok(Val::Ip(*address)),
        (Op::Ip, [text]) => parsed_ip(text.as_str()?),
        (Op::IsIp, [text]) => Ok(Val::Bool(net::ip(text.as_str()?).is_ok())),
        (Op::IpIsCanonical, [text]) => {
            let text = text.as_str()?;
            parsed_ip(text).map(|found| match found {
                Val::Ip(address) => Val::Bool(address.to_string() == text),
                other => other,
            })
        }
        (Op::Cidr, [text]) => parsed_cidr(text.as_str()?),
        (Op::IsCidr, [text]) => Ok(Val::Bool(net::cidr(text.as_str()?).is_ok())),
        (Op::ContainsIp, [Val::Cidr(network, bits), other]) => {
            let address = match other {
                Val::Ip(address) => *address,
                text => match net::ip(text.as_str()?) {
                    Ok(address) => address,
                    Err(_) => return Some(fail(NO_OVERLOAD)),
                },
            };
            Ok(Val::Bool(net::contains((*network, *bits), address)))
        }
        (Op::ContainsCidr, [Val::Cidr(network, bits), other]) => {
            let (inner, inner_bits) = match other {
                Val::Cidr(inner, inner_bits) => (*inner, *inner_bits),
                text => match parsed_cidr(text.as_str()?) {
                    Ok(Val::Cidr(inner, inner_bits)) => (inner, inner_bits),
                    other => return Some(other),
                },
            };
            let inside = *bits <= inner_bits && net::contains((*network, *bits), inner);
            Ok(Val::Bool(inside))
        }
        (Op::PrefixLength, [Val::Cidr(_, bits)]) => Ok(Val::Int(i64::from(*bits))),
        (Op::Masked, [Val::Cidr(address, bits)]) => {
            Ok(Val::Cidr(net::masked(*address, *bits), *bits))
        }
        (op, [Val::Ip(address)]) => of_address(op, *address)?,
        _ => return None,
    })
}

fn of_address(op: Op, address: IpAddr) -> Option<Out<Val<'static>>> {
    Some(Ok(Val::Bool(match op {
        Op::IpFamily => return Some(Ok(Val::Int(if address.is_ipv4() { 4 } else { 6 }))),
        Op::IpIsUnspecified => address.is_unspecified(),
        Op::IpIsLoopback => address.is_loopback(),
        Op::IpIsLinkLocalMulticast => net::is_link_local_multicast(address),
        Op::IpIsLinkLocalUnicast => net::is_link_local_unicast(address),
        Op::IpIsGlobalUnicast => net::is_global_unicast(address),
        _ => return None,
    })))
}

pub(crate) fn others<'a>(op: Op, args: &[Val<'a>], host: &dyn Host) -> Option<Out<Val<'a>>> {
    Some(match (op, args) {
        (Op::Url, [text]) => match net::url(text.as_str()?) {
            Ok(url) => Ok(Val::Url(Arc::new(url))),
            Err(why) => fail(format!("URL parse error during conversion from string: {why}")),
        },
        (Op::IsUrl, [text]) => Ok(Val::Bool(net::url(text.as_str()?).is_ok())),
        (op, [Val::Url(url)]) => of_url(op, url)?,
        (Op::FormatNamed, [name]) => {
            let name = name.as_str()?;
            let found = FORMATS.iter().position(|(known, _)| *known == name);
            Ok(match found {
                Some(at) => Val::some(Val::Format(at as u8)),
                None => Val::Optional(None),
            })
        }
        (Op::FormatValidate, [Val::Format(at), text]) => {
            let (name, _) = FORMATS.get(usize::from(*at))?;
            let wrong = host.violations(name, text.as_str()?);
            Ok(match wrong.is_empty() {
                true => Val::Optional(None),
                false => Val::some(Val::list(wrong.iter().map(|why| Val::text(why)).collect())),
            })
        }
        (op, [Val::Auth(auth), rest @ ..]) => asked(op, auth, rest, host)?,
        _ => return crate::library::amounts::apply(op, args),
    })
}

fn of_url(op: Op, url: &net::Url) -> Option<Out<Val<'static>>> {
    Some(Ok(match op {
        Op::UrlScheme => Val::text(&url.scheme),
        Op::UrlHost => Val::text(&url.host),
        Op::UrlHostname => Val::text(url.hostname()),
        Op::UrlPort => Val::text(url.port()),
        Op::UrlPath => Val::text(&url.escaped_path()),
        Op::UrlQuery => {
            let texts = |values: Vec<String>| values.iter().map(|value| Val::text(value)).collect();
            let pairs = url.queries().into_iter();
            let pairs = pairs.map(|(key, values)| (Val::text(&key), Val::list(texts(values))));
            Val::Map(Arc::new(pairs.collect()))
        }
        _ => return None,
    }))
}

fn asked<'a>(op: Op, auth: &Auth, rest: &[Val<'a>], host: &dyn Host) -> Option<Out<Val<'a>>> {
    let text = rest.first().and_then(Val::as_str);
    let what = match (op, auth) {
        (Op::AuthErrored, Auth::Decision(decision)) => {
            return Some(Ok(Val::Bool(decision.error.is_some())));
        }
        (Op::AuthError, Auth::Decision(decision)) => {
            return Some(Ok(Val::text(decision.error.as_deref().unwrap_or(""))));
        }
        (Op::AuthAllowed, Auth::Decision(decision)) => {
            return Some(Ok(Val::Bool(decision.allowed)));
        }
        (Op::AuthReason, Auth::Decision(decision)) => {
            return Some(Ok(Val::text(&decision.reason)));
        }
        (Op::AuthCheck, auth) => return auth::check(auth, text?, host),
        (Op::AuthPath, _) => Put::Path,
        (Op::AuthGroup, _) => Put::Group,
        (Op::AuthServiceAccount, _) => Put::Account,
        (Op::AuthResource, _) => Put::Resource,
        (Op::AuthSubresource, _) => Put::Subresource,
        (Op::AuthNamespace, _) => Put::Namespace,
        (Op::AuthName, _) => Put::Name,
        (Op::AuthFieldSelector, _) => Put::FieldSelector,
        (Op::AuthLabelSelector, _) => Put::LabelSelector,
        _ => return None,
    };
    let name = rest.get(1).and_then(Val::as_str).unwrap_or("");
    auth::put(auth, what, text?, name)
}
