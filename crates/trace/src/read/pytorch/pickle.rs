//! Reads pickles of plain values, protocols 0 to 5. It runs nothing: what names a class, a function or an object outside
//! of the pickle is refused.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::Damage;

/// A value. Lists, dictionaries and texts are numbers into the pickle, so a value that occurs often is stored once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number above those of [`Value::Int`].
    Large(u64),
    Float(f64),
    /// A number that has more than 64 bits.
    Huge,
    Text(u32),
    /// Bytes that are no text.
    Bytes,
    /// A list, a tuple or a set.
    List(u32),
    Dict(u32),
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    texts: Vec<Cow<'a, str>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
}

impl Pickle<'_> {
    pub fn text(&self, value: Value) -> Option<&str> {
        if let Value::Text(number) = value { Some(&self.texts[number as usize]) } else { None }
    }

    /// Returns the number of a list, which is the same for the same list, and its values.
    pub fn list(&self, value: Value) -> Option<(u32, &[Value])> {
        if let Value::List(number) = value {
            Some((number, &self.lists[number as usize]))
        } else {
            None
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        if let Value::Dict(number) = value { Some(&self.dicts[number as usize]) } else { None }
    }
}

/// Where the pickle reads, its stack, and what it has stored.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pickle: Pickle<'a>,
    stack: Vec<Value>,
    /// Lengths of the stack at marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

/// Reads a pickle; bytes behind its end are ignored.
///
/// # Errors
/// [`Damage`] with the offset of what is wrong or refused.
///
/// # Time complexity
/// O(*n*) for *n* bytes, time and memory.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Value), Damage> {
    let pickle = Pickle { texts: Vec::new(), lists: Vec::new(), dicts: Vec::new() };
    let (stack, marks, memo) = (Vec::new(), Vec::new(), HashMap::new());
    let mut machine = Machine { bytes, at: 0, pickle, stack, marks, memo };
    loop {
        let start = machine.at;
        let step = match machine.byte() {
            Ok(b'.') => machine.pop().map(Some),
            Ok(operation) => machine.step(operation).map(|()| None),
            Err(what) => Err(what),
        };
        match step {
            Ok(None) => {}
            Ok(Some(value)) => return Ok((machine.pickle, value)),
            Err(what) => return Err(Damage::new(start as u64, what)),
        }
    }
}

type Step<T = ()> = Result<T, String>;

fn ends<T>() -> Step<T> {
    Err("the pickle ends here in the middle: it is cut off".into())
}

