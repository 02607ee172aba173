//! Schemas of arrays and objects.

use super::{Compiler, Place, count};
use crate::grammar::error::GrammarError;
use crate::grammar::expr::Expr;
use crate::grammar::json::{Json, quote};

impl<'s> Compiler<'s, '_> {
    pub(super) fn array(&mut self, schema: &'s Json, place: &Place) -> Result<Expr, GrammarError> {
        let min = count(schema, "minItems", place)?.unwrap_or(0) as usize;
        let max = count(schema, "maxItems", place)?.map(|max| max as usize);
        let mut items = Vec::new();
        match schema.get("prefixItems") {
            Some(Json::List(schemas)) => {
                let place = place.child("prefixItems");
                for (index, schema) in schemas.iter().enumerate() {
                    items.push(self.schema(schema, &place.child(&index.to_string()))?);
                }
            }
            None => {}
            Some(_) => return place.wrong("prefixItems must be a list"),
        }
        let rest = match schema.get("items") {
            Some(Json::Bool(false)) => None,
            Some(schema) => Some(self.inner(schema, &place.child("items"))?),
            None if items.is_empty() || items.len() < min => Some(self.rules.refer("j-any")?),
            None => None,
        };
        let fixed = items.len();
        if max.is_some_and(|max| max < min) || (rest.is_none() && fixed < min) {
            return place.wrong("no array has that many items");
        }
        items.truncate(max.unwrap_or(fixed));
        let comma = Expr::Sequence(vec![Expr::literal(","), self.rules.refer("j-space")?]);
        let more = |count: usize| count.saturating_sub(fixed) as u32;
        // From the back: the items behind the first, each with its comma and optional behind the minimum.
        let mut tail = match rest.clone() {
            Some(rest) if max.is_none_or(|max| max > fixed) => {
                let (used, min, max) = (usize::from(fixed == 0), more(min), max.map(more));
                let one = Expr::Sequence(vec![comma.clone(), rest]);
                let less = |count: u32| count.saturating_sub(used as u32);
                Expr::Repeat(Box::new(one), less(min), max.map(less))
            }
            _ => Expr::literal(""),
        };
        let mut first = rest;
        for (index, item) in items.into_iter().enumerate().rev() {
            if index == 0 {
                first = Some(item);
                break;
            }
            tail = Expr::Sequence(vec![comma.clone(), item, tail]);
            if index >= min {
                tail = tail.optional();
            }
        }
        let space = self.rules.refer("j-space")?;
        let filled = match first {
            Some(first) if max != Some(0) => {
                let filled = Expr::Sequence(vec![first, tail, space.clone()]);
                if min == 0 { filled.optional() } else { filled }
            }
            _ => Expr::literal(""),
        };
        Ok(Expr::Sequence(vec![
            Expr::literal("["),
            space,
            filled,
            Expr::literal("]"),
        ]))
    }

    pub(super) fn object(&mut self, schema: &'s Json, place: &Place) -> Result<Expr, GrammarError> {
        let declared = match schema.get("properties") {
            Some(Json::Object(declared)) => declared.as_slice(),
            None => &[],
            Some(_) => return place.wrong("properties must be an object"),
        };
        let mut required = Vec::new();
        match schema.get("required") {
            Some(Json::List(names)) => {
                for name in names {
                    match name.text() {
                        Some(name) => required.push(name),
                        None => return place.wrong("required must be a list of names"),
                    }
                }
            }
            None => {}
            Some(_) => return place.wrong("required must be a list of names"),
        }
        let others = match schema.get("additionalProperties") {
            Some(Json::Bool(false)) => None,
            Some(schema) => Some(self.inner(schema, &place.child("additionalProperties"))?),
            None => Some(self.rules.refer("j-any")?),
        };
        let is_free = schema.get("properties").is_none() || schema.get("additionalProperties").is_some();
        let space = self.rules.refer("j-space")?;
        let member = |key: Expr, value: Expr, space: &Expr| {
            Expr::Sequence(vec![key, Expr::literal(":"), space.clone(), value])
        };
        let mut members = Vec::new();
        for (name, schema) in declared {
            let value = self.schema(schema, &place.child("properties").child(name))?;
            let is_required = required.contains(&name.as_str());
            members.push((member(Expr::Literal(quote(name)), value, &space), is_required));
        }
        for name in required {
            if !declared.iter().any(|(declared, _)| declared == name) {
                let Some(value) = others.clone() else {
                    return place.wrong(format!("{name:?} is required and not allowed"));
                };
                members.push((member(Expr::Literal(quote(name)), value, &space), true));
            }
        }
        let comma = Expr::Sequence(vec![Expr::literal(","), space.clone()]);
        let body = match others {
            // Names of its own choosing only where none are declared: they could be declared names, or twice the same. An empty
            // list of properties declares that there are none, as functions without arguments do.
            Some(value) if members.is_empty() && is_free => {
                let one = member(self.rules.refer("j-string")?, value, &space);
                let more = Expr::Sequence(vec![comma, one.clone()]);
                let more = Expr::Repeat(Box::new(more), 0, None);
                Expr::Sequence(vec![one, more, space.clone()]).optional()
            }
            _ => self.members(members, &comma, &space, place)?,
        };
        Ok(Expr::Sequence(vec![
            Expr::literal("{"),
            space,
            body,
            Expr::literal("}"),
        ]))
    }

    /// What stands in several places, as a rule: copies inside copies would double with each level.
    fn inner(&mut self, schema: &'s Json, place: &Place) -> Result<Expr, GrammarError> {
        let body = self.schema(schema, place)?;
        self.shared(&place.pointer, "each", body)
    }

    /// Members in order, those that are optional left out or not. Behind each place there are two rules, one for when
    /// something was written before and a comma is needed, so that the grammar grows with the members and not with
    /// their subsets.
    fn members(
        &mut self,
        members: Vec<(Expr, bool)>,
        comma: &Expr,
        space: &Expr,
        place: &Place,
    ) -> Result<Expr, GrammarError> {
        // INVARIANT: `after` is what may follow a member, `fresh` what may follow the opening brace.
        let mut after = space.clone();
        let mut fresh = Expr::literal("");
        for (index, (member, is_required)) in members.into_iter().enumerate().rev() {
            let name = format!("members {} {index}", place.pointer);
            let rest = self.shared(&name, "rest", after)?;
            let with = self.shared(&name, "with", Expr::Sequence(vec![member, rest.clone()]))?;
            let comma_with = Expr::Sequence(vec![comma.clone(), with.clone()]);
            (after, fresh) = if is_required {
                (comma_with, with)
            } else {
                (
                    Expr::Choice(vec![comma_with, rest]),
                    Expr::Choice(vec![with, fresh]),
                )
            };
        }
        Ok(fresh)
    }
}
