//! Schemas of strings and numbers.

use super::{BOUNDS, Compiler, Place, count};
use crate::grammar::error::GrammarError;
use crate::grammar::expr::Expr;
use crate::grammar::json::Json;
use crate::grammar::number;

impl Compiler<'_, '_> {
    pub(super) fn string(&mut self, schema: &Json, place: &Place) -> Result<Expr, GrammarError> {
        let min = count(schema, "minLength", place)?;
        let max = count(schema, "maxLength", place)?;
        if let Some(format) = schema.get("format") {
            let rule = match format.text() {
                Some("date") => "j-date",
                Some("time") => "j-time",
                Some("date-time") => "j-date-time",
                Some("uuid") => "j-uuid",
                _ => return place.wrong("format is one of date, time, date-time and uuid"),
            };
            if min.is_some() || max.is_some() {
                return place.wrong("format cannot be combined with a length");
            }
            return self.rules.refer(rule);
        }
        if min.is_none() && max.is_none() {
            return self.rules.refer("j-string");
        }
        let min = min.unwrap_or(0);
        if max.is_some_and(|max| max < min) {
            return place.wrong("minLength is above maxLength");
        }
        let chars = Expr::Repeat(Box::new(self.rules.refer("j-char")?), min, max);
        Ok(Expr::Sequence(vec![
            Expr::literal("\""),
            chars,
            Expr::literal("\""),
        ]))
    }

    pub(super) fn number(&mut self, name: &str, schema: &Json, place: &Place) -> Result<Expr, GrammarError> {
        if BOUNDS.iter().all(|key| schema.get(key).is_none()) {
            return self.rules.refer(if name == "integer" {
                "j-integer"
            } else {
                "j-number"
            });
        }
        let (mut low, mut high) = (-number::LARGEST, number::LARGEST);
        for key in BOUNDS {
            let Some(value) = schema.get(key) else { continue };
            let Json::Number(value) = value else {
                return place.wrong(format!("{key} must be a number"));
            };
            let value = value.as_f64().unwrap_or(f64::NAN);
            if value.is_nan() || value.abs() > number::LARGEST as f64 {
                return place.wrong(format!("{key} is beyond 2^53 - 1"));
            }
            let is_exclusive = key.starts_with("exclusive");
            if is_exclusive && name == "number" {
                return place.wrong(format!(
                    "{key} is supported for integers only: use minimum or maximum"
                ));
            }
            let at_bound = i64::from(is_exclusive && value.fract() == 0.0);
            if key.to_ascii_lowercase().ends_with("minimum") {
                low = low.max(value.ceil() as i64 + at_bound);
            } else {
                high = high.min(value.floor() as i64 - at_bound);
            }
        }
        if low > high {
            return place.wrong("no whole number lies between the bounds");
        }
        Ok(if name == "integer" {
            number::whole(low, high)
        } else {
            number::real(low, high)
        })
    }
}
