//! Kubernetes protobuf straight to JSON text, without a tree: what GET, LIST and WATCH answer with.

use wire::json::put_string;
use wire::protobuf::{Error, Reader, Wire};

use super::{decode, managed};
use crate::schema::{Field, Scalar, Shape, TypeId, schema};

/// Writes JSON from stored bytes.
pub(crate) struct Stream<'a> {
    pub out: &'a mut Vec<u8>,
    /// Goes into the root's metadata in place of what is stored.
    pub revision: u64,
    /// The type whose fields are managed.
    pub managed: TypeId,
}

impl Stream<'_> {
    /// Appends a root object with its types.
    pub(crate) fn root(
        &mut self,
        api_version: &str,
        kind: &str,
        id: TypeId,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.out.extend_from_slice(b"{\"kind\":");
        put_string(self.out, kind);
        self.out.extend_from_slice(b",\"apiVersion\":");
        put_string(self.out, api_version);
        self.fields(id, bytes, 0, &mut false)?;
        self.out.push(b'}');
        Ok(())
    }

    fn object(
        &mut self,
        id: TypeId,
        bytes: &[u8],
        depth: u32,
        types: Option<&str>,
    ) -> Result<(), Error> {
        if depth > decode::DEPTH_MAX {
            return Err(Error::BadTag);
        }
        self.out.push(b'{');
        let mut first = true;
        if let Some(kind) = types {
            self.out.extend_from_slice(b"\"kind\":");
            put_string(self.out, kind);
            self.out.extend_from_slice(b",\"apiVersion\":\"v1\"");
            first = false;
        }
        self.fields(id, bytes, depth, &mut first)?;
        self.out.push(b'}');
        Ok(())
    }

    fn name(&mut self, name: &str, first: &mut bool) {
        if !*first {
            self.out.push(b',');
        }
        *first = false;
        // Field names need no escapes.
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn fields(
        &mut self,
        id: TypeId,
        bytes: &[u8],
        depth: u32,
        first: &mut bool,
    ) -> Result<(), Error> {
        let fields = schema().fields(id);
        // No type has more fields than bits; the meta-tests check it.
        let mut seen = 0u64;
        let mut reader = Reader::new(bytes);
        let in_root_metadata = depth == 1 && id == schema().object_meta;
        loop {
            let here = reader;
            let Some((tag, wire)) = reader.next()? else { break };
            if in_root_metadata && tag == managed::TAG {
                self.name("managedFields", first);
                managed::write_json(self.managed, wire.bytes()?, self.out)?;
                continue;
            }
            let Some(idx) = fields.iter().position(|field| field.tag == tag) else { continue };
            if seen & 1 << idx != 0 {
                continue;
            }
            seen |= 1 << idx;
            let field = &fields[idx];
            if in_root_metadata && field.name == "resourceVersion" {
                self.resource_version(first);
                continue;
            }
            match (field.message(), field.shape) {
                (Some(inner), _) if field.inline() => {
                    self.fields(inner, wire.bytes()?, depth + 1, first)?
                }
                (_, Shape::Single) => {
                    if field.pointer() || field.always() || !is_zero(field, wire) {
                        self.name(field.name, first);
                        self.single(field, wire, depth)?;
                    }
                }
                (_, shape) => {
                    self.name(field.name, first);
                    self.all(field, shape, here, depth)?;
                }
            }
        }
        for (idx, field) in fields.iter().enumerate().filter(|(idx, _)| seen & 1 << idx == 0) {
            let _ = idx;
            match field.message() {
                _ if in_root_metadata && field.name == "resourceVersion" => {
                    self.resource_version(first)
                }
                Some(inner) if field.inline() => self.fields(inner, b"", depth + 1, first)?,
                _ if field.always() => {
                    self.name(field.name, first);
                    super::write_tree_json(&decode::zero(field), self.out);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn resource_version(&mut self, first: &mut bool) {
        if self.revision != 0 {
            self.name("resourceVersion", first);
            let text = self.revision.to_string();
            put_string(self.out, &text);
        }
    }

    /// Every element of a list or map, from its first one on.
    fn all(
        &mut self,
        field: &Field,
        shape: Shape,
        mut reader: Reader<'_>,
        depth: u32,
    ) -> Result<(), Error> {
        let (open, close) = if shape == Shape::List { (b'[', b']') } else { (b'{', b'}') };
        self.out.push(open);
        let mut first = true;
        while let Some((tag, wire)) = reader.next()? {
            if tag != field.tag {
                continue;
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            match shape {
                Shape::List => self.single(field, wire, depth)?,
                _ => self.entry(field, wire.bytes()?, depth)?,
            }
        }
        self.out.push(close);
        Ok(())
    }

    fn entry(&mut self, field: &Field, bytes: &[u8], depth: u32) -> Result<(), Error> {
        let (mut key, mut value) = ("", None);
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match tag {
                1 => key = wire.str()?,
                2 => value = Some(wire),
                _ => {}
            }
        }
        put_string(self.out, key);
        self.out.push(b':');
        match value {
            Some(value) => self.single(field, value, depth),
            None => {
                let zero = decode::zero(&Field { shape: Shape::Single, ..*field });
                super::write_tree_json(&zero, self.out);
                Ok(())
            }
        }
    }

    fn single(&mut self, field: &Field, wire: Wire<'_>, depth: u32) -> Result<(), Error> {
        match field.scalar {
            Scalar::Str => put_string(self.out, wire.str()?),
            Scalar::Bool => {
                let text: &[u8] = if wire.varint()? != 0 { b"true" } else { b"false" };
                self.out.extend_from_slice(text);
            }
            // int32 travels sign-extended; the low half is the value.
            #[allow(clippy::cast_possible_truncation)]
            Scalar::I32 => self.number((wire.int()? as i32).into()),
            Scalar::I64 => self.number(wire.int()?),
            Scalar::F64 => match wire {
                Wire::Fixed64(bits) => {
                    super::write_tree_json(&decode::number(f64::from_bits(bits)), self.out)
                }
                _ => return Err(Error::WrongType),
            },
            Scalar::Bytes => put_string(self.out, &wire::base64::encode(wire.bytes()?)),
            Scalar::Time => match decode::time(wire.bytes()?)? {
                Some(time) => put_string(self.out, &time.format()),
                None => self.out.extend_from_slice(b"null"),
            },
            Scalar::MicroTime => match decode::time(wire.bytes()?)? {
                Some(time) => put_string(self.out, &time.format_micro()),
                None => self.out.extend_from_slice(b"null"),
            },
            Scalar::Duration => {
                put_string(self.out, &stdx::duration::format(decode::first_int(wire.bytes()?)?));
            }
            Scalar::Quantity => put_string(self.out, decode::quantity(wire.bytes()?)?),
            Scalar::IntOrString => match decode::int_or_string(wire.bytes()?)? {
                Ok(number) => self.number(number),
                Err(text) => put_string(self.out, text),
            },
            Scalar::Raw | Scalar::Fields => self.raw(wire.bytes()?, depth)?,
            Scalar::Strs => {
                let element = Field { scalar: Scalar::Str, tag: 1, ..*field };
                self.all(&element, Shape::List, Reader::new(wire.bytes()?), depth)?;
            }
            Scalar::Message(id) if schema().of(id).union => {
                self.union(id, wire.bytes()?, depth + 1)?
            }
            Scalar::Message(id) => {
                let types = field.typed().then(|| schema().of(id).name);
                self.object(id, wire.bytes()?, depth + 1, types)?;
            }
        }
        Ok(())
    }

    /// The list or object that is set, else the boolean, if there is one.
    fn union(&mut self, id: TypeId, bytes: &[u8], depth: u32) -> Result<(), Error> {
        let (mut object, mut flag) = (None, false);
        let mut reader = Reader::new(bytes);
        loop {
            let here = reader;
            let Some((tag, wire)) = reader.next()? else { break };
            let Some(field) = schema().by_tag(id, tag) else { continue };
            match (field.shape, field.scalar) {
                (Shape::List, _) => return self.all(field, Shape::List, here, depth),
                (_, Scalar::Bool) => flag = wire.varint()? != 0,
                _ => object = Some((field, wire)),
            }
        }
        let is_flag = schema().fields(id).iter().any(|field| field.scalar == Scalar::Bool);
        match object {
            Some((field, wire)) => self.single(field, wire, depth)?,
            None if is_flag => self.out.extend_from_slice(if flag { b"true" } else { b"false" }),
            None => self.out.extend_from_slice(b"null"),
        }
        Ok(())
    }

    fn raw(&mut self, bytes: &[u8], depth: u32) -> Result<(), Error> {
        let raw = decode::first_bytes(bytes)?;
        if raw.is_empty() {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        match super::envelope::open(raw)? {
            Some(envelope) => {
                let tree = super::envelope::tree(&envelope, depth + 1)?;
                super::write_tree_json(&tree, self.out);
            }
            // Written by us or by kube-apiserver from parsed JSON: copied as it is.
            None => self.out.extend_from_slice(raw),
        }
        Ok(())
    }

    fn number(&mut self, number: i64) {
        use std::io::Write;
        // Writing to a Vec does not fail.
        let _ = write!(self.out, "{number}");
    }
}

fn is_zero(field: &Field, wire: Wire<'_>) -> bool {
    match (field.scalar, wire) {
        (Scalar::I32 | Scalar::I64 | Scalar::Bool, Wire::Varint(value)) => value == 0,
        (Scalar::F64, Wire::Fixed64(bits)) => f64::from_bits(bits) == 0.0,
        (Scalar::Raw | Scalar::Fields, Wire::Bytes(bytes)) => bytes.is_empty(),
        (Scalar::Str | Scalar::Bytes | Scalar::Strs, Wire::Bytes(bytes)) => bytes.is_empty(),
        _ => false,
    }
}
