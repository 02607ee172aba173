//! What templates may call: the functions of Hugging Face's transformers, and methods of Python's strings,
//! lists and dicts. Everything that allocates asks the fuel first.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Marks the message of `raise_exception`.
pub(super) const RAISED: &str = "\u{1}raised: ";
/// Marks a namespace among maps: minijinja does not tell them apart.
const NAMESPACE: &str = "\u{1}namespace";
/// Deepest nesting of a value that is kept. Tool schemas have 10.
const DEEPEST_VALUE: usize = 40;
/// Most elements of a value that is kept, all levels together.
const MOST_ELEMENTS: usize = 100_000;
/// How many bytes one fuel pays for (minijinja's `UNITS_PER_FUEL`).
const BYTES_PER_FUEL: u64 = 64;

/// `kept_bytes` is the most text that one variable may hold.
pub(super) fn install(environment: &mut Environment<'_>, now_unix_ms: u64, kept_bytes: usize) {
    environment.add_function(
        "__keep",
        move |state: &State<'_, '_>, value: Value, is_attribute: Option<bool>| {
            keep(state, &value, is_attribute.unwrap_or(false), kept_bytes)
        },
    );
    environment.add_function("namespace", namespace);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| strftime(format, now_unix_ms));
    environment.add_filter("tojson", tojson);
    // minijinja's own builds the whole text before it pays.
    environment.add_filter("join", join_filter);
    // Deep or lazy nesting that no chat template needs.
    for filter in ["batch", "slice", "groupby", "zip", "chain", "pprint"] {
        environment.remove_filter(filter);
    }
    environment.set_unknown_method_callback(method);
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Fails now if the fuel cannot pay for `bytes`, and lets it pay for them.
fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / BYTES_PER_FUEL + 1)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    let message: String = message.chars().take(500).collect();
    Err(invalid(format!("{RAISED}{message}")))
}

fn is_namespace(value: &Value) -> bool {
    value.kind() == ValueKind::Map && value.get_attr(NAMESPACE).is_ok_and(|mark| mark.is_true())
}

fn namespace(defaults: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut pairs = vec![(Value::from(NAMESPACE), Value::from(true))];
    if let Some(defaults) = defaults {
        for key in defaults.try_iter()?.take(1000) {
            let value = defaults.get_item(&key)?;
            pairs.push((key, value));
        }
    }
    for name in kwargs.args() {
        pairs.push((Value::from(name), kwargs.peek(name)?));
    }
    minijinja::functions::namespace(Some(Value::from_pairs(pairs).into()))
}

/// Every value that gets a name comes through here and is copied: without lazy iterators, without deep nesting,
/// with a bounded size however often it holds the same thing, and without a namespace inside another's
/// attribute, which could make a ring.
fn keep(state: &State<'_, '_>, value: &Value, is_attribute: bool, bytes: usize) -> Result<Value, Error> {
    let mut keeper = Keeper {
        elements: MOST_ELEMENTS,
        bytes,
        allow_namespace: !is_attribute,
    };
    let kept = keeper.copy(value, DEEPEST_VALUE);
    state.consume_fuel((MOST_ELEMENTS - keeper.elements) as u64 / 2)?;
    kept
}

/// What may still be kept.
struct Keeper {
    elements: usize,
    bytes: usize,
    allow_namespace: bool,
}

impl Keeper {
    fn pay_element(&mut self) -> Result<(), Error> {
        let left = self.elements.checked_sub(1);
        self.elements = left.ok_or_else(|| invalid("a variable has more than 100000 elements"))?;
        Ok(())
    }

    fn pay_bytes(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes =
            left.ok_or_else(|| invalid("a variable holds more text than the whole conversation twice"))?;
        Ok(())
    }