impl<'a> Machine<'a> {
    fn byte(&mut self) -> Step<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N as u64)?.try_into().expect("as many as were taken"))
    }

    fn take(&mut self, count: u64) -> Step<&'a [u8]> {
        let left = &self.bytes[self.at..];
        if count > left.len() as u64 {
            return ends();
        }
        self.at += count as usize;
        Ok(&left[..count as usize])
    }

    /// Takes a line, without its end.
    fn line(&mut self) -> Step<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let Some(length) = left.iter().position(|byte| *byte == b'\n') else { return ends() };
        self.at += length + 1;
        Ok(left[..length].strip_suffix(b"\r").unwrap_or(&left[..length]))
    }

    fn length(&mut self, bytes: u32) -> Step<u64> {
        let mut length = [0; 8];
        length[..bytes as usize].copy_from_slice(self.take(u64::from(bytes))?);
        Ok(u64::from_le_bytes(length))
    }

    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the pickle takes a value that is not there".into());
        }
        Ok(self.stack.pop().expect("it is not empty"))
    }

    fn top(&self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the pickle takes a value that is not there".into());
        }
        Ok(*self.stack.last().expect("it is not empty"))
    }

    /// Takes the values since the last mark.
    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let Some(mark) = self.marks.pop() else {
            return Err("the pickle goes back to a mark that is not there".into());
        };
        Ok(self.stack.split_off(mark))
    }

    fn push_text(&mut self, text: Cow<'a, str>) {
        self.stack.push(Value::Text(self.pickle.texts.len() as u32));
        self.pickle.texts.push(text);
    }

    fn push_list(&mut self, values: Vec<Value>) {
        self.stack.push(Value::List(self.pickle.lists.len() as u32));
        self.pickle.lists.push(values);
    }

    fn push_tuple(&mut self, count: usize) -> Step {
        let mut values = (0..count).map(|_| self.pop()).collect::<Step<Vec<Value>>>()?;
        values.reverse();
        self.push_list(values);
        Ok(())
    }

    fn push_dict(&mut self, values: &[Value]) -> Step {
        let pairs = pairs(values)?.collect();
        self.stack.push(Value::Dict(self.pickle.dicts.len() as u32));
        self.pickle.dicts.push(pairs);
        Ok(())
    }

    fn list_on_top(&mut self) -> Step<&mut Vec<Value>> {
        match self.top()? {
            Value::List(number) => Ok(&mut self.pickle.lists[number as usize]),
            _ => Err("the pickle appends to what is no list".into()),
        }
    }

    fn dict_on_top(&mut self) -> Step<&mut Vec<(Value, Value)>> {
        match self.top()? {
            Value::Dict(number) => Ok(&mut self.pickle.dicts[number as usize]),
            _ => Err("the pickle sets an item of what is no dictionary".into()),
        }
    }

    fn store(&mut self, number: u32) -> Step {
        let value = self.top()?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn fetch(&mut self, number: u32) -> Step {
        let Some(value) = self.memo.get(&number) else {
            return Err(format!("the pickle takes what it did not store, number {number}"));
        };
        self.stack.push(*value);
        Ok(())
    }

    /// Does one operation; the end is not among them.
    fn step(&mut self, operation: u8) -> Step {
        match operation {
            // Protocol and frames.
            0x80 => match self.byte()? {
                0..=5 => {}
                protocol => return Err(format!("protocol {protocol} of pickles is not known")),
            },
            0x95 => _ = self.length(8)?,
            // Numbers and constants.
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(i64::from(number)));
            }
            b'K' => {
                let number = self.byte()?;
                self.stack.push(Value::Int(i64::from(number)));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(i64::from(number)));
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.stack.push(Value::Float(number));
            }
            b'I' | b'L' | b'F' => {
                let value = number_of_line(operation, self.line()?)?;
                self.stack.push(value);
            }
            0x8a => {
                let length = self.length(1)?;
                self.long(length)?;
            }
            0x8b => {
                let length = self.length(4)?;
                self.long(length)?;
            }
            // Texts and bytes.
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'V' => {
                let text = unescape_unicode(self.line()?);
                self.push_text(text);
            }
            b'S' => {
                let text = unescape_string(self.line()?)?;
                self.push_text(text);
            }
            b'C' => self.raw_bytes(1)?,
            b'B' => self.raw_bytes(4)?,
            0x8e | 0x96 => self.raw_bytes(8)?,
            // Lists, tuples, sets, dictionaries.
            b']' | b')' | 0x8f => self.push_list(Vec::new()),
            b'}' => self.push_dict(&[])?,
            b'l' | b't' | 0x91 => {
                let values = self.pop_mark()?;
                self.push_list(values);
            }
            0x85 => self.push_tuple(1)?,
            0x86 => self.push_tuple(2)?,
            0x87 => self.push_tuple(3)?,
            b'd' => {
                let values = self.pop_mark()?;
                self.push_dict(&values)?;
            }
            b'a' => {
                let value = self.pop()?;
                self.list_on_top()?.push(value);
            }
            b'e' | 0x90 => {
                let values = self.pop_mark()?;
                self.list_on_top()?.extend(values);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict_on_top()?.push((key, value));
            }
            b'u' => {
                let values = self.pop_mark()?;
                let pairs = pairs(&values)?;
                self.dict_on_top()?.extend(pairs);
            }
            // Stack.
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // A mark on top goes as well.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => _ = self.pop_mark()?,
            b'2' => {
                let value = self.top()?;
                self.stack.push(value);
            }
            // Memory.
            b'p' => {
                let number = decimal(self.line()?)?;
                self.store(number)?;
            }
            b'q' => {
                let number = self.byte()?;
                self.store(u32::from(number))?;
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.store(number)?;
            }
            0x94 => {
                let number = u32::try_from(self.memo.len()).map_err(|_| "too much is stored")?;
                self.store(number)?;
            }
            b'g' => {
                let number = decimal(self.line()?)?;
                self.fetch(number)?;
            }
            b'h' => {
                let number = self.byte()?;
                self.fetch(u32::from(number))?;
            }
            b'j' => {
                let number = u32::from_le_bytes(self.array()?);
                self.fetch(number)?;
            }
            _ => return Err(refusal(operation)),
        }
        Ok(())
    }

    fn text(&mut self, bytes: u32) -> Step {
        let length = self.length(bytes)?;
        let text = String::from_utf8_lossy(self.take(length)?);
        self.push_text(text);
        Ok(())
    }

    fn raw_bytes(&mut self, bytes: u32) -> Step {
        let length = self.length(bytes)?;
        self.take(length)?;
        self.stack.push(Value::Bytes);
        Ok(())
    }

    /// Takes a number as bytes, the lowest first, in two's complement.
    fn long(&mut self, length: u64) -> Step {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let fill = if negative { 0xFF } else { 0 };
        let (low, high) = bytes.split_at(bytes.len().min(8));
        let mut number = [fill; 8];
        number[..low.len()].copy_from_slice(low);
        let number = i64::from_le_bytes(number);
        let fits = high.iter().all(|byte| *byte == fill);
        self.stack.push(match fits {
            true if negative == (number < 0) => Value::Int(number),
            true if !negative => Value::Large(number as u64),
            _ => Value::Huge,
        });
        Ok(())
    }
}