    fn copy(&mut self, value: &Value, depth: usize) -> Result<Value, Error> {
        if let Some(text) = value.as_str() {
            self.pay_bytes(text.len())?;
            return Ok(value.clone());
        }
        let kind = value.kind();
        let inner = depth.checked_sub(1);
        let inner = || inner.ok_or_else(|| invalid("a value is nested more than 40 levels deep"));
        match kind {
            ValueKind::Map => {
                let inner = inner()?;
                let is_namespace = is_namespace(value);
                if is_namespace && !self.allow_namespace {
                    return Err(invalid("a namespace cannot be kept inside another"));
                }
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    self.pay_element()?;
                    self.pay_bytes(key.as_str().map_or(16, str::len))?;
                    let item = self.copy(&value.get_item(&key)?, inner)?;
                    pairs.push((key, item));
                }
                // A namespace stays the one that it is; its contents were only measured.
                Ok(if is_namespace {
                    value.clone()
                } else {
                    Value::from_pairs(pairs)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let inner = inner()?;
                let mut items = Vec::new();
                for item in value.try_iter()? {
                    self.pay_element()?;
                    items.push(self.copy(&item, inner)?);
                }
                Ok(Value::from(items))
            }
            ValueKind::Plain | ValueKind::Bytes | ValueKind::Invalid => Err(invalid(
                "only texts, numbers, lists and dicts can be kept in a variable",
            )),
            _ => Ok(value.clone()),
        }
    }
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let (Some(text), "replace") = (value.as_str(), name) {
        return replace(state, text, args);
    }
    if let (Some(glue), "join") = (value.as_str(), name) {
        return join(state, glue, args);
    }
    if let (Some(text), "format") = (value.as_str(), name) {
        return format_method(state, text, args);
    }
    if let Some(text) = value.as_str() {
        // `split` and its kind make a list slot of 24 bytes, and a string, of as little as one byte.
        let factor = if name.starts_with("split") { 32 } else { 2 };
        pay(state, text.len() * factor)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `'{} {0}'.format(…)`, without widths and other specifications, which could ask for any size.
fn format_method(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<Value, Error> {
    let mut out = String::new();
    let mut rest = text;
    let mut next = 0usize;
    while let Some((before, behind)) = rest.split_once('{') {
        let (field, behind) = behind
            .split_once('}')
            .ok_or_else(|| invalid("format: a brace is not closed"))?;
        let index = if field.is_empty() {
            next += 1;
            next - 1
        } else {
            field.parse().unwrap_or(usize::MAX)
        };
        let item = args
            .get(index)
            .filter(|item| item.as_str().is_some() || item.kind() == ValueKind::Number);
        let item =
            item.ok_or_else(|| invalid("format: only {} and {0} with texts and numbers are supported"))?;
        pay(state, before.len() + item.as_str().map_or(32, str::len))?;
        out.push_str(before);
        out.push_str(&item.to_string());
        rest = behind;
    }
    pay(state, rest.len())?;
    out.push_str(rest);
    Ok(Value::from(out))
}

fn replace(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (old, new, count): (&str, &str, Option<i64>) = minijinja::value::from_args(args)?;
    let most = count
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(usize::MAX);
    let matches = if old.is_empty() {
        text.len() + 1
    } else {
        text.matches(old).count()
    }
    .min(most);
    pay(
        state,
        text.len().saturating_add(matches.saturating_mul(new.len())),
    )?;
    Ok(Value::from(text.replacen(old, new, most)))
}

fn join(state: &State<'_, '_>, glue: &str, args: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = minijinja::value::from_args(args)?;
    join_filter(
        state,
        items,
        Some(glue),
        Kwargs::from_iter(std::iter::empty::<(&str, Value)>()),
    )
}

fn join_filter(
    state: &State<'_, '_>,
    items: &Value,
    glue: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let attribute: Option<&str> = kwargs.get("attribute")?;
    let glue = match kwargs.get::<Option<&str>>("d")? {
        Some(glue) => glue,
        None => glue.unwrap_or_default(),
    };
    kwargs.assert_all_used()?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        let glue = if index == 0 { "" } else { glue };
        pay(state, glue.len())?;
        joined.push_str(glue);
        match item.as_str() {
            Some(text) => {
                pay(state, text.len())?;
                joined.push_str(text);
            }
            None if matches!(item.kind(), ValueKind::Number | ValueKind::Bool | ValueKind::None) => {
                joined.push_str(&item.to_string());
            }
            None => return Err(invalid("join needs a list of texts and numbers")),
        }
    }
    Ok(Value::from(joined))
}

/// `json.dumps` as transformers calls it: no HTML escapes, no ASCII escapes, ", " and ": " between.
fn tojson(state: &State<'_, '_>, value: &Value, _args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = kwargs.get(ignored)?;
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    let indent = indent.map(|indent| indent.min(16));
    write_json(state, value, indent, 1, &mut out)?;
    Ok(Value::from(out))
}

fn write_json(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
    level: usize,
    out: &mut String,
) -> Result<(), Error> {
    if level > 2 * DEEPEST_VALUE {
        return Err(invalid("a value is nested too deeply for tojson"));
    }
    let start = out.len();
    let new_line = |out: &mut String, level: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool | ValueKind::Number => {
            let text = value.to_string();
            out.push_str(match text.as_str() {
                "True" => "true",
                "False" => "false",
                other => other,
            });
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut is_empty = true;
            for item in value.try_iter()? {
                out.push_str(if is_empty { "" } else { separator });
                new_line(out, level);
                write_json(state, &item, indent, level + 1, out)?;
                is_empty = false;
            }
            if !is_empty {
                new_line(out, level - 1);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let mut is_empty = true;
            for key in value.try_iter()? {
                out.push_str(if is_empty { "" } else { separator });
                new_line(out, level);
                pay(state, key.as_str().map_or(16, str::len))?;
                write_json_text(&key.to_string(), out);
                out.push_str(": ");
                write_json(state, &value.get_item(&key)?, indent, level + 1, out)?;
                is_empty = false;
            }
            if !is_empty {
                new_line(out, level - 1);
            }
            out.push('}');
        }
        _ => {
            let text = value.as_str().ok_or_else(|| invalid("this value is not JSON"))?;
            pay(state, text.len())?;
            write_json_text(text, out);
        }
    }
    // Containers pay for themselves and again for what is in them: at most depth times too much.
    pay(state, out.len() - start)
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The date as Python's `strftime` writes it, in UTC. Unknown letters stay as they are.
fn strftime(format: &str, now_unix_ms: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = [
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
    ];
    let seconds = now_unix_ms / 1000;
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let (year, month, day) = civil_from_days(days);
    let month_name = usize::try_from(month - 1)
        .ok()
        .and_then(|index| MONTHS.get(index))
        .copied();
    let month_name = month_name.unwrap_or_default();
    let day_name = usize::try_from(days % 7)
        .ok()
        .and_then(|index| DAYS.get(index))
        .copied();
    let day_name = day_name.unwrap_or_default();
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut chars = format.chars().take(200);
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&short(month_name)),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&short(day_name)),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{hour12:02}")),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{second:02}")),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}