fn pairs(values: &[Value]) -> Step<impl Iterator<Item = (Value, Value)> + use<>> {
    if !values.len().is_multiple_of(2) {
        return Err("the pickle has a key without a value".into());
    }
    let values: Vec<(Value, Value)> = values.chunks_exact(2).map(|it| (it[0], it[1])).collect();
    Ok(values.into_iter())
}

fn decimal(line: &[u8]) -> Step<u32> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|it| it.trim().parse().ok()).ok_or("no such number of what is stored".into())
}

/// Returns the number of a line: `I` and `L` for integers, `F` for a float.
fn number_of_line(operation: u8, line: &[u8]) -> Step<Value> {
    let text = std::str::from_utf8(line).map_err(|_| "a number is not text")?.trim();
    let number = match operation {
        b'F' => text.parse().map(Value::Float).ok(),
        b'I' if text == "00" => Some(Value::Bool(false)),
        b'I' if text == "01" => Some(Value::Bool(true)),
        _ => {
            let digits = text.strip_suffix('L').unwrap_or(text);
            let is_integer = digits.strip_prefix('-').unwrap_or(digits);
            let is_integer =
                !is_integer.is_empty() && is_integer.bytes().all(|it| it.is_ascii_digit());
            match digits.parse() {
                Ok(number) => Some(Value::Int(number)),
                Err(_) if is_integer => Some(digits.parse().map_or(Value::Huge, Value::Large)),
                Err(_) => None,
            }
        }
    };
    number.ok_or("a line is not a number".into())
}

/// Resolves `\uXXXX` and `\UXXXXXXXX` in Latin-1 text.
fn unescape_unicode(line: &[u8]) -> Cow<'static, str> {
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        let digits = match &line[at..] {
            [b'\\', b'u', rest @ ..] => rest.get(..4),
            [b'\\', b'U', rest @ ..] => rest.get(..8),
            _ => None,
        };
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        let code = digits.and_then(|it| Some((it.len(), u32::from_str_radix(it, 16).ok()?)));
        match code {
            Some((length, code)) => {
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                at += 2 + length;
            }
            None => {
                text.push(char::from(line[at]));
                at += 1;
            }
        }
    }
    text.into()
}

/// Takes the text between quotes; of escapes only those of quotes and backslashes are resolved.
fn unescape_string(line: &[u8]) -> Step<Cow<'static, str>> {
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err("a text has no quotes".into()),
    };
    let text = String::from_utf8_lossy(inner);
    Ok(text.replace("\\\\", "\\").replace("\\'", "'").replace("\\\"", "\"").into())
}

fn refusal(operation: u8) -> String {
    let what = match operation {
        b'c' | 0x93 => "names a class or a function",
        b'i' | b'o' | 0x81 | 0x92 => "creates an object of a class",
        b'R' => "calls a function",
        b'b' => "sets the state of an object",
        b'P' | b'Q' => "refers to an object outside of it",
        0x82..=0x84 => "refers to a registered class",
        0x97 | 0x98 => "refers to a buffer outside of it",
        _ => return format!("no operation of pickles is {operation:#04x}"),
    };
    format!(
        "the pickle {what}, which a memory snapshot does not: it is not read, as that could run code"
    )
}
